"""How flows followed a change: figures from overlapping attempts, and that nothing but a user's budget judges them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from histories import CHANGED, DEFAULT, DENY, OBSERVE, OPEN, SHUT, TWIN, allow, attempt, watched
from netproof.model.history import Expectation, History, Incident, Limits
from netproof.model.timing import Timing, percentiles
from netproof.model.verdict import Verdict
from netproof.verdict.judge import judge
from netproof.verdict.watch import others, reaction, timings

OBSERVED, SLOW, INCONCLUSIVE = Verdict.OBSERVED, Verdict.SLOW, Verdict.INCONCLUSIVE
ALLOW = allow("x/b")


def closing(seen: str, before: str = "....", **more: Limits) -> History:
    return watched({SHUT: DENY}, {SHUT: before}, {SHUT: seen}, **more)


@pytest.mark.parametrize(
    ("promised", "seen", "first_right", "last_wrong", "right_from"),
    [
        (DENY, "..XXXX", 0.5, 0.25, 0.5),
        (DENY, "XXXX", 0.0, 0.0, 0.0),
        (DENY, "..X.XXXX", 0.5, 0.75, 1.0),  # a relapse: right at first, and wrong again
        (DENY, ".nXXX", 0.5, 0.25, 0.5),  # it arrived, whatever came back
        (DENY, ".lsobXXXX", 1.25, 0.0, 1.25),  # late, starved, silent and broken say nothing
        (ALLOW, "XX....", 0.5, 0.25, 0.5),
        (ALLOW, "Xw....", 0.5, 0.25, 0.5),  # another one answered
        (DENY, "....", None, 0.75, None),
        (DENY, "ssss", None, 0.0, None),
        (DENY, "", None, 0.0, None),
    ],
)
def test_the_figures_of_a_flow(
    promised: Expectation, seen: str, first_right: float | None, last_wrong: float, right_from: float | None
) -> None:
    attempts = [attempt(letter, CHANGED + 0.25 * i) for i, letter in enumerate(seen)]
    found = reaction(attempts, promised, CHANGED, DEFAULT.late)
    assert (found.first_right, found.last_wrong, found.right_from) == (first_right, last_wrong, right_from)


def test_what_came_before_the_answer_took_no_time() -> None:
    """A change may act before the API has answered."""
    found = reaction([attempt("X", CHANGED - 0.02), attempt("X", CHANGED + 1)], DENY, CHANGED, DEFAULT.late)
    assert (found.first_right, found.right_from, found.settled) == (0.0, 0.0, True)


def test_it_is_settled_when_right_attempts_span_a_while() -> None:
    assert [reaction([attempt("X", CHANGED + 0.25 * i) for i in range(n)], DENY, CHANGED, 0.5).settled for n in (2, 3, 4)] == [
        False,
        False,
        True,
    ]


def test_it_is_observed_and_told() -> None:
    judgement = judge(closing("..XXXX"))
    assert (judgement.verdict, judgement.converged) == (OBSERVED, 0.5)
    assert judgement.reason == "as expected from 0.50 s on"
    assert judgement.cells[0].seen == "right from 0.50 s on, last wrong after 0.25 s"


@pytest.mark.parametrize(("budget", "verdict"), [(None, OBSERVED), (0.25, OBSERVED), (0.2, SLOW), (0.0, SLOW)])
def test_only_a_budget_makes_it_slow(budget: float | None, verdict: Verdict) -> None:
    """It rests on the last wrong attempt: the network was wrong then for sure."""
    judgement = judge(closing("..XXXX", limits=Limits(budget=budget)))
    assert judgement.verdict is verdict
    assert ("still wrong 0.25 s after the change" in judgement.reason) is (verdict is SLOW)


@pytest.mark.parametrize(
    ("history", "why"),
    [
        (closing("......"), "not as expected within 30 s: y/a -> x/b TCP/8080 (wrong to the end)"),
        (closing("....XX"), "not as expected within 30 s: y/a -> x/b TCP/8080 (right from 1.00 s on, last wrong after 0.75 s)"),
        (closing("ssssss"), "nothing that says anything"),
        (closing("..XXXX", before="XXXX"), "no control shows that it could connect"),
        (watched({OPEN: ALLOW}, {OPEN: "..XX"}, {OPEN: "...."}), "open before the change that was to open it: x/a -> x/b TCP/8080"),
        (replace(closing("..XXXX"), incidents=(Incident(1.0, "the agent x/a restarted"),)), "the agent x/a restarted"),
    ],
    ids=["never", "not for long", "starved", "closed before", "open before", "incident"],
)
def test_without_a_figure_it_is_inconclusive(history: History, why: str) -> None:
    judgement = judge(history)
    assert (judgement.verdict, judgement.converged) == (INCONCLUSIVE, None)
    assert why in judgement.reason
    assert list(timings("c", "s", [history])) == []


def test_losses_on_other_flows_are_counted() -> None:
    """On flows that the change does not concern; what says nothing is left out."""
    history = watched({SHUT: DENY, TWIN: OBSERVE}, {SHUT: "....", TWIN: "...."}, {SHUT: "..XXXX", TWIN: ".XXs.."})
    assert others(history) == (5, 2)
    assert judge(history).verdict is OBSERVED
    assert judge(history).reason == "as expected from 0.50 s on, 2 of 5 attempts on other flows were lost"


def test_repetitions_become_samples() -> None:
    """One a flow and repetition, apart for what the change opens and what it closes; a repetition without a figure is left out."""
    both = {SHUT: DENY, OPEN: ALLOW, TWIN: OBSERVE}
    before = {SHUT: "....", OPEN: "XXXX", TWIN: "...."}
    laps = [watched(both, before, {SHUT: shut, OPEN: "X....", TWIN: "XX.."}) for shut in ("..XXXX", ".XXXX", "......", "X.XXXX")]
    closes, opens = timings("policy edited", "the API's answer", laps)
    assert closes == Timing("policy edited", "closes", "the API's answer", 3, (0.5, 0.25, 0.0), (0.25, 0.0, 0.25), (0.5, 0.25, 0.5), 12, 6)
    assert (opens.effect, opens.right_from) == ("opens", (0.25, 0.25, 0.25))
    assert str(closes) == "policy edited closes flows in 0.50 s (p50), 0.50 s (max)"


@pytest.mark.parametrize(
    ("samples", "p50", "p90", "most"),
    [([3.0], 3.0, 3.0, 3.0), ([2.0, 1.0], 1.0, 2.0, 2.0), ([float(n) for n in range(1, 11)], 5.0, 9.0, 10.0)],
)
def test_percentiles_are_samples(samples: list[float], p50: float, p90: float, most: float) -> None:
    assert percentiles(samples) == {"p50": p50, "p90": p90, "max": most}
