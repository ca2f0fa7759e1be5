"""The report in a terminal: pure functions from values to lines of text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from netproof.model.event import Waiting
from netproof.model.verdict import Verdict
from netproof.report.failure import failure_text
from netproof.report.header import Header
from netproof.report.matrix import matrix_text
from netproof.report.text import columns, count, plain, seconds
from netproof.report.timings import timing_lines, timings

__all__ = ["failure_text", "header_lines", "matrix_text", "meaning", "progress_line", "summary_lines"]

_LABEL = 13
_COLOURS = {"pass": "32", "observed": "36", "unsupported": "33", "deviates": "33", "slow": "33", "flaky": "35", "inconclusive": "35"}
_SHORT = {"observed": "obs", "unsupported": "unsup", "deviates": "dev", "inconclusive": "incon"}
_INTERRUPTED = 2
_MEANINGS = {
    1: "at least one promise is broken",
    _INTERRUPTED: "the run was interrupted: what is missing was not tested",
    3: "Netproof or pytest broke",
    4: "the command line or a file is wrong",
    5: "no case was selected",
    6: "more warnings than allowed",
    10: "evidence is missing for at least one promise: nobody knows",
    11: "at least one promise is kept unreliably, or later than the budget allows",
    12: "all promised behaviours hold, and a deviation is no longer true: remove it",
}


def header_lines(header: Mapping[str, Any]) -> list[str]:
    """What the run is about, as `RunStarted.header` or a document's `header` says it; what nobody knows is left out."""
    return [f"{label:<{_LABEL}}{plain(text)}" for label, text in labelled(header)]


def labelled(header: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The header as pairs of label and text."""
    known = Header.of([header])
    entries = [
        ("cluster", f"{known.cluster} ({known.provider})" if known.provider else known.cluster),
        ("versions", ", ".join(f"{program} {version}" for program, version in known.versions.items())),
        ("network", ", ".join(f"{part} ({role})" for role, part in known.implementation.items())),
        ("nodes", _nodes(known)),
        ("families", ", ".join(known.families)),
        ("claims", ", ".join(known.features)),
        *(("unsupported", f"{what}: {why}") for what, why in known.unsupported.items()),
        ("selected", selection(header)),
        ("left out", known.left_out),
        ("mind", "; ".join(_caveats(known))),
    ]
    return [(label, text) for label, text in entries if text]


def selection(header: Mapping[str, Any]) -> str:
    """`12 of 40 behaviours selected`; empty where nobody counted."""
    total = header.get("behaviours", 0)
    return f"{header.get('selected', 0)} of {count(total, 'behaviour')} selected" if total else ""


def progress_line(waiting: Waiting) -> str:
    """One line on a long wait: for what, how long already, until when at most."""
    return f"{waiting.case}: {plain(waiting.what)}, {seconds(waiting.waited)} of at most {seconds(waiting.limit)}"


def meaning(document: Mapping[str, Any]) -> str:
    """The exit code in plain words."""
    code = document["exit_code"]
    if code == _INTERRUPTED and any(run["verdict"] == Verdict.FAIL for run in [*document["results"], *document["further"]]):
        return f"{_MEANINGS[1]}, and the run was interrupted: the rest was not tested"
    if code:
        return _MEANINGS.get(code, "")
    tested = {verdict: document["counts"][verdict] for verdict in ("pass", "deviates")}
    if not tested["pass"]:
        return "nothing that is promised was judged"
    return "all promised behaviours that were tested hold" + (", known deviations apart" if tested["deviates"] else "")


def tone(document: Mapping[str, Any]) -> str:
    """The verdict whose colour the whole run has; nothing judged is nothing to be green about."""
    if document["exit_code"] == 0:
        return "pass" if document["counts"]["pass"] else "inconclusive"
    return {11: "flaky", 12: "slow"}.get(document["exit_code"], "fail")


def summary_lines(document: Mapping[str, Any], *, width: int, color: bool, report: str = "") -> list[str]:
    """The end of a run: the table, time-to-converge, whatever else needs a reader's eye, and what the exit code means."""
    paint = _paint if color else _leave
    lines = [*_table(document, width, paint), ""]
    if timed := timing_lines(timings(document), width):
        lines += [paint(timed[0], "head"), *timed[1:], ""]
    for label, text in _remarks(document, report):
        lines += _wrapped(label, plain(text), width)
    return [*lines, paint(f"exit {document['exit_code']}: {meaning(document)}", tone(document))]


def _nodes(header: Header) -> str:
    if not header.nodes:
        return ""
    names = ", ".join(node.name + ("" if node.schedulable else " (no probe pods)") for node in header.nodes)
    kernels = sorted({f"kernel {node.kernel}" for node in header.nodes if node.kernel})
    runtimes = sorted({node.runtime for node in header.nodes if node.runtime})
    return "; ".join([f"{len(header.nodes)}: {names}", *kernels, *runtimes])


def _caveats(header: Header) -> Iterator[str]:
    if header.testbed:
        yield "testbed results: images were built from source"
    if header.provider and not header.conformance:
        yield "the embedded lab is no real cluster: these results say nothing of anybody's network"


def _remarks(document: Mapping[str, Any], report: str) -> Iterator[tuple[str, str]]:
    """Label and text of all that stands below the table."""
    if document["incomplete"]:
        yield "INCOMPLETE", incompleteness(document["incomplete"])
    if document["converged"]:
        yield "converged", convergence(document)
    for run in document["further"]:
        yield "further", f"{run['case']}: {run['verdict']}: {run['reason']} (left behind by {run['caused_by']})"
    for run in document["superseded"]:
        yield "ran twice", f"{run['case']}: {run['verdict']} at first: {run['reason']}"
    for key, label in (("stale_deviations", "stale"), ("leftovers", "left behind"), ("notes", "note")):
        yield from ((label, text) for text in document[key])
    if selection(document["header"]):
        yield "selected", selection(document["header"])
    if left_out := document["header"].get("left_out"):
        yield "left out", left_out
    yield from ((("report", report),) if report else ())


def incompleteness(incomplete: Mapping[str, Any]) -> str:
    """Why a run is incomplete, what was under way and how much is missing."""
    parts = [incomplete["reason"]]
    if incomplete["under_way"]:
        parts.append("under way: " + ", ".join(incomplete["under_way"]))
    if incomplete["not_run"]:
        parts.append(f"{count(incomplete['not_run'], 'selected case')} not run")
    return "; ".join(parts)


def convergence(document: Mapping[str, Any]) -> str:
    """Time-to-converge in one line; the document must have it."""
    times, workers = document["converged"], len(document["workers"])
    figures = ", ".join(f"{name} {seconds(times[name])}" for name in ("p50", "p90", "max"))
    busy = f"; {workers} workers at once, so not for comparison" if workers > 1 else ""
    return f"{figures} over {count(times['cases'], 'case')}, slowest {times['slowest']}{busy}"


def _table(document: Mapping[str, Any], width: int, paint: Any) -> list[str]:
    """Suites by verdicts; only verdicts that occur have a column."""
    seen = [verdict.value for verdict in Verdict if document["counts"][verdict]]
    rows = [[suite, *_row(counts, seen)] for suite, counts in document["suites"].items()]
    total = ["total", *_row(document["counts"], seen)]
    lines = columns([["suite", *seen, "cases"], *rows, total], right=True)
    if max(map(len, lines)) > width:
        lines = columns([["suite", *(_SHORT.get(name, name) for name in seen), "cases"], *rows, total], right=True)
    rule = "-" * max(map(len, lines))
    head, *body, last = lines
    return [paint(head, "head"), rule, *(paint(line, _worst(row[1:-1], seen)) for line, row in zip(body, rows, strict=True)), rule, last]


def _row(counts: Mapping[str, int], verdicts: Sequence[str]) -> list[str]:
    return [str(counts[verdict] or "-") for verdict in verdicts] + [str(sum(counts.values()))]


def _worst(cells: Sequence[str], verdicts: Sequence[str]) -> str:
    return next((verdict for verdict, cell in reversed(list(zip(verdicts, cells, strict=True))) if cell != "-"), "pass")


def _wrapped(label: str, text: str, width: int) -> list[str]:
    room = max(width, 40)
    return textwrap.wrap(
        text, room, initial_indent=f"{label:<{_LABEL}}", subsequent_indent=" " * _LABEL, break_long_words=False, break_on_hyphens=False
    )


def _paint(text: str, verdict: str) -> str:
    return f"\x1b[{'1' if verdict == 'head' else _COLOURS.get(verdict, '31')}m{text}\x1b[0m"


def _leave(text: str, _: str) -> str:
    return text
