"""A set of policies and the flows that tell whether it is in force, drawn until a network could be told from one that enforces nothing."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from netproof.drawing.dice import Dice
from netproof.drawing.rules import Palette, policy
from netproof.drawing.stage import UNLISTED_RULES, Policies, Stage, Way
from netproof.model.flow import TCP, UDP, Port
from netproof.model.history import Decision
from netproof.oracle import Direction, Ruling, directions
from netproof.verdict.control import Side, refuse_unchanged

INGREDIENTS = (UNLISTED_RULES,)
"""What a set may have that no cluster need claim, and that is left out where an implementation is known to get it wrong."""

FEATURES = ("NetworkPolicyEndPort", "NetworkPolicyIPBlock", "NetworkPolicyIPBlockPods", "Outsider", "SCTP", *INGREDIENTS)
"""The features of a cluster that a set depends on, beside its seed and its number, and the ingredients; nothing else does."""

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
        rulings, trivial = _rulings(dice, stage, policies), dice.chance(_TRIVIAL)
        if _tells(stage, policies, rulings, trivial=trivial):
            return Drawn(f"s{seed}-{number}", policies, tuple(rulings))
    raise AssertionError(f"none of {_DRAWS} sets of seed {seed} and number {number} says anything: the weights are wrong")


def _rulings(dice: Dice, stage: Stage, policies: Policies) -> dict[Way, Ruling]:
    """The flows that are probed, and what is said of them: every pair of pods, and every pod to those outside if a policy is for egress.

    A pair that the policies treat alike on all ports is probed on one of each protocol: with all flows of every set, 300 sets would
    keep two cores busy for minutes and starve the agents, to little gain.
    """
    pairs = list(itertools.permutations([pod.key for pod in stage.pods], 2))
    found = stage.rulings(policies, [Way(a, b, port) for a, b in pairs for port in PORTS])
    ways = [way for a, b in pairs for way in _telling(dice, {port: found[Way(a, b, port)] for port in PORTS}, a, b)]
    if "Outsider" in stage.features and any(Direction.EGRESS in directions(one) for one in policies):
        ways += [Way(pod.key, one.name, dice.one_of(PORTS)) for pod in stage.pods for one in stage.outside]
    return stage.rulings(policies, ways)


def _telling(dice: Dice, rulings: Mapping[Port, Ruling], source: str, destination: str) -> list[Way]:
    """The flows of one pair that are worth a probe."""
    alike = len({(ruling.decision, ruling.allowed_by) for ruling in rulings.values()}) == 1
    ports = [dice.one_of([port for port in PORTS if port.protocol is protocol]) for protocol in (TCP, UDP)] if alike else PORTS
    return [Way(source, destination, port) for port in ports]


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
