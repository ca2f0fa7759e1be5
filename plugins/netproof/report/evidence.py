"""Evidence bundles: all that a verdict rests on, in a folder that a person can read and `netproof replay` can judge again."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

import netproof
from netproof.model.behaviour import Behaviour, Level
from netproof.model.codec import history_from_json, history_to_json
from netproof.model.flow import Flow
from netproof.model.history import Cell, Expectation, History, Incident, Judgement
from netproof.model.outcome import Attempt
from netproof.model.verdict import Verdict, worst
from netproof.problem import Problem
from netproof.report.counterexample import Counterexample
from netproof.report.failure import failure_text
from netproof.report.text import columns, count, line, plain

VERSION = 1

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle as `load_bundle` read it. The judgement at an index is that of the history at the same index, as it was then."""

    case: str
    behaviour: Behaviour
    histories: tuple[History, ...]
    judgements: tuple[Judgement, ...]
    incidents: tuple[Incident, ...]
    placement: Mapping[str, str]
    header: Mapping[str, Any]
    repeat: str
    netproof: str  # the version that judged then

    @property
    def verdict(self) -> Verdict:
        """The worst of its steps."""
        return worst(*(judgement.verdict for judgement in self.judgements))


def write_bundle(
    folder: Path,
    *,
    case: str,
    behaviour: Behaviour,
    histories: Sequence[History],
    judgements: Sequence[Judgement],
    objects: Sequence[Mapping[str, Any]] = (),
    placement: Mapping[str, str] | None = None,
    incidents: Sequence[Incident] = (),
    logs: Mapping[str, str] | None = None,
    header: Mapping[str, Any] | None = None,
    repeat: str = "",
    smallest: Counterexample | None = None,
) -> Path:
    """Write the evidence of a case below `folder/evidence` and return its folder. A former bundle of that case is never overwritten.

    There is a judgement for each history, in the same order; `placement` says on which node each agent ran. Secrets' values and
    managedFields are left out of the objects. `smallest` is a smaller case that fails too.
    """
    bundle = Bundle(
        case=case,
        behaviour=behaviour,
        histories=tuple(histories),
        judgements=tuple(judgements),
        incidents=tuple(incidents),
        placement=dict(placement or {}),
        header=dict(header or {}),
        repeat=repeat,
        netproof=netproof.__version__,
    )
    path = _new_folder(folder / "evidence", case)
    _write(path / "bundle.json", json.dumps(_to_json(bundle), default=str) + "\n")
    _write(path / "objects.yaml", _yaml(objects))
    _write(path / "attempts.txt", _attempts(bundle))
    for name, text in (logs or {}).items():
        _write(path / "logs" / f"{_file_name(name)}.txt", text)
    if smallest:
        _write(path / "smallest.yaml", smallest.yaml())
    _write(path / "README.txt", _readme(bundle, smallest))
    return path


def load_bundle(path: Path) -> Bundle:
    """The bundle in a folder (or of its bundle.json). Raises Problem with one sentence where there is none that can be read."""
    file = path / "bundle.json" if path.is_dir() else path
    try:
        return _from_json(json.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise Problem(f"{file} cannot be read ({error.strerror}): give the folder of an evidence bundle.") from None
    except KeyError as error:
        raise Problem(f"{file} is no evidence bundle: {error} is missing.") from None
    except (ValueError, TypeError, IndexError, AttributeError) as error:
        raise Problem(f"{file} is no evidence bundle that this Netproof can read: {error}.") from None


def _to_json(bundle: Bundle) -> Json:
    steps = zip(bundle.histories, bundle.judgements, strict=True)
    return {
        "version": VERSION,
        "netproof": bundle.netproof,
        "case": bundle.case,
        "verdict": bundle.verdict,
        "behaviour": asdict(bundle.behaviour),
        "header": bundle.header,
        "placement": bundle.placement,
        "repeat": bundle.repeat,
        "incidents": [asdict(incident) for incident in bundle.incidents],
        "steps": [{"history": history_to_json(history), "judgement": _judgement_to_json(j, history)} for history, j in steps],
    }


def _from_json(data: Json) -> Bundle:
    if data["version"] != VERSION:
        raise ValueError(f"its version is {data['version']}, this Netproof reads {VERSION}")
    histories = tuple(history_from_json(step["history"]) for step in data["steps"])
    judged = (step["judgement"] for step in data["steps"])
    return Bundle(
        case=data["case"],
        behaviour=Behaviour(**data["behaviour"] | {"level": Level(data["behaviour"]["level"])}),
        histories=histories,
        judgements=tuple(_judgement_from_json(entry, history) for entry, history in zip(judged, histories, strict=True)),
        incidents=tuple(Incident(**entry) for entry in data["incidents"]),
        placement=data["placement"],
        header=data["header"],
        repeat=data["repeat"],
        netproof=data["netproof"],
    )


def _judgement_to_json(judgement: Judgement, history: History) -> Json:
    """The judgement; its cells name their flows by the place in `History.expected`, and in words for people."""
    place = {flow: i for i, flow in enumerate(history.expected)}
    cells = [
        {"flow": place[cell.flow], "name": str(cell.flow)}
        | {key: getattr(cell, key) for key in ("verdict", "seen", "attempts", "connected", "leak")}
        for cell in judgement.cells
    ]
    return {key: getattr(judgement, key) for key in ("verdict", "reason", "converged", "relapses", "excludes")} | {"cells": cells}


def _judgement_from_json(data: Json, history: History) -> Judgement:
    expected = list(history.expected.items())
    cells = tuple(_cell(*expected[int(entry["flow"])], entry) for entry in data["cells"])
    return Judgement(Verdict(data["verdict"]), data["reason"], cells, data["converged"], data["relapses"], data["excludes"])


def _cell(flow: Flow, expected: Expectation, entry: Json) -> Cell:
    return Cell(flow, expected, Verdict(entry["verdict"]), entry["seen"], entry["attempts"], entry["connected"], entry["leak"])


def _new_folder(parent: Path, case: str) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        path = parent / (_file_name(case) + (f"--{number}" if number > 1 else ""))
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path
    raise AssertionError("count() has no end")


def _file_name(name: str) -> str:
    """The name as a file's: `/` becomes `__`, whatever a file system may mind `_`."""
    return re.sub(r"[^A-Za-z0-9._=+-]", "_", name.replace("/", "__")).lstrip(".")[:200] or "_"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8", errors="replace")


def _yaml(objects: Iterable[Mapping[str, Any]]) -> str:
    clean = [_without_noise(json.loads(json.dumps(dict(entry), default=str))) for entry in objects]
    return yaml.safe_dump_all(clean, explicit_start=True, sort_keys=False, width=140) if clean else ""


def _without_noise(entry: Json) -> Json:
    """The object as somebody would write it: without managedFields, and without a Secret's values."""
    (entry.get("metadata") or {}).pop("managedFields", None)
    if entry.get("kind") == "Secret":
        entry |= {key: dict.fromkeys(entry[key], "(left out)") for key in ("data", "stringData") if entry.get(key)}
    return entry


_COLUMNS = ("step", "phase", "at", "flow", "from port", "outcome", "took", "responder", "source seen", "marks", "detail")


def _attempts(bundle: Bundle) -> str:
    """Every attempt by time, one line each, aligned."""
    rows = [row for step, history in enumerate(bundle.histories, 1) for row in _rows(step, history)]
    explained = "at: seconds after the change; took: seconds that the socket took\nmarks: n the destination got the nonce, s starved\n\n"
    return explained + "\n".join(columns([_COLUMNS, *rows])) + "\n"


def _rows(step: int, history: History) -> Iterator[tuple[str, ...]]:
    seen = [(attempt, probe.flow, round_.phase) for round_ in history.rounds for probe in round_.probes for attempt in probe.attempts]
    for attempt, flow, phase in sorted(seen, key=lambda entry: entry[0].began):
        at = f"{attempt.began - history.changed:+.3f}"
        name = line(f"{flow} ({flow.address})")
        yield (str(step), phase, at, name, *_socket(attempt))


def _socket(attempt: Attempt) -> tuple[str, ...]:
    marks = ("n" if attempt.received else "") + ("s" if attempt.starved else "")
    words = (attempt.responder, attempt.source, marks, attempt.detail)
    return (str(attempt.source_port or "-"), attempt.outcome, f"{attempt.took:.3f}", *(line(word) or "-" for word in words))


def _readme(bundle: Bundle, smallest: Counterexample | None) -> str:
    told = failure_text(
        case_id=bundle.case,
        behaviour=bundle.behaviour,
        judgements=bundle.judgements,
        evidence="",
        repeat=bundle.repeat,
        smallest=smallest.text() if smallest else "",
    )
    number = sum(len(probe.attempts) for history in bundle.histories for round_ in history.rounds for probe in round_.probes)
    placement = "\n".join(f"    {agent} on {node}" for agent, node in sorted(bundle.placement.items()))
    incidents = "\n".join(f"    {plain(incident.what)}" for incident in bundle.incidents)
    blocks = [
        told,
        f"Where the agents ran:\n{placement}" if placement else "",
        f"What went wrong meanwhile:\n{incidents}" if incidents else "",
        f"In this folder:\n    attempts.txt   {count(number, 'attempt')}, one line each, with time, ports and outcome"
        "\n    objects.yaml   the Kubernetes objects of the case, as they were applied"
        + ("\n    smallest.yaml  the smallest part of them that fails too" if smallest else "")
        + "\n    logs/          what the implementation logged meanwhile, where it was kept"
        "\n    bundle.json    the same for programs",
        "Judge it again, without a cluster:\n    netproof replay FOLDER",
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"
