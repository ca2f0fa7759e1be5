"""What `make bench-policy` takes from Cyclonus: which cases are compared, and how its output is read."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from bench import cyclonus
from bench.cyclonus import Call, Output, Pair, StrangeError

ROOT = Path(__file__).resolve().parents[2]
CALL = Call(
    ("any-peer",), (), (Pair("ingress: empty peers", "NPR-01a/tcp/ipv4/pod-ip"), Pair("Create/delete policy", "NPI-01b/tcp/ipv4/pod-ip"))
)
PREAMBLE = [
    "testing 2 cases",
    "",
    "test #1: ingress: empty peers",
    " - tags: any-peer, rule",
    "test #2: Create/delete policy",
    " - tags: action",
]
TRY = 'time="2026-01-01T00:00:00Z" level=info msg="running kube probe on try {}"'


def heard(*lines: str) -> Output:
    """What is understood of lines that come one a second."""
    output = Output(CALL)
    for at, line in enumerate([*PREAMBLE, *lines]):
        output.hear(f"{line}\n", float(at))
    return output


def test_time_rounds_and_differences_of_each_case_are_read():
    output = heard(
        *("starting test case #1", TRY.format(1), "evaluating test case: ingress: empty peers", "0 wrong, 9 ignored, 72 correct"),
        *("finished policy #1", "starting test case #2", TRY.format(1), TRY.format(2), TRY.format(1)),
        *("Discrepancy found:16 wrong, 9 ignored, 56 correct", "0 wrong, 9 ignored, 72 correct", "finished policy #2"),
    )

    assert output.seconds == [4.0, 6.0]
    assert (output.rounds, output.wrong, output.differing) == (4, [0, 16], 1)


def test_a_case_that_has_not_ended_counts_for_nothing():
    output = heard("starting test case #1", "Discrepancy found:1 wrong, 9 ignored, 71 correct")

    assert (output.seconds, output.differing) == ([], 0)


@pytest.mark.parametrize("chosen", [PREAMBLE[:4], [PREAMBLE[2], PREAMBLE[2]], [*PREAMBLE[2:], "test #3: egress: deny all"]])
def test_other_cases_than_those_compared_are_refused(chosen):
    output = Output(CALL)
    for line in chosen:
        output.hear(line, 0.0)

    with pytest.raises(StrangeError, match="other than those"):
        output.hear("starting test case #1", 1.0)


def test_twenty_different_cases_of_ours_are_compared_and_all_are_in_the_catalogue():
    known = tomllib.loads((ROOT / "suites" / "behaviours.toml").read_text(encoding="utf-8"))
    ids = [pair.ours for pair in cyclonus.PAIRS]

    assert len(set(ids)) == len(ids) == 20
    assert [behaviour for behaviour in (name.partition("/")[0] for name in ids) if "removed" in known.get(behaviour, {"removed": ""})] == []


@pytest.mark.parametrize(("wanted", "each"), [(1, [1]), (8, [8]), (9, [8, 1]), (20, [8, 6, 6])])
def test_a_part_is_the_first_cases_in_order(wanted, each):
    assert [number for _, number in cyclonus.calls(wanted)] == each


def test_the_version_that_is_named_is_the_one_that_is_built():
    module = (ROOT / ".ci" / "testbed" / "go" / "cyclonus" / "go.mod").read_text(encoding="utf-8")

    assert re.findall(r"github\.com/mattfenwick/cyclonus (v\S+)", module) == [cyclonus.VERSION]
