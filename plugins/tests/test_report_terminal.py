from __future__ import annotations

from dataclasses import asdict, replace
from textwrap import dedent
from typing import Any

import pytest
from netproof.model.event import CaseFinished, CaseStarted, RunFinished, RunStarted, Waiting, as_json
from netproof.model.timing import Timing
from netproof.model.verdict import Verdict
from netproof.report.document import document
from netproof.report.header import Component, Header, Node
from netproof.report.terminal import header_lines, meaning, progress_line, summary_lines
from netproof.report.text import seconds

HEADER = Header(
    cluster="kind-netproof",
    provider="kind",
    versions={"kubernetes": "v1.36.1"},
    implementation={"cni": Component("cilium", "1.18.3"), "dns": Component("coredns")},
    nodes=(
        Node("control-plane", kernel="6.12.0", runtime="containerd://2.1.4", schedulable=False),
        Node("worker", kernel="6.12.0", runtime="containerd://2.1.4"),
    ),
    families=("IPv4",),
    features=("NetworkPolicy", "LoadBalancer"),
    unsupported={"SCTP": "the nodes' kernel has no SCTP", "IPv6": "the cluster has IPv4 alone"},
    selected=12,
    behaviours=40,
)


def _end(case: str, verdict: Verdict = Verdict.PASS, **more: Any) -> CaseFinished:
    values: dict[str, Any] = {"suite": "policy", "reason": f"because {verdict}", "seconds": 1.5, "worker": "gw0"} | more
    return CaseFinished(103.0, case, case.split("/")[0], node_id="suites/policy/test_x.py::test_a", verdict=verdict, **values)


def _made(*cases: CaseFinished | CaseStarted, end: RunFinished | None = None, header: Header = HEADER) -> dict[str, Any]:
    return document(as_json(event) for event in [RunStarted(100.0, asdict(header)), *cases, end or RunFinished(110.0, 0)])


def _text(made: dict[str, Any], width: int = 100) -> str:
    return "\n".join(summary_lines(made, width=width, color=False))


def test_header() -> None:
    assert "\n".join(header_lines(asdict(HEADER))) + "\n" == dedent("""\
        cluster      kind-netproof (kind)
        versions     kubernetes v1.36.1
        network      cilium 1.18.3 (cni), coredns (dns)
        nodes        2: control-plane (no probe pods), worker; kernel 6.12.0; containerd://2.1.4
        families     IPv4
        claims       NetworkPolicy, LoadBalancer
        unsupported  SCTP: the nodes' kernel has no SCTP
        unsupported  IPv6: the cluster has IPv4 alone
        selected     12 of 40 behaviours selected
        """)


def test_header_of_a_document() -> None:
    assert header_lines(_made()["header"]) == header_lines(asdict(HEADER))


@pytest.mark.parametrize(
    ("header", "word"),
    [(replace(HEADER, testbed=True), "testbed results"), (replace(HEADER, provider="lab"), "no real cluster")],
)
def test_header_warns_of_results_that_stand_apart(header: Header, word: str) -> None:
    assert word in header_lines(asdict(header))[-1]


def test_header_counts_from_nothing() -> None:
    assert header_lines({"behaviours": 40}) == ["selected     0 of 40 behaviours selected"]


def test_an_empty_header_says_nothing() -> None:
    assert header_lines({}) == []


def test_table_has_only_verdicts_that_occur() -> None:
    made = _made(
        *(_end(f"POD-{i:02}", suite="pod_ip") for i in range(10)),
        _end("NPI-01", Verdict.FAIL),
        _end("NPI-02", Verdict.UNSUPPORTED),
        _end("NPI-03", converged=0.5),
    )

    assert _text(made) + "\n" == dedent("""\
        suite   pass  unsupported  fail  cases
        --------------------------------------
        pod_ip    10            -     -     10
        policy     1            1     1      3
        --------------------------------------
        total     11            1     1     13

        converged    p50 0.50 s, p90 0.50 s, max 0.50 s over 1 case, slowest NPI-03
        selected     12 of 40 behaviours selected
        exit 1: at least one promise is broken
        """)


def test_a_narrow_terminal_gets_short_words_and_no_long_line() -> None:
    made = _made(*(_end(f"NPI-{i:02}", verdict) for i, verdict in enumerate(Verdict)), end=RunFinished(110.0, 1, notes=("word " * 40,)))
    lines = summary_lines(made, width=80, color=False)

    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["suite", "pass", "obs", "unsup", "dev", "slow", "flaky", "incon", "error", "fail", "cases"]


def test_all_that_needs_an_eye_is_said() -> None:
    made = _made(
        _end("NPI-02a", worker="gw1", converged=0.5),
        _end("NPI-01", Verdict.FAIL, caused_by="NPI-02a", reason="y/a is still denied"),
        CaseStarted(104.0, "SVC-01", "suites/service/test_vip.py::test_a", "gw2"),
        CaseStarted(102.5, "NPI-02a", "suites/policy/test_x.py::test_a", "gw0"),
        _end("NPI-02a"),
        end=RunFinished(110.0, 2, "interrupted by SIGTERM", ("namespace netproof-1",), ("NPI-05 holds by now",), ("slow disk",)),
        header=replace(HEADER, cases=4),
    )

    assert _text(made, 160).split("\n\n")[1] + "\n" == dedent("""\
        INCOMPLETE   interrupted by SIGTERM; under way: SVC-01; 2 selected cases not run
        further      NPI-01: fail: y/a is still denied (left behind by NPI-02a)
        ran twice    NPI-02a: pass at first: because pass
        stale        NPI-05 holds by now
        left behind  namespace netproof-1
        note         slow disk
        selected     12 of 40 behaviours selected
        exit 2: at least one promise is broken, and the run was interrupted: the rest was not tested
        """)


TIMED = (
    Timing("policy created", "closes", "the API's answer", 2, (0.2, 0.4), (0.1, 0.3), (0.2, 0.4), 40, 1),
    Timing("pod created", "opens", "the pod's first instruction", 2, (0.0, 12.0), (0.0, 11.5), (0.0, 12.0)),
)


def test_what_was_timed_is_a_table() -> None:
    made = _made(_end("NPC-09a", Verdict.OBSERVED, timings=TIMED[:1]), _end("NPC-09e", Verdict.OBSERVED, timings=TIMED[1:]))

    assert _text(made).split("\n\n")[1] + "\n" == dedent("""\
        seconds until            right p50    p90    max  wrong p50    p90    max  lost
        policy created (closes)       0.20   0.40   0.40       0.10   0.30   0.30  1/40
        pod created (opens)           0.00  12.00  12.00       0.00  11.50  11.50     -
        """)
    assert "wrong p50" not in _text(made, 70)
    assert max(map(len, _text(made, 70).split("\n\n")[1].splitlines())) <= 70


def test_cases_that_were_left_out_are_named() -> None:
    assert "left out     5 cases of time: why" in _text(_made(_end("POD-01"), header=replace(HEADER, left_out="5 cases of time: why")))


def test_the_report_is_named() -> None:
    assert "report       netproof-report/report.json" in summary_lines(_made(), width=80, color=False, report="netproof-report/report.json")


def test_latencies_of_several_workers_are_marked() -> None:
    made = _made(_end("NPI-01", converged=0.5), _end("NPI-02", worker="gw1", converged=130.0))

    assert "p50 0.50 s, p90 2 min 10 s, max 2 min 10 s over 2 cases, slowest NPI-02; 2 workers at once" in _text(made, 160)


@pytest.mark.parametrize(
    ("cases", "words"),
    [
        ([CaseStarted(104.0, "POD-01", "n", "gw0")], "exit 10: evidence is missing for at least one promise: nobody knows"),
        ([_end("POD-01")], "exit 0: all promised behaviours that were tested hold"),
        (
            [_end("POD-01"), _end("POD-02", Verdict.DEVIATES)],
            "exit 0: all promised behaviours that were tested hold, known deviations apart",
        ),
        ([_end("POD-01", Verdict.UNSUPPORTED)], "exit 0: nothing that is promised was judged"),
        ([_end("POD-01", Verdict.INCONCLUSIVE)], "exit 10: evidence is missing for at least one promise: nobody knows"),
    ],
)
def test_the_exit_code_is_explained(cases: list[CaseFinished | CaseStarted], words: str) -> None:
    assert _text(_made(*cases)).splitlines()[-1] == words


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (1, "promise is broken"),
        (2, "interrupted"),
        (3, "pytest broke"),
        (4, "command line"),
        (5, "no case"),
        (6, "warnings"),
        (10, "evidence is missing"),
        (11, "unreliably, or later"),
        (12, "deviation is no longer true"),
    ],
)
def test_each_exit_code_has_its_meaning(code: int, words: str) -> None:
    assert words in meaning(_made() | {"exit_code": code})


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.00 s"), (9.994, "9.99 s"), (10.0, "10 s"), (119.4, "119 s"), (120.0, "2 min"), (200.4, "3 min 20 s")],
)
def test_durations_for_people(value: float, text: str) -> None:
    assert seconds(value) == text


def test_an_interrupted_run_without_a_fail_says_so() -> None:
    made = _made(_end("POD-01"), end=RunFinished(110.0, 2, "interrupted by SIGTERM"))

    assert _text(made).splitlines()[-1] == "exit 2: the run was interrupted: what is missing was not tested"


def test_without_colour_there_is_no_escape_not_even_a_foreign_one() -> None:
    made = _made(
        _end("NPI-01", Verdict.FAIL, caused_by="x", reason="\x1b[2Jcleared\x07"), end=RunFinished(110.0, 0, leftovers=("\x1b]0;x",))
    )

    assert "\x1b" not in _text(made)
    assert "NPI-01: fail: cleared (left" in _text(made)


def test_colours_change_no_word() -> None:
    made = _made(_end("NPI-01", Verdict.FAIL), _end("NPI-02"))
    coloured = "\n".join(summary_lines(made, width=80, color=True))

    assert "\x1b[31mpolicy" in coloured
    assert coloured.replace("\x1b[31m", "").replace("\x1b[1m", "").replace("\x1b[0m", "") == _text(made, 80)


def test_progress() -> None:
    waiting = Waiting(1.0, "NPI-02a/tcp", "until observed = expected", 12.2, 150.0)

    assert progress_line(waiting) == "NPI-02a/tcp: until observed = expected, 12 s of at most 2 min 30 s"
