from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest
from netproof.model.event import CaseFinished, Event, RunFinished, RunStarted, as_json
from netproof.model.verdict import Verdict
from netproof.report.document import document
from netproof.report.header import Component, Header
from netproof.report.writers import write_junit

HEADER = Header(
    cluster="prod",
    provider="context",
    versions={"kubernetes": "v1.36.1"},
    implementation={"cni": Component("cilium", "1.18.3")},
    families=("IPv4", "IPv6"),
)


def _end(case: str, verdict: Verdict, **more: Any) -> CaseFinished:
    values: dict[str, Any] = {"suite": "policy", "reason": f"because {verdict}", "seconds": 1.5} | more
    return CaseFinished(103.0, case, case.split("/")[0], node_id="n", worker="gw0", verdict=verdict, **values)


def _written(tmp_path: Path, *cases: CaseFinished) -> Xml.Element:
    events: list[Event] = [RunStarted(100.0, asdict(HEADER)), *cases, RunFinished(110.0, 0)]
    write_junit(document(as_json(event) for event in events), tmp_path / "junit.xml")
    return Xml.parse(tmp_path / "junit.xml").getroot()


def _case(root: Xml.Element, name: str) -> Xml.Element:
    return next(case for case in root.iter("testcase") if case.get("name") == name)


def _properties(element: Xml.Element) -> dict[str | None, str | None]:
    return {entry.get("name"): entry.get("value") for entry in element.findall("properties/property")}


def test_counts_agree_with_what_is_inside(tmp_path: Path) -> None:
    cases = [_end(f"NPI-{i:02}/tcp", verdict) for i, verdict in enumerate(Verdict)]
    root = _written(tmp_path, *cases, _end("POD-01", Verdict.FAIL, suite="pod_ip"), _end("NPI-01", Verdict.FAIL, caused_by="NPI-00/tcp"))

    assert [(suite.get("name"), suite.get("time")) for suite in root] == [("pod_ip", "1.500"), ("policy", "15.000")]
    for element in (root, *root):
        inside = Counter(child.tag for case in element.iter("testcase") for child in case)
        counted = {key: int(element.get(key, "")) for key in ("tests", "failures", "errors", "skipped")}
        expected = {"tests": len(list(element.iter("testcase"))), "failures": inside["failure"], "errors": inside["error"]}
        assert counted == expected | {"skipped": inside["skipped"]}
    assert (root.get("tests"), root.get("failures"), root.get("errors"), root.get("skipped")) == ("11", "6", "1", "2")


@pytest.mark.parametrize(
    ("verdict", "tag"),
    [
        (Verdict.FAIL, "failure"),
        (Verdict.FLAKY, "failure"),
        (Verdict.SLOW, "failure"),
        (Verdict.INCONCLUSIVE, "failure"),
        (Verdict.ERROR, "error"),
        (Verdict.UNSUPPORTED, "skipped"),
        (Verdict.DEVIATES, "skipped"),
    ],
)
def test_each_verdict_has_its_element(tmp_path: Path, verdict: Verdict, tag: str) -> None:
    said = _case(_written(tmp_path, _end("NPI-02a/tcp", verdict, matrix="x/a  .!")), "NPI-02a/tcp")[-1]

    assert (said.tag, said.get("type"), said.get("message"), said.text) == (tag, verdict, f"because {verdict}", "x/a  .!")


def test_a_failure_holds_its_counterexample(tmp_path: Path) -> None:
    said = _case(_written(tmp_path, _end("NPG-01/s1-1", Verdict.FAIL, matrix="x/a  .!", counterexample="the smallest")), "NPG-01/s1-1")[-1]

    assert said.text == "x/a  .!\n\nthe smallest"


@pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.OBSERVED])
def test_what_went_well_says_nothing(tmp_path: Path, verdict: Verdict) -> None:
    case = _case(_written(tmp_path, _end("NPI-02a/tcp", verdict)), "NPI-02a/tcp")

    assert [child.tag for child in case] == ["properties"]
    assert (case.get("classname"), case.get("time")) == ("policy", "1.500")


def test_properties(tmp_path: Path) -> None:
    root = _written(tmp_path, _end("NPI-02a/tcp", Verdict.DEVIATES, converged=0.0, evidence="evidence/x", deviation="https://bug/1"))

    assert _properties(_case(root, "NPI-02a/tcp")) == {
        "behaviour": "NPI-02a",
        "verdict": "deviates",
        "converged": "0.0",
        "evidence": "evidence/x",
        "deviation": "https://bug/1",
    }
    assert _properties(root[0]) | {"netproof": ""} == {
        "netproof": "",
        "cluster": "prod",
        "provider": "context",
        "version.kubernetes": "v1.36.1",
        "implementation.cni": "cilium 1.18.3",
        "nodes": "0",
        "families": "IPv4 IPv6",
        "conformance": "true",
        "testbed": "false",
    }


def test_what_xml_cannot_hold_is_removed(tmp_path: Path) -> None:
    root = _written(tmp_path, _end("NPI-02a", Verdict.FAIL, reason="a\x00b\x1b[31mred\x1b[0m\ud800\ufffe <&>\x0b", matrix="\x08x"))
    failure = _case(root, "NPI-02a")[-1]

    assert (failure.get("message"), failure.text) == ("abred <&>", "x")


def test_a_further_result_names_its_cause(tmp_path: Path) -> None:
    root = _written(tmp_path, _end("NPI-01", Verdict.FAIL, caused_by="NPI-02a/tcp"))

    assert [case.get("name") for case in root.iter("testcase")] == ["NPI-01 (after NPI-02a/tcp)"]
