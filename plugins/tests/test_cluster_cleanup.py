"""The list of runs, and what `netproof cleanup` removes: with a process table and a cluster of a few lines."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from netproof.cluster import cleanup, docker, registry, teardown
from netproof.cluster.settings import Settings
from netproof.kube.client import NotFound
from netproof.world.labels import RUN

QUIET = lambda *_: None  # noqa: E731


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    return tmp_path / "state" / "netproof" / "runs"


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A Docker engine: container -> label."""
    there: dict[str, str] = {}

    def remove(names: list[str]) -> list[str]:
        return [name for name in names if there.pop(name, None)]

    for module in (docker, teardown, cleanup.outsider):
        monkeypatch.setattr(module, "containers", lambda label: [name for name, its in there.items() if its == label])
        monkeypatch.setattr(module, "remove", remove)
    monkeypatch.setattr(cleanup.shutil, "which", lambda name: f"/usr/bin/{name}")
    return there


class Cluster:
    """Namespaces and their pods; `stuck` ones stay."""

    def __init__(self, *stuck: str) -> None:
        self.spaces: dict[str, dict[str, Any]] = {}
        self.pods: dict[str, list[dict[str, Any]]] = {}
        self.stuck, self.deleted = stuck, []  # type: tuple[str, ...], list[str]

    def add(self, name: str, run: str, *phases: str, age: float = 3600) -> None:
        born = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - age))
        self.spaces[name] = {"metadata": {"name": name, "uid": f"uid-{name}", "labels": {RUN: run}, "creationTimestamp": born}}
        self.pods[name] = [
            {"metadata": {"name": f"p{i}", "uid": f"{name}{i}"}, "status": {"phase": phase}} for i, phase in enumerate(phases)
        ]

    def list(self, path: str, labels: str = "") -> list[dict[str, Any]]:
        if path.endswith("/pods"):
            return self.pods.get(path.split("/")[-2], [])
        return [space for space in self.spaces.values() if labels in {RUN, f"{RUN}={space['metadata']['labels'][RUN]}"}]

    def get(self, path: str) -> dict[str, Any]:
        try:
            return self.spaces[path.rpartition("/")[2]]
        except KeyError:
            raise NotFound(404, "NotFound", path) from None

    def delete(self, path: str, *, uid: str = "", grace: int | None = None) -> bool:
        assert uid, "nothing is deleted by its name alone"
        name = path.rpartition("/")[2]
        self.deleted.append(name)
        if name in self.stuck:
            condition = {"type": "NamespaceContentRemaining", "status": "True", "message": "widgets.example.org has 1 left"}
            self.spaces[name]["metadata"]["deletionTimestamp"] = "now"
            self.spaces[name]["status"] = {"conditions": [condition]}
        else:
            self.spaces.pop(name, None)
        return True


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster()
    monkeypatch.setattr(cleanup, "connect", lambda *_, **__: made)
    return made


def _settings(tmp_path: Path, run: str = "r1", **changes: Any) -> Settings:
    return Settings(**{"cluster": "kind", "run": run, "folder": tmp_path, "probe_image": "p", **changes})


def _sweep(**changes: Any) -> list[str]:
    return cleanup.sweep(**{"cluster": None, "kubeconfig": None, "run": None, "older_than": None, "progress": QUIET, **changes})


def dead(_pid: int) -> str:
    return ""


def test_a_run_is_registered_and_forgotten(tmp_path, state):
    entry = registry.register(_settings(tmp_path))
    assert entry.pid == os.getpid()
    assert (entry.cluster, entry.made) == ("netproof-r1", True)
    assert registry.runs() == [entry]
    assert registry.alive(entry)
    assert registry.register(_settings(tmp_path), made=False).made is False
    registry.forget("r1")
    assert list(state.iterdir()) == []


def test_the_controller_is_the_one_that_counts(tmp_path):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        entry = registry.register(_settings(tmp_path, controller=process.pid))
        assert registry.alive(entry)
        process.communicate(b"\n")
    assert not registry.alive(entry)


def test_a_recycled_process_id_is_no_sign_of_life(tmp_path):
    entry = registry.register(_settings(tmp_path))
    assert not registry.alive(entry, started=lambda pid: "another start")


def test_a_named_cluster_is_not_ours_until_it_is_made(tmp_path):
    assert registry.register(_settings(tmp_path, cluster_name="dev")).made is False
    assert registry.register(_settings(tmp_path, cluster_name="dev"), made=True).made is True


def test_a_broken_entry_stops_nobody(tmp_path, state):
    registry.register(_settings(tmp_path))
    (state / "r0.json").write_text("{")
    assert [entry.run for entry in registry.runs()] == ["r1"]


def test_an_entry_of_another_version_is_read(tmp_path, state):
    entry = registry.register(_settings(tmp_path))
    file = state / "r1.json"
    file.write_text(file.read_text().replace('"run":', '"colour": "red", "run":'))
    assert registry.find("r1") == entry


def test_two_runs_never_get_one_pool(tmp_path):
    def choose(taken: list[str]) -> str:
        return next(pool for pool in ("a", "b", "c") if pool not in taken)

    assert registry.reserve_pool(_settings(tmp_path, "r1"), choose) == "a"
    assert registry.reserve_pool(_settings(tmp_path, "r2"), choose) == "b"
    registry.forget("r1")
    assert registry.reserve_pool(_settings(tmp_path, "r3"), choose) == "a"


def test_nothing_was_found(engine):
    assert _sweep() == ["nothing of Netproof's was found"]


def test_a_dead_run_loses_its_cluster_and_its_outsiders(tmp_path, engine):
    registry.register(_settings(tmp_path))
    engine |= {"netproof-r1-worker": "io.x-k8s.kind.cluster=netproof-r1", "netproof-r1-outside-a": f"{RUN}=r1", "other": f"{RUN}=r2"}
    assert _sweep(started=dead) == ["removed container netproof-r1-outside-a", "removed kind cluster netproof-r1"]
    assert list(engine) == ["other"]
    assert registry.runs() == []


def test_a_kind_create_that_outlived_its_controller_is_ended_first(tmp_path, engine):
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as creator:
        registry.register(_settings(tmp_path), creator=creator.pid, creator_started=registry.process_start(creator.pid))
        engine["netproof-r1-worker"] = "io.x-k8s.kind.cluster=netproof-r1"
        threading.Thread(target=creator.wait).start()  # whoever adopts it takes note of its end
        assert _sweep(started=dead) == ["removed kind cluster netproof-r1"]
        assert creator.wait(5) == -9
    assert not engine


def test_a_live_run_is_left_alone(tmp_path, engine):
    registry.register(_settings(tmp_path))
    engine["netproof-r1-worker"] = "io.x-k8s.kind.cluster=netproof-r1"
    assert "run r1 is still running" in _sweep()[0]
    assert "run r1 is still running" in _sweep(run="r1")[0]
    assert engine
    assert registry.runs()


def test_a_run_on_another_machine_is_left_alone(tmp_path, engine, monkeypatch):
    registry.register(_settings(tmp_path))
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
    assert "is still running" in _sweep(started=dead)[0]


def test_a_cluster_to_be_kept_goes_only_by_name(tmp_path, engine, cluster):
    registry.register(_settings(tmp_path, keep=True))
    engine["netproof-r1-worker"] = "io.x-k8s.kind.cluster=netproof-r1"
    assert "was to be kept" in _sweep(started=dead)[0]
    assert engine
    registry.register(_settings(tmp_path, keep=True))
    assert _sweep(started=dead, run="r1") == ["removed kind cluster netproof-r1"]


def test_a_reused_cluster_loses_only_the_runs_namespaces(tmp_path, engine, cluster):
    registry.register(_settings(tmp_path, cluster_name="dev"), made=False)
    engine["dev-worker"] = "io.x-k8s.kind.cluster=dev"
    cluster.add("np-r1-x", "r1", "Running")
    cluster.add("np-r2-x", "r2", "Running")
    assert _sweep(started=dead) == ["removed namespace np-r1-x"]
    assert list(cluster.spaces) == ["np-r2-x"]
    assert engine


def test_a_cluster_that_does_not_answer_keeps_its_run_listed(tmp_path, monkeypatch):
    def gone(*_: Any, **__: Any) -> None:
        raise cleanup.Problem("the API server does not answer")

    monkeypatch.setattr(cleanup, "connect", gone)
    registry.register(_settings(tmp_path, cluster="prod"))
    assert _sweep(started=dead) == ["run r1 could not be cleaned up: the API server does not answer"]
    assert registry.runs()


def test_only_older_ones(tmp_path, engine):
    registry.register(_settings(tmp_path))
    assert _sweep(started=dead, older_than=3600) == ["nothing of Netproof's was found"]


@pytest.mark.parametrize(
    ("phases", "age", "named", "removed"),
    [
        (("Succeeded", "Failed"), 3600, False, True),
        (("Succeeded", "Running"), 3600, False, False),
        (("Running",), 3600, True, True),
        ((), 3600, False, True),
        ((), 10, False, False),
        ((), 10, True, True),
    ],
)
def test_a_run_of_another_machine_on_a_context(engine, cluster, phases, age, named, removed):
    cluster.add("np-r9-x", "r9", *phases, age=age)
    said = _sweep(cluster="prod", run="r9" if named else None)
    assert ("np-r9-x" not in cluster.spaces) == removed
    assert ("removed namespace np-r9-x" in said) == removed
    assert removed or "left alone" in said[0]


def test_the_lease_of_a_run_that_was_killed_goes_with_its_namespaces(engine, cluster):
    cluster.spaces["netproof-disruption"] = {"metadata": {"name": "netproof-disruption", "uid": "u", "labels": {RUN: "none"}}}
    cluster.spaces["netproof-disruption"]["spec"] = {"holderIdentity": "r9"}
    cluster.add("np-r8-x", "r8", "Succeeded")
    cluster.add("np-r9-x", "r9", "Succeeded")
    assert not any("Lease" in line for line in _sweep(cluster="prod", run="r8"))
    assert any("gave back the Lease" in line for line in _sweep(cluster="prod", run="r9"))
    assert not cluster.spaces


def test_a_live_run_on_a_context_is_left_alone_even_by_name(tmp_path, engine, cluster):
    registry.register(_settings(tmp_path, cluster="prod"))
    cluster.add("np-r1-x", "r1", "Succeeded")
    said = _sweep(cluster="prod", run="r1")
    assert all("is still running" in line for line in said)
    assert cluster.spaces


def test_what_is_left_is_told_with_the_reason():
    cluster = Cluster("np-r1-x")
    cluster.add("np-r1-x", "r1", "Running")
    cluster.add("np-r1-y", "r1")
    left = teardown.remove_namespaces(cluster, "r1", 0.5, QUIET)  # type: ignore[arg-type]
    assert left == ["namespace np-r1-x is being removed: widgets.example.org has 1 left"]
    assert sorted(cluster.deleted[:2]) == ["np-r1-x", "np-r1-y"]
    assert cluster.deleted[2:] == ["p0"]


def test_a_namespace_without_our_label_is_never_asked_for():
    cluster = Cluster()
    cluster.add("np-r1-x", "r1")
    cluster.add("x", "")
    assert teardown.remove_namespaces(cluster, "r1", 5, QUIET) == []  # type: ignore[arg-type]
    assert list(cluster.spaces) == ["x"]
    with pytest.raises(AssertionError):
        teardown.remove_namespaces(cluster, "", 5, QUIET)  # type: ignore[arg-type]
