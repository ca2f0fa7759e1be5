from __future__ import annotations

from dataclasses import replace
from textwrap import dedent

import pytest
from netproof.model.behaviour import Behaviour, Level
from netproof.model.flow import TCP, UDP, Family, Flow, Port
from netproof.model.history import Cell, Decision, Expectation, Judgement
from netproof.model.verdict import Verdict
from netproof.report.terminal import failure_text, matrix_text

BEHAVIOUR = Behaviour("NPI-02a", "Nothing reaches a selected pod.", "https://k8s.io/policy", Level.MUST)
RULE = "x/default-deny isolates x and allows nothing"
ALLOWED, DENIED = Expectation(Decision.ALLOW), Expectation(Decision.DENY, why=RULE)


def _cell(
    source: str,
    destination: str,
    expected: Expectation = ALLOWED,
    verdict: Verdict = Verdict.PASS,
    *,
    port: Port = TCP(8080),  # noqa: B008
    seen: str = "as expected",
    connected: int = 0,
    leak: bool = False,
    family: Family = Family.IPV4,
) -> Cell:
    return Cell(Flow(source, destination, "10.0.0.1", port, family), expected, verdict, seen, 100, connected, leak)


def _square(port: Port = TCP(8080)) -> list[Cell]:  # noqa: B008
    return [
        _cell("x/a", "x/b", DENIED, Verdict.FAIL, port=port, seen="leak: 3 of 100 connected", connected=3, leak=True),
        _cell("x/a", "y/a", port=port),
        _cell("x/b", "x/a", DENIED, Verdict.INCONCLUSIVE, port=port, seen="starved"),
        _cell("x/b", "y/a", ALLOWED, Verdict.FAIL, port=port, seen="timed out"),
        _cell("y/a", "x/a", DENIED, port=port),
        _cell("y/a", "x/b", DENIED, port=port),
    ]


def _judgement(*cells: Cell, verdict: Verdict = Verdict.FAIL, reason: str = "1 of 6 flows leaks", **more: object) -> Judgement:
    return Judgement(verdict, reason, cells, **more)  # type: ignore[arg-type]


def _failure(*judgements: Judgement, evidence: str = "evidence/x", repeat: str = "pytest -k x") -> str:
    return failure_text(case_id="NPI-02a/tcp", behaviour=BEHAVIOUR, judgements=judgements, evidence=evidence, repeat=repeat)


def test_expected_stands_beside_observed() -> None:
    assert matrix_text(_judgement(*_square())).splitlines() == [
        "expected                observed",
        "       x/a  x/b  y/a           x/a  x/b  y/a",
        "  x/a  -    X    .        x/a  -    .!   .",
        "  x/b  X    -    .        x/b  ?    -    X!",
        "  y/a  X    X    -        y/a  X    X    -",
        "",
        ". connected   X denied   ? undecided   - absent   ! differs",
    ]


def test_each_port_has_its_table() -> None:
    text = matrix_text(_judgement(*_square(), *_square(UDP(53))))

    assert [line for line in text.splitlines() if "/" in line and " " not in line] == ["TCP/8080", "UDP/53"]
    assert text.count("expected") == 2


def test_each_family_has_its_table() -> None:
    square = [_cell(a, b, family=family) for family in Family for a in ("x/a", "x/b") for b in ("x/a", "x/b")]

    assert [line for line in matrix_text(_judgement(*square)).splitlines() if "TCP" in line] == ["TCP/8080 IPv4", "TCP/8080 IPv6"]


def test_wide_tables_stand_one_below_the_other() -> None:
    names = [f"namespace-{letter}/a" for letter in "abcde"]
    lines = matrix_text(_judgement(*(_cell(a, b) for a in names for b in names))).splitlines()

    assert (lines[0], lines[7]) == ("expected", "observed")
    assert max(map(len, lines)) < 100


@pytest.mark.parametrize(
    ("expected", "verdict", "connected", "mark"),
    [
        (Decision.ALLOW, Verdict.PASS, 0, ". ."),
        (Decision.ALLOW, Verdict.FAIL, 0, ". X!"),
        (Decision.ALLOW, Verdict.FAIL, 40, ". X!"),
        (Decision.ALLOW, Verdict.FAIL, 90, ". .!"),  # lossy, or the wrong one answered
        (Decision.ALLOW, Verdict.FLAKY, 50, ". ?!"),
        (Decision.DENY, Verdict.SLOW, 1, "X X"),
        (Decision.DENY, Verdict.FAIL, 1, "X .!"),
        (Decision.DENY, Verdict.ERROR, 0, "X ?"),
        (Decision.REFUSE, Verdict.PASS, 0, "R R"),
        (Decision.REFUSE, Verdict.FAIL, 0, "R X!"),
        (Decision.REFUSE, Verdict.FAIL, 1, "R X!"),  # open before it converged
        (Decision.REFUSE, Verdict.FAIL, 90, "R .!"),
        (Decision.OBSERVE, Verdict.OBSERVED, 90, "? ."),
        (Decision.OBSERVE, Verdict.OBSERVED, 0, "? X"),
    ],
)
def test_marks(expected: Decision, verdict: Verdict, connected: int, mark: str) -> None:
    cells = [_cell("a", d, Expectation(expected), verdict, connected=connected) for d in ("a", "b")] + [_cell("b", "a"), _cell("b", "b")]
    row = next(line for line in matrix_text(_judgement(*cells)).splitlines() if line.startswith("  a"))

    assert f"{row.split()[1]} {row.split()[4]}" == mark


def test_what_was_never_tried_is_undecided() -> None:
    never = replace(_cell("a", "a", Expectation(Decision.OBSERVE), Verdict.OBSERVED), attempts=0)

    assert "  a  ?  .    " in matrix_text(_judgement(never, _cell("a", "b"), _cell("b", "a"), _cell("b", "b")))
    assert "  a  ?  .\n" in matrix_text(_judgement(never, _cell("a", "b"), _cell("b", "a"), _cell("b", "b")))


def test_an_address_that_is_the_name_is_not_said_twice() -> None:
    plain = replace(_cell("a", "b"), flow=Flow("a", "10.0.0.1", "10.0.0.1", TCP(80)))

    assert "a -> 10.0.0.1 TCP/80  allow" in matrix_text(_judgement(plain))


def test_a_single_flow_is_not_drawn() -> None:
    assert "observed" not in _failure(_judgement(_square()[0]))
    assert "observed" in _failure(_judgement(_square()[0], _cell("a", "b")))


def test_flows_that_form_no_table_are_listed() -> None:
    cells = [
        _cell("client", "web", DENIED, Verdict.FAIL, seen="answered by x/b", leak=True),
        _cell("client", "y/a", seen="allowed\x1b[1m\n"),
    ]

    assert matrix_text(_judgement(*cells)).splitlines() == [
        "  flow                               expected  observed",
        "! client -> web TCP/8080 (10.0.0.1)  deny      answered by x/b",
        "  client -> y/a TCP/8080 (10.0.0.1)  allow     allowed",
    ]


def test_flows_with_many_gaps_are_listed() -> None:
    cells = [_cell("a", "b"), _cell("b", "c"), _cell("c", "d"), _cell("d", "e")]

    assert matrix_text(_judgement(*cells)).startswith("  flow")


def test_of_many_flows_those_that_differ_are_listed() -> None:
    cells = [_cell(f"a{i}", f"b{i}", DENIED, *((Verdict.FAIL,) if i % 20 == 7 else ())) for i in range(100)]
    lines = matrix_text(_judgement(*cells)).splitlines()

    assert [line.split()[:2] for line in lines[1:-1]] == [["!", f"a{i}"] for i in (7, 27, 47, 67, 87)]
    assert lines[-1] == "  and 95 more flows, all in the evidence"


def test_one_pair_probed_twice_is_listed() -> None:
    assert matrix_text(_judgement(*_square(), _square()[0])).count("\n") == 7


def test_a_failure_says_all_that_is_needed() -> None:
    judgement = _judgement(*_square(), converged=0.8, relapses=1, excludes="no leak above 3 % a flow at 95 %")

    assert _failure(judgement) + "\n" == dedent("""\
        NPI-02a/tcp: fail

        Nothing reaches a selected pod.
        MUST: https://k8s.io/policy

        1 of 6 flows leaks

          expected                observed
                 x/a  x/b  y/a           x/a  x/b  y/a
            x/a  -    X    .        x/a  -    .!   .
            x/b  X    -    .        x/b  ?    -    X!
            y/a  X    X    -        y/a  X    X    -

          . connected   X denied   ? undecided   - absent   ! differs

        deny expected, seen: leak: 3 of 100 connected
            x/a -> x/b TCP/8080 (10.0.0.1)
            rule: x/default-deny isolates x and allows nothing
        deny expected, seen: starved
            x/b -> x/a TCP/8080 (10.0.0.1)
            rule: x/default-deny isolates x and allows nothing
        allow expected, seen: timed out
            x/b -> y/a TCP/8080 (10.0.0.1)

        as expected from 0.80 s after the change on, after 1 relapse
        shown: no leak above 3 % a flow at 95 %

        repeat:    pytest -k x
        evidence:  evidence/x
        """)


def test_the_smallest_case_comes_before_what_was_seen_of_the_whole() -> None:
    judgement = _judgement(*_square())
    text = failure_text(
        case_id="NPG-01", behaviour=BEHAVIOUR, judgements=[judgement], evidence="", repeat="", smallest="the smallest\x1b[1m"
    )

    assert text.index("https://k8s.io/policy") < text.index("\n\nthe smallest\n\n") < text.index("1 of 6 flows leaks")


def test_steps_that_went_well_are_passed_over() -> None:
    text = _failure(_judgement(_cell("a", "b"), verdict=Verdict.PASS, reason="fine"), _judgement(_square()[0]))

    assert "step 2 of 2: 1 of 6 flows leaks" in text
    assert "fine" not in text


def test_many_flows_of_one_kind_are_cut() -> None:
    cells = [_cell("a", f"b{i}", DENIED, Verdict.FAIL, seen="leak", leak=True) for i in range(20)]
    text = _failure(_judgement(*cells))

    assert "and 12 more flows, all in the evidence" in text
    assert text.count("rule: ") == 1


def test_a_failure_before_any_judgement_still_names_the_promise() -> None:
    assert _failure(evidence="", repeat="").splitlines() == [
        "NPI-02a/tcp",
        "",
        "Nothing reaches a selected pod.",
        "MUST: https://k8s.io/policy",
    ]
