"""The first instant of new pods: what their own agents dial before anything else, and who dials them back as soon as they are heard."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from netproof.model.flow import Family, Flow
from netproof.model.outcome import Attempt, Phase, Probe, Round
from netproof.probe.fleet import ROUND, Fleet
from netproof.probe.wire import by_source, specification

EVERY = 0.02  # seconds between two attempts on a flow
_LIMIT = 600.0  # seconds after which who waits for calls gives up, should its runner be gone
_GRACE = 5.0
_LOOK = 0.05
_PARTS = ("init", "main")

Addresses = Mapping[tuple[str, Family], str]  # of the new pods


class FirstInstant:
    """One birth of pods, from before they are made until all that they saw is told.

    `outward` are flows of new pods. `inward` are flows to them, each with the outward flow by which the new pod calls, and by whose first
    packet its source learns where to dial: the address of such a flow is empty. `lasts` and `init_lasts` (0: no such container) are the
    seconds for which a main and an init container dial from their first instruction on.
    """

    def __init__(
        self, fleet: Fleet, outward: Sequence[Flow], inward: Mapping[Flow, Flow], *, lasts: float, init_lasts: float = 0.0
    ) -> None:
        self._fleet, self._lasts, self._init_lasts = fleet, lasts, init_lasts
        self._calls = list(dict.fromkeys([*outward, *inward.values()]))
        self._inward = dict(inward)
        self._back = 2 * len(self._calls)  # the index of the first inward flow; those of main containers come first, then init containers'
        self._job = fleet.job([*self._calls, *self._calls, *self._inward])

    def await_calls(self) -> None:
        """Have those who shall dial new pods wait for their calls; to be done before the pods are made."""
        flows = list(self._inward)
        for source, positions in by_source(flows).items():
            self._job.post(
                source,
                "return",
                flows=[specification(self._back + i, flows[i]) for i in positions],
                callers=[self._indices(self._inward[flows[i]]) for i in positions],
                every=EVERY,
                limit=_LIMIT,
                timeout=ROUND.timeout,
            )

    def give_up(self) -> None:
        """Have nobody wait any longer, where the pods could not be made."""
        self._job.stop()

    def settings(self, pod: str, *, init: bool, record: str) -> str:
        """What a container of that pod is told of its first instant, for its environment."""
        start = len(self._calls) if init else 0
        flows = [specification(start + i, flow) for i, flow in enumerate(self._calls) if flow.source == pod]
        limit = self._init_lasts if init else self._lasts
        told = {"nonce": self._job.nonce, "flows": flows, "every": EVERY, "limit": limit, "timeout": ROUND.timeout, "record": record}
        return json.dumps(told, separators=(",", ":"))

    def collect(self, addresses: Addresses) -> tuple[Round, ...]:
        """Wait until the pods, whose agents are in the fleet by now, have done what they do first; what was seen, as rounds of phase FIRST.

        Init containers have a round of their own, before that of the main containers, where those who were called are too. The inward
        flows have their addresses then. Whatever forbids a verdict stands in the fleet's incidents.
        """
        told = self._told()
        self._job.stop()
        answers = self._job.collect(ROUND.timeout + EVERY + _GRACE)
        for name, both in told.items():
            for part in filter(None, both.values()):
                self._job.take(name, part)
        self._job.look()
        init = self._read({name: both["init"] for name, both in told.items()})
        main = self._read({name: both["main"] for name, both in told.items()})
        back = self._read(answers)
        self._confirm(answers, addresses)
        named = {replace(flow, address=addresses[flow.destination, flow.family]): attempts for flow, attempts in back.items()}
        return tuple(self._round(found) for found in (init, main | named) if found)

    def _indices(self, call: Flow) -> list[int]:
        place = self._calls.index(call)
        return [place, len(self._calls) + place]

    def _told(self) -> dict[str, dict[str, Any]]:
        """By new pod what its containers tell; those that tell nothing are lost to the job."""
        found: dict[str, dict[str, Any]] = {}
        waiting = list(dict.fromkeys(flow.source for flow in self._calls))
        deadline = self._fleet.clock() + self._lasts + ROUND.timeout + _GRACE
        while waiting:
            answers = {name: self._job.ask(name, "first") for name in waiting}
            found |= {name: {part: answer[part] for part in _PARTS} for name, answer in answers.items() if answer.get("main")}
            waiting = [name for name, answer in answers.items() if answer and not answer["main"]]
            if waiting and self._fleet.clock() > deadline:
                for name in waiting:
                    self._job.fail(name, f"the agent {name} did not end what it does first")
                break
            if waiting:
                time.sleep(_LOOK)
        return found

    def _read(self, told: Mapping[str, Mapping[str, Any] | None]) -> dict[Flow, list[Attempt]]:
        found: dict[Flow, list[Attempt]] = {}
        for name, part in told.items():
            if part:
                found |= self._job.reader(name).attempts(part["attempts"], part["who"])
        return found

    def _confirm(self, answers: Mapping[str, Mapping[str, Any]], addresses: Addresses) -> None:
        """Note who was never called, or was led elsewhere than to the pod."""
        for flow, index in zip(self._inward, itertools.count(self._back), strict=False):
            if flow.source not in answers:
                continue
            led, own = answers[flow.source]["addresses"].get(str(index)), addresses[flow.destination, flow.family]
            if led is None:
                self._fleet.note(f"{flow.destination} did not reach {flow.source}, which so could not dial it back")
            elif led != own:
                self._fleet.note(f"{flow.destination} called {flow.source} from {led}, not from its own address {own}")

    def _round(self, found: Mapping[Flow, list[Attempt]]) -> Round:
        attempts = list(_all(found))
        began, ended = min(a.began for a in attempts), max(a.began + a.took for a in attempts)
        return Round(Phase.FIRST, began, ended, tuple(Probe(flow, tuple(seen)) for flow, seen in found.items()))


def _all(found: Mapping[Flow, list[Attempt]]) -> Iterator[Attempt]:
    return itertools.chain.from_iterable(found.values())
