"""Controls: what shows that a denied flow could have connected, and which nodes a case says something of."""

from __future__ import annotations

import enum
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from typing import TypeVar

from netproof.model.flow import Flow
from netproof.model.history import Decision, Expectation, History
from netproof.model.outcome import Phase, Probe
from netproof.verdict.cell import Finding, Grade, evaluate
from netproof.verdict.course import probes_of

F = TypeVar("F", bound=Hashable)

_ANYBODY = Expectation(Decision.ALLOW)


class Side(enum.StrEnum):
    """At which end of a flow a policy is enforced: egress at the source, ingress at the destination."""

    SOURCE = "source"
    DESTINATION = "destination"


def controls(history: History) -> dict[Flow, Flow]:
    """For each flow that shall be denied or refused the flow that must be seen to connect: another where one is named, else itself."""
    needing = (Decision.DENY, Decision.REFUSE)
    return {flow: history.controls.get(flow, flow) for flow, promised in history.expected.items() if promised.decision in needing}


def uncontrolled(history: History) -> dict[Flow, str]:
    """The flows whose control was in no CONTROL round answered in time, by whatever agent, and what was seen of it last."""
    missing, rounds = {}, _control_rounds(history)
    for flow, control in controls(history).items():
        findings = list(_findings(rounds, control, history.limits.late))
        if not any(finding.grade is Grade.GOOD for finding in findings):
            missing[flow] = _words(flow, control, findings)
    return missing


def attempts_at_control(history: History) -> dict[Flow, int]:
    """For each uncontrolled flow the number of CONTROL rounds in which its control was probed."""
    named, rounds = controls(history), _control_rounds(history)
    return {flow: sum(named[flow] in probes for probes in rounds) for flow in uncontrolled(history)}


def _control_rounds(history: History) -> list[dict[Flow, Probe]]:
    return [probes_of(round_) for round_ in history.rounds if round_.phase is Phase.CONTROL]


def _findings(rounds: Iterable[Mapping[Flow, Probe]], control: Flow, late: float) -> Iterator[Finding]:
    return (evaluate(probes[control], _ANYBODY, late) for probes in rounds if control in probes)


def _words(flow: Flow, control: Flow, findings: list[Finding]) -> str:
    seen = findings[-1].seen if findings else "never probed"
    return seen if control == flow else f"{control}: {seen}"


def refuse_unchanged(
    placement: Mapping[F, tuple[str, str]], denied: Mapping[F, Collection[Side]], nodes: Collection[str]
) -> tuple[str, ...]:
    """The nodes of which a case would say nothing, sorted: no cell changes there, so nothing shows that the plane got that far.

    `placement` gives the nodes of source and destination of a flow, `denied` for each flow that the change denies where that is
    enforced, `nodes` those that hold a subject of the policy; flows may be named by anything. A flow is a witness of a node if that
    node alone can have denied it: one that is denied at both ends says nothing of either, unless both are on one node.
    """
    witnessed = {min(where) for flow, sides in denied.items() if len(where := _enforcers(placement[flow], sides)) == 1}
    return tuple(sorted(set(nodes) - witnessed))


def _enforcers(nodes: tuple[str, str], sides: Collection[Side]) -> set[str]:
    ends = dict(zip(Side, nodes, strict=True))
    return {ends[side] for side in sides}
