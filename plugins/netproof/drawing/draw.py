"""A set of policies and the flows that tell whether it is in force, drawn until a network could be told from one that enforces nothing."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from netproof.drawing.dice import Dice
from netproof.drawing.rules import Palette, policy
from netproof.drawing.stage import Policies, Stage, Way
from netproof.model.flow import TCP, UDP
from netproof.model.history import Decision
from netproof.oracle import Direction, Ruling, directions
from netproof.verdict.control import Side, refuse_unchanged

FEATURES = ("NetworkPolicyEndPort", "NetworkPolicyIPBlock", "NetworkPolicyIPBlockPods", "Outsider", "SCTP")
"""The features of a cluster that a set depends on, beside its seed and its number; nothing else does."""

PORTS = (TCP(8080), TCP(8081), UDP(8080), UDP(8081))  # that every pod of a world serves
_POLICIES = {1: 26.0, 2: 36.0, 3: 24.0, 4: 14.0}
_LEAST_DENIED, _MOST_DENIED = 0.15, 0.75  # of the flows of a set that are judged
_TRIVIAL = 0.04  # of all sets may have no rule that lets anything through
_DRAWS = 500  # a set that says something is found among so many: two or three are enough on average
_END = {Direction.EGRESS: Side.SOURCE, Direction.INGRESS: Side.DESTINATION}


@dataclass(frozen=True, slots=True)
class Drawn:
    """A set by its name (`s1-17`: seed and number), and the flows to be probed under it. Namespaces are letters, addresses places."""

    name: str
    policies: Policies
    ways: tuple[Way, ...]


def draw(stage: Stage, *, seed: int, number: int) -> Drawn:
    """The set of that number: the same for the same seed, number and features of the stage, in whatever order sets are drawn."""
    dice, palette = Dice(f"{seed}/{number}"), Palette.of(stage)
    for _ in range(_DRAWS):
        policies = tuple(policy(dice, palette, f"p{i + 1}") for i in range(dice.weighted(_POLICIES)))
        ways, trivial = _ways(dice, stage, policies), dice.chance(_TRIVIAL)
        if _tells(stage, policies, stage.rulings(policies, ways), trivial=trivial):
            return Drawn(f"s{seed}-{number}", policies, ways)
    raise AssertionError(f"none of {_DRAWS} sets of seed {seed} and number {number} says anything: the weights are wrong")


def _ways(dice: Dice, stage: Stage, policies: Policies) -> tuple[Way, ...]:
    """Every pair of pods on every port that they serve, and every pod to everybody outside where a policy is about egress."""
    names = [pod.key for pod in stage.pods]
    ways = [Way(a, b, port) for port in PORTS for a, b in itertools.permutations(names, 2)]
    if "Outsider" in stage.features and any(Direction.EGRESS in directions(one) for one in policies):
        ways += [Way(a, one.name, dice.one_of(PORTS)) for a in names for one in stage.outside]
    return tuple(ways)


def _tells(stage: Stage, policies: Policies, rulings: Mapping[Way, Ruling], *, trivial: bool) -> bool:
    """Whether the set says something: enough is denied and enough allowed, a rule lets something through, and each node has a witness."""
    judged = {way: ruling for way, ruling in rulings.items() if stage.promised(ruling)}
    denied = [way for way, ruling in judged.items() if ruling.decision is Decision.DENY]
    if not _LEAST_DENIED * len(judged) <= len(denied) <= _MOST_DENIED * len(judged) or not denied:
        return False
    through = any(ruling.allowed_by for ruling in judged.values() if ruling.decision is Decision.ALLOW)
    return (through or trivial) and not unwitnessed(stage, policies, denied)


def unwitnessed(stage: Stage, policies: Policies, denied: Sequence[Way]) -> tuple[str, ...]:
    """The nodes of which the denied flows say nothing, as the rule for every case has it."""
    nodes = {pod.key: pod.node for pod in stage.pods}
    about = {(one["metadata"]["namespace"], direction) for one in policies for direction in directions(one)}
    ends = {way: {Side.SOURCE: way.source, Side.DESTINATION: way.destination} for way in denied}
    sides = {
        way: {_END[direction] for direction in Direction if (ends[way][_END[direction]].partition("/")[0], direction) in about}
        for way in denied
    }
    placement = {way: (nodes.get(way.source, ""), nodes.get(way.destination, "")) for way in denied}
    subjects = {pod.node for pod in stage.pods if any(pod.namespace == home for home, _ in about)}
    return refuse_unchanged(placement, sides, subjects)
