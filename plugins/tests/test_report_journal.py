from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from netproof.model.event import CaseStarted, RunStarted
from netproof.report.journal import Journal, read


def _started(at: float, case: str = "POD-01/tcp", worker: str = "gw0") -> CaseStarted:
    return CaseStarted(at=at, case=case, node_id="suites/pod_ip/test_pod.py::test_a", worker=worker)


def test_events_of_all_workers_come_back_by_time(tmp_path: Path) -> None:
    first, second = Journal(tmp_path, "gw0"), Journal(tmp_path, "gw1")
    first(_started(3.0, "POD-03"))
    second(_started(2.0, "POD-02"))
    first(RunStarted(1.0, {"cluster": "kind"}))

    assert [(event["event"], event.get("case")) for event in read(tmp_path)] == [
        ("RunStarted", None),
        ("CaseStarted", "POD-02"),
        ("CaseStarted", "POD-03"),
    ]


def test_an_event_is_on_disk_when_the_call_returns(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "gw0")
    journal(_started(1.0))

    assert json.loads((tmp_path / "events-gw0.jsonl").read_text()) == {
        "event": "CaseStarted",
        "at": 1.0,
        "case": "POD-01/tcp",
        "node_id": "suites/pod_ip/test_pod.py::test_a",
        "worker": "gw0",
    }


def test_a_killed_worker_loses_nothing(tmp_path: Path) -> None:
    program = f"""
import os, signal
from pathlib import Path
from netproof.model.event import CaseStarted
from netproof.report.journal import Journal
journal = Journal(Path({str(tmp_path)!r}), "gw0")
journal(CaseStarted(1.0, "POD-01", "n", "gw0"))
journal(CaseStarted(2.0, "POD-02", "n", "gw0"))
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}, check=False)

    assert done.returncode == -signal.SIGKILL
    assert [event["case"] for event in read(tmp_path)] == ["POD-01", "POD-02"]


def test_a_torn_last_line_is_passed_over(tmp_path: Path) -> None:
    Journal(tmp_path, "gw0")(_started(1.0))
    with (tmp_path / "events-gw0.jsonl").open("a") as file:
        file.write('{"event": "CaseFinished", "at": 2.0, "ca')

    assert len(read(tmp_path)) == 1


def test_a_worker_that_takes_a_torn_file_over_loses_no_event_of_its_own(tmp_path: Path) -> None:
    Journal(tmp_path, "gw0")(_started(1.0, "POD-01"))
    with (tmp_path / "events-gw0.jsonl").open("a") as file:
        file.write('{"event": "CaseFin')
    Journal(tmp_path, "gw0")(_started(2.0, "POD-02"))

    assert [event["case"] for event in read(tmp_path)] == ["POD-01", "POD-02"]


def test_lines_that_are_no_events_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "events-gw0.jsonl").write_text('[]\n{"event": 1, "at": 1}\n{"event": "RunFinished"}\n\n{"event": "RunFinished", "at": 4}\n')

    assert read(tmp_path) == [{"event": "RunFinished", "at": 4}]


def test_texts_that_are_no_utf_8_are_kept(tmp_path: Path) -> None:
    Journal(tmp_path, "gw0")(_started(1.0, "POD-01/\udcff/é"))

    assert read(tmp_path)[0]["case"] == "POD-01/\udcff/é"


def test_a_worker_that_goes_on_with_its_file_adds_nothing_but_events(tmp_path: Path) -> None:
    folder = tmp_path / "deeper" / "still"
    Journal(folder, "gw0")(_started(1.0))
    Journal(folder, "gw0")(_started(2.0))

    assert (folder / "events-gw0.jsonl").read_text().count("\n") == 2


def test_half_a_line_is_counted_as_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path, "gw0")
    journal(_started(1.0))
    monkeypatch.setattr(os, "write", lambda _file, line: len(line) - 1)
    journal(_started(2.0))

    assert journal.lost == 1


def test_closing_twice_is_closing_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[int] = []
    journal = Journal(tmp_path, "gw0")
    with monkeypatch.context() as patch:
        patch.setattr(os, "close", closed.append)
        journal.close()
        journal.close()

    assert len(closed) == 1
    os.close(closed[0])


def test_a_full_disk_is_counted_not_raised(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "gw0")
    journal.close()
    journal(_started(1.0))

    assert journal.lost == 1
    assert read(tmp_path) == []


def test_a_folder_without_a_run_has_no_events(tmp_path: Path) -> None:
    assert read(tmp_path / "absent") == []
