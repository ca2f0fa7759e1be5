"""The report document: all that a run's journal says, in one JSON value. `schema.json` describes it; every other report is made of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, Protocol

import netproof
from netproof.model.behaviour import Behaviour
from netproof.model.timing import percentiles
from netproof.model.verdict import Verdict, exit_code
from netproof.problem import Problem
from netproof.report.header import Header

VERSION = 1
SCHEMA = f"https://netproof.dev/schema/report/{VERSION}"
_PYTESTS_OWN = range(2, 7)

Json = dict[str, Any]


class ExitCode(Protocol):
    """The rule that makes an exit code of verdicts."""

    def __call__(self, verdicts: dict[Verdict, int], *, stale_deviations: int = 0) -> int: ...


def document(events: Iterable[Json], *, behaviours: Mapping[str, Behaviour] | None = None, exit_code_of: ExitCode = exit_code) -> Json:
    """The report of a run whose events `journal.read` returned. `behaviours` lends the sentences of those that were tested.

    A case that was started and never finished is an error; of a case that ran twice the last run counts. Raises Problem where
    there are no events.
    """
    events = sorted(events, key=lambda event: float(event["at"]))
    if not events:
        raise Problem("The run left no events, so there is nothing to report: is this the folder of a run?")
    header = Header.of(event["header"] for event in events if event["event"] == "RunStarted")
    end: Json = next((event for event in reversed(events) if event["event"] == "RunFinished"), {})
    results, superseded = _last_of_each(_runs(events))
    further = [_result(event) for event in events if event["event"] == "CaseFinished" and event.get("caused_by")]
    incomplete = _incomplete(end, results, header.cases)
    return {
        "$schema": SCHEMA,
        "version": VERSION,
        "netproof": netproof.__version__,
        "header": header.as_json(),
        "started": _time(events[0]["at"]),
        "finished": _time((end or events[-1])["at"]),
        "workers": sorted({event["worker"] for event in events if event.get("worker")}),
        "incomplete": incomplete,
        "exit_code": _exit_code(end, results + further, incomplete=incomplete, exit_code_of=exit_code_of),
        "counts": _counts(results),
        "suites": {suite: _counts(r for r in results if r["suite"] == suite) for suite in sorted({r["suite"] for r in results})},
        "converged": _convergence(results),
        "results": results,
        "further": further,
        "superseded": superseded,
        "behaviours": _sentences(results + further, behaviours or {}),
        "stale_deviations": list(end.get("stale_deviations", ())),
        "leftovers": list(end.get("leftovers", ())),
        "notes": list(end.get("notes", ())),
    }


def _runs(events: Iterable[Json]) -> list[Json]:
    """A result for each time a case ran, in order of start; runs without an end are errors."""
    under_way: dict[tuple[str, str], Json] = {}
    runs = []
    for event in events:
        key = event.get("case", ""), event.get("worker", "")
        if event["event"] == "CaseStarted":
            if key in under_way:
                runs.append(_cut_short(under_way[key]))
            under_way[key] = event
        elif event["event"] == "CaseDropped":
            under_way.pop(key, None)
        elif event["event"] == "CaseFinished" and not event.get("caused_by"):
            start = under_way.pop(key, {}).get("at", event["at"] - event["seconds"])
            runs.append(_result(event, started=start))
    runs += [_cut_short(event) for event in under_way.values()]
    return sorted(runs, key=lambda run: str(run["started"]))


_ALWAYS = ("case", "behaviour", "suite", "verdict", "reason", "node_id", "worker", "seconds", "converged")
_SOMETIMES = ("tags", "excludes", "deviation", "evidence", "matrix", "counterexample", "caused_by", "coverage")


def _result(event: Json, *, started: float | None = None) -> Json:
    result = {key: event.get(key) for key in _ALWAYS}
    result["started"] = _time(event["at"] - event["seconds"] if started is None else started)
    result["seconds"] = round(event["seconds"], 3)
    result |= {key: event[key] for key in _SOMETIMES if event.get(key)}
    figures = {key: value for key, value in event.get("figures", {}).items() if math.isfinite(value)}
    timings = [_timing(told) for told in event.get("timings") or ()]
    return result | ({"figures": figures} if figures else {}) | ({"timings": timings} if timings else {})


_SAMPLES = ("first_right", "last_wrong", "right_from")


def _timing(told: Json) -> Json:
    """A timing with its percentiles beside its samples, which are told to the millisecond."""
    samples = {name: [round(value, 3) for value in told[name]] for name in _SAMPLES}
    return told | {"samples": samples} | {name: percentiles(samples[name]) for name in _SAMPLES}


def _cut_short(start: Json) -> Json:
    """The result of a case whose worker was killed, or whose run was interrupted: nobody saw its end."""
    return {
        "case": start["case"],
        "behaviour": start["case"].partition("/")[0],
        "suite": PurePosixPath(start["node_id"].partition("::")[0]).parent.name or "unknown",
        "verdict": Verdict.ERROR.value,
        "reason": f"the worker {start['worker']} ended while it ran",
        "node_id": start["node_id"],
        "worker": start["worker"],
        "seconds": 0.0,
        "converged": None,
        "started": _time(start["at"]),
        "unfinished": True,
    }


def _last_of_each(runs: Iterable[Json]) -> tuple[list[Json], list[Json]]:
    """The last run of each case by id, and all the earlier ones."""
    last: dict[str, Json] = {}
    earlier = []
    for run in runs:
        if run["case"] in last:
            earlier.append(last[run["case"]])
        last[run["case"]] = run
    return [last[case] for case in sorted(last)], earlier


def _incomplete(end: Json, results: Sequence[Json], selected: int) -> Json | None:
    """Why the run says less than it was asked to, and what was under way; None for a whole run."""
    under_way = [run["case"] for run in results if run.get("unfinished")]
    missing = max(0, selected - len(results))
    reason = end.get("incomplete", "") if end else "the run ended without a word"
    if not reason and under_way:
        reason = "a worker ended while it ran a case"
    if not reason and missing:
        reason = "the run was stopped before its last case"
    return {"reason": reason, "under_way": under_way, "not_run": missing} if reason else None


def _exit_code(end: Json, results: Sequence[Json], *, incomplete: Json | None, exit_code_of: ExitCode) -> int:
    """What pytest alone can know (2 to 6) stands; else what the verdicts say; a run that was cut short never ends well."""
    recorded = int(end.get("exit_code", 0))
    if recorded in _PYTESTS_OWN:
        return recorded
    verdicts = {Verdict(verdict): number for verdict, number in _counts(results).items()}
    return exit_code_of(verdicts, stale_deviations=len(end.get("stale_deviations", ()))) or recorded or (2 if incomplete else 0)


def _counts(results: Iterable[Json]) -> dict[str, int]:
    seen = Counter(run["verdict"] for run in results)
    return {verdict.value: seen[verdict] for verdict in Verdict}


def _convergence(results: Iterable[Json]) -> Json | None:
    """Time-to-converge over the cases that converged; a percentile is the time of a real case (nearest rank)."""
    times = sorted((run["converged"], run["case"]) for run in results if run["converged"] is not None)
    if not times:
        return None
    return {"cases": len(times), **percentiles([time for time, _ in times]), "slowest": times[-1][1]}


def _sentences(results: Iterable[Json], behaviours: Mapping[str, Behaviour]) -> Json:
    tested = sorted({run["behaviour"] for run in results} & set(behaviours))
    return {id_: {key: value for key, value in asdict(behaviours[id_]).items() if value and key != "id"} for id_ in tested}


def _time(at: float) -> str:
    """RFC 3339 in UTC, to the millisecond: texts of equal length sort by time."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
