"""`netproof cleanup`: what runs left behind that did not end by themselves."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from netproof.cluster import outsider, registry
from netproof.cluster.command import end
from netproof.cluster.progress import Progress
from netproof.cluster.registry import Run
from netproof.cluster.settings import RESERVED
from netproof.cluster.teardown import delete_cluster, namespaces, remove_namespaces
from netproof.kube import lease
from netproof.kube.client import Api, ApiError, ApiUnavailable, connect
from netproof.kube.objects import path
from netproof.problem import Problem
from netproof.world.labels import RUN

LIMIT = 60.0
JUST_BORN = 300.0  # seconds in which a namespace without pods may belong to a run that is only starting

Started = Callable[[int], str]


def sweep(
    *,
    cluster: str | None,
    kubeconfig: Path | None,
    run: str | None,
    older_than: float | None,
    progress: Progress,
    started: Started | None = None,
) -> list[str]:
    """Remove what dead runs left: all that are registered on this machine, and on the context `cluster` those of other machines.

    One line for each thing that was removed or, with the reason, left alone; one that says so where nothing was found.
    `run` restricts it to one run, `older_than` (seconds) to older ones. Raises Problem where the context cannot be reached.
    """
    now = time.time()
    said: list[str] = []
    for entry in registry.runs():
        if (run is None or entry.run == run) and now - entry.at >= (older_than or 0):
            said += _settle(entry, named=run is not None, started=started, progress=progress)
    if cluster and cluster.removeprefix("context/") and cluster not in RESERVED:
        api = connect(kubeconfig, cluster.removeprefix("context/"))
        said += sweep_context(api, run=run, older_than=older_than, progress=progress, started=started)
    return said or ["nothing of Netproof's was found"]


def _settle(entry: Run, *, named: bool, started: Started | None, progress: Progress) -> list[str]:
    if registry.alive(entry, started=started):
        where = f"process {entry.pid} on {entry.host}"
        return [f"run {entry.run} is still running ({where}): left alone"]
    try:
        said, complete = remove(entry, named=named, progress=progress)
    except (Problem, ApiError, ApiUnavailable) as error:
        return [f"run {entry.run} could not be cleaned up: {error}"]
    if complete:
        registry.forget(entry.run)
    return said or [f"run {entry.run} had left nothing"]


def remove(entry: Run, *, named: bool = False, progress: Progress) -> tuple[list[str], bool]:
    """Remove all of a run's things; what was done, and whether nothing is left. A cluster to be kept goes only where the run is named."""
    said: list[str] = []
    if entry.provider == "kind":
        if not shutil.which("docker"):
            raise Problem(f"no `docker` is on the PATH to look for the cluster {entry.cluster}")
        said += [f"removed container {name}" for name in outsider.stop(entry.run)]
        if entry.made and not (entry.keep and not named):
            ended = _end_creator(entry, progress)
            gone = delete_cluster(entry.cluster, progress) or ended
            return said + ([f"removed kind cluster {entry.cluster}"] if gone else []), True
        if entry.made:
            said.append(f"kind cluster {entry.cluster} was to be kept: `kind delete cluster --name {entry.cluster}` removes it")
    api = connect(Path(entry.kubeconfig) if entry.kubeconfig else None, entry.context or None, patience=10)
    return _remove_from(api, entry.run, said, progress)


def _end_creator(entry: Run, progress: Progress) -> bool:
    """Whether its `kind create` was still at work: it outlives a controller that was killed, and would go on to make nodes."""
    if not entry.creator or registry.process_start(entry.creator) != entry.creator_started:
        return False
    os.kill(entry.creator, signal.SIGKILL)
    end(entry.creator, "ending kind create", lambda: delete_cluster(entry.cluster, progress), progress)
    return True


def _remove_from(api: Api, run: str, said: list[str], progress: Progress) -> tuple[list[str], bool]:
    names = [space["metadata"]["name"] for space in namespaces(api, run)]
    left = remove_namespaces(api, run, LIMIT, progress) if names else []
    if lease.give_back(api, *lease.DISRUPTION, holder=run):
        said.append("gave back the Lease that lets one run alone disrupt the cluster")
    gone = [name for name in names if not any(line.startswith(f"namespace {name} ") for line in left)]
    return [*said, *(f"removed namespace {name}" for name in gone), *left], not left


def sweep_context(api: Api, *, run: str | None, older_than: float | None, progress: Progress, started: Started | None = None) -> list[str]:
    """Remove the namespaces of runs that are over from a cluster; whose they were is told by their labels alone."""
    said: list[str] = []
    spaces = namespaces(api, run or "")
    for name in sorted({space["metadata"]["labels"][RUN] for space in spaces}):
        own = [space for space in spaces if space["metadata"]["labels"][RUN] == name]
        reason = in_use(name, own, _pods(api, own), now=time.time(), named=run is not None, older_than=older_than, started=started)
        if reason:
            said.append(f"run {name} {reason}: left alone")
        else:
            said += _remove_from(api, name, [], progress)[0]
    return said


def in_use(
    run: str,
    spaces: Sequence[Mapping[str, Any]],
    pods: Sequence[Mapping[str, Any]],
    *,
    now: float,
    named: bool,
    older_than: float | None = None,
    started: Started | None = None,
) -> str:
    """Why a run's namespaces may not be removed, "" where they may.

    Agents end two minutes after their runner's last word, so a run whose probe pods have all ended is over.
    """
    entry = registry.find(run)
    if entry and registry.alive(entry, started=started):
        return f"is still running (process {entry.pid} on {entry.host})"
    age = now - max(_born(space) for space in spaces)
    if older_than is not None and age < older_than:
        return f"is {age:.0f} s old"
    if named or entry:
        return ""
    active = [pod["metadata"]["name"] for pod in pods if (pod.get("status") or {}).get("phase") not in {"Succeeded", "Failed"}]
    if active:
        return f"has {len(active)} probe pods that have not ended"
    if not pods and age < JUST_BORN:
        return "may only be starting"
    return ""


def _pods(api: Api, spaces: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [pod for space in spaces for pod in api.list(path("Pod", namespace=space["metadata"]["name"]), labels=RUN)]


def _born(space: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(space["metadata"]["creationTimestamp"]).timestamp()
