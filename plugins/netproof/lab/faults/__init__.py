"""The catalogue of faults: ways to break the lab on purpose, where each or its like was seen, and the cells that it must turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from netproof.lab import dns
from netproof.lab.faults import changes, forms, names, network, policy, services
from netproof.lab.faults.model import Fault, Turn
from netproof.lab.plane.model import Plane
from netproof.lab.plane.reconcile import Edit
from netproof.lab.seams import Snapshot

if TYPE_CHECKING:
    from netproof.lab.store import Store

__all__ = ["CATALOGUE", "Fault", "Sight", "Turn", "UnknownFault", "answers", "chosen", "edit"]

CATALOGUE: tuple[Fault, ...] = (*network.FAULTS, *services.FAULTS, *names.FAULTS, *policy.FAULTS, *forms.FAULTS, *changes.FAULTS)


class UnknownFault(ValueError):  # noqa: N818
    """No fault has that id; the text names those that there are."""


def chosen(ids: Sequence[str]) -> tuple[Fault, ...]:
    """The faults of these ids. Raises UnknownFault."""
    known = {fault.id: fault for fault in CATALOGUE}
    for id_ in ids:
        if id_ not in known:
            raise UnknownFault(f"there is no fault {id_}; there are {', '.join(known)}")
    return tuple(known[id_] for id_ in ids)


def edit(faults: Sequence[Fault]) -> Edit:
    """One edit that does what all of them do, in their order."""

    def objects(snapshot: Snapshot, node: str) -> Snapshot:
        for fault in faults:
            snapshot = fault.objects(snapshot, node) if fault.objects else snapshot
        return snapshot

    def plane(plane: Plane) -> Plane:
        for fault in faults:
            plane = fault.plane(plane) if fault.plane else plane
        return plane

    def text(rules: str, node: str) -> str:
        for fault in faults:
            rules = fault.rules(rules, node) if fault.rules else rules
        return rules

    return Edit(objects=objects, plane=plane, text=text)


def answers(faults: Sequence[Fault]) -> dns.Edit:
    """One edit of DNS answers that does what all of them do, in their order."""

    def changed(question: dns.Question, given: dns.Answer) -> dns.Answer | None:
        found: dns.Answer | None = given
        for fault in faults:
            found = fault.answer(question, found) if fault.answer and found is not None else found
        return found

    return changed


class Sight:
    """The store as broken DNS servers see it: its snapshots are edited, all else is the store's."""

    def __init__(self, store: Store, faults: Sequence[Fault]) -> None:
        self._store = store
        self._faults = [fault for fault in faults if fault.names]

    def snapshot(self) -> Snapshot:
        """All objects as they are now, edited."""
        found = self._store.snapshot()
        for fault in self._faults:
            found = fault.names(found, "") if fault.names else found
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)
