"""One run of a test function, turned into a verdict: what it raised, what its steps say, and how the world could be put back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from netproof.kube.errors import ApiError, ApiUnavailable
from netproof.kube.wait import Late
from netproof.model.flow import Flow
from netproof.model.history import Judgement
from netproof.model.timing import Timing
from netproof.model.verdict import Verdict, worst
from netproof.probe.stream import AgentRefused
from netproof.problem import Problem
from netproof.report.counterexample import Counterexample
from netproof.verdict.confirm import HISTORY_DEPENDENT, confirm
from netproof.world.case import Case, Restored, Step
from netproof.world.verdicts import Failed, Flaky, Inconclusive, Slow, Unsupported, Verdicted

INFRASTRUCTURE = (ApiError, ApiUnavailable, Late, ConnectionError, AgentRefused, TimeoutError)
_KINDS = {kind.verdict: kind for kind in (Failed, Flaky, Inconclusive, Slow, Unsupported)}
_AS_IT_WAS = Restored()
_STREAMS = ("out of reach", "no answer")


@dataclass(frozen=True, slots=True)
class Attempt:
    """The verdict on a case, with all that it rests on. `error` is what broke in Netproof itself or in the test function."""

    verdict: Verdict
    reason: str
    steps: tuple[Step, ...] = ()
    restored: Restored = _AS_IT_WAS
    error: Exception | None = None
    tags: tuple[str, ...] = ()
    deviation: str = ""
    text: str = ""  # for people
    matrix: str = ""
    timings: tuple[Timing, ...] = ()
    counterexample: Counterexample | str = ""  # of a generated set that failed: the smallest that still does, or why there is none

    @property
    def smallest(self) -> str:
        """What is told of the counterexample."""
        found = self.counterexample
        return found.text() if isinstance(found, Counterexample) else f"not made smaller: {found}" if found else ""

    @property
    def left_closed(self) -> tuple[Flow, ...]:
        """Flows that stayed closed after the case's policies were removed."""
        return self.restored.closed

    @property
    def put_back(self) -> bool:
        """Whether the world is as it was before the case, and may serve the next: after a fail only where that was seen."""
        seen = self.verdict is Verdict.FAIL and bool(self.restored.rounds)
        return (seen or not self.verdict.failing) and not self.left_closed and not self.restored.trouble

    @property
    def leaks(self) -> bool:
        return any(step.judgement.leaks for step in self.steps)

    @property
    def cut_streams(self) -> bool:
        """The streams to agents broke after the change and came back after its removal: perhaps the network's own doing."""
        incidents = [i.what for step in self.steps for i in step.history.incidents if i.at >= step.history.changed]
        cut = any(word in what for what in incidents for word in _STREAMS)
        return cut and self.verdict is Verdict.INCONCLUSIVE and not self.left_closed

    @property
    def wants_confirmation(self) -> bool:
        """A fail is repeated once in a fresh world; so is a case that cut our own streams."""
        return self.verdict is Verdict.FAIL or self.cut_streams

    @property
    def exception(self) -> Verdicted | None:
        """What pytest shall see; None where it is content."""
        kind = _KINDS.get(self.verdict) if self.verdict is not Verdict.SLOW else None
        if self.verdict is Verdict.DEVIATES:
            kind = Failed
        if kind:
            return kind(self.reason)
        return Verdicted(self.reason) if self.verdict.failing else None

    def confirmed_by(self, again: Attempt) -> Attempt:
        """This attempt in the light of its repetition in a fresh world."""
        if self.cut_streams and again.cut_streams:
            reason = f"the policy cut the runner's own streams to its agents, twice, and they came back after its removal: {self.reason}"
            return replace(self, verdict=Verdict.FAIL, reason=reason)
        if self.verdict is not Verdict.FAIL:
            return self
        found = confirm(self._judgement(), again._judgement())
        tags = (*self.tags, HISTORY_DEPENDENT) if found.verdict is Verdict.FLAKY else self.tags
        steps = again.steps if again.leaks and not self.leaks else self.steps
        return replace(self, verdict=found.verdict, reason=found.reason, tags=tags, steps=steps)

    def unconfirmed(self, error: Exception) -> Attempt:
        """This attempt where no fresh world could be had."""
        return replace(self, reason=f"{self.reason}; not confirmed: no fresh world could be made ({error})")

    def told(self) -> dict[str, Any]:
        """The fields of the event that tells it."""
        times = [step.judgement.converged for step in self.steps if step.judgement.converged is not None]
        excludes = next((step.judgement.excludes for step in self.steps if step.judgement.excludes), "")
        return {
            "converged": max(times, default=None),
            "tags": self.tags,
            "excludes": excludes,
            "deviation": self.deviation,
            "matrix": self.matrix,
            "timings": self.timings,
            "counterexample": self.smallest,
        }

    def _judgement(self) -> Judgement:
        """The one that decided; made of the reason where the case failed without a step (no address given)."""
        deciding = [step.judgement for step in self.steps if step.judgement.verdict is self.verdict]
        return deciding[-1] if deciding else Judgement(self.verdict, self.reason, ())


def run_once(run: Callable[[], object], case: Case, *, before: Sequence[str]) -> Attempt:
    """Run a case's test function once and restore its world. pytest's own outcomes (fail, exit) and Problem pass through."""
    verdict, reason, error = _call(run, case)
    try:
        restored = case.restore()
    except INFRASTRUCTURE as trouble:
        restored = Restored(trouble=str(trouble))
        verdict, reason = worst(verdict, Verdict.INCONCLUSIVE), f"{reason}; the world could not be restored: {trouble}".lstrip("; ")
    tags = (f"after: {', '.join(before[-5:])}",) if before and verdict is Verdict.FAIL else ()
    return Attempt(verdict, reason, tuple(case.steps), restored, error, tags, timings=case.stopwatch.timings())


def _call(run: Callable[[], object], case: Case) -> tuple[Verdict, str, Exception | None]:
    try:
        run()
        case.raise_slow()
    except Verdicted as said:
        return said.verdict, said.reason, None
    except Problem:
        raise
    except pytest.skip.Exception as skipped:
        return Verdict.UNSUPPORTED, f"left out: {skipped.msg}", None
    except INFRASTRUCTURE as trouble:
        return Verdict.INCONCLUSIVE, f"{type(trouble).__name__}: {trouble}", None
    except Exception as error:
        return Verdict.ERROR, f"{type(error).__name__}: {error}", error
    told = case.stopwatch.timings() or [step.judgement.reason for step in case.steps]
    reason = "; ".join(map(str, told))
    return (case.verdict, reason, None) if case.steps or case.promised else (Verdict.ERROR, "the case expected nothing", None)
