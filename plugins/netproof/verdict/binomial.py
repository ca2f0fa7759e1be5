"""The little statistics of a burst: what so many attempts prove, and what they exclude."""

from __future__ import annotations

import math


def exceeds(lost: int, attempts: int, rate: float, confidence: float) -> bool:
    """Whether so many lost attempts prove a loss above `rate`: were it just `rate`, so many would be seen with at most 1 - confidence.

    The exact one-sided binomial test, without an approximation that would be wrong for the few and rare losses of a burst.
    """
    return lost > rate * attempts and at_least(lost, attempts, rate) <= 1 - confidence


def at_least(successes: int, attempts: int, rate: float) -> float:
    """The chance of that many successes or more in independent attempts."""
    if successes <= 0:
        return 1.0
    if rate <= 0 or successes > attempts:
        return 0.0
    if rate >= 1:
        return 1.0
    # In logarithms: comb(n, k) is no float where n is large, and rate**k is zero.
    term = math.exp(math.log(math.comb(attempts, successes)) + successes * math.log(rate) + (attempts - successes) * math.log1p(-rate))
    total = 0.0
    for k in range(successes, attempts + 1):
        total += term
        term *= (attempts - k) / (k + 1) * rate / (1 - rate)
    return min(1.0, total)


def excluded_rate(attempts: int, confidence: float) -> float:
    """The least rate that is excluded by that many attempts of which none succeeded; 1 where there are none."""
    return 1 - (1 - confidence) ** (1 / attempts) if attempts else 1.0


def half_the_error(confidence: float) -> float:
    """The confidence of each of two tests that together err no more often than `confidence` permits."""
    return 1 - (1 - confidence) / 2
