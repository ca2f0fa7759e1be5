"""The report as files for programs: JSON, and JUnit's XML for continuous integration."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

from netproof.report.text import plain

Json = dict[str, Any]

_FAILURES = frozenset({"fail", "flaky", "slow", "inconclusive"})
_SKIPPED = frozenset({"unsupported", "deviates"})


def write_json(document: Mapping[str, Any], path: Path) -> None:
    """Write the document; a reader sees the former file or the whole new one."""
    write_text(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n", path)


def write_junit(document: Mapping[str, Any], path: Path) -> None:
    """Write the results, further ones included, as JUnit: flaky, slow and inconclusive are failures, deviations are skipped."""
    root = Xml.Element("testsuites", name="netproof", timestamp=document["started"])
    results = [*document["results"], *document["further"]]
    for suite in sorted({result["suite"] for result in results}):
        _suite(root, suite, [result for result in results if result["suite"] == suite], document)
    for key in ("tests", "failures", "errors", "skipped"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in root)))
    Xml.indent(root)
    write_text(Xml.tostring(root, encoding="unicode", xml_declaration=True) + "\n", path)


def write_text(text: str, path: Path) -> None:
    """Write a file in one step: a reader sees the former text or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8", errors="replace")
    draft.replace(path)


def _suite(root: Xml.Element, name: str, results: list[Json], document: Mapping[str, Any]) -> None:
    suite = Xml.SubElement(root, "testsuite", name=plain(name), timestamp=document["started"])
    verdicts = [result["verdict"] for result in results]
    suite.set("tests", str(len(results)))
    suite.set("failures", str(sum(verdict in _FAILURES for verdict in verdicts)))
    suite.set("errors", str(verdicts.count("error")))
    suite.set("skipped", str(sum(verdict in _SKIPPED for verdict in verdicts)))
    suite.set("time", f"{sum(result['seconds'] for result in results):.3f}")
    _properties(suite, _header(document))
    for result in results:
        _case(suite, result)


def _header(document: Mapping[str, Any]) -> dict[str, str]:
    header = document["header"]
    parts = {role: f"{part['name']} {part['version']}".rstrip() for role, part in header["implementation"].items()}
    return {
        "netproof": document["netproof"],
        **{key: header[key] for key in ("run", "cluster", "provider", "command")},
        **{f"version.{program}": version for program, version in header["versions"].items()},
        **{f"implementation.{role}": part for role, part in parts.items()},
        "nodes": str(len(header["nodes"])),
        "families": " ".join(header["families"]),
        "conformance": str(header["conformance"]).lower(),
        "testbed": str(header["testbed"]).lower(),
        "incomplete": (document["incomplete"] or {}).get("reason", ""),
    }


def _case(suite: Xml.Element, result: Json) -> None:
    name = f"{result['case']} (after {result['caused_by']})" if result.get("caused_by") else result["case"]
    case = Xml.SubElement(suite, "testcase", name=plain(name), classname=plain(result["suite"]), time=f"{result['seconds']:.3f}")
    told = {key: result.get(key) for key in ("behaviour", "verdict", "converged", "evidence", "deviation", "coverage", "excludes")}
    _properties(case, {key: str(value) for key, value in told.items() if value is not None})
    kind = _kind(result["verdict"])
    if kind:
        said = Xml.SubElement(case, kind, message=plain(result["reason"]), type=result["verdict"])
        said.text = plain("\n\n".join(result[key] for key in ("matrix", "counterexample") if result.get(key))) or None


def _kind(verdict: str) -> str:
    if verdict in _FAILURES:
        return "failure"
    if verdict in _SKIPPED:
        return "skipped"
    return "error" if verdict == "error" else ""


def _properties(parent: Xml.Element, values: Mapping[str, str]) -> None:
    told: Iterable[tuple[str, str]] = ((name, plain(value)) for name, value in values.items() if value)
    properties = Xml.SubElement(parent, "properties")
    for name, value in told:
        Xml.SubElement(properties, "property", name=plain(name), value=value)
