"""Trying again while an API server is away: with growing pauses, on one clock, until the patience is over."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_before_delay, wait_exponential_jitter

from netproof.kube.errors import ApiError, ApiUnavailable, plain

T = TypeVar("T")

REQUEST = 10.0  # seconds that one request may take
LEAST = 0.1  # seconds for the last request of a patience that is nearly over
AWAY = (429, 502, 503, 504)  # what proxies and overloaded servers say: no answer of the API itself

_backoff = wait_exponential_jitter(multiplier=0.1, max=3.0, jitter=0.1)


class Again(Exception):  # noqa: N818
    """An attempt failed for a reason that may pass; no sooner than `after` seconds from now."""

    def __init__(self, cause: Exception, after: float = 0.0) -> None:
        super().__init__(cause)
        self.cause = cause
        self.after = after


def persist(attempt: Callable[[float], T], *, what: str, patience: float) -> T:
    """What the attempt returns once it does not raise `Again`. It is given the seconds that it may take.

    When the patience is over: the server's own last answer, or `ApiUnavailable`.
    """
    start = time.monotonic()

    def once() -> T:
        return attempt(max(LEAST, min(REQUEST, start + patience - time.monotonic())))

    retrying = Retrying(retry=retry_if_exception_type(Again), wait=_pause, stop=stop_before_delay(patience), reraise=True)
    try:
        return retrying(once)
    except Again as last:
        if isinstance(last.cause, ApiError) and last.cause.status not in AWAY:
            raise last.cause from None
        tries = retrying.statistics["attempt_number"]
        spent = f"{time.monotonic() - start:.1f} s, {tries} {'attempt' if tries == 1 else 'attempts'}"
        raise ApiUnavailable(f"{what}: {plain(last.cause)} ({spent})") from last.cause


def _pause(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    return max(_backoff(state), error.after if isinstance(error, Again) else 0.0)
