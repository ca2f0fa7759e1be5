"""Answers of agents as attempts: who answered, who received, who starved."""

from __future__ import annotations

from dataclasses import replace

from netproof.model.flow import TCP, UDP, Flow, Question
from netproof.model.outcome import Outcome
from netproof.probe.stream import Identity
from netproof.probe.wire import Faces, Plan, Reader, Sight, by_source, specification

FLOWS = [Flow("x/a", "x/b", "10.0.0.2", UDP(80)), Flow("x/b", "web", "10.96.0.1", TCP(80))]


def reader(sight: Sight | None = None, sent: float = 0.0) -> Reader:
    faces = Faces()
    faces.add("x/b", Identity("ns/b", "uid-b", "n", "boot-b"))
    return Reader(FLOWS, faces, sight or Sight(), 100.0, sent)


def entry(index: int = 0, number: int = 0, began: float = 1.0, outcome: str = "timed-out", took: float = 0.9) -> list[object]:
    return [index, number, began, took, outcome, -1, "", 4000, ""]


def test_a_flow_as_an_agent_takes_it() -> None:
    assert specification(7, FLOWS[0], 0.5) == [7, "UDP", "10.0.0.2", 80, 0.5, None]
    asked = replace(FLOWS[0], question=Question(("a", "b"), "A"))
    assert specification(0, asked)[-1] == {"names": ["a", "b"], "type": "A"}
    assert by_source([*FLOWS, FLOWS[0]]) == {"x/a": [0, 2], "x/b": [1]}


def test_a_plan_knows_how_long_it_takes() -> None:
    assert Plan().lasts(100) == 1.0
    assert Plan((0.0,), 3.0, 0.25).lasts(4) == 4.0


def test_times_are_the_runners() -> None:
    """An attempt cannot have begun before it was asked for, however the clocks were compared."""
    assert reader().attempt(entry(), []).began == 101.0
    assert reader(sent=101.5).attempt(entry(), []).began == 101.5


def test_receivers_make_it_one_way() -> None:
    sight = Sight()
    sight.add_seen("x/b", {"0": "5"})
    attempts = [reader(sight).attempt(entry(number=number), []) for number in range(3)]
    assert [attempt.received for attempt in attempts] == [True, False, True]
    assert attempts[0].detail == "its nonce was received by x/b"


def test_lags_of_either_end_starve() -> None:
    """Only lags above 150 ms, only those that overlap, only of the two ends; behind a Service anybody's."""
    sight = Sight()
    sight.add_lags("x/b", [(1.5, 1.8)], 100.0)
    sight.add_lags("x/c", [(3.5, 3.9), (5.0, 5.1)], 100.0)

    def starved(index: int, began: float) -> bool:
        return reader(sight).attempt(entry(index, began=began), []).starved

    assert [starved(0, began) for began in (0.5, 1.0, 2.0, 3.0, 4.8)] == [False, True, False, False, False]
    assert [starved(1, began) for began in (0.5, 1.0, 2.0, 3.0, 4.8)] == [False, True, False, True, False]


def test_behind_a_service_those_that_may_answer_starve() -> None:
    """Where it is said who may answer, the lags of nobody else count: to be refused needs no agent but the source."""
    lag = [(1.2, 1.5)]
    served, refused, unsaid = Sight({FLOWS[1]: {"x/d"}}), Sight({FLOWS[1]: set()}), Sight()
    for sight in (served, refused, unsaid):
        sight.add_lags("x/c", lag, 100.0)
    assert [reader(sight).attempt(entry(1), []).starved for sight in (served, refused, unsaid)] == [False, False, True]
    served.add_lags("x/d", lag, 100.0)
    refused.add_lags(FLOWS[1].source, lag, 100.0)
    assert [reader(sight).attempt(entry(1), []).starved for sight in (served, refused)] == [True, True]


def test_a_lag_that_left_time_enough_starves_nobody() -> None:
    """An attempt of 3 s (to be refused) that lost 0.3 s of either end has waited long enough; one that lost most of it has not."""
    sight = Sight()
    sight.add_lags("x/b", [(1.2, 1.5)], 100.0)
    sight.add_lags("x/a", [(2.0, 2.3)], 100.0)
    assert [reader(sight).attempt(entry(took=took), []).starved for took in (0.9, 1.2, 3.0)] == [True, True, False]
    sight.add_lags("x/b", [(1.5, 3.5)], 100.0)
    assert reader(sight).attempt(entry(took=3.0), []).starved


def test_a_lag_that_is_told_twice_counts_once() -> None:
    """An agent that is a flow's source and another's destination tells its lags with both answers, on clocks compared anew."""
    sight = Sight()
    for offset in (100.0, 100.001):
        sight.add_lags("x/b", [(1.2, 2.0), (2.5, 3.0)], offset)
    assert [reader(sight).attempt(entry(took=took), []).starved for took in (2.0, 2.1)] == [True, False]


def test_where_no_queue_spilt_a_short_awakening_is_enough() -> None:
    """What waits in a queue is read when its end awakes. Both ends must say so, each time that they are asked."""
    lags = {"x/a": [(1.0, 1.3)], "x/b": [(1.2, 1.6)]}

    def starved(*spills: tuple[str, int | None, int | None], took: float = 0.9) -> bool:
        sight = Sight()
        for agent, times in lags.items():
            sight.add_lags(agent, times, 100.0)
        for spill in spills:
            sight.add_spill(*spill)
        return reader(sight).attempt(entry(took=took), []).starved

    unspilt = (("x/a", 5, 5), ("x/b", 0, 0))
    assert not starved(*unspilt)
    assert starved(*unspilt, took=0.75)
    assert starved()
    assert starved(("x/a", 5, 5))
    for spill in (("x/b", 0, 1), ("x/b", None, 0), ("x/b", None, None), ("x/a", 5, 6)):
        assert starved(*unspilt, spill)
        assert starved(spill, *unspilt)


def test_a_name_server_tells_of_no_queue() -> None:
    """So a question is doubted as soon as the one who asked was away."""
    sight = Sight()
    sight.add_lags("x/a", [(1.0, 1.3)], 100.0)
    sight.add_spill("x/a", 0, 0)
    asked = Flow("x/a", "x/a", "10.96.0.10", UDP(53), question=Question(("a.b",), "A"))
    assert Reader([asked], Faces(), sight, 100.0, 0.0).attempt(entry(), []).starved
    told = Sight(lags=sight.lags, unspilt={"x/a": True, "x/b": True})
    assert not reader(told).attempt(entry(), []).starved


def test_in_a_burst_who_connected_is_starved_where_silence_would_have_been() -> None:
    """Else its starved time-outs are left out, its answers are counted, and a loss hides."""
    sight = Sight()
    sight.add_lags("x/b", [(5.3, 5.6)], 100.0)
    groups = [["connected", 0, "10.0.0.1", "f", 0.02, "", []]]
    attempts = list(reader(sight).burst([0, [0, 100, 400, 700], groups], [["ns/b", "uid-b", "n", "boot-b"]], 5.0))
    assert [attempt.starved for attempt in attempts] == [True, True, True, False]


def test_a_burst_in_full_and_in_groups() -> None:
    """Attempts that ended alike share one object; the odd ones have their own time and port; the order is that of the numbers."""
    groups = [
        ["timed-out", -1, "", "d", 0.91, "", []],
        ["connected", 0, "10.0.0.1", "2", 0.02, "", [[1, 0.02, 4711, ""]]],
    ]
    who = [["ns/b", "uid-b", "n", "boot-b"]]
    attempts = list(reader().burst([0, [0, 10, 20, 30], groups], who, 5.0))
    assert [attempt.outcome for attempt in attempts] == [Outcome.TIMED_OUT, Outcome.CONNECTED, Outcome.TIMED_OUT, Outcome.TIMED_OUT]
    assert attempts[0] is attempts[2] is attempts[3]
    assert (attempts[1].responder, attempts[1].began, attempts[1].source_port) == ("x/b", 105.01, 4711)
