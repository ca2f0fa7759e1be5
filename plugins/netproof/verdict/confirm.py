"""A failure and its repetition in a fresh world."""

from __future__ import annotations

from dataclasses import replace

from netproof.model.history import Judgement
from netproof.model.verdict import Verdict

HISTORY_DEPENDENT = "history-dependent"
"""The tag of a failure that did not come back, and the first word of its reason: it may depend on the cases that ran before."""

_REFUTES = (Verdict.PASS, Verdict.OBSERVED, Verdict.SLOW, Verdict.FLAKY)


def confirm(first: Judgement, again: Judgement) -> Judgement:
    """What is said of a case whose `first` judgement was repeated as `again`; anything but a fail needs no repetition and stays.

    A leak after all had settled stays a fail even if it does not come back. Another fail that does not (also flows that had never closed
    at the cap) becomes flaky, starting with `HISTORY_DEPENDENT`. A repetition that decided nothing refutes nothing.
    """
    if first.verdict is not Verdict.FAIL:
        return first
    if again.verdict is Verdict.FAIL:
        found = again if again.leaks and not first.leaks else first
        return replace(found, reason=f"{found.reason}; again in a fresh world")
    if again.verdict not in _REFUTES:
        return replace(first, reason=f"{first.reason}; not confirmed: {again.reason}")
    if first.leaks and first.converged is not None:
        return replace(first, reason=f"{first.reason}; it did not come back in a fresh world")
    return replace(first, verdict=Verdict.FLAKY, reason=f"{HISTORY_DEPENDENT}: {first.reason}; {again.verdict} in a fresh world")
