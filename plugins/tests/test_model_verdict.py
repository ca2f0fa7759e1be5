"""The verdicts' order, and the exit code of a run."""

from __future__ import annotations

import itertools

import pytest
from netproof.model.verdict import Verdict, exit_code, worst

BEST_FIRST = ["pass", "observed", "unsupported", "deviates", "slow", "flaky", "inconclusive", "error", "fail"]


def test_the_order() -> None:
    assert [str(verdict) for verdict in Verdict] == BEST_FIRST
    assert [verdict.rank for verdict in Verdict] == list(range(9))
    for better, worse in itertools.combinations(Verdict, 2):
        assert better < worse
        assert worse > better
        assert not worse < better
        assert not better > worse
        assert max(better, worse) is max(worse, better) is worst(better, worse) is worst(worse, better) is worse
    assert sorted([Verdict.FAIL, Verdict.PASS, Verdict.FLAKY, Verdict.OBSERVED]) == [
        Verdict.PASS,
        Verdict.OBSERVED,
        Verdict.FLAKY,
        Verdict.FAIL,
    ]


def test_the_worst_of_none_is_a_pass() -> None:
    assert worst() is Verdict.PASS
    assert worst(Verdict.FLAKY) is Verdict.FLAKY
    assert worst(Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE) is Verdict.FAIL


def test_what_pytest_counts_as_a_failure() -> None:
    never = {Verdict.PASS, Verdict.OBSERVED, Verdict.UNSUPPORTED, Verdict.DEVIATES, Verdict.SLOW}
    assert {verdict for verdict in Verdict if not verdict.failing} == never


def test_the_letters() -> None:
    assert "".join(verdict.letter for verdict in Verdict) == ".osxSf?EF"


@pytest.mark.parametrize(
    ("verdicts", "stale", "code"),
    [
        ([], 0, 0),
        (["pass", "observed", "unsupported", "deviates"], 0, 0),
        (["pass"], 1, 12),
        (["slow"], 1, 11),
        (["flaky"], 0, 11),
        (["inconclusive", "flaky"], 1, 10),
        (["error", "slow"], 0, 10),
        (["fail", "error", "inconclusive", "flaky"], 1, 1),
        (["fail"], 0, 1),
    ],
)
def test_the_exit_code(verdicts: list[str], stale: int, code: int) -> None:
    counts = {Verdict(verdict): 2 for verdict in verdicts} | {Verdict.PASS: 5}
    assert exit_code(counts, stale_deviations=stale) == code


def test_verdicts_that_were_counted_as_none_do_not_matter() -> None:
    assert exit_code(dict.fromkeys(Verdict, 0)) == 0
