"""Flows, behaviours and events as values."""

from __future__ import annotations

from typing import Any

import pytest
from histories import DENY, OPEN, SHUT
from netproof.model.behaviour import Behaviour, BehaviourError, Level, catalogue
from netproof.model.event import CaseStarted, as_json
from netproof.model.flow import SCTP, TCP, UDP, Family, Flow, Port, Protocol, Question
from netproof.model.history import Cell, Judgement
from netproof.model.verdict import Verdict


def test_a_protocol_called_with_a_number_is_a_port() -> None:
    assert TCP(8080) == Port(Protocol.TCP, 8080)
    assert [str(protocol(53)) for protocol in (TCP, UDP, SCTP)] == ["TCP/53", "UDP/53", "SCTP/53"]


@pytest.mark.parametrize(("address", "family"), [("10.0.0.1", Family.IPV4), ("fd00::1", Family.IPV6), ("::ffff:10.0.0.1", Family.IPV6)])
def test_the_family_of_an_address(address: str, family: Family) -> None:
    assert Family.of(address) is family


def test_a_name_has_no_family() -> None:
    with pytest.raises(ValueError, match="example"):
        Family.of("example")


def test_a_flow_as_text() -> None:
    assert str(SHUT) == "y/a -> x/b TCP/8080"
    asked = Flow("x/a", "dns", "10.96.0.10", UDP(53), question=Question(("kubernetes.default.", "kubernetes."), "A"))
    assert str(asked) == "x/a -> dns UDP/53 A kubernetes."


ENTRY = {"sentence": "It holds.", "url": "https://example.com", "level": "MUST"}


def test_a_catalogue() -> None:
    assert catalogue({"NPI-01": ENTRY | {"feature": "sctp"}}) == {
        "NPI-01": Behaviour("NPI-01", "It holds.", "https://example.com", Level.MUST, "sctp")
    }
    assert catalogue({"NPG-01": ENTRY | {"on_request": True}})["NPG-01"].on_request
    assert catalogue({"NPI-00": {"removed": "2026: twice"}})["NPI-00"].removed == "2026: twice"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (ENTRY | {"levle": "MUST"}, r"behaviour NPI-01: unknown keys \['levle'\]"),
        ({"sentence": "It holds."}, r"missing keys \['level', 'url'\]"),
        (ENTRY | {"level": "must"}, "level 'must' is none of MUST, SHOULD, MAY, VENDOR, MEASURE"),
    ],
)
def test_a_catalogue_that_cannot_be_read(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(BehaviourError, match=message):
        catalogue({"NPI-01": entry})


def test_an_event_names_its_type() -> None:
    assert as_json(CaseStarted(1.5, "NPI-01/tcp", "test_x.py::test", "gw0")) == {
        "event": "CaseStarted",
        "at": 1.5,
        "case": "NPI-01/tcp",
        "node_id": "test_x.py::test",
        "worker": "gw0",
    }


def test_the_leaks_of_a_judgement() -> None:
    cells = tuple(Cell(flow, DENY, Verdict.FAIL, "", leak=flow is SHUT) for flow in (OPEN, SHUT))
    assert Judgement(Verdict.FAIL, "", cells).leaks == cells[1:]
