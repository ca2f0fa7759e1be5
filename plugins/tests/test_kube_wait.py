"""Waiting with a deadline that names what is missing."""

from __future__ import annotations

import time

import pytest
from netproof.kube.wait import Late, NotYet, until


def test_the_first_thing_found() -> None:
    answers = iter([None, None, "here", "later"])
    assert until(lambda: next(answers), what="it", limit=1, every=0.01) == "here"


@pytest.mark.parametrize("nothing", [0, "", False, []])
def test_only_none_is_nothing(nothing: object) -> None:
    assert until(lambda: nothing, what="it", limit=0) == nothing


def test_late_names_what_is_missing() -> None:
    pods = iter(range(100))

    def probe() -> str | None:
        raise NotYet(f"{next(pods)} of 200 pods run")

    start = time.monotonic()
    with pytest.raises(Late, match=r"^the pods of x: not within 0\.\d s; last seen: \d+ of 200 pods run$") as caught:
        until(probe, what="the pods of x", limit=0.2, every=0.02)
    assert time.monotonic() - start <= 0.3
    assert caught.value.what == "the pods of x"
    assert caught.value.last.endswith("of 200 pods run")
    assert caught.value.seconds <= 0.3


def test_late_without_a_word() -> None:
    with pytest.raises(Late, match=r"^the pods: not within 0\.0 s$"):
        until(lambda: None, what="the pods", limit=0)


def test_other_exceptions_end_the_wait() -> None:
    def probe() -> str:
        raise KeyError("status")

    with pytest.raises(KeyError):
        until(probe, what="it", limit=5)


def test_progress_is_told() -> None:
    told: list[tuple[str, float, float]] = []
    answers = iter([None, "missing", "here"])

    def probe() -> str | None:
        answer = next(answers)
        if answer == "missing":
            raise NotYet("1 of 2")
        return answer

    until(probe, what="it", limit=1, every=0.01, progress=lambda *args: told.append(args))
    assert [(what, limit) for what, _, limit in told] == [("it", 1), ("it: 1 of 2", 1)]
