"""Pods that are made in the middle of a case, and looked at from their first instruction on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from netproof.model.flow import Flow
from netproof.model.history import Expectation
from netproof.model.outcome import Phase, Round
from netproof.probe.first import FirstInstant
from netproof.world.placement import Node
from netproof.world.pods import RECORDS, Birth
from netproof.world.world import World

LASTS = 2.5  # seconds for which a new pod's agent dials from its first instruction on
INIT_LASTS = 1.5  # the same for an init container
RECORD = f"{RECORDS}/first.json"


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A pod to be made."""

    name: str
    node: Node
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Born:
    """What became of new pods: their rounds of phase FIRST, and what was expected of their flows, which have all their addresses now."""

    rounds: tuple[Round, ...]
    expected: Mapping[Flow, Expectation]
    controls: Mapping[Flow, Flow]

    def control_round(self) -> Round:
        """What the controls saw of their first instant, as a round of its own phase."""
        return self._of(self.controls.values(), Phase.CONTROL)

    def watched(self, pod: str) -> tuple[Mapping[Flow, Expectation], tuple[Round, Round]]:
        """What was expected of one pod's flows, and what was seen of them: the controls, and the rest as something to be timed."""
        flows = {flow: promised for flow, promised in self.expected.items() if pod in (flow.source, flow.destination)}
        return flows, (self.control_round(), self._of(flows, Phase.WATCH))

    def _of(self, flows: Iterable[Flow], phase: Phase) -> Round:
        wanted = set(flows)
        probes = [probe for round_ in self.rounds for probe in round_.probes if probe.flow in wanted]
        times = [time for probe in probes for attempt in probe.attempts for time in (attempt.began, attempt.began + attempt.took)]
        return Round(phase, min(times, default=0.0), max(times, default=0.0), tuple(probes))


def bear(
    world: World, pods: Sequence[Newcomer], expected: Mapping[Flow, Expectation], controls: Mapping[Flow, Flow], *, init: bool
) -> Born:
    """Make the pods and wait until they run and have told what they saw first; with `init` each has an init container that dials too.

    Flows to a new pod have no address yet: whoever stands at their other end dials it as soon as it has called.
    """
    names = {pod.name for pod in pods}
    outward = [flow for flow in expected if flow.source in names]
    inward = {flow: _call(world, flow) for flow in expected if flow.destination in names}
    instant = FirstInstant(world.runner.fleet, outward, inward, lasts=LASTS, init_lasts=INIT_LASTS if init else 0.0)
    instant.await_calls()
    births = {pod.name: _birth(instant, pod, init=init) for pod in pods}
    try:
        made = world.add_pods({pod.name: pod.node for pod in pods}, births=births)
    except BaseException:
        instant.give_up()
        raise
    rounds = instant.collect({(pod.name, family): address for pod in made for family, address in pod.addresses.items()})
    world.runner.budget.spend(sum(len(probe.attempts) for round_ in rounds for probe in round_.probes))
    promised = {_led(flow, world): promise for flow, promise in expected.items()}
    return Born(rounds, promised, {_led(flow, world): _led(control, world) for flow, control in controls.items()})


def _birth(instant: FirstInstant, pod: Newcomer, *, init: bool) -> Birth:
    main = instant.settings(pod.name, init=False, record=RECORD if init else "")
    return Birth(pod.labels, main, instant.settings(pod.name, init=True, record=RECORD) if init else "")


def _call(world: World, flow: Flow) -> Flow:
    """The flow by which a new pod tells whoever shall dial it where it is."""
    return Flow(flow.destination, flow.source, world.pods[flow.source].addresses[flow.family], flow.port, flow.family)


def _led(flow: Flow, world: World) -> Flow:
    return flow if flow.address else replace(flow, address=world.pods[flow.destination].addresses[flow.family])
