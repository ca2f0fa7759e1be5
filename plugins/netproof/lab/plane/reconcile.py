"""The plan of each node brought to it, each time that the objects change: only what differs, and without a gap.

Dynamic sets (the clients of session affinity) outlive a change, because a block of the rules that stays the same is left alone.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from netproof.lab.plane import plan
from netproof.lab.plane.model import Backend, Frontend, Plane
from netproof.lab.plane.text import TABLE, text
from netproof.lab.seams import NODES, Runtime, Snapshot

# A transaction is one message to the kernel. The socket of an ordinary user takes 212,992 bytes; a short rule has ten times its text.
PIECE = 20_000
_BLOCK = re.compile(r"^\t(?P<type>set|map|chain) (?P<name>\S+) \{\n.*?^\t\}$", re.MULTILINE | re.DOTALL)


def _as_it_is(snapshot: Snapshot, _node: str) -> Snapshot:
    return snapshot


@dataclass(frozen=True, slots=True)
class Edit:
    """What a fault changes on the way from objects to packets, on any node. By default nothing."""

    objects: Callable[[Snapshot, str], Snapshot] = _as_it_is
    plane: Callable[[Plane], Plane] = lambda plane: plane
    text: Callable[[str, str], str] = lambda rules, _node: rules
    forgets: Callable[[Frontend], bool] = lambda _frontend: True


_Places = dict[tuple[str, str, int], Frontend]


@dataclass(slots=True)
class _InForce:
    rules: str = ""
    frontends: _Places = field(default_factory=dict)


class Reconciler:
    """Keeps the rules of all nodes what the objects say."""

    def __init__(self, runtime: Runtime, edit: Edit = Edit(), *, nodes: Sequence[str] = NODES) -> None:
        self._runtime = runtime
        self._edit = edit
        self._nodes = {node: _InForce() for node in nodes}

    async def reconcile(self, snapshot: Snapshot) -> None:
        """When this returns, new flows on every node meet the rules for `snapshot`. One call at a time.

        Raises RulesRefused where a node didn't take them; that node keeps what it had, and the next call tries again.
        """
        results = await asyncio.gather(*(self._node(node, snapshot) for node in self._nodes), return_exceptions=True)
        for result in results:
            if result:
                raise result

    async def _node(self, node: str, snapshot: Snapshot) -> None:
        now, edit = self._nodes[node], self._edit
        plane = edit.plane(plan(edit.objects(snapshot, node), node))
        rules = edit.text(text(plane), node)
        for piece in changes(now.rules, rules):
            await self._runtime.apply(node, piece)
        before, now.rules, now.frontends = now.frontends, rules, {one.place: one for one in plane.frontends}
        for frontend in filter(edit.forgets, _outdated(before, now.frontends)):
            self._runtime.forget(node, frontend.address, frontend.port, frontend.protocol)


def _outdated(before: _Places, now: _Places) -> Iterator[Frontend]:
    """UDP frontends with flows that the rules no longer see: to an endpoint that is gone, or begun while there was none."""
    for place in {**before, **now}:
        old, new = before.get(place), now.get(place)
        lost = _answering(old) - _answering(new)
        begun = new and new.backends() and not (old and old.backends())
        if (frontend := new or old) and frontend.protocol == "udp" and (lost or begun):
            yield frontend


def _answering(frontend: Frontend | None) -> frozenset[Backend]:
    return frontend.backends() | frozenset(frontend.serving) if frontend else frozenset()


def changes(old: str, new: str) -> list[str]:
    """Transactions that turn one rule set into another: one as a rule, none if they are equal, several where one would be too large.

    What is in force changes in one of them. Those before it add what nothing leads to yet, those after it remove what nothing leads to.
    """
    if old == new:
        return []
    before, after = _blocks(old), _blocks(new)
    if any(name in before and before[name] != block and not block.hook for name, block in after.items()):
        return [f"table {TABLE}\ndelete table {TABLE}\n{new}"]  # by an edit one name stands for two things
    fresh = [piece for name, block in after.items() if name not in before and not block.hook for piece in block.pieces()]
    flushes = [f"flush chain {TABLE} {name}\n" for name, block in before.items() if block.hook]
    flip = "".join([*flushes, *(block.addition for block in after.values() if block.hook)])
    # Last written, first removed: a block may refer to those before it.
    stale = [f"delete {block.type} {TABLE} {name}\n" for name, block in reversed(before.items()) if name not in after]
    return _packed([*fresh, flip, *stale])


def _packed(texts: Iterable[str]) -> list[str]:
    """Texts joined to pieces; one that is longer than a piece stays alone."""
    packed = [""]
    for text_ in texts:
        if packed[-1] and len(packed[-1]) + len(text_) > PIECE:
            packed.append("")
        packed[-1] += text_
    return packed


@dataclass(frozen=True, slots=True)
class _Block:
    """A set, map or chain of the table, as it is written there."""

    type: str
    text: str

    @property
    def hook(self) -> bool:
        """Whether the kernel calls it."""
        return self.type == "chain" and " hook " in self.text

    @property
    def addition(self) -> str:
        return f"table {TABLE} {{\n{self.text}\n}}\n"

    def pieces(self) -> list[str]:
        """Additions that amount to the block: nft appends what it is told later, rules as well as elements."""
        if len(self.text) < PIECE:
            return [self.addition]
        lines = self.text.splitlines(keepends=True)
        start = next((number for number, line in enumerate(lines, 1) if line.strip() == "elements = {"), 1)
        end = len(lines) - (1 if start == 1 else 2)
        head, tail = "".join(lines[:start]), "".join(lines[end:])
        return [_Block(self.type, head + part + tail).addition for part in _packed(lines[start:end])]


def _blocks(rules: str) -> dict[str, _Block]:
    return {match["name"]: _Block(match["type"], match[0]) for match in _BLOCK.finditer(rules)}
