"""Faults of DNS."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace

from netproof.lab.dns import NOERROR, NXDOMAIN, Answer, Question, Record
from netproof.lab.faults.edits import objects, rule
from netproof.lab.faults.model import Fault, Turn
from netproof.lab.faults.policy import GITHUB, TWO
from netproof.lab.faults.services import _ready
from netproof.lab.seams import Object, pod_networks

CORE = GITHUB + "coredns/coredns/issues/"


def _some_missing() -> object:
    turn = itertools.count()

    def changed(_question: Question, given: Answer) -> Answer:
        lost = given.code == NOERROR and given.records and next(turn) % 3 == 0
        return Answer(NXDOMAIN, authority=given.authority) if lost else given

    return changed


def _data(type_: str, change: object) -> object:
    def changed(_question: Question, given: Answer) -> Answer:
        def one(record: Record) -> Record:
            return replace(record, data=change(record)) if record.type == type_ else record  # type: ignore[operator]

        return replace(given, records=tuple(map(one, given.records)))

    return changed


def _neighbour(record: Record) -> str:
    head, _, last = record.data.rpartition(".")
    return f"{head}.{(int(last) + 1) % 256}"


def _first_only(_question: Question, given: Answer) -> Answer:
    return replace(given, records=given.records[:1])


def _never_missing(_question: Question, given: Answer) -> Answer:
    return Answer(NOERROR, (), given.authority) if given.code == NXDOMAIN else given


def _missing_without_records(_question: Question, given: Answer) -> Answer:
    return Answer(NXDOMAIN, authority=given.authority) if given.code == NOERROR and not given.records else given


def _silent_about_the_missing(_question: Question, given: Answer) -> Answer | None:
    return None if given.code == NXDOMAIN else given


def _published_as_they_are(slice_: Object) -> Object:
    """An endpoint is ready only where its pod serves."""
    made = copy.deepcopy(slice_)
    for endpoint in made.get("endpoints") or ():
        conditions = endpoint.get("conditions") or {}
        endpoint["conditions"] = {**conditions, "ready": conditions.get("serving") is not False}
    return made


SPARED = ("POD-0[12]/*", "NPI-02a/*", "SVC-01a/*")

FAULTS = (
    Fault(
        id="D2",
        breaks="DNS is not answered over TCP",
        seen=CORE + "844",
        spares=SPARED,
        turns=(Turn("DNS-03/*"), Turn("DNS-16/tcp/*")),
        rules=rule("prerouting", "tcp dport 53 reject with tcp reset"),
    ),
    Fault(
        id="D4",
        breaks="the addresses of pods that are not ready are published",
        seen=CORE + "4594",
        spares=SPARED,
        turns=(Turn("DNS-06/*"),),
        names=objects("EndpointSlice", _ready),
    ),
    Fault(
        id="D5",
        breaks="every third answer is NXDOMAIN",
        seen=CORE + "1365",
        spares=SPARED,
        turns=(Turn("DNS-02/*"), Turn("DNS-06/*")),
        answer=_some_missing(),  # type: ignore[arg-type]
    ),
    Fault(
        id="D7",
        breaks="publishNotReadyAddresses is ignored by DNS",
        seen=GITHUB + "kubernetes/dns/issues/472",
        spares=SPARED,
        turns=(Turn("DNS-07/*"),),
        names=objects("EndpointSlice", _published_as_they_are),
    ),
    Fault(
        id="D9",
        breaks="a name leads to another Service's address",
        seen=CORE + "4684",
        spares=SPARED,
        turns=(Turn("DNS-0[12]/*"), Turn("DNS-03/*"), Turn("SVC-01b/*", ("* A web.*",)), Turn("NPO-01c/*", ("* A web.*",))),
        answer=_data("A", _neighbour),  # type: ignore[arg-type]
    ),
    Fault(
        id="D9b",
        breaks="a reverse name leads to another name",
        seen=CORE + "4684",
        spares=SPARED,
        turns=(Turn("DNS-05/*"),),
        answer=_data("PTR", lambda record: f"not-{record.data}"),  # type: ignore[arg-type]
    ),
    Fault(
        id="D10",
        breaks="of several records one is answered",
        seen=CORE + "4183",
        spares=SPARED,
        turns=(Turn("DNS-06/*"), Turn("DNS-07/*")),
        answer=_first_only,
    ),
    Fault(
        id="D11",
        breaks="a missing name is answered without an error",
        seen=CORE + "3586",
        spares=SPARED,
        turns=(Turn("DNS-16/*"),),
        answer=_never_missing,
    ),
    Fault(
        id="D12",
        breaks="a missing name is not answered",
        seen=GITHUB + "kubernetes/kubernetes/issues/56903",
        spares=SPARED,
        turns=(Turn("DNS-16/udp/*"), Turn("DNS-01/*")),
        answer=_silent_about_the_missing,
    ),
    Fault(
        id="D13",
        breaks="a type that a name has not is answered by NXDOMAIN",
        seen="https://www.rfc-editor.org/rfc/rfc2308#section-2.2",
        spares=SPARED,
        turns=(Turn("DNS-17/*"),),
        answer=_missing_without_records,
    ),
    Fault(
        id="D14",
        breaks="DNS is not reached from one node",
        seen=GITHUB + "projectcalico/calico/issues/3795",
        spares=SPARED,
        turns=(Turn("DNS-0[12]/*", ("x/b -> *",)), Turn("DNS-16/*", ("x/b -> *",))),
        rules=rule("prerouting", f"ip saddr {pod_networks(TWO)[0]} th dport 53 drop", node=TWO),
    ),
)
