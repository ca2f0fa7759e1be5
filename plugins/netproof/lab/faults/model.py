"""A fault: what it breaks, where that or its like was seen, which cells it must turn, and the edit that does it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from netproof.lab.plane.model import Plane
from netproof.lab.seams import Snapshot

if TYPE_CHECKING:
    from netproof.lab.dns import Answer, Question


class Links(Protocol):
    """What of the machine below a fault may change when the lab starts."""

    def block(self, node: str, network: str) -> None:
        """Take a node's way to a network away."""

    def unplug(self, node: str) -> None:
        """Pull a node's cable."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Cases that the fault makes fail: a pattern of ids, and patterns of the flows that must be the wrong ones, and no others.

    Patterns are those of the shell. A flow reads `x/a -> y/b TCP/8080`, a Service's `y/a -> web (ClusterIP) TCP/80`; no patterns: the
    case fails without a flow. `sees` is for cases that only observe: what such a case must say under the fault, and not without it.
    """

    cases: str
    cells: tuple[str, ...] = ("*",)
    sees: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One way to be broken.

    An edit changes what goes into the plan of a node (`objects`), the plan (`plane`), its rules (`rules`), the objects as DNS sees them
    (`names`), its answers (`answer`; None: there is none), the links (`links`, once at the start), or how long a node's rules are put off
    (`delay`, seconds). `again`: after so many seconds plans are made anew though nothing changed, for an edit that depends on the time.
    `legal`: Kubernetes allows it, so what must change is an observation, not a verdict.
    `spares` are cases that must go on to pass. `burst`: so many attempts on a denied flow notice it, and the default need not.
    """

    id: str
    breaks: str
    seen: str
    turns: tuple[Turn, ...]
    spares: tuple[str, ...]
    legal: bool = False
    burst: int | None = None
    objects: Callable[[Snapshot, str], Snapshot] | None = None
    plane: Callable[[Plane], Plane] | None = None
    rules: Callable[[str, str], str] | None = None
    names: Callable[[Snapshot, str], Snapshot] | None = None
    answer: Callable[[Question, Answer], Answer | None] | None = None
    links: Callable[[Links], None] | None = None
    delay: Callable[[str], float] | None = None
    again: float = 0.0
