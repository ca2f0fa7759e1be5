"""Words of a case for what happens in time: pods from their first instruction on, and changes that are measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from netproof.model.flow import Flow, Port
from netproof.model.history import Decision, Expectation
from netproof.model.matrix import Matrix, MatrixError
from netproof.world.newcomers import Newcomer
from netproof.world.verdicts import Misused

if TYPE_CHECKING:
    from netproof.world.case import Case
    from netproof.world.language import CaseWorld

BIRTHS = 3  # times that pods are made whose first instant nothing is known of: on a busy machine an agent may sleep through it


@dataclass(frozen=True, slots=True)
class Timed:
    """A change that is measured, not judged."""

    case: Case
    world: CaseWorld
    change: str
    ports: tuple[Port, ...]

    def matrix(self, text: str) -> None:
        """The pairs that the change closes (`X`) and opens (`.`); those marked `?` are open, and it does not concern them."""
        self.case.time(self.change, drawn(self.case, self.world, self.ports, text))


@dataclass(frozen=True, slots=True)
class Newborn:
    """Pods that are made in the middle of a case: of each of `kinds`, with its labels, one on the node of a and one on that of b.

    Their agents dial as their first instruction, in an init container before that too with `init`, and are dialled back by those whom
    they call. With `timed` their first seconds are measured under that name instead of judged, those of the first kind.
    """

    case: Case
    world: CaseWorld
    port: Port
    kinds: Mapping[str, Mapping[str, str]]
    init: bool
    timed: str

    def matrix(self, text: str) -> None:
        """Between new pods, called `x/KIND-a` and `x/KIND-b`, and standing ones: what is denied (`X`) from the first instant on, and
        what is allowed (`.`) in the end. An X needs a dot of another kind on the same node towards the same pod: its control.
        """
        for left in reversed(range(1 if self.timed else BIRTHS)):
            if self._are_judged(text, last=not left):
                return

    def _are_judged(self, text: str, *, last: bool) -> bool:
        """Whether pods that are made now tell enough; if not, they are gone again."""
        pods, cells = self._newcomers(), parsed(self.case, text).cells
        flows = {pair: self._flow(pair, pods) for pair in cells}
        expected = {flows[pair]: Expectation(decision, frozenset({flows[pair].destination})) for pair, decision in cells.items()}
        controls = {flows[pair]: flows[self._control(pair, cells)] for pair, d in cells.items() if d is Decision.DENY}
        new = list(pods.values())
        if self.timed:
            self.case.time_new(self.timed, new, expected, controls, timed=f"x/{next(iter(self.kinds))}-")
            return True
        if self.case.settle_new(new, expected, controls, init=self.init, last=last):
            return True
        self.case.world.remove_pods([pod.name for pod in new])
        return False

    def _newcomers(self) -> dict[str, Newcomer]:
        """By the names that the case has for them; a pod's own has a number, as no name comes back in a world."""
        world = self.case.world
        places = {place: pod.node for place in "ab" for pod in [world.pods[f"x/{place}"]]}
        nodes = {node.name: node for node in self.case.runner.nodes}
        shown = {f"x/{kind}-{place}": (labels, nodes[node]) for kind, labels in self.kinds.items() for place, node in places.items()}
        return {name: Newcomer(f"{name}-{world.next_number()}", node, labels) for name, (labels, node) in shown.items()}

    def _flow(self, pair: tuple[str, str], pods: Mapping[str, Newcomer]) -> Flow:
        """The address of a pod that does not exist yet is empty."""
        source, destination = pair
        if (source in pods) == (destination in pods):
            raise Misused(f"{self.case.id} draws {source} -> {destination}: one of them must be new, and one of them standing")
        address = "" if destination in pods else self.world.pod(destination).address
        return Flow(self._name(source, pods), self._name(destination, pods), address, self.port, self.world.family)

    def _name(self, shown: str, pods: Mapping[str, Newcomer]) -> str:
        return pods[shown].name if shown in pods else shown

    def _control(self, pair: tuple[str, str], cells: Mapping[tuple[str, str], Decision]) -> tuple[str, str]:
        for kind in self.kinds:
            twin = tuple(f"x/{kind}-{name.rpartition('-')[2]}" if "-" in name else name for name in pair)
            if cells.get((twin[0], twin[1])) is Decision.ALLOW:
                return twin[0], twin[1]
        raise Misused(f"{self.case.id} draws {pair[0]} -> {pair[1]} as denied, and no pod of another kind that shows it could connect")


def parsed(case: Case, text: str) -> Matrix:
    """A drawn matrix. Raises Misused where it cannot be read."""
    try:
        return Matrix.parse(text)
    except MatrixError as error:
        raise Misused(f"{case.id}: {error}") from error


def drawn(case: Case, world: CaseWorld, ports: Sequence[Port], text: str) -> dict[Flow, Expectation]:
    """What a matrix of standing pods promises of each pair on each of the ports."""
    cells = parsed(case, text).cells
    return {
        world.pod(source).to(world.pod(destination).on(port)): Expectation(decision, frozenset({destination}), why="as drawn in the case")
        for port in ports
        for (source, destination), decision in cells.items()
    }
