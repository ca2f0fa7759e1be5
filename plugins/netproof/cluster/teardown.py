"""Removing what is ours: clusters, and namespaces with the label of a run. Nothing without that label is touched."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from netproof.cluster.docker import containers, remove
from netproof.cluster.progress import Progress
from netproof.kube.client import Api, ApiError
from netproof.kube.objects import path
from netproof.kube.wait import Late, NotYet, until
from netproof.world.labels import RUN

Object = Mapping[str, Any]
AT_ONCE = 8  # namespaces whose pods are deleted at a time: a busy API server takes a tenth of a second for each of hundreds of requests


def delete_cluster(name: str, progress: Progress) -> bool:
    """Remove a kind cluster's nodes with their volumes, which is what `kind delete cluster` does; whether there were any."""
    nodes = containers(f"io.x-k8s.kind.cluster={name}")
    if nodes:
        progress(f"removing the kind cluster {name}", 0.0, 120.0)
    return bool(remove(nodes))


def namespaces(api: Api, run: str = "") -> list[dict[str, Any]]:
    """Those of a run, or of all runs."""
    return api.list(path("Namespace"), labels=f"{RUN}={run}" if run else RUN)


def remove_namespaces(api: Api, run: str, limit: float, progress: Progress) -> list[str]:
    """Remove a run's namespaces with all that is in them, and wait for that until `limit`. What is left, each with the reason.

    Their pods go without grace, and before it is their turn: for 5 s nobody looks into a namespace that was deleted, and who then finds
    pods in it looks again only seconds later. A namespace that was made anew by somebody else meanwhile is another one and stays.
    https://github.com/kubernetes/kubernetes/blob/v1.36.0/pkg/controller/namespace/namespace_controller.go
    """
    assert run, "without a run every run's namespaces would go"
    found = namespaces(api, run)
    with ThreadPoolExecutor(AT_ONCE) as several:
        went = list(several.map(partial(_delete, api), found))
        list(several.map(partial(_delete_pods, api), itertools.compress(found, went)))
    try:
        until(lambda: _gone(api, run, found), what="removing namespaces", limit=limit, every=0.25, progress=progress)
    except Late:
        return [_left(space) for space in _present(api, run, found)]
    return []


def _delete(api: Api, space: Object) -> bool:
    """Whether it goes. What could not be deleted is found, and told of, by the wait."""
    try:
        return api.delete(path("Namespace", space["metadata"]["name"]), uid=space["metadata"]["uid"])
    except ApiError:
        return False


def _delete_pods(api: Api, space: Object) -> None:
    name = space["metadata"]["name"]
    with contextlib.suppress(ApiError):
        for pod in api.list(path("Pod", namespace=name)):
            api.delete(path("Pod", pod["metadata"]["name"], name), uid=pod["metadata"]["uid"], grace=0)


def _gone(api: Api, run: str, spaces: Iterable[Object]) -> bool:
    left = _present(api, run, spaces)
    if left:
        names = [space["metadata"]["name"] for space in left]
        raise NotYet(f"{len(names)} left, {', '.join(names[:3])}" + (", …" if len(names) > 3 else ""))
    return True


def _present(api: Api, run: str, spaces: Iterable[Object]) -> list[dict[str, Any]]:
    """Those that are still there, as they are now: another one of the same name is somebody else's."""
    uids = {space["metadata"]["uid"] for space in spaces}
    return [there for there in namespaces(api, run) if there["metadata"]["uid"] in uids]


def _left(space: Object) -> str:
    """Why a namespace is still there, in the API server's words."""
    conditions = (space.get("status") or {}).get("conditions") or ()
    reasons = [entry["message"] for entry in conditions if entry["status"] == "True" and entry.get("message")]
    state = "is being removed" if space["metadata"].get("deletionTimestamp") else "could not be removed"
    return f"namespace {space['metadata']['name']} {state}{': ' if reasons else ''}{'; '.join(reasons)}"
