"""What rounds look like between the runner and the agents: flows to messages, and answers to attempts. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from netproof.model.flow import Flow
from netproof.model.outcome import Attempt, Outcome
from netproof.probe.stream import Identity

STARVED = 0.15  # seconds of lag at either end after which silence proves nothing
AWAKE = 0.75  # seconds of an attempt with both ends awake in which an answer would have been seen, whatever else they slept
# The same where no queue of either end spilt anything: what waited there was read when its end awoke, so that who slept has only that
# much less time to answer, which takes a hundredth of this.
AWAKE_UNSPILT = 0.4

Meant = Mapping[Flow, Collection[str]]  # who may answer on flows that lead to no agent in particular
ANYBODY: Meant = {}

Lags = Sequence[tuple[float, float]]  # (from, to), when an agent's loop was away


@dataclass(frozen=True, slots=True)
class Plan:
    """How a round probes: up to one attempt at each of `offsets` while none has succeeded; flows start `spacing` seconds apart."""

    offsets: tuple[float, ...] = (0.0, 0.05, 0.1)
    timeout: float = 0.9  # below TCP's first retransmission at 1.0 s
    spacing: float = 0.0

    def lasts(self, flows: int) -> float:
        """Seconds that a round of so many flows takes at most."""
        return self.offsets[-1] + self.timeout + self.spacing * flows


ROUND = Plan()
GLANCE = Plan(offsets=(0.0,), timeout=0.15)  # long enough to see what connects: answers came within 0.05 s on clusters that were not busy
# Where refusal is what is tested: one attempt long enough for TCP's second SYN, and apart, since ICMP errors are rate-limited.
REFUSAL = Plan(offsets=(0.0,), timeout=3.0, spacing=0.25)


def specification(index: int, flow: Flow, delay: float = 0.0, *, session: str = "") -> list[Any]:
    """A flow as an agent takes it; `index` is the round's, over all agents. Connections that are held are known by session and number."""
    question = {"names": list(flow.question.names), "type": flow.question.type} if flow.question else None
    held = [f"{session}.{flow.held}"] if flow.held else []
    protocol = "ICMP" if flow.echo else str(flow.port.protocol)
    return [index, protocol, flow.address, flow.port.number, round(delay, 6), question, *held]


def by_source(flows: Sequence[Flow]) -> dict[str, list[int]]:
    """The indices of the flows of each source agent."""
    found: dict[str, list[int]] = {}
    for index, flow in enumerate(flows):
        found.setdefault(flow.source, []).append(index)
    return found


@dataclass(slots=True)
class Faces:
    """Which agent answered, by the identity in its answer."""

    by_boot: dict[str, str] = field(default_factory=dict)
    by_uid: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, identity: Identity) -> None:
        self.by_boot[identity.boot] = name
        if identity.uid:
            self.by_uid[identity.uid] = name

    def add_former(self, name: str, boot: str) -> None:
        """An agent that ran in the same pod before: its answers are the pod's too."""
        self.by_boot[boot] = name

    def drop(self, name: str) -> None:
        """Keep who it was: an answer of a dropped agent must be told from one of a stranger."""
        self.dropped |= {boot: known for boot, known in self.by_boot.items() if known == name}
        self.by_boot = {boot: known for boot, known in self.by_boot.items() if known != name}
        self.by_uid = {uid: known for uid, known in self.by_uid.items() if known != name}

    def name(self, who: Any) -> str:
        """The fleet's name of who answered; for a question the answer as it stands."""
        if not isinstance(who, list):
            return str(who)
        pod, uid, _node, boot = who
        if boot in self.by_boot:
            return self.by_boot[boot]
        if uid in self.by_uid:
            return f"{self.by_uid[uid]} (restarted)"
        return f"{self.dropped[boot]} (dropped)" if boot in self.dropped else f"{pod or 'somebody'} (not ours)"


@dataclass(slots=True)
class Sight:
    """What is known of a round besides the attempts: when agents lagged, and which attempts they received.

    Behind a Service any agent may stand, unless `meant` says who.
    """

    meant: Meant = field(default_factory=dict)
    lags: dict[str, list[tuple[float, float]]] = field(default_factory=dict)  # by agent, on the runner's clock
    received: dict[int, dict[str, int]] = field(default_factory=dict)  # flow index -> agent -> mask of attempts
    unspilt: dict[str, bool] = field(default_factory=dict)  # by agent that was asked, whether all its queues had room for all that came

    def add_spill(self, agent: str, before: int | None, after: int | None) -> None:
        """Two readings of how much an agent's queues spilt; None where it is not known."""
        self.unspilt[agent] = self.unspilt.get(agent, True) and before is not None and before == after

    def add_lags(self, agent: str, lags: Iterable[Sequence[float]], offset: float) -> None:
        self.lags.setdefault(agent, []).extend((start + offset, end + offset) for start, end in lags if end - start > STARVED)

    def add_seen(self, agent: str, flows: Mapping[str, str]) -> None:
        for index, mask in flows.items():
            masks = self.received.setdefault(int(index), {})
            masks[agent] = masks.get(agent, 0) | int(mask, 16)  # a pod has several containers, one after the other

    def receivers(self, index: int, number: int) -> list[str]:
        """The agents whose log holds the nonce of that attempt."""
        return sorted(agent for agent, mask in self.received.get(index, {}).items() if mask >> number & 1)

    def starved(self, flow: Flow, began: float, ended: float) -> bool:
        """Whether the loop of either end was away during that time, and left too little of it for an answer to be seen."""
        ends = self._ends(flow)
        met = {agent: away for agent in ends if (away := self._away(agent, began, ended)) is not None}
        if not met:
            return False
        if not flow.question and all(self.unspilt.get(agent) for agent in ends):
            return ended - began - max(met.values()) < AWAKE_UNSPILT
        source = met.pop(flow.source, 0.0)
        return ended - began - source - max(met.values(), default=0.0) < AWAKE

    def _ends(self, flow: Flow) -> set[str]:
        if flow.destination in self.lags or flow.question:  # a name server is no agent
            return {flow.source, flow.destination}
        return {flow.source, *self.meant.get(flow, self.lags)}

    def _away(self, agent: str, began: float, ended: float) -> float | None:
        """Seconds of that time in which the agent was away; None where it never was."""
        met = sorted((max(start, began), min(end, ended)) for start, end in self.lags.get(agent, ()) if start < ended and end > began)
        return _length(met) if met else None


def _length(spans: Iterable[tuple[float, float]]) -> float:
    """Seconds that sorted spans cover together: an agent that is asked twice tells the same lag twice."""
    covered, until = 0.0, float("-inf")
    for start, end in spans:
        covered += max(0.0, end - max(start, until))
        until = max(until, end)
    return covered


@dataclass(frozen=True, slots=True)
class Reader:
    """Makes attempts of what one agent told. `sent`: when it was asked, so nothing can have begun before."""

    flows: Sequence[Flow]
    faces: Faces
    sight: Sight
    offset: float
    sent: float

    def attempt(self, entry: Sequence[Any], who: Sequence[Any], *, window: float = 0.0) -> Attempt:
        """One entry of an answer. `window`: seconds for which its ends had to be awake at least for it not to be starved."""
        index, number, began, took, outcome, face, source, port, detail = entry
        flow, begun = self.flows[index], max(began + self.offset, self.sent)
        responder = self.faces.name(who[face]) if face >= 0 else ""
        receivers = self._receivers(index, number, outcome, responder)
        starved = self.sight.starved(flow, begun, begun + max(took, window))
        told = _told(detail, outcome, receivers)
        return Attempt(begun, took, Outcome(outcome), responder, source, bool(receivers), starved, told, port)

    def attempts(self, entries: Iterable[Sequence[Any]], who: Sequence[Any]) -> dict[Flow, list[Attempt]]:
        """The attempts on each flow, in the order of their start."""
        found: dict[Flow, list[Attempt]] = {}
        for entry in entries:
            found.setdefault(self.flows[entry[0]], []).append(self.attempt(entry, who))
        for made in found.values():
            made.sort(key=_began)
        return found

    def burst(self, told: Sequence[Any], who: Sequence[Any], began: float) -> Iterator[Attempt]:
        """All attempts on one flow of a burst. Those of one kind share one object: the first start, the slowest, no port.

        One that connected at once is starved where a silent one would have been: to count it and leave that one out would hide a loss.
        """
        index, starts, groups = told
        numbered = {number: group for group in groups for number in _numbers(group[3])}
        full = {entry[0]: entry for group in groups for entry in group[6]}
        shared: dict[Any, Attempt] = {}
        for number, start in enumerate(starts):
            outcome, face, source, _mask, slowest, detail, _full = group = numbered[number]
            _number, took, port, detail = full.get(number, (number, slowest, 0, detail))
            made = self.attempt([index, number, began + start / 1000, took, outcome, face, source, port, detail], who, window=ROUND.timeout)
            yield made if number in full else shared.setdefault((id(group), made.received, made.starved), made)

    def _receivers(self, index: int, number: int, outcome: str, responder: str) -> list[str]:
        if outcome == Outcome.CONNECTED and self.flows[index].question is None:
            return [responder] if responder in self.faces.by_boot.values() else []
        return self.sight.receivers(index, number)


def broken(began: float, ended: float, why: str) -> Attempt:
    """What is said of a flow whose agent could not be asked."""
    return Attempt(began, ended - began, Outcome.BROKEN, detail=why)


def _told(detail: str, outcome: str, receivers: list[str]) -> str:
    if outcome == Outcome.CONNECTED or not receivers:
        return str(detail)
    return "; ".join(filter(None, [str(detail), f"its nonce was received by {', '.join(receivers)}"]))


def _numbers(mask: str) -> Iterator[int]:
    bits = int(mask, 16)
    return (number for number in range(bits.bit_length()) if bits >> number & 1)


def _began(attempt: Attempt) -> float:
    return attempt.began
