"""The lab's figures, each beside its limit: how soon it is up with 36 pods, what a pod weighs, and what a round costs.

python plugins/bench/lab.py
"""

from __future__ import annotations

import hashlib
import os
import secrets
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from netproof.cluster.lab import LabProvider
from netproof.cluster.settings import Settings
from netproof.kube.client import connect
from netproof.kube.objects import path
from netproof.kube.stream import forward
from netproof.model.flow import Family
from netproof.model.history import Limits
from netproof.model.outcome import Phase
from netproof.probe.fleet import Fleet
from netproof.world import world as worlds
from netproof.world.placement import schedulable
from netproof.world.runner import Runner
from netproof.world.world import World

WORLDS = 4  # of nine pods each
ROUNDS = 10
LIMITS = {"36 pods up, s": 3.0, "PSS a pod, MB": 6.0, "round of 324 flows, a third denied, s": 1.3}


def main() -> int:
    token = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="netproof-lab-") as folder:
        digest = hashlib.sha256(token.encode()).hexdigest()
        settings = Settings(cluster="lab", run="bench", folder=Path(folder), probe_image="-", token_sha256=digest)
        provider, began = LabProvider(), time.monotonic()
        state = provider.up(settings, lambda *_: None)
        try:
            print(f"the lab alone: up in {time.monotonic() - began:.2f} s")
            runners = [_runner(Path(str(state.kubeconfig)), token, number) for number in range(WORLDS)]
            with ThreadPoolExecutor(WORLDS) as pool:
                made = list(pool.map(lambda runner: worlds.make(runner, 1), runners))
            figures = {"36 pods up, s": time.monotonic() - began, "PSS a pod, MB": _weight(), **_rounds(made[0])}
        finally:
            provider.down(state, lambda *_: None)
    for name, value in figures.items():
        print(f"{name:<40} {value:6.2f}   limit {LIMITS[name]:g}   ratio {value / LIMITS[name]:.2f}")
    return int(any(value > LIMITS[name] for name, value in figures.items()))


def _runner(kubeconfig: Path, token: str, number: int) -> Runner:
    api = connect(kubeconfig, None)
    nodes = api.list(path("Node"))
    return Runner(
        api=api,
        fleet=Fleet(token, "bench", alive=api.alive),
        run="bench",
        worker=f"w{number}",
        token=token,
        image="-",
        nodes=schedulable(nodes),
        every_node=nodes,
        dial=lambda namespace, pod, port: lambda: forward(api, namespace, pod, port),
        progress=lambda *_: None,
        limits=Limits(cap=5),
    )


def _weight() -> float:
    """The proportional set size of the median pod's process, in MB."""
    statuses = {int(folder.name): _status(folder) for folder in Path("/proc").glob("[0-9]*")}
    pods = [pid for pid, status in statuses.items() if status.get("NSpid", "").split()[-1:] == ["1"] and _is_ours(pid, statuses)]
    return statistics.median(_pss(pid) for pid in pods if len(statuses[pid]["NSpid"].split()) >= 3)


def _status(folder: Path) -> dict[str, str]:
    try:
        return dict(line.split(":\t", 1) for line in (folder / "status").read_text().splitlines() if ":\t" in line)
    except OSError:
        return {}  # it has ended


def _is_ours(pid: int, statuses: dict[int, dict[str, str]]) -> bool:
    while pid > 1 and pid != os.getpid():
        pid = int(statuses.get(pid, {}).get("PPid", "0"))
    return pid == os.getpid()


def _pss(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def _rounds(world: World) -> dict[str, float]:
    """Seconds of the median round of all pairs on all ports, while default-deny holds in one namespace of three."""
    deny = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "deny", "namespace": world.namespaces["x"]},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
    }
    flows = [flow for flow in world.mesh(loopback=True) if flow.family is Family.IPV4]
    world.runner.api.create(deny)
    world.runner.fleet.round(flows, Phase.CANDIDATE)
    taken = []
    for _ in range(ROUNDS):
        began = time.monotonic()
        world.runner.fleet.round(flows, Phase.CANDIDATE)
        taken.append(time.monotonic() - began)
    assert len(flows) == 324, len(flows)
    return {"round of 324 flows, a third denied, s": statistics.median(taken)}


if __name__ == "__main__":
    sys.exit(main())
