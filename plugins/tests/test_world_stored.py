"""What cases say of the API server itself: each promise is seen broken here, as no fault of the lab breaks the API."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from netproof.kube.client import Forbidden, Invalid
from netproof.world.language import Expect
from netproof.world.stored import Stored
from netproof.world.verdicts import Failed, Unsupported

FIELD = "spec.ingress[0].ports[0].endPort"
GOOD = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "p", "namespace": "x"}, "spec": {"port": 1}}
BAD = GOOD | {"spec": {"port": 2}}


def a_case(api: Any) -> Any:
    world = SimpleNamespace(namespaces={"x": "real-x"}, recipe=SimpleNamespace(labels={}))
    return SimpleNamespace(runner=SimpleNamespace(api=api), world=world, applied={}, promised=False)


class Judge:
    """An API server that refuses a spec for a reason."""

    def __init__(self, refusals: list[tuple[dict[str, Any], str]]) -> None:
        self.refusals = refusals

    def create(self, obj: dict[str, Any], *, dry_run: bool) -> dict[str, Any]:
        assert dry_run
        assert obj["metadata"]["namespace"] == "real-x"
        for spec, why in self.refusals:
            if obj["spec"] == spec:
                raise Invalid(422, "Invalid", why)
        return obj


def refused(*refusals: tuple[dict[str, Any], str]) -> Any:
    case = a_case(Judge(list(refusals)))
    Expect(case, SimpleNamespace()).refused(BAD, FIELD, but=GOOD)  # type: ignore[arg-type]
    return case


def test_what_is_refused_for_that_field_is_as_promised() -> None:
    assert refused((BAD["spec"], f"{FIELD}: Invalid value: 2")).promised  # type: ignore[arg-type]


def test_what_is_taken_breaks_the_promise() -> None:
    with pytest.raises(Failed, match="takes a policy that it must refuse"):
        refused()


def test_what_is_refused_for_something_else_breaks_the_promise() -> None:
    with pytest.raises(Failed, match="but not for"):
        refused((BAD["spec"], "metadata.name: too long"))  # type: ignore[arg-type]


def test_where_the_right_one_is_refused_too_nothing_is_known() -> None:
    with pytest.raises(Invalid):
        refused((GOOD["spec"], "no policies here"), (BAD["spec"], FIELD))  # type: ignore[arg-type]


def test_what_differs_is_told() -> None:
    case = a_case(None)
    expect = Expect(case, SimpleNamespace())  # type: ignore[arg-type]
    with pytest.raises(Failed, match="the names: promised is 1, seen was 2"):
        expect.same("the names", 2, 1)
    assert not case.promised
    expect.same("the names", 1, 1)
    assert case.promised


def test_events_of_a_watch_are_told_in_order() -> None:
    lines = ['{"type": "ADDED", "object": {"metadata": {"name": "a"}}}', '{"type": "BOOKMARK", "object": {"metadata": {}}}']
    lines.append('{"type": "DELETED", "object": {"metadata": {"name": "a"}}}')
    case = a_case(SimpleNamespace(text=lambda *_args, **_query: "\n".join(lines)))
    assert Stored(case, "x").changes("1", shade="red") == [("ADDED", "a"), ("DELETED", "a")]


def test_without_the_right_to_watch_a_case_is_unsupported() -> None:
    def text(*_args: Any, **_query: str) -> str:
        raise Forbidden(403, "Forbidden", "cannot watch")

    with pytest.raises(Unsupported, match="no right to watch"):
        Stored(a_case(SimpleNamespace(text=text)), "x").changes("1")
