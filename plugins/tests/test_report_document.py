from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from netproof.model.behaviour import Behaviour, Level
from netproof.model.event import CaseFinished, CaseStarted, Event, RunFinished, RunStarted, Waiting, as_json
from netproof.model.timing import Timing
from netproof.model.verdict import Verdict
from netproof.problem import Problem
from netproof.report.document import document
from netproof.report.header import Component, Header, Node
from netproof.report.schema import problems
from netproof.report.writers import write_json

HEADER = Header(
    run="k7f3",
    cluster="kind-netproof",
    provider="kind",
    versions={"kubernetes": "v1.36.1"},
    implementation={"cni": Component("cilium", "1.18.3", ("cilium:1.18.3",))},
    nodes=(Node("worker", schedulable=True),),
    families=("IPv4",),
    features=("NetworkPolicy",),
    unsupported={"SCTP": "the nodes' kernel has no SCTP"},
    selected=2,
    behaviours=40,
)


def _begun(**header: Any) -> RunStarted:
    return RunStarted(100.0, asdict(HEADER) | header)


def _start(case: str, at: float = 101.0, worker: str = "gw0") -> CaseStarted:
    return CaseStarted(at, case, f"suites/policy/test_ingress.py::test_a[{case}]", worker)


def _end(case: str, verdict: Verdict = Verdict.PASS, at: float = 103.0, worker: str = "gw0", **more: Any) -> CaseFinished:
    node_id = f"suites/policy/test_ingress.py::test_a[{case}]"
    values: dict[str, Any] = {"suite": "policy", "reason": "", "seconds": 2.0} | more
    return CaseFinished(at, case, case.split("/")[0], node_id=node_id, worker=worker, verdict=verdict, **values)


def _document(*events: Event, **options: Any) -> dict[str, Any]:
    made = document([json.loads(json.dumps(as_json(event))) for event in events], **options)
    assert problems(made) == []
    return made


def _results(made: dict[str, Any], key: str = "results") -> list[tuple[str, str]]:
    return [(result["case"], result["verdict"]) for result in made[key]]


def test_a_whole_run() -> None:
    made = _document(
        _begun(),
        _start("POD-01/tcp"),
        Waiting(101.5, "POD-01/tcp", "observed = expected", 0.5, 30.0),
        _end(
            "POD-01/tcp",
            seconds=1.23456,
            converged=0.4,
            figures={"loss": 0.0, "jitter": float("inf")},
            tags=("smoke",),
            coverage="same node only",
        ),
        _end("NPI-01/tcp", Verdict.UNSUPPORTED, suite="policy", reason="not claimed"),
        RunFinished(110.0, 0, notes=("kind was slow",)),
    )

    assert (made["started"], made["finished"]) == ("1970-01-01T00:01:40.000Z", "1970-01-01T00:01:50.000Z")
    assert _results(made) == [("NPI-01/tcp", "unsupported"), ("POD-01/tcp", "pass")]
    assert made["results"][1]["figures"] == {"loss": 0.0}
    assert made["results"][1]["seconds"] == 1.235
    assert made["results"][1]["started"] == "1970-01-01T00:01:41.000Z"
    assert made["counts"]["pass"] == made["counts"]["unsupported"] == 1
    assert sum(made["counts"].values()) == 2
    assert made["incomplete"] is None
    assert made["exit_code"] == 0
    assert made["notes"] == ["kind was slow"]
    assert made["workers"] == ["gw0"]


def test_the_header_says_what_was_tested() -> None:
    header = _document(_begun())["header"]

    assert header["implementation"] == {"cni": {"name": "cilium", "version": "1.18.3", "images": ["cilium:1.18.3"]}}
    assert header["nodes"][0]["name"] == "worker"
    assert header["unsupported"] == {"SCTP": "the nodes' kernel has no SCTP"}
    assert (header["selected"], header["behaviours"]) == (2, 40)


@pytest.mark.parametrize(("provider", "conformance"), [("kind", True), ("context", True), ("lab", False), ("", False)])
def test_only_results_of_real_clusters_are_conformance(provider: str, conformance: bool) -> None:  # noqa: FBT001
    assert _document(_begun(provider=provider))["header"]["conformance"] is conformance


def test_testbed_results_are_marked() -> None:
    assert _document(_begun(testbed=True))["header"]["testbed"] is True
    assert _document(_begun())["header"]["testbed"] is False


def test_a_later_header_adds_what_was_not_known_at_first() -> None:
    late = RunStarted(105.0, {"cluster": "", "families": ["IPv4", "IPv6"]})
    header = _document(_begun(), late)["header"]

    assert header["cluster"] == "kind-netproof"
    assert header["families"] == ["IPv4", "IPv6"]


def test_a_header_of_a_newer_netproof_is_read() -> None:
    assert _document(_begun(moon="full"))["header"]["run"] == "k7f3"


def test_suites_are_counted_apart() -> None:
    made = _document(_begun(), _end("POD-01", suite="pod_ip"), _end("NPI-01", Verdict.FAIL), _end("NPI-02"), RunFinished(110.0, 1))

    assert list(made["suites"]) == ["pod_ip", "policy"]
    assert made["suites"]["policy"]["fail"] == made["suites"]["policy"]["pass"] == made["suites"]["pod_ip"]["pass"] == 1
    assert made["suites"]["pod_ip"]["fail"] == 0


def test_what_a_killed_worker_had_under_way_is_an_error() -> None:
    made = _document(_begun(), _start("NPI-02a/tcp", worker="gw1"), _start("POD-01"), _end("POD-01"), RunFinished(110.0, 0))
    killed = made["results"][0]

    assert (killed["case"], killed["behaviour"], killed["suite"]) == ("NPI-02a/tcp", "NPI-02a", "policy")
    assert (killed["verdict"], killed["reason"]) == ("error", "the worker gw1 ended while it ran")
    assert killed["seconds"] == 0.0
    assert made["incomplete"]["under_way"] == ["NPI-02a/tcp"]
    assert made["exit_code"] == 10


def test_of_a_case_that_ran_again_the_last_run_counts() -> None:
    made = _document(
        _begun(),
        _start("POD-01", worker="gw1"),
        _start("POD-01", 104.0, "gw2"),
        _end("POD-01", at=106.0, worker="gw2"),
        RunFinished(110.0, 0),
    )

    assert _results(made) == [("POD-01", "pass")]
    assert _results(made, "superseded") == [("POD-01", "error")]
    assert made["incomplete"] is None
    assert made["exit_code"] == 0


def test_a_case_that_the_same_worker_began_twice_keeps_its_first_run() -> None:
    made = _document(_begun(), _start("POD-01"), _start("POD-01", 104.0), _end("POD-01", at=106.0), RunFinished(110.0, 0))

    assert _results(made, "superseded") == [("POD-01", "error")]
    assert made["results"][0]["started"] == "1970-01-01T00:01:44.000Z"


def test_a_finished_run_that_was_repeated_is_superseded() -> None:
    made = _document(_begun(), _end("POD-01", Verdict.FAIL), _end("POD-01", at=108.0), RunFinished(110.0, 0))

    assert _results(made) == [("POD-01", "pass")]
    assert _results(made, "superseded") == [("POD-01", "fail")]


def test_a_further_result_stands_apart_and_makes_the_run_fail() -> None:
    made = _document(
        _begun(), _end("NPI-02a"), _end("NPI-01", Verdict.FAIL, reason="still denied", caused_by="NPI-02a"), RunFinished(110.0, 0)
    )

    assert _results(made) == [("NPI-02a", "pass")]
    assert _results(made, "further") == [("NPI-01", "fail")]
    assert made["counts"]["fail"] == 0
    assert made["exit_code"] == 1


@pytest.mark.parametrize(
    ("verdicts", "recorded", "expected"),
    [
        ([Verdict.PASS, Verdict.OBSERVED, Verdict.UNSUPPORTED, Verdict.DEVIATES], 0, 0),
        ([Verdict.FLAKY], 1, 11),
        ([Verdict.FLAKY, Verdict.INCONCLUSIVE], 1, 10),
        ([Verdict.ERROR, Verdict.FAIL], 1, 1),
        ([Verdict.PASS], 1, 1),  # a test of somebody else failed
        ([Verdict.FAIL], 2, 2),
        ([], 5, 5),
        ([Verdict.PASS], 6, 6),
    ],
)
def test_exit_codes(verdicts: list[Verdict], recorded: int, expected: int) -> None:
    cases = [_end(f"POD-0{i}", verdict) for i, verdict in enumerate(verdicts)]

    assert _document(_begun(), *cases, RunFinished(110.0, recorded))["exit_code"] == expected


def test_a_stale_deviation_has_an_exit_code_of_its_own() -> None:
    made = _document(_begun(), _end("POD-01"), RunFinished(110.0, 0, stale_deviations=("POD-01: holds by now",)))

    assert made["stale_deviations"] == ["POD-01: holds by now"]
    assert made["exit_code"] == 12


def test_a_run_without_an_end_is_incomplete_and_never_ends_well() -> None:
    made = _document(_begun(), _start("POD-01"), _end("POD-01"))

    assert made["incomplete"] == {"reason": "the run ended without a word", "under_way": [], "not_run": 0}
    assert made["exit_code"] == 2


def test_an_interrupted_run_says_why_and_how_much_is_missing() -> None:
    made = _document(_begun(cases=5), _end("POD-01"), _start("POD-02"), RunFinished(110.0, 2, "interrupted by SIGTERM", ("ns-1",)))

    assert made["incomplete"] == {"reason": "interrupted by SIGTERM", "under_way": ["POD-02"], "not_run": 3}
    assert made["leftovers"] == ["ns-1"]


def test_cases_that_never_started_make_a_run_incomplete() -> None:
    made = _document(_begun(cases=2), _end("POD-01"), RunFinished(110.0, 0))

    assert made["incomplete"]["not_run"] == 1
    assert made["exit_code"] == 2


def test_time_to_converge_is_summed_up_by_real_cases() -> None:
    cases = [_end(f"NPI-{i:02}", converged=float(i)) for i in range(1, 11)]
    made = _document(_begun(), *cases, _end("POD-01"), RunFinished(110.0, 0))

    assert made["converged"] == {"cases": 10, "p50": 5.0, "p90": 9.0, "max": 10.0, "slowest": "NPI-10"}


def test_a_run_in_which_nothing_converged_has_no_summary() -> None:
    assert _document(_begun(), _end("POD-01"), RunFinished(110.0, 0))["converged"] is None


def test_behaviours_lend_their_sentences() -> None:
    known = {
        "POD-01": Behaviour("POD-01", "Pods reach each other.", "https://k8s.io/x", Level.MUST),
        "POD-02": Behaviour("POD-02", "", "", Level.MAY),
    }
    made = _document(_begun(), _end("POD-01/tcp"), RunFinished(110.0, 0), behaviours=known)

    assert made["behaviours"] == {"POD-01": {"sentence": "Pods reach each other.", "url": "https://k8s.io/x", "level": "MUST"}}


def test_no_events_are_no_report() -> None:
    with pytest.raises(Problem, match="no events"):
        document([])


def test_timings_have_their_percentiles_beside_their_samples() -> None:
    """To the millisecond; the schema knows them, and a case without any has none."""
    right, wrong = (0.1234, 0.5, 0.2, 0.3), (0.1, 0.0, 0.0, 0.2)
    timing = Timing("policy created", "closes", "the API's answer", 2, right, wrong, right, 40, 1)
    timed, other = _document(_begun(), _end("NPC-09a", Verdict.OBSERVED, timings=(timing,)), _end("POD-01"))["results"]

    assert "timings" not in other
    assert timed["timings"] == [
        {
            "change": "policy created",
            "effect": "closes",
            "since": "the API's answer",
            "repetitions": 2,
            "first_right": {"p50": 0.2, "p90": 0.5, "max": 0.5},
            "last_wrong": {"p50": 0.0, "p90": 0.2, "max": 0.2},
            "right_from": {"p50": 0.2, "p90": 0.5, "max": 0.5},
            "samples": {
                "first_right": [0.123, 0.5, 0.2, 0.3],
                "last_wrong": [0.1, 0.0, 0.0, 0.2],
                "right_from": [0.123, 0.5, 0.2, 0.3],
            },
            "others": 40,
            "others_lost": 1,
        }
    ]


def test_cases_that_were_left_out_are_told() -> None:
    assert _document(_begun(left_out="5 cases of time: why"), _end("POD-01"))["header"]["left_out"] == "5 cases of time: why"


def test_the_schema_is_strict() -> None:
    made = _document(_begun(), _end("POD-01"))
    made["results"][0]["verdict"] = "splendid"
    made["header"]["moon"] = "full"
    del made["counts"]

    assert [problem.partition(":")[0] for problem in problems(made)] == ["$", "$.header", "$.results[0].verdict"]


def test_json_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.json"
    made = _document(_begun(), _end("POD-01", reason="é"))
    write_json(made, path)
    with pytest.raises(ValueError):
        write_json(made | {"exit_code": float("nan")}, path)

    assert json.loads(path.read_text(encoding="utf-8")) == made
    assert '\n  "exit_code": 2,\n' in path.read_text(encoding="utf-8")
    assert [entry.name for entry in path.parent.iterdir()] == ["report.json"]
