"""`make bench`: what a round costs on kind with Cilium, how fast policies act, and what a worker weighs. Each figure beside its limit.

The cluster is made and removed by this run. With NETPROOF_BENCH_CONTEXT an existing cluster is used instead. Ends with code 1 where a limit
is not kept. Latencies come from one runner, so nothing else should run meanwhile.
"""

from __future__ import annotations

import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import place
from netproof.kube.objects import path_of
from netproof.model.flow import TCP, Flow
from netproof.model.outcome import Attempt, Outcome, Phase, Round
from netproof.run import ground
from netproof.world import world as worlds
from netproof.world.runner import Runner
from netproof.world.world import World

OPEN_ROUNDS, DENIED_ROUNDS, CHANGES = 50, 20, 10
CYCLONUS = 47.0  # seconds for the same round, v0.5.6 on a machine of two cores with kind and Cilium
HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Figure:
    """One measured figure: its samples in `unit`, and the limit of its median where there is one."""

    name: str
    samples: Sequence[float]
    unit: str
    limit: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def kept(self) -> bool:
        return self.limit is None or self.median <= self.limit

    def __str__(self) -> str:
        ordered = sorted(self.samples)
        p90 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.9))]
        limit = "" if self.limit is None else f"   limit {self.limit:g} {self.unit}, {self.median / self.limit:.0%} of it"
        return f"{self.name:<58} p50 {self.median:8.3f}  p90 {p90:8.3f}  max {ordered[-1]:8.3f} {self.unit} (n={len(ordered)}){limit}"


def main() -> int:
    figures = []
    with cluster() as (runner, made):
        world = worlds.make(runner, 1)
        for figure in [*rounds(world), *convergence(world)]:
            figures.append(figure)
            print(figure, flush=True)
        figures.append(memory(made))
        print(figures[-1], flush=True)
    opened = figures[0].median
    print(f"a round of Cyclonus v0.5.6 takes {CYCLONUS:g} s on such a machine: {CYCLONUS / opened:.0f} times ours")
    return 0 if all(figure.kept for figure in figures) else 1


def rounds(world: World) -> Iterator[Figure]:
    """One whole round of 9 x 9 pods x 2 ports x TCP and UDP."""
    flows = world.mesh(loopback=True)
    yield Figure(f"round of {len(flows)} flows, all open", times(world, flows, OPEN_ROUNDS, closed=0), "s", 0.1)
    deny = policy(world, "y", ["Ingress"])
    world.runner.api.create(deny)
    closed = sum(1 for flow in flows if flow.destination.startswith("y/") and flow.source != flow.destination)
    settle(world, flows, closed)
    yield Figure(f"the same with default-deny in one namespace ({closed} denied)", times(world, flows, DENIED_ROUNDS, closed), "s", 1.1)
    world.runner.api.delete(path_of(deny))
    settle(world, flows, 0)


def times(world: World, flows: Sequence[Flow], number: int, closed: int) -> list[float]:
    """How long that many rounds took. Raises RuntimeError for a round that is not right: a figure of a wrong round is none."""
    found = []
    for _ in range(number):
        round_ = world.runner.fleet.round(flows, Phase.STABILITY)
        if shut(round_) != closed:
            raise RuntimeError(f"{shut(round_)} of {len(flows)} flows closed, {closed} expected")
        found.append(round_.ended - round_.began)
    return found


def settle(world: World, flows: Sequence[Flow], closed: int) -> None:
    deadline = time.monotonic() + 30
    while shut(world.runner.fleet.round(flows, Phase.CANDIDATE)) != closed:
        if time.monotonic() > deadline:
            raise RuntimeError(f"not {closed} flows closed within 30 s")


def shut(round_: Round) -> int:
    """Flows that did not connect; a pod reaches itself whatever policy says, so the diagonal is left out."""
    return sum(1 for p in round_.probes if p.flow.source != p.flow.destination and not any(connected(a) for a in p.attempts))


def convergence(world: World) -> Iterator[Figure]:
    """From the API's answer to the first right and to the last wrong attempt of a flow, over all flows and changes."""
    flows = [world.flow(a, b, TCP(8080), world.runner.families[0]) for a in ("x/a", "x/b", "z/a") for b in ("y/a", "y/b")]
    firsts: dict[str, list[float]] = {"created": [], "deleted": []}
    lasts: dict[str, list[float]] = {"created": [], "deleted": []}
    for _ in range(CHANGES):
        deny = policy(world, "y", ["Ingress"])
        for name, change, opened in (
            ("created", lambda deny=deny: world.runner.api.create(deny), False),
            ("deleted", lambda deny=deny: world.runner.api.delete(path_of(deny)), True),
        ):
            first, last = watched(world, flows, change, opened=opened)
            firsts[name] += first
            lasts[name] += last
    for name in ("created", "deleted"):
        yield Figure(f"default-deny {name}: API's answer to first right", firsts[name], "s")
        yield Figure(f"default-deny {name}: API's answer to last wrong", lasts[name], "s")


def watched(world: World, flows: Sequence[Flow], change: Callable[[], Any], *, opened: bool) -> tuple[list[float], list[float]]:
    """Per flow the seconds from the change to the start of the first right attempt, and to that of the last wrong one (0: none)."""

    def settled(seen: Mapping[Flow, Sequence[Attempt]]) -> bool:
        return all(len(seen[flow]) > 10 and all(connected(a) is opened for a in seen[flow][-10:]) for flow in flows)

    found = world.runner.fleet.watch(flows, change, settle=settled, limit=30)
    first, last = [], []
    for attempts in found.attempts.values():
        after = [a for a in attempts if a.began >= found.changed]
        right = [a.began - found.changed for a in after if connected(a) is opened]
        wrong = [a.began - found.changed for a in after if connected(a) is not opened]
        first.append(min(right, default=30.0))
        last.append(max(wrong, default=0.0))
    return first, last


def connected(attempt: Attempt) -> bool:
    return attempt.outcome is Outcome.CONNECTED and attempt.took < 0.5


def policy(world: World, letter: str, types: Sequence[str]) -> dict[str, Any]:
    metadata = {"name": f"bench-{secrets.token_hex(3)}", "namespace": world.namespaces[letter], "labels": world.recipe.labels}
    spec = {"podSelector": {}, "policyTypes": list(types)}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def memory(made: place.Place) -> Figure:
    """What a worker has over a bare one of xdist with the same plugins, after a policy case and a burst, in MB of PSS."""
    bare = pss(["-n", "1", str(HERE / "bare.py")])
    case = str(HERE.parents[1] / "suites" / "policy" / "test_isolation.py")
    ours = pss(["-n", "1", case, "-k", "NPI-02a", "--netproof-burst=100", *made.options()])
    print(f"a bare worker: {bare:.1f} MB, ours: {ours:.1f} MB")
    return Figure("a worker above a bare one (PSS)", [ours - bare], "MB", 25.0)


def pss(arguments: Sequence[str]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {
            "NETPROOF_BENCH_PSS": str(Path(folder) / "pss"),
            "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1] / "plugins")]),
        }
        report = f"--netproof-report={folder}/report"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "weigh", report, *arguments]
        done = subprocess.run(command, env=environment, cwd=HERE.parents[1], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-1000:]}")
        return int((Path(folder) / "pss").read_text()) / 1000


@contextmanager
def cluster() -> Iterator[tuple[Runner, place.Place]]:
    """A runner on kind with Cilium, made for this measurement, or on the context that the environment names."""
    context = os.environ.get("NETPROOF_BENCH_CONTEXT", "")
    with place.cluster(context=context, kubeconfig=os.environ.get("KUBECONFIG", "") if context else "") as made:
        limits = ground.limits(made.settings, cap=30, budget=None, burst=0, smoke=False)
        runner = ground.runner(
            made.settings,
            made.state,
            token=made.token,
            worker="bench",
            workers=1,
            limits=limits,
            progress=lambda *_: None,
            families=made.state.families[:1],
        )
        yield runner, made
        runner.fleet.close()


if __name__ == "__main__":
    sys.exit(main())
