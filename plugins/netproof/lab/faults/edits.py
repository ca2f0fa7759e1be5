"""What faults are made of: small changes to objects, plans and rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from netproof.lab.plane.model import Allow, Backend, Choice, Frontend, Isolation, Peer, Plane
from netproof.lab.seams import Object, Snapshot

Where = Callable[[Isolation], bool]


def anywhere(_isolation: Isolation) -> bool:
    """Every isolated pod, in either direction."""
    return True


def ingress(isolation: Isolation) -> bool:
    """What is isolated for ingress."""
    return isolation.direction == "ingress"


def egress(isolation: Isolation) -> bool:
    """What is isolated for egress."""
    return isolation.direction == "egress"


def isolations(change: Callable[[Isolation], Isolation | None]) -> Callable[[Plane], Plane]:
    """Change each isolation; None takes it away."""
    return lambda plane: replace(plane, isolations=tuple(found for one in plane.isolations if (found := change(one)) is not None))


def allows(change: Callable[[Allow], Allow | None], where: Where = anywhere) -> Callable[[Plane], Plane]:
    """Change each allow of the isolations chosen; None takes it away."""

    def changed(isolation: Isolation) -> Isolation:
        if not where(isolation):
            return isolation
        return replace(isolation, allows=tuple(found for one in isolation.allows if (found := change(one)) is not None))

    return isolations(changed)


def peers(change: Callable[[Peer], Peer | None], where: Where = anywhere) -> Callable[[Plane], Plane]:
    """Change each peer of every allow that names some; None takes it away."""

    def changed(allow: Allow) -> Allow:
        if allow.peers is None:
            return allow
        return replace(allow, peers=tuple(found for one in allow.peers if (found := change(one)) is not None))

    return allows(changed, where)


def frontends(change: Callable[[Frontend, Plane], Frontend | None]) -> Callable[[Plane], Plane]:
    """Change each frontend; None takes it away."""
    return lambda plane: replace(plane, frontends=tuple(found for one in plane.frontends if (found := change(one, plane)) is not None))


def choices(change: Callable[[Choice], Choice]) -> Callable[[Plane], Plane]:
    """Change where frontends lead, for whomever."""

    def changed(frontend: Frontend, _plane: Plane) -> Frontend:
        return replace(frontend, inside=change(frontend.inside), outside=change(frontend.outside) if frontend.outside else None)

    return frontends(changed)


def leads(frontend: Frontend, backends: Iterable[Backend]) -> Frontend:
    """The frontend with these backends on both sides."""
    chosen = tuple(backends)
    outside = replace(frontend.outside, backends=chosen) if frontend.outside else None
    return replace(frontend, inside=replace(frontend.inside, backends=chosen), outside=outside)


def rule(chain: str, *lines: str, node: str = "") -> Callable[[str, str], str]:
    """Put rules first into one of the chains that the kernel calls, on one node or on all."""

    def changed(text: str, on: str) -> str:
        if node and on != node:
            return text
        start = text.index(";", text.index(f"\tchain {chain} {{")) + 1
        end = text.index("\n", start)
        return text[:end] + "".join(f"\n\t\t{line}" for line in lines) + text[end:]

    return changed


def policies(change: Callable[[Object], Object | None]) -> Callable[[Snapshot, str], Snapshot]:
    """Change each NetworkPolicy before it is looked at, given a copy of its spec to change in place; None takes it away."""
    return objects("NetworkPolicy", change)


def objects(kind: str, change: Callable[[Object], Object | None]) -> Callable[[Snapshot, str], Snapshot]:
    """Change each object of a kind before it is looked at; the function returns another object, or None to take it away."""

    def changed(snapshot: Snapshot, _node: str) -> Snapshot:
        return {**snapshot, kind: [found for one in snapshot.get(kind, ()) if (found := change(one)) is not None]}

    return changed


def only_on(node: str, edit: Callable[[Plane], Plane]) -> Callable[[Plane], Plane]:
    """An edit of one node's plan alone."""
    return lambda plane: edit(plane) if plane.node == node else plane


def frozen(kind: str, key: Callable[[Object], object], put: Callable[[Object, object], Object]) -> Callable[[Snapshot, str], Snapshot]:
    """Of each object of a kind remember what `key` first said, and go on with that."""
    known: dict[str, object] = {}

    def first(obj: Object) -> Object:
        return put(obj, known.setdefault(obj["metadata"]["uid"], key(obj)))

    return objects(kind, first)
