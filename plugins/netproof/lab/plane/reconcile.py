"""The plan of a node brought to it, each time that the objects change: only what differs, and without a gap.

Dynamic sets (the clients of session affinity) outlive a change, because a block of the rules that stays the same is left alone.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from netproof.lab.plane import plan
from netproof.lab.plane.model import Backend, Frontend, Plane
from netproof.lab.plane.text import TABLE, text
from netproof.lab.seams import Runtime, Snapshot

# A transaction is one message to the kernel. The socket of an ordinary user takes 212,992 bytes; a short rule has ten times its text.
PIECE = 20_000
# A packet among rules that a transaction deletes may find their sets empty: of a thousand changes under load two let a connection miss a
# set written into a rule (measured). So what nothing leads to any more stays for so many seconds.
LINGERS = 1.0
_BLOCK = re.compile(r"^\t(set|map|chain) (\S+) \{\n(.*?)^\t\}$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Edit:
    """What a fault changes on the way from objects to packets, on any node. By default nothing."""

    objects: Callable[[Snapshot, str], Snapshot] = lambda snapshot, _node: snapshot
    plane: Callable[[Plane], Plane] = lambda plane: plane
    text: Callable[[str, str], str] = lambda rules, _node: rules
    forgets: Callable[[Frontend], bool] = lambda _frontend: True


_Places = Mapping[tuple[str, str, int], Frontend]
Blocks = dict[str, list[str]]  # by name the commands that make a set, map or chain: the first makes it, each other adds a line to it


@dataclass(slots=True)
class Reconciler:
    """Keeps the rules of one node what the objects say."""

    runtime: Runtime
    node: str
    edit: Edit = field(default_factory=Edit)
    _there: Blocks = field(default_factory=dict)
    _left: Mapping[str, float] = field(default_factory=dict)  # since when nothing leads to a block
    _frontends: _Places = field(default_factory=dict)

    async def reconcile(self, snapshot: Snapshot) -> None:
        """When this returns, new flows on the node meet the rules for `snapshot`. One call at a time.

        Raises RulesRefused where the node didn't take them; it keeps what it had, and the next call tries again.
        """
        plane = self.edit.plane(plan(self.edit.objects(snapshot, self.node), self.node))
        after, now = blocks(self.edit.text(text(plane), self.node)), time.monotonic()
        over = [name for name, since in self._left.items() if since + LINGERS < now and name not in after]
        for piece in changes(self._there, after, over):
            await self.runtime.apply(self.node, piece)
        self._there = {name: block for name, block in self._there.items() if name not in over} | after
        self._left = {name: self._left.get(name, now) for name in self._there if name not in after}
        before, self._frontends = self._frontends, {one.place: one for one in plane.frontends}
        for frontend in filter(self.edit.forgets, _outdated(before, self._frontends)):
            self.runtime.forget(self.node, frontend.address, frontend.port, frontend.protocol)


def _outdated(before: _Places, now: _Places) -> Iterator[Frontend]:
    """UDP frontends with flows that the rules no longer see: to an endpoint that is gone, or begun while there was none."""
    for place, frontend in {**before, **now}.items():
        old, new = before.get(place), now.get(place)
        lost = _answering(old) - _answering(new)
        begun = new and new.backends() and not (old and old.backends())
        if frontend.protocol == "udp" and (lost or begun):
            yield frontend


def _answering(frontend: Frontend | None) -> frozenset[Backend]:
    return frontend.backends() | frozenset(frontend.serving) if frontend else frozenset()


def changes(before: Blocks, after: Blocks, over: Collection[str] = ()) -> list[str]:
    """Transactions that turn one rule set into another: one as a rule, none if they are equal, several where one would be too large.

    What is in force changes in one of them. Those before it add what nothing leads to yet, those after it remove what is `over`.
    """
    if not over and all(before.get(name) == block for name, block in after.items()):
        return []
    if any(before.get(name, block) != block and not _is_hook(block) for name, block in after.items()):
        whole = "".join(command for block in after.values() for command in block)
        return [f"table {TABLE}\ndelete table {TABLE}\nadd table {TABLE}\n{whole}"]  # by an edit one name stands for two things
    fresh = [command for name, block in after.items() if name not in before and not _is_hook(block) for command in block]
    flushes = [f"flush chain {TABLE} {name}\n" for name, block in before.items() if _is_hook(block)]
    flip = "".join([*flushes, *(command for block in after.values() if _is_hook(block) for command in block)])
    # The clients of a backend that is gone are forgotten, should it come back meanwhile.
    forgotten = [f"flush set {TABLE} {name}\n" for name, block in before.items() if name not in after and " dynamic" in block[0]]
    # Last written, first removed: a block may refer to those before it.
    stale = [block[0].replace("add", "delete", 1).partition(" {")[0] + "\n" for name, block in reversed(before.items()) if name in over]
    return _packed([f"add table {TABLE}\n", *fresh, flip, *forgotten, *stale])


def blocks(rules: str) -> dict[str, list[str]]:
    """The blocks of a rule set."""
    found = {}
    for type_, name, body in _BLOCK.findall(rules):
        lines = [line.strip() for line in body.splitlines()]
        head = lines.pop(0) if lines and lines[0].startswith("type ") else ""
        if type_ == "chain":
            more = [f"add rule {TABLE} {name} {line}\n" for line in lines]
        else:
            more = [f"add element {TABLE} {name} {{ {line} }}\n" for line in lines[1:-1]]
        found[name] = [f"add {type_} {TABLE} {name} {{\n{head}\n}}\n", *more]
    return found


def _is_hook(block: list[str]) -> bool:
    """Whether the kernel calls it."""
    return " hook " in block[0]


def _packed(texts: Iterable[str]) -> list[str]:
    """Texts joined to pieces; one that is longer than a piece stays alone."""
    packed = [""]
    for text_ in texts:
        if packed[-1] and len(packed[-1]) + len(text_) > PIECE:
            packed.append("")
        packed[-1] += text_
    return packed
