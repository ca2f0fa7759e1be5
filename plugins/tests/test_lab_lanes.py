"""The lanes of a worker, as the author of a case meets them: the next case runs beside the present one, where that can be foreseen."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from netproof.lab.launch import problem
from netproof.report import journal
from realcluster import ROOT

pytestmark = pytest.mark.skipif(bool(problem()), reason=f"no lab on this machine: {problem()}")

CONFTEST = "from suites.conftest import *\n"
FAILS = """
    from netproof.cases import TCP, behaviour
    from suites.policy.policies import default_deny

    @behaviour("NPI-02a", protocol=[TCP], via=["pod-ip"])
    def test_that_fails(apply, expect, world, protocol):
        print("namespace=" + world.case.world.namespaces["x"], flush=True)
        apply(default_deny("x", "Ingress"))
        expect(protocol(8080)).matrix('''
                 x/a  x/b  y/a
            x/a   -    X    .
            x/b   X    -    .
        ''')
"""  # where a policy for ingress isolates for egress too (N16)


def run(folder: Path, cases: str, *words: str, then: str = "") -> tuple[int, str, list[Mapping[str, Any]]]:
    """Exit code, what was printed, and the events of a run of these cases on the lab."""
    suite = folder / "suite"
    suite.mkdir()
    (suite / "conftest.py").write_text(CONFTEST)
    (suite / "test_cases.py").write_text(dedent(cases) + dedent(then))
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), "-p", "no:cacheprovider"]
    command += ["-p", "netproof.plugin", "-p", "kept", "--cluster=lab", f"--netproof-report={folder / 'report'}", *words, str(suite)]
    (folder / "kept.py").write_text(  # the journal goes with the run's folder
        "import pathlib, shutil, pytest\n"
        "@pytest.hookimpl(tryfirst=True)\n"
        f"def pytest_sessionfinish():\n    for file in pathlib.Path({str(folder / 'report')!r}).glob('run-*/events-*'):\n"
        f"        shutil.copy(file, {str(folder)!r})\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins"), str(folder)])}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, done.stdout + done.stderr, journal.read(folder)


def started(events: list[Mapping[str, Any]]) -> list[str]:
    """The behaviours of the cases that were begun."""
    return [event["case"].partition("/")[0] for event in events if event["event"] == "CaseStarted"]


def test_the_next_case_runs_beside_the_present_one(tmp_path: Path) -> None:
    """Where its fixtures are the suites' own; what pytest would leave out is not begun, and others' fixtures are set up by pytest."""
    code, said, events = run(
        tmp_path,
        """
        import threading
        import pytest
        from netproof.cases import TCP, behaviour

        both, mine = threading.Barrier(2, timeout=30), []

        @pytest.fixture
        def own():
            mine.append("set up")
            yield "own"
            mine.clear()

        @behaviour("POD-01", protocol=[TCP], via=["pod-ip"])
        def test_one(world, expect, protocol):
            both.wait()
            expect(*world.pairs(protocol(8080), same_node=True)).reaches()

        @behaviour("POD-02", protocol=[TCP], via=["pod-ip"])
        def test_other(world, expect, protocol):
            both.wait()
            expect(*world.pairs(protocol(8080), same_node=False)).reaches()

        @pytest.mark.skip(reason="not today")
        @behaviour("POD-03a", protocol=[TCP], via=["pod-ip"])
        def test_never(world, expect, protocol):
            raise AssertionError("it was to be skipped")

        @behaviour("POD-06a", protocol=[TCP], via=["pod-ip"])
        def test_that_skips_itself(world, expect, protocol):
            pytest.skip("nor this")

        @behaviour("POD-03b", protocol=[TCP], via=["pod-ip"])
        def test_with_a_fixture_of_its_own(own, world, expect, protocol):
            assert (own, mine) == ("own", ["set up"])
            expect(*world.pairs(protocol(8080), same_node=False)).reaches()
        """,
    )
    assert code == 0, said
    assert "3 passed, 1 skipped, 1 unsupported" in said
    assert started(events) == ["POD-01", "POD-02", "POD-06a", "POD-03b"]
    reasons = [event["reason"] for event in events if event["event"] == "CaseFinished" and event["verdict"] == "unsupported"]
    assert reasons == ["left out: not today", "left out: nor this"]


@pytest.mark.parametrize("words", [(), ("-n", "1")], ids=["alone", "as a worker"])
def test_while_a_long_case_runs_the_other_lane_takes_the_short_ones_behind_it(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Each long one has its share of them, and their verdicts are told in their turn, each once."""
    code, said, events = run(
        tmp_path,
        """
        import threading
        import pytest
        from netproof.cases import TCP, behaviour

        third = threading.Event()

        @pytest.mark.slow
        @behaviour("POD-01", protocol=[TCP], via=["pod-ip"])
        def test_that_waits_for_the_third(world, expect, protocol):
            assert third.wait(timeout=30)
            expect(*world.pairs(protocol(8080), same_node=True)).reaches()

        @behaviour("POD-02", protocol=[TCP], via=["pod-ip"])
        def test_second(world, expect, protocol):
            expect(*world.pairs(protocol(8080), same_node=False)).reaches()

        @behaviour("POD-03a", protocol=[TCP], via=["pod-ip"])
        def test_third(world, expect, protocol):
            third.set()
            expect(*world.pairs(protocol(8080), same_node=False)).reaches()

        @behaviour("POD-03b", protocol=[TCP], via=["pod-ip"], direction=["ingress", "egress"], order=["forward", "backward"])
        def test_further(world, expect, protocol):
            expect(*world.pairs(protocol(8080), same_node=False)).reaches()

        @pytest.mark.slow
        @behaviour("POD-06a", protocol=[TCP], via=["pod-ip"])
        def test_that_is_long_too(world, expect, protocol):
            expect(*world.pairs(protocol(8080), same_node=False)).reaches()
        """,
        *words,
    )
    assert code == 0, said
    assert "8 passed" in said
    assert started(events) == ["POD-01", "POD-02", "POD-03a", "POD-06a", *["POD-03b"] * 4]
    assert [event["behaviour"] for event in events if event["event"] == "CaseFinished"] == started(events)


def test_long_cases_come_first_and_a_hook_of_somebody_elses_is_asked_before_a_case_begins(tmp_path: Path) -> None:
    (tmp_path / "hooked.py").write_text(
        "import pytest\ndef pytest_runtest_setup(item):\n    if 'never' in item.name:\n        pytest.skip('by a hook')\n"
    )
    code, said, events = run(
        tmp_path,
        """
        import pytest
        from netproof.cases import TCP, UDP, behaviour

        @behaviour("POD-01", protocol=[TCP], via=["pod-ip"])
        def test_one(world, expect, protocol):
            expect(*world.pairs(protocol(8080), same_node=True)).reaches()

        @pytest.mark.disruptive
        @behaviour("POD-02", protocol=[TCP], via=["pod-ip"])
        def test_that_disrupts(world, expect, protocol):
            expect(*world.pairs(protocol(8080), same_node=False)).reaches()

        @pytest.mark.early
        @behaviour("POD-03a", protocol=[UDP], via=["pod-ip"])
        def test_never(world, expect, protocol):
            raise AssertionError("it was to be skipped")

        @pytest.mark.slow
        @behaviour("POD-03b", protocol=[UDP], via=["pod-ip"])
        def test_that_takes_long(world, expect, protocol):
            expect(*world.pairs(protocol(8080), same_node=False)).reaches()
        """,
        *("-p", "hooked"),
    )
    assert code == 0, said
    assert "3 passed, 1 skipped" in said
    assert started(events) == ["POD-02", "POD-01", "POD-03b", "POD-03a"]
    verdicts = [(event["behaviour"], event["verdict"]) for event in events if event["event"] == "CaseFinished"]
    assert verdicts == [("POD-02", "pass"), ("POD-01", "pass"), ("POD-03b", "pass"), ("POD-03a", "unsupported")]


def test_a_case_that_runs_beside_one_that_ends_the_run_is_broken_off(tmp_path: Path) -> None:
    """It makes nothing more, and the report does not wait for it."""
    began = time.monotonic()
    code, said, events = run(
        tmp_path,
        """
        import threading
        from netproof.cases import TCP, behaviour

        under_way = threading.Event()

        @behaviour("POD-01", protocol=[TCP], via=["pod-ip"])
        def test_that_breaks(world, expect, protocol):
            under_way.wait(30)
            raise RuntimeError("broken")

        @behaviour("POD-02", protocol=[TCP], via=["pod-ip"])
        def test_without_end(world, expect, protocol):
            under_way.set()
            while True:
                expect(*world.pairs(protocol(8080), same_node=False)).reaches()
        """,
        "-x",
    )
    assert code == 10, said
    assert "the run was stopped before its last case; 1 selected case not run" in said
    assert started(events) == ["POD-01", "POD-02"]
    assert [event["case"] for event in events if event["event"] == "CaseFinished"] == ["POD-01/tcp/ipv4/pod-ip"]
    assert time.monotonic() - began < 100  # `run` itself has a limit


def test_a_case_after_one_that_relabelled_is_patient(tmp_path: Path) -> None:
    """Some networks give a pod no new policy until a change of its labels has come through: three times the cap from that change on."""
    code, said, events = run(
        tmp_path,
        """
        from netproof.cases import TCP, behaviour

        @behaviour("POD-01", protocol=[TCP], via=["pod-ip"])
        def test_that_relabels(relabel, world, expect, protocol):
            relabel("x/a", {"colour": "red"})
            expect(*world.pairs(protocol(8080), same_node=True)).reaches()
        """,
        *("-s", "--netproof-fault=N16", "--netproof-cap=2"),
        then=FAILS,
    )
    assert code == 1, said
    found = {event["behaviour"]: event["reason"] for event in events if event["event"] == "CaseFinished"}
    assert "2 of 4 not as expected at the cap of 5." in found["NPI-02a"]


def test_what_is_known_to_fail_is_not_confirmed(tmp_path: Path) -> None:
    """A fresh world would say no more; the one at hand is put back, and serves the next case."""
    (tmp_path / "known.toml").write_text(
        '[[deviation]]\nids = ["NPI-02a/*"]\nimplementation = "netproof-lab"\nreason = "Broken on purpose."\n'
        'link = "https://example.org/1"\nsince = 2026-11-30\n'
    )
    code, said, events = run(
        tmp_path,
        FAILS,
        *("-s", "--netproof-fault=N16", "--netproof-cap=1", f"--netproof-deviations={tmp_path / 'known.toml'}"),
        then="""
        @behaviour("POD-01", protocol=[TCP], via=["pod-ip"])
        def test_after_it(world, expect, protocol):
            print("namespace=" + world.case.world.namespaces["x"], flush=True)
            expect(*world.pairs(protocol(8080), same_node=True)).reaches()
        """,
    )
    assert code == 0, said
    found = {event["behaviour"]: event["reason"] for event in events if event["event"] == "CaseFinished"}
    assert found["NPI-02a"].startswith("known deviation (Broken on purpose.): 2 of 4 not as expected")
    assert "fresh world" not in found["NPI-02a"]
    worlds = re.findall(r"namespace=(\S+)", said)
    assert len(worlds) == 2
    assert len(set(worlds)) == 1


def test_labels_that_somebody_changes_while_a_case_runs_are_no_fault_of_the_network(tmp_path: Path) -> None:
    """What was promised when the step began is not what the policies say at its end; labels that no policy asks for do not matter."""
    code, said, events = run(
        tmp_path,
        """
        import threading
        import pytest
        from netproof.cases import TCP, behaviour
        from netproof.kube.objects import path
        from suites.policy.policies import allow, peer, pod, policy

        def relabels(world, labels):
            pod = world.case.world.pods["x/a"]
            api, where = world.case.runner.api, path("Pod", pod.pod, pod.namespace)
            threading.Timer(0.7, lambda: api.patch(where, {"metadata": {"labels": labels}})).start()

        MATRIX = '''
                 x/b  x/c
            x/a   .    .
            y/a   X    X
        '''

        @behaviour("NPP-02a", protocol=[TCP], via=["pod-ip"], direction=["ingress"])
        def test_other_labels(world, apply, expect, protocol):
            apply(policy("ranked", "x", ingress=[allow(peer(pods=pod("a")))]))
            relabels(world, {"colour": "green"})
            expect(protocol(8080)).matrix(MATRIX)

        @behaviour("NPP-01a", protocol=[TCP], via=["pod-ip"], direction=["ingress"])
        def test_that_label(world, apply, expect, protocol):
            apply(policy("ranked", "x", ingress=[allow(peer(pods=pod("a")))]))
            relabels(world, {"pod": "another"})
            expect(protocol(8080)).matrix(MATRIX)
        """,
    )
    verdicts = {event["behaviour"]: (event["verdict"], event["reason"]) for event in events if event["event"] == "CaseFinished"}
    assert verdicts["NPP-02a"][0] == "pass", said
    assert verdicts["NPP-01a"][0] == "inconclusive", said
    assert "labels of pods were changed by somebody while the case ran" in verdicts["NPP-01a"][1]
    assert code != 0
