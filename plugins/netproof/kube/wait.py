"""Waiting for something to become true: polled, with a deadline that names what is missing. Never a fixed sleep."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, RetryError, Retrying, retry_if_result, stop_before_delay

T = TypeVar("T")

SHARE = 0.1


class NotYet(Exception):  # noqa: N818
    """What a probe of `until` may raise instead of returning None, to say what is missing."""


class Late(Exception):  # noqa: N818
    """What was waited for did not come in time."""

    def __init__(self, what: str, seconds: float, last: str) -> None:
        super().__init__(what, seconds, last)
        self.what = what
        self.seconds = seconds
        self.last = last

    def __str__(self) -> str:
        return f"{self.what}: not within {self.seconds:.1f} s" + (f"; last seen: {self.last}" if self.last else "")


def until(
    probe: Callable[[], T | None],
    *,
    what: str,
    limit: float,
    every: float = 0.1,
    progress: Callable[[str, float, float], None] | None = None,
) -> T:
    """What the probe returns as soon as that is not None; raises `Late` after `limit` seconds.

    It is asked again after `every` seconds, and later after `SHARE` of the time waited so far: many such waits at once would else keep an
    API server busy, and with it what they wait for.
    A probe may raise `NotYet("2 of 9 pods run")`; every other exception of it ends the wait. `progress` is told after each look
    that found nothing: what is waited for (with what is missing), the seconds gone, the limit.
    """
    start = time.monotonic()
    last = ""

    def look() -> T | None:
        nonlocal last
        try:
            return probe()
        except NotYet as exc:
            last = str(exc)
            return None

    def tell(_: RetryCallState) -> None:
        if progress:
            progress(f"{what}: {last}" if last else what, time.monotonic() - start, limit)

    def interval(_: RetryCallState) -> float:
        return max(every, SHARE * (time.monotonic() - start))

    polling = Retrying(retry=retry_if_result(_is_none), wait=interval, stop=stop_before_delay(limit), before_sleep=tell)
    try:
        found = polling(look)
    except RetryError:
        raise Late(what, time.monotonic() - start, last) from None
    assert found is not None
    return found


def _is_none(value: object) -> bool:
    return value is None
