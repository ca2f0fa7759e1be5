"""The verdicts, their order and what follows from them."""

from __future__ import annotations

import enum


class Verdict(enum.StrEnum):
    """What is said of a case. They are declared from best to worst; `max` takes the worst."""

    PASS = "pass"
    OBSERVED = "observed"  # measured, promised nowhere, never failing
    UNSUPPORTED = "unsupported"  # the cluster or the provider lacks what the case needs
    DEVIATES = "deviates"  # fails as a deviation of this implementation says
    SLOW = "slow"  # right, but later than the budget that the user set
    FLAKY = "flaky"  # both right and wrong were seen
    INCONCLUSIVE = "inconclusive"  # evidence is missing
    ERROR = "error"  # Netproof broke
    FAIL = "fail"  # a promise is broken

    @property
    def rank(self) -> int:
        return _ORDER[self]

    @property
    def failing(self) -> bool:
        """Whether pytest shall count it as a failure."""
        return self.rank >= Verdict.FLAKY.rank

    @property
    def letter(self) -> str:
        """The single letter of pytest's progress line."""
        return _LETTERS[self]

    def __lt__(self, other: str) -> bool:
        return self.rank < Verdict(other).rank

    def __le__(self, other: str) -> bool:
        return self.rank <= Verdict(other).rank

    def __ge__(self, other: str) -> bool:
        return self.rank >= Verdict(other).rank

    def __gt__(self, other: str) -> bool:
        return self.rank > Verdict(other).rank


_LETTERS = dict(zip(Verdict, ".osxSf?EF", strict=True))
_ORDER = {verdict: rank for rank, verdict in enumerate(Verdict)}


def worst(*verdicts: Verdict) -> Verdict:
    """The worst of them, `pass` where there are none."""
    return max(verdicts, key=lambda verdict: verdict.rank, default=Verdict.PASS)


def exit_code(verdicts: dict[Verdict, int], *, stale_deviations: int = 0) -> int:
    """The exit code of a run, the first that applies: 1 a fail, 10 inconclusive or error, 11 flaky or slow, 12 a stale deviation, 0."""
    if verdicts.get(Verdict.FAIL):
        return 1
    if verdicts.get(Verdict.INCONCLUSIVE) or verdicts.get(Verdict.ERROR):
        return 10
    if verdicts.get(Verdict.FLAKY) or verdicts.get(Verdict.SLOW):
        return 11
    return 12 if stale_deviations else 0
