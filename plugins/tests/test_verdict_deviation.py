"""Known deviations: how they are read, what they excuse, and when they are no longer true."""

from __future__ import annotations

import tomllib
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from netproof.model.verdict import Verdict
from netproof.problem import Problem
from netproof.run.findings import known
from netproof.verdict.deviation import Deviation, DeviationError, apply, find, in_force, parse, stale, version_matches

TEXT = """
[[deviation]]
ids = ["NPI-02a/*", "SVC-27/tcp/ipv4"]
implementation = "cilium"
versions = ">=1.16,<1.21"
reason = "Hairpin traffic is not seen by the policy."
link = "https://github.com/cilium/cilium/issues/1"
since = 2026-01-31
until = 2026-12-31

[[deviation]]
ids = ["DNS-*"]
implementation = "cilium"
reason = "Another one."
link = "https://github.com/cilium/cilium/issues/2"
since = 2026-02-01
not-drawn = ["UnlistedRules"]
"""
FIRST, SECOND = parse(tomllib.loads(TEXT), "cilium.toml")
BOTH = (FIRST, SECOND)
DAY = date(2026, 6, 1)


def test_what_is_read() -> None:
    expected = Deviation(
        ids=("NPI-02a/*", "SVC-27/tcp/ipv4"),
        implementation="cilium",
        versions=">=1.16,<1.21",
        reason="Hairpin traffic is not seen by the policy.",
        link="https://github.com/cilium/cilium/issues/1",
        since=date(2026, 1, 31),
        until=date(2026, 12, 31),
    )
    assert expected == FIRST
    assert (SECOND.versions, SECOND.until, SECOND.not_drawn) == ("", None, ("UnlistedRules",))
    assert parse({}, "none.toml") == ()


def broken(**changes: Any) -> str:
    entry = tomllib.loads(TEXT)["deviation"][0] | changes
    with pytest.raises(DeviationError) as raised:
        parse({"deviation": [{key: value for key, value in entry.items() if value is not None}]}, "cilium.toml")
    return str(raised.value)


@pytest.mark.parametrize("key", ["ids", "implementation", "reason", "link", "since"])
def test_a_missing_key_is_named(key: str) -> None:
    assert broken(**{key: None}) == f"cilium.toml: deviation 1: key {key} is missing"


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("ids", "NPI-02a/*", "ids must be a list of case ids or globs, not 'NPI-02a/*'"),
        ("ids", [], "ids must be a list of case ids or globs, not []"),
        ("ids", ["a", 1], "ids must be a list of case ids or globs, not ['a', 1]"),
        ("ids", [1], "ids must be a list of case ids or globs, not [1]"),
        ("ids", [""], "ids must be a list of case ids or globs, not ['']"),
        ("not-drawn", "UnlistedRules", "not-drawn must be a list of ingredients of generated sets, not 'UnlistedRules'"),
        ("reason", " ", "reason must be a text, not ' '"),
        ("implementation", 3, "implementation must be a text, not 3"),
        ("versions", 1.16, "versions must be a text, not 1.16"),
        ("versions", "1.16", "versions must be like >=1.16,<1.21, not '1.16'"),
        ("versions", ">=1.16,", "versions must be like >=1.16,<1.21, not ''"),
        ("versions", ">=1.16 <1.21", "versions must be like >=1.16,<1.21, not '>=1.16 <1.21'"),
        ("link", "http://example.com", "link must start with https://, not 'http://example.com'"),
        ("since", "2026-01-31", "since must be a date like 2026-01-31, not '2026-01-31'"),
        ("until", 2027, "until must be a date like 2026-01-31, not 2027"),
        ("until", date(2025, 1, 1), "until is before since"),
        ("untill", date(2027, 1, 1), "unknown key untill, known are ids, implementation, link, not-drawn, reason, since, until, versions"),
    ],
)
def test_what_cannot_be_read_is_said(key: str, value: Any, text: str) -> None:
    assert broken(**{key: value}) == f"cilium.toml: deviation 1: {text}"


def test_a_deviation_may_last_one_day() -> None:
    entry = tomllib.loads(TEXT)["deviation"][0]
    (one_day,) = parse({"deviation": [entry | {"until": entry["since"]}]}, "cilium.toml")
    assert one_day.until == one_day.since


def test_a_date_with_a_time_is_none() -> None:
    assert "since must be a date" in broken(since=tomllib.loads("t = 2026-01-31T00:00:00")["t"])


def test_the_entry_is_counted() -> None:
    with pytest.raises(DeviationError, match=r"cilium\.toml: deviation 2 is not a table"):
        parse({"deviation": [tomllib.loads(TEXT)["deviation"][0], "x"]}, "cilium.toml")


@pytest.mark.parametrize("table", [{"deviations": []}, {"deviation": {}}])
def test_other_tables_are_refused(table: dict[str, Any]) -> None:
    with pytest.raises(DeviationError, match=r"cilium\.toml: only entries \[\[deviation\]\] are expected"):
        parse(table, "cilium.toml")


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("NPI-02a/tcp/ipv4/pod-ip", FIRST),
        ("SVC-27/tcp/ipv4", FIRST),
        ("DNS-01/udp", SECOND),
        ("SVC-27/tcp/ipv4/x", None),
        ("NPI-02ab/tcp", None),
        ("npi-02a/tcp", None),
        ("x/NPI-02a/tcp", None),
    ],
)
def test_which_cases_are_meant(case: str, expected: Deviation | None) -> None:
    assert find(BOTH, case) == expected


@pytest.mark.parametrize("verdict", Verdict)
def test_only_a_fail_deviates(verdict: Verdict) -> None:
    assert apply(BOTH, "DNS-01/udp", verdict) is (Verdict.DEVIATES if verdict is Verdict.FAIL else verdict)
    assert apply(BOTH, "SVC-01/udp", verdict) is verdict


@pytest.mark.parametrize(
    ("spec", "version", "matches"),
    [
        ("", "1.20.2", True),
        ("", "main", True),
        (">=1.16,<1.21", "1.16", True),
        (">=1.16,<1.21", "1.16.0", True),
        (">=1.16,<1.21", "v1.20.9", True),
        (">=1.16,<1.21", "1.20.9-rc.1+k3s1", True),
        (">=1.16,<1.21", "1.21", False),
        (">=1.16,<1.21", "1.21.0", False),
        (">=1.16,<1.21", "1.21.0-dev", False),
        (">=1.16,<1.21", "1.15.99", False),
        (">=1.16,<1.21", "main", False),
        (">=1.16,<1.21", "", False),
        ("<1.9", "1.10", False),  # numbers, not texts
        ("==1.20", "1.20.0", True),
        ("==1.20", "1.20.1", False),
        ("!=1.20", "1.20.1", True),
        ("!=1.20", "1.20.0", False),
        (">1.20", "1.20.0", False),
        (">1.20", "1.20.1", True),
        ("<=1.20", "1.20.0", True),
        ("<=1.20", "1.20.1", False),
        (" >= 1.16 , < 1.21 ", "1.20", True),
    ],
)
def test_versions(spec: str, version: str, matches: bool) -> None:  # noqa: FBT001
    assert version_matches(spec, version) is matches


@pytest.mark.parametrize(
    ("implementation", "version", "today", "expected"),
    [
        ("cilium", "1.20.2", DAY, BOTH),
        ("calico", "1.20.2", DAY, ()),
        ("cilium", "1.22.0", DAY, (SECOND,)),
        ("cilium", "1.20.2", date(2026, 12, 31), BOTH),
        ("cilium", "1.20.2", date(2027, 1, 1), (SECOND,)),
    ],
)
def test_which_are_in_force(implementation: str, version: str, today: date, expected: tuple[Deviation, ...]) -> None:
    assert in_force(BOTH, implementation, version, today) == expected


@pytest.mark.parametrize(
    ("verdicts", "is_stale"),
    [
        ({}, False),
        ({"SVC-01": Verdict.PASS}, False),  # not one of its cases
        ({"NPI-02a/tcp": Verdict.PASS}, True),
        ({"NPI-02a/tcp": Verdict.PASS, "NPI-02a/udp": Verdict.SLOW}, True),
        ({"NPI-02a/tcp": Verdict.PASS, "NPI-02a/udp": Verdict.DEVIATES}, False),
        ({"NPI-02a/tcp": Verdict.PASS, "NPI-02a/udp": Verdict.FAIL}, False),
        ({"NPI-02a/tcp": Verdict.PASS, "NPI-02a/udp": Verdict.INCONCLUSIVE}, False),
        ({"NPI-02a/tcp": Verdict.PASS, "NPI-02a/udp": Verdict.FLAKY}, False),
        ({"NPI-02a/tcp": Verdict.PASS, "NPI-02a/udp": Verdict.ERROR}, False),
        ({"NPI-02a/tcp": Verdict.PASS, "NPI-02a/sctp": Verdict.UNSUPPORTED}, True),
        ({"NPI-02a/sctp": Verdict.UNSUPPORTED}, False),
        ({"NPI-02a/tcp": Verdict.OBSERVED}, True),
    ],
)
def test_which_are_stale(verdicts: dict[str, Verdict], is_stale: bool) -> None:  # noqa: FBT001
    assert stale([FIRST], verdicts) == ((FIRST,) if is_stale else ())


def test_a_case_that_was_not_selected_might_still_fail() -> None:
    verdicts = {"NPI-02a/tcp": Verdict.PASS, "DNS-01": Verdict.PASS}
    assert stale(BOTH, verdicts, not_run=["NPI-02a/udp"]) == (SECOND,)


def test_what_a_file_leaves_undrawn_must_be_something_that_is_drawn(tmp_path: Path) -> None:
    file = tmp_path / "cilium.toml"
    file.write_text(TEXT)
    assert known(file, required=True) == BOTH
    file.write_text(TEXT.replace("UnlistedRules", "Magic"))
    with pytest.raises(Problem, match=r"cilium.toml cannot be used: 'Magic' is nothing that can be left undrawn: there is UnlistedRules"):
        known(file, required=True)
