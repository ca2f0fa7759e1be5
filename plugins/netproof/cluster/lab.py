"""The embedded lab as a provider: a child process, reached by its kubeconfig like any other cluster, gone with whoever started it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from netproof.cluster import outsider, versions
from netproof.cluster.features import CLAIMS, require_claims
from netproof.cluster.nodes import describe, families
from netproof.cluster.progress import Progress, silent
from netproof.cluster.settings import Settings
from netproof.cluster.state import ClusterState, Implementation, LoadBalancer, Outsider
from netproof.cluster.survey import lacking
from netproof.kube.client import connect
from netproof.kube.objects import path
from netproof.lab import faults
from netproof.lab.launch import problem
from netproof.problem import Problem

UP_LIMIT = 30.0
DOWN_LIMIT = 10.0
NAME = "netproof-lab"
_LACKS = frozenset({"SCTP", "HostPort"})
_MISSING = {
    "NodeAccess": "the lab's nodes are broken by --netproof-fault",
    "AgentRestart": "the lab's rules are brought to its nodes by the lab itself, which has no agent to restart",
}


class LabProvider:
    """One lab. `up` and `down` are called in the same process, whose death, however it comes, ends the lab too."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def up(self, settings: Settings, progress: Progress) -> ClusterState:
        _require(settings)
        progress("the lab", 0.0, UP_LIMIT)
        began = time.monotonic()
        self._process = _start(settings)
        try:
            told = _told(self._process, settings.folder)
            state = _state(settings, told, time.monotonic() - began)
            state.write()
        except BaseException:
            self.down(None, progress)
            raise
        return state

    def down(self, state: ClusterState | None, progress: Progress) -> None:
        """End the lab's process and wait until it is gone; its namespaces go with it."""
        process, self._process = self._process, None
        if process is None:
            return
        progress("ending the lab", 0.0, DOWN_LIMIT)
        with contextlib.suppress(OSError):
            process.stdin.close()  # type: ignore[union-attr]  # its lifeline
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(DOWN_LIMIT / 2)
        process.kill()
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]


@contextlib.contextmanager
def stand(folder: Path, broken: Sequence[str]) -> Iterator[Path]:
    """A lab without a run, to be looked into: the path of its kubeconfig. Raises Problem."""
    settings = Settings(cluster="lab", run="lab", folder=folder, probe_image="", faults=tuple(broken), token_sha256=secrets.token_hex(32))
    provider = LabProvider()
    provider.up(settings, silent)
    try:
        yield folder / "kubeconfig"
    finally:
        provider.down(None, silent)


def _require(settings: Settings) -> None:
    """Raises Problem for what the lab cannot be asked, and where this machine cannot have one."""
    require_claims(settings.claims, where="--netproof-claim")
    for option, value in (("--cni", settings.cni), ("--loadbalancer", settings.load_balancer), ("--netproof-image", settings.images)):
        if value:
            raise Problem(f"{option} is for real clusters: the lab has its own network, and no images")
    if settings.keep:
        raise Problem("--keep-cluster: a lab ends with the run that started it; `netproof lab` keeps one until Ctrl-C")
    try:
        faults.chosen(settings.faults)
    except faults.UnknownFault as error:
        raise Problem(f"--netproof-fault: {error}") from None
    if found := problem():
        raise Problem(f"--cluster=lab: {found}")


def _start(settings: Settings) -> subprocess.Popen[str]:
    folder = settings.folder / "lab"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lab.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "netproof.lab"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,  # a Ctrl-C is for the run, which ends the lab when it has cleaned up
            env=_environment(),
        )
    order = {"faults": list(settings.faults), "outsiders": {name: _outsider(settings, name) for name in outsider.NAMES}}
    with contextlib.suppress(OSError):  # it ended at once: its last words say why
        assert process.stdin is not None
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
    return process


def _environment() -> dict[str, str]:
    """Ours, with this package first on the path: a checkout is not always installed."""
    known = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), known)))}


def _outsider(settings: Settings, name: str) -> dict[str, Any]:
    """The same agent as in the pods, on a machine that is none of the cluster's."""
    program = (Path(__file__).parents[1] / "probe" / "agent.py").read_text(encoding="utf-8")
    environment = {
        "NETPROOF_AGENT": outsider.configuration(settings),
        "NETPROOF_POD": f"outside/{name}",
        "NETPROOF_UID": f"outside-{name}",
        "NETPROOF_NODE": "",
    }
    return {
        "command": ["python3", "-I", "/netproof/agent.py", "serve"],
        "environment": environment,
        "files": {"/netproof": {"agent.py": program}},
    }


def _told(process: subprocess.Popen[str], folder: Path) -> Mapping[str, Any]:
    """The one line that the lab says when it is ready. Raises Problem."""
    assert process.stdout is not None
    poller = select.poll()
    poller.register(process.stdout, select.POLLIN)
    line = process.stdout.readline() if poller.poll(UP_LIMIT * 1000) else ""
    if not line:
        words = (folder / "lab" / "lab.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        why = words[-1] if words else f"no word from it within {UP_LIMIT:.0f} s"
        raise Problem(f"the lab did not come up: {why} (all of it: {folder / 'lab' / 'lab.log'})")
    told: Mapping[str, Any] = json.loads(line)
    return told


def _table() -> dict[str, int]:
    """The size of the kernel's connection table, which each of the lab's nodes has for itself; nothing where it is not known yet."""
    found = Path("/proc/sys/net/netfilter/nf_conntrack_max")
    return {"kernel": int(found.read_text())} if found.is_file() else {}


def _state(settings: Settings, told: Mapping[str, Any], seconds: float) -> ClusterState:
    kubeconfig = settings.folder / "kubeconfig"
    kubeconfig.write_text(told["kubeconfig"], encoding="utf-8")
    kubeconfig.chmod(0o600)
    api = connect(kubeconfig, None)
    listed = api.list(path("Node"))
    nodes, has = describe(listed), families(listed)
    claims = tuple(claim for claim in CLAIMS if claim not in _LACKS)
    version = str(api.version().get("gitVersion", "unknown"))
    found = Implementation(
        name=NAME, version=version, reported_by="program", claims=tuple(dict.fromkeys([*claims, *settings.claims])), conntrack=_table()
    )
    balancer = LoadBalancer(name=NAME, version=version)
    outsiders = tuple(
        Outsider(name=name, container="", socket=o["socket"], addresses=o["addresses"], node_network=True)
        for name, o in told["outsiders"].items()
    )
    notes = tuple(f"broken on purpose: {fault.id}: {fault.breaks}" for fault in faults.chosen(settings.faults))
    return ClusterState(
        provider="lab",
        name="lab",
        run=settings.run,
        folder=str(settings.folder),
        kubeconfig=str(kubeconfig),
        context=api.context,
        implementation=found,
        load_balancer=balancer,
        outsiders=outsiders,
        unsupported=lacking(found, balancer, nodes, has, _MISSING),
        versions=versions.collect(api, nodes, execute=False),
        nodes=nodes,
        families=has,
        notes=notes,
        seconds={"lab": round(seconds, 2)},
        made=True,
    )
