"""The lab as a user meets it: runs on it, a fault in it, and what is left of it afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from netproof.cluster.provider import provider_for
from netproof.cluster.settings import Settings
from netproof.kube.client import connect
from netproof.kube.objects import path
from netproof.lab.launch import problem
from realcluster import ROOT
from waiting import await_file

pytestmark = pytest.mark.skipif(bool(problem()), reason=f"no lab on this machine: {problem()}")

CASE = "NPI-02a/tcp/ipv4/pod-ip"


def command(folder: Path, *words: str) -> list[str]:
    options = ["-p", "no:cacheprovider", "--cluster=lab", f"--netproof-report={folder}", *words]
    return [sys.executable, "-m", "pytest", *options]


def run(folder: Path, *words: str) -> tuple[int, str, Mapping[str, Any]]:
    """Exit code, what was printed, and the report."""
    done = subprocess.run(command(folder, *words), cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    report = folder / "report.json"
    return done.returncode, done.stdout + done.stderr, json.loads(report.read_text()) if report.is_file() else {}


def processes(mark: str) -> list[int]:
    """Those whose environment or command line holds that mark: a lab and all that it has started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            said = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue  # it has ended
        if mark.encode() in said and state not in "ZX":
            found.append(int(folder.name))
    return found


def test_a_run_passes_and_says_what_it_is(tmp_path: Path) -> None:
    code, said, report = run(
        *(tmp_path / "report", "-n", "2", "--netproof-family=both"),
        *("-k", "(POD-02 or SVC-01a or DNS-01 or LBR-02/tcp or NPB-01a/tcp) and ipv4 or NPI-02a/tcp"),
    )
    assert code == 0, said
    verdicts = {result["case"]: result["verdict"] for result in report["results"]}
    assert set(verdicts.values()) == {"pass"}
    assert len(verdicts) == 7
    assert report["header"]["conformance"] is False
    assert "no real cluster" in said


def test_a_fault_is_noticed_where_it_is(tmp_path: Path) -> None:
    words = ("--netproof-fault=N40", "--netproof-cap=2", "-k", "NPI-02a and pod-ip or POD-01")
    code, said, report = run(tmp_path / "report", *words)
    assert code == 1, said
    results = {result["case"]: result for result in report["results"]}
    assert (results[CASE]["verdict"], results["POD-01/tcp/ipv4/pod-ip"]["verdict"]) == ("fail", "pass")
    assert "-> x/b" in results[CASE]["reason"]  # the one node that stopped programming
    assert "-> x/a" not in results[CASE]["reason"]
    assert any("broken on purpose: N40" in note for note in report["notes"])

    # the world in which a fail came again was put back, and serves the next case
    bundles = [tmp_path / "report" / result["evidence"] / "objects.yaml" for result in results.values() if result["verdict"] == "fail"]
    assert len(bundles) == 2
    assert {number for number in "12345" for bundle in bundles if f"-main-{number}-x" in bundle.read_text()} == {"1", "2"}


def test_changes_are_timed_and_a_new_pods_first_instant_is_seen(tmp_path: Path) -> None:
    """In a lab that attaches policies to new pods 1.5 s late; nothing of it is judged, and a budget says what is slow."""
    words = ("suites/time", "--netproof-fault=N24", "--netproof-repeat=1", "--netproof-budget=1", "-k", "NPC-09a or NPC-09e")
    code, said, report = run(tmp_path / "report", *words)
    assert code == 11, said
    results = {result["behaviour"]: result for result in report["results"]}
    assert results["NPC-09e"]["verdict"] == "slow"
    assert results["NPC-09a"]["verdict"] in ("observed", "slow")  # the pods of the world may be young, too, when the policy comes
    timings = {(one["change"], one["effect"]): one for result in results.values() for one in result["timings"]}
    assert set(timings) == {
        ("policy created", "closes"),
        ("policy deleted", "opens"),
        ("pod created", "opens"),
        ("pod created", "closes"),
    }
    assert all(0 < one["right_from"]["p50"] < 5 for (change, _), one in timings.items() if "policy" in change)
    assert 1 < timings["pod created", "closes"]["last_wrong"]["p50"] < 2.5
    assert "policy created (closes)" in said


def test_a_generated_set_that_fails_is_made_smaller(tmp_path: Path) -> None:
    drawn = ("--netproof-policies=54", "-k", "s1-54/")
    code, said, report = run(tmp_path / "report", "--netproof-fault=N2", "--netproof-cap=2", "--netproof-burst=0", *drawn)
    assert code == 1, said
    (result,) = report["results"]
    assert (result["case"], result["verdict"], result["behaviour"]) == ("NPG-01/s1-54/ipv4/pod-ip", "fail", "NPG-01")
    assert "NetworkPolicyIPBlockPods" in result["tags"][-1]
    assert "the smallest that still fails: 1 policy, 1 rule" in result["counterexample"]
    (policy,) = yaml.safe_load_all((tmp_path / "report" / result["evidence"] / "smallest.yaml").read_text())
    (rule,) = [*policy["spec"].get("ingress", []), *policy["spec"].get("egress", [])]
    ((peer,),) = rule.values()
    assert len(peer["ipBlock"]["except"]) == 1
    assert result["counterexample"] in said
    assert '--netproof-policies=54 --netproof-seed=1 -k "NPG-01/s1-54/ipv4/pod-ip"' in said
    assert report["header"]["selected"] == 1
    assert not report["leftovers"]


@pytest.mark.parametrize(
    ("number", "words"),
    [(signal.SIGKILL, ()), (signal.SIGKILL, ("-n", "2")), (signal.SIGTERM, ())],
    ids=["killed", "killed with workers", "SIGTERM"],
)
def test_nothing_is_left_of_a_run_that_was_ended(tmp_path: Path, number: signal.Signals, words: tuple[str, ...]) -> None:
    folder, mark = tmp_path / "report", f"lab-run-{os.getpid()}-{number}-{len(words)}"
    process = subprocess.Popen(
        command(folder, *words, "-k", "NPI-02a"),
        cwd=ROOT,
        env=os.environ | {"NETPROOF_TEST_MARK": mark},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    await_file(folder, "CaseStarted", "Waiting", limit=60)
    assert len(processes(mark)) > 2
    process.send_signal(number)
    process.wait(timeout=60)
    deadline = time.monotonic() + 10
    while processes(mark) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes(mark) == []


def test_a_signal_while_the_session_ends_keeps_nobody_from_cleaning_up(tmp_path: Path) -> None:
    """It may come while other plugins end the session; the run is over by then, and its report stands."""
    (tmp_path / "late_signal.py").write_text(
        "import os, signal, pytest\n@pytest.hookimpl(tryfirst=True)\ndef pytest_sessionfinish(): os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    folder, mark = tmp_path / "report", f"lab-late-{os.getpid()}"
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "NETPROOF_TEST_MARK": mark}
    words = command(folder, "-p", "late_signal", "-k", "POD-01/tcp")
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SIGTERM: cleaning up" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert [result["verdict"] for result in json.loads((folder / "report.json").read_text())["results"]] == ["pass"]
    assert processes(mark) == []


def test_a_lab_to_look_into(tmp_path: Path) -> None:
    """It is reached by its kubeconfig like any other cluster, and gone when it is let go of."""
    settings = Settings(cluster="lab", run="look", folder=tmp_path, probe_image="", token_sha256="0" * 64)
    provider = provider_for(settings)
    state = provider.up(settings, lambda *_: None)
    api = connect(Path(str(state.kubeconfig)), None)
    assert [node["metadata"]["name"] for node in api.list(path("Node"))] == ["lab-1", "lab-2", "lab-3"]
    assert (state.provider, state.families, len(state.outsiders)) == ("lab", ("IPv4", "IPv6"), 2)
    provider.down(state, lambda *_: None)
    assert not api.alive()
