"""Cyclonus as `make bench-policy` runs it: which of its generated cases, how it is called, and how its output is read.

Cyclonus (https://github.com/mattfenwick/cyclonus, MIT) chooses its cases by tags alone, so three calls make up the twenty. Each case asks
what one of ours asks. None relabels a pod or a namespace: how long that takes is the implementation's affair, which a fixed wait does
not wait for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

VERSION = "v0.5.6"
IMAGE = "registry.k8s.io/e2e-test-images/agnhost:2.43"  # of its pods
NAMESPACES = ("x", "y", "z")  # it makes them, and deletes every policy in them
PODS = 9


@dataclass(frozen=True, slots=True)
class Pair:
    """The same question twice: the description of Cyclonus' case, and the id of ours."""

    theirs: str
    ours: str


@dataclass(frozen=True, slots=True)
class Call:
    """One call of Cyclonus: the tags that it is given, and the cases that it then runs, in its order."""

    include: tuple[str, ...]
    exclude: tuple[str, ...]
    pairs: tuple[Pair, ...]

    def arguments(self) -> list[str]:
        """For `cyclonus generate`: no SCTP, by pod IP as our cases, loopback not judged as in ours; all else is its default."""
        return [
            "--server-protocol=TCP,UDP",
            "--ignore-loopback",
            "--destination-type=pod-ip",
            f"--include={','.join(self.include)}",
            f"--exclude={','.join(self.exclude)}",
        ]


# The tags of cases that some tag of ours would draw in: other generators', two peers at once, SCTP.
_OTHERS = ("upstream-e2e", "example", "multi-peer", "sctp")

CALLS = (
    Call(
        include=("deny-all", "allow-all", "pods-by-label"),
        exclude=(*_OTHERS, "conflict", "all-namespaces"),
        pairs=(
            Pair("egress: deny all", "NPI-02b/tcp/ipv4/pod-ip"),
            Pair("egress: allow all", "NPI-03b/tcp/ipv4/pod-ip"),
            Pair("ingress: deny all", "NPI-02a/tcp/ipv4/pod-ip"),
            Pair("ingress: allow all", "NPI-03a/tcp/ipv4/pod-ip"),
            Pair("pods by label + nil ns", "NPP-01a/tcp/ipv4/pod-ip"),
            Pair("pods by label + ns by label", "NPP-03a/tcp/ipv4/pod-ip"),
            Pair("pods by label + nil ns", "NPP-07a/tcp/ipv4/pod-ip"),  # the egress twin
            Pair("pods by label + ns by label", "NPP-07c/tcp/ipv4/pod-ip"),  # the egress twin
        ),
    ),
    Call(
        include=("policy-namespace", "any-port", "create-policy"),
        exclude=(*_OTHERS, "egress", "pods-by-label", "rule"),
        pairs=(
            Pair("empty pods + nil ns", "NPP-01b/tcp/ipv4/pod-ip"),
            Pair("any-port,direction,ingress,port", "NPR-05/ipv4/pod-ip"),
            Pair("any-port,direction,ingress,port,protocol,tcp", "NPR-01c/tcp/ipv4/pod-ip"),
            Pair("any-port,direction,ingress,port,protocol,udp", "NPR-01c/udp/ipv4/pod-ip"),
            Pair("Create/delete policy", "NPI-01b/tcp/ipv4/pod-ip"),
            Pair("Create/update policy", "NPC-04a/tcp/ipv4/pod-ip"),
        ),
    ),
    Call(
        include=("target-pod-selector", "any-peer", "multi-port/protocol", "namespaces-by-default-label"),
        exclude=(*_OTHERS, "egress", "any-port", "named-port", "protocol"),
        pairs=(
            Pair('set pod selector to ["MatchLabels",[],"MatchExpression",null]', "NPP-04a/tcp/ipv4/pod-ip"),  # its peers are by `In`
            Pair('set pod selector to ["MatchLabels",["pod: a"],"MatchExpression",null]', "NPI-05a/tcp/ipv4/pod-ip"),
            Pair(
                'set pod selector to ["MatchLabels",[],"MatchExpression",[{"key":"pod","operator":"In","values":["a","b"]}]]',
                "NPI-05b/tcp/ipv4/pod-ip",
            ),
            Pair("ingress: empty peers", "NPR-01a/tcp/ipv4/pod-ip"),  # its rule is for one port
            Pair("direction,ingress,multi-port/protocol,numbered-port,port,rule", "NPR-01b/ipv4/pod-ip"),
            Pair("ingress: select namespace by default label", "NPP-05/tcp/ipv4/pod-ip"),
        ),
    ),
)
PAIRS = tuple(pair for call in CALLS for pair in call.pairs)

_CHOSEN = re.compile(r"test #\d+: (.*)")
_STARTED = re.compile(r"starting test case #\d+$")
_COUNTS = re.compile(r"(?:Discrepancy found:)?(\d+) wrong, \d+ ignored, \d+ correct$")
_FINISHED = re.compile(r"finished policy #\d+$")
_ROUND = re.compile(r'.*msg="running kube probe on try \d+"')


class StrangeError(Exception):
    """Cyclonus did something else than was asked of it."""


@dataclass(slots=True)
class Output:
    """What one call prints, line by line, each with the time at which it was read."""

    call: Call
    chosen: list[str] = field(default_factory=list)
    started: list[float] = field(default_factory=list)
    finished: list[float] = field(default_factory=list)
    wrong: list[int] = field(default_factory=list)  # of each case: cells that are not what Cyclonus expects
    rounds: int = 0

    def hear(self, line: str, at: float) -> None:
        """Take one line. Raises StrangeError where the cases are not those of the call."""
        line = line.rstrip("\n")
        if found := _CHOSEN.match(line):
            self.chosen.append(found[1])
        elif _STARTED.match(line):
            self._require()
            self.started.append(at)
            self.wrong.append(0)
        elif self.wrong and (found := _COUNTS.match(line)):
            self.wrong[-1] += int(found[1])
        elif _FINISHED.match(line):
            self.finished.append(at)
        elif _ROUND.match(line):
            self.rounds += 1

    @property
    def seconds(self) -> list[float]:
        """How long each case took that has ended."""
        return [end - begin for begin, end in zip(self.started, self.finished, strict=False)]

    @property
    def differing(self) -> int:
        """How many cases that have ended saw something that Cyclonus does not expect."""
        return sum(1 for count, _ in zip(self.wrong, self.finished, strict=False) if count)

    def _require(self) -> None:
        expected = [pair.theirs for pair in self.call.pairs]
        if self.chosen != expected:
            raise StrangeError(f"cases other than those of the comparison were chosen: {self.chosen}, not {expected}")


def calls(number: int) -> Sequence[tuple[Call, int]]:
    """The calls that run the first so many cases, and how many of each call's that makes."""
    found = []
    for call in CALLS:
        wanted = min(number, len(call.pairs))
        if wanted > 0:
            found.append((call, wanted))
        number -= wanted
    return found
