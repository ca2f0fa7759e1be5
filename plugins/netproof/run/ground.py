"""From settings to a runner: the cluster is brought up by the first worker that needs it, the others wait and then use it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from filelock import FileLock

from netproof.cluster import outsider
from netproof.cluster.provider import provider_for
from netproof.cluster.settings import Settings
from netproof.cluster.state import ClusterState, Outsider
from netproof.kube.client import Api, connect
from netproof.kube.errors import Forbidden
from netproof.kube.objects import path
from netproof.kube.stream import Channel, execute, forward
from netproof.model.flow import Family
from netproof.model.history import Limits
from netproof.probe.fleet import Fleet
from netproof.probe.stream import Dial
from netproof.problem import Problem
from netproof.world.budget import Budget
from netproof.world.placement import schedulable
from netproof.world.runner import Outside, Progress, Runner

CAPS = {"lab": 5.0, "kind": 30.0, "context": 120.0}
STABLE_LEAST = {"lab": 1.0, "kind": 2.0, "context": 2.0}  # seconds; the lab's cap is shorter too
STABLE_MOST = {"lab": 10.0, "kind": 10.0, "context": 30.0}
REPEATS = {"lab": 3, "kind": 10, "context": 10}
LANES = 2  # of a worker: cases wait most of the time, for time-outs and for changes to take effect
CASES_OF_TWO = 12  # of each worker: a world costs a cluster as much work as three or four cases (measured), and makes all others wait
RATE = 6000.0  # attempts/s of all workers together: above it, starved sockets invent denials (measured)
RATE_OF_ONE = 2000.0  # attempts/s of one: at 6,000 a third of a burst was made by agents that lagged at times, at 2,000 none (measured)
LEAST_OF_ONE = {"lab": 1000.0}  # attempts/s of one, however many there are: on the lab they are many, and seldom in a burst together
TABLE_SHARES = {"lab": 0.25, "kind": 0.5, "context": 0.25}  # of the smallest connection table, for all workers; kind's is ours alone
SMALLEST_TABLE = 65_536  # entries, where nobody says: the kernel's default on small machines
OUTSIDER_LIMIT = 60.0
STREAM_PATIENCE = 30.0  # seconds in which a broken stream may come back: more than a restart of the control plane takes
_RELAY = ["python3", "-I", "/netproof/agent.py", "relay"]


def cluster(settings: Settings, progress: Progress) -> ClusterState:
    """The run's cluster, made on the first call of all processes. Raises Problem, in each of them, where it can't be had."""
    failure = settings.folder / "problem.json"
    with FileLock(settings.folder / "cluster.lock"):
        if failure.exists():
            raise Problem(json.loads(failure.read_text())["text"])
        state = ClusterState.read(settings.folder)
        if state is None:
            state = _up(settings, progress, failure)
    return state


def _up(settings: Settings, progress: Progress, failure: Path) -> ClusterState:
    try:
        state = provider_for(settings).up(settings, progress)
    except Problem as problem:
        failure.write_text(json.dumps({"text": str(problem)}))
        raise
    state.write(settings.folder)
    return state


def families(asked: Sequence[Family], has: Sequence[str], *, smoke: bool) -> tuple[str, ...]:
    """In which families the cases are run, as plain texts: those asked for, else the cluster's primary one; smoke has one in any case."""
    primary = has[0] if has else Family.IPV4.value
    found = tuple(family.value for family in asked) or (primary,)
    return (primary,) if smoke and len(found) > 1 else found


def runner(
    settings: Settings,
    state: ClusterState,
    *,
    token: str,
    worker: str,
    workers: int,
    limits: Limits,
    progress: Progress,
    families: Sequence[str],
    repeat: int = 1,
) -> Runner:
    """A worker's means on that cluster: its own API client, its own fleet with the outsiders in it. Raises Problem.

    `families` are those of the cases; the ones that the cluster lacks are left out.
    """
    api = connect(Path(state.kubeconfig) if state.kubeconfig else None, state.context)
    nodes = api.list(path("Node"))
    fleet = Fleet(token, settings.run, alive=api.alive, patience=STREAM_PATIENCE)
    outside = [Outside(o.name, {Family(family): address for family, address in o.addresses.items()}) for o in state.outsiders]
    fleet.add_many({o.name: _dial_outsider(o) for o in state.outsiders}, limit=OUTSIDER_LIMIT)
    return Runner(
        api=api,
        fleet=fleet,
        run=settings.run,
        worker=worker,
        token=token,
        image=settings.probe_image,
        nodes=schedulable(nodes),
        every_node=nodes,
        dial=_dialler(api),
        progress=progress,
        limits=limits,
        budget=Budget(_rate(settings, workers), _entries(settings, state, workers), time.monotonic),
        outside=outside,
        families=tuple(Family(family) for family in families if family in state.families),
        network_agent=state.implementation.agent,
        repeat=repeat,
    )


def repeat(settings: Settings, said: float | None) -> int:
    """How often a change is timed: what the user said, once at the least, else as the provider's time allows."""
    return REPEATS[settings.provider_name] if said is None else max(1, int(said))


def lanes(settings: Settings, workers: int, cases: int) -> int:
    """How many cases a worker has under way at once.

    On somebody's cluster one, unless several workers were asked for, and one where the cases are too few to be worth a second world.
    """
    worth = settings.provider_name == "lab" or cases >= workers * CASES_OF_TWO
    return LANES if worth and (settings.provider_name != "context" or workers > 1) else 1


def limits(settings: Settings, *, cap: float | None, budget: float | None, burst: float | None, smoke: bool) -> Limits:
    """The bounds of a run: what the user said, else those of the provider; smoke has no burst."""
    provider = settings.provider_name
    cap = CAPS[provider] if cap is None else cap
    found = Limits(cap=cap, stable_least=STABLE_LEAST[provider], stable_most=STABLE_MOST[provider], budget=budget)
    denied = 0 if smoke else found.burst_denied
    denied = denied if burst is None else int(burst)
    return replace(found, burst_denied=denied, burst_allowed=-(-denied // 5), whole=burst is not None)


def _rate(settings: Settings, workers: int) -> float:
    return max(LEAST_OF_ONE.get(settings.provider_name, 0.0), min(RATE_OF_ONE, RATE / workers))


def _entries(settings: Settings, state: ClusterState, workers: int) -> int:
    return int(_smallest_table(state) * TABLE_SHARES[settings.provider_name] / workers)


def _smallest_table(state: ClusterState) -> int:
    sizes = state.implementation.conntrack.values() if state.implementation else ()
    return min(sizes, default=SMALLEST_TABLE)


def _dial_outsider(found: Outsider) -> Dial:
    return lambda: outsider.dial(found)


def _dialler(api: Api) -> Callable[[str, str, int], Dial]:
    """By port-forward; by exec from the first time on that port-forward is refused."""
    ways: list[Callable[[str, str, int], Channel]] = [
        lambda namespace, pod, port: forward(api, namespace, pod, port),
        lambda namespace, pod, port: execute(api, namespace, pod, [*_RELAY, str(port)], container="agent"),
    ]

    def dial(namespace: str, pod: str, port: int) -> Channel:
        way = ways[0]
        try:
            return way(namespace, pod, port)
        except Forbidden:
            if way is ways[-1]:
                raise
            ways[:] = ways[-1:]  # many agents are dialled at once, and each may be the first to learn it
            return ways[0](namespace, pod, port)

    return lambda namespace, pod, port: lambda: dial(namespace, pod, port)
