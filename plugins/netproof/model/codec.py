"""Histories as JSON values and back, for evidence bundles."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from netproof.model.flow import Family, Flow, Port, Protocol, Question
from netproof.model.history import Decision, Expectation, History, Incident, Limits
from netproof.model.outcome import Attempt, Outcome, Phase, Probe, Round

VERSION = 1


def history_to_json(history: History) -> dict[str, Any]:
    """JSON values that `history_from_json` reads back to an equal history. Flows stand once, in `flows`, and are named by index."""
    probed = [probe.flow for round_ in history.rounds for probe in round_.probes]
    flows = list(dict.fromkeys([*history.expected, *history.controls.values(), *probed]))
    index = {flow: i for i, flow in enumerate(flows)}
    return {
        "version": VERSION,
        "flows": [asdict(flow) for flow in flows],
        "expected": {str(index[flow]): asdict(e) | {"responders": sorted(e.responders)} for flow, e in history.expected.items()},
        "controls": {str(index[flow]): index[control] for flow, control in history.controls.items()},
        "changed": history.changed,
        "checked": history.checked,
        "incidents": [asdict(incident) for incident in history.incidents],
        "limits": asdict(history.limits),
        "rounds": [_round_to_json(round_, index) for round_ in history.rounds],
    }


def history_from_json(data: dict[str, Any]) -> History:
    """The history of `history_to_json`. Raises KeyError, ValueError or TypeError where it is none."""
    if data["version"] != VERSION:
        raise ValueError(f"this bundle has version {data['version']}, this Netproof reads {VERSION}")
    flows = [_flow(entry) for entry in data["flows"]]
    return History(
        expected={flows[int(i)]: _expectation(entry) for i, entry in data["expected"].items()},
        controls={flows[int(i)]: flows[control] for i, control in data["controls"].items()},
        changed=data["changed"],
        checked=data["checked"],
        incidents=tuple(Incident(**entry) for entry in data["incidents"]),
        limits=Limits(**data["limits"]),
        rounds=tuple(_round(entry, flows) for entry in data["rounds"]),
    )


def _round_to_json(round_: Round, index: dict[Flow, int]) -> dict[str, Any]:
    probes = [[index[probe.flow], [asdict(attempt) for attempt in probe.attempts]] for probe in round_.probes]
    glanced = {} if round_.glanced is None else {"glanced": round_.glanced}
    return {"phase": round_.phase, "began": round_.began, "ended": round_.ended, **glanced, "probes": probes}


def _flow(entry: dict[str, Any]) -> Flow:
    port = Port(Protocol(entry["port"]["protocol"]), entry["port"]["number"])
    asked = entry["question"]
    question = Question(tuple(asked["names"]), asked["type"]) if asked else None
    more = {key: entry[key] for key in ("held", "echo") if key in entry}  # bundles of former versions have neither
    return Flow(entry["source"], entry["destination"], entry["address"], port, Family(entry["family"]), question, **more)


def _expectation(entry: dict[str, Any]) -> Expectation:
    return Expectation(Decision(entry["decision"]), frozenset(entry["responders"]), entry["source"], entry["why"])


def _round(entry: dict[str, Any], flows: list[Flow]) -> Round:
    probes = tuple(Probe(flows[i], tuple(_attempt(attempt) for attempt in attempts)) for i, attempts in entry["probes"])
    return Round(Phase(entry["phase"]), entry["began"], entry["ended"], probes, entry.get("glanced"))


def _attempt(entry: dict[str, Any]) -> Attempt:
    return Attempt(**entry | {"outcome": Outcome(entry["outcome"])})
