"""What a case needs the cluster alone for: the gate and the Lease, and the restart of the network's agents."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from netproof.kube import lease
from netproof.kube.client import Conflict, NotFound
from netproof.kube.objects import path, path_of
from netproof.kube.wait import Late
from netproof.run.gate import Gate
from netproof.world import restart
from netproof.world.verdicts import Unsupported
from test_probe_net import eventually

WHERE = path("Lease", "netproof-disruption", "kube-system")


class Shelf:
    """An API server that keeps objects by path; `deleted` is called with each that is taken off."""

    def __init__(self, *objects: dict[str, Any], deleted: Callable[[dict[str, Any]], None] = lambda _obj: None) -> None:
        self.objects = {path_of(obj): obj for obj in objects}
        self.deleted = deleted
        self.made = 0

    def create(self, obj: dict[str, Any]) -> dict[str, Any]:
        if path_of(obj) in self.objects:
            raise Conflict(409, "AlreadyExists", "there is one")
        self.made += 1
        return self.objects.setdefault(path_of(obj), obj | {"metadata": obj["metadata"] | {"uid": f"made-{self.made}"}})

    def get(self, where: str) -> dict[str, Any]:
        if where not in self.objects:
            raise NotFound(404, "NotFound", where)
        return self.objects[where]

    def list(self, where: str, *, labels: str = "") -> list[dict[str, Any]]:
        wanted = dict(pair.split("=") for pair in labels.split(","))
        found = [obj for at, obj in self.objects.items() if at.rpartition("/")[0] == where]
        return [obj for obj in found if wanted.items() <= obj["metadata"]["labels"].items()]

    def delete(self, where: str, *, uid: str = "") -> bool:
        obj = self.objects.get(where)
        if obj is None or obj["metadata"]["uid"] != uid:
            return False
        del self.objects[where]
        self.deleted(obj)
        return True


def held_by(holder: str, seconds: int) -> dict[str, Any]:
    metadata = {"name": "netproof-disruption", "namespace": "kube-system", "uid": holder}
    spec = {"holderIdentity": holder, "leaseDurationSeconds": seconds}
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}


def hold(api: Any, limit: float = 5.0) -> Any:
    return lease.hold(api, "kube-system", "netproof-disruption", holder="me", run="r", limit=limit)


def test_a_lease_is_held_and_given_back() -> None:
    api = Shelf()
    with hold(api):
        assert api.objects[WHERE]["spec"]["holderIdentity"] == "me"
    assert not api.objects


def test_a_lease_is_given_back_when_the_work_fails() -> None:
    api = Shelf()
    with pytest.raises(ValueError, match="broken"), hold(api):
        raise ValueError("broken")
    assert not api.objects


def test_a_lease_that_ran_out_is_taken_over() -> None:
    api = Shelf(held_by("the dead", 0))
    with hold(api):
        assert api.objects[WHERE]["spec"]["holderIdentity"] == "me"


def test_a_lease_of_ones_own_is_shared_and_given_back_by_who_made_it() -> None:
    api = Shelf()
    with hold(api):
        with hold(api):
            pass
        assert api.objects[WHERE]["spec"]["holderIdentity"] == "me"
    assert not api.objects


def test_a_lease_that_somebody_holds_is_not_touched() -> None:
    api = Shelf(held_by("the living", 600))
    with pytest.raises(Late, match="the living holds it"), hold(api, limit=0.2):
        pass
    assert api.objects[WHERE]["metadata"]["uid"] == "the living"


def test_a_lease_that_a_dead_holder_left_is_given_back_and_no_other() -> None:
    api: Any = Shelf(held_by("me", 600))
    assert not lease.give_back(api, *lease.DISRUPTION, holder="somebody else")
    assert WHERE in api.objects
    assert lease.give_back(api, *lease.DISRUPTION, holder="me")
    assert not api.objects
    assert not lease.give_back(api, *lease.DISRUPTION, holder="me")


def test_who_wants_to_be_alone_waits_for_the_others(tmp_path: Path) -> None:
    runner: Any = SimpleNamespace(api=Shelf(), run="r", worker="gw0", progress=None)
    told: list[str] = []

    def work() -> None:
        gate = Gate(tmp_path)
        with gate.shared():
            with gate.alone(runner):
                told.append("alone")
                assert not _free(tmp_path / "gate")
            told.append("shared")

    thread = threading.Thread(target=work)
    with Gate(tmp_path).shared(), Gate(tmp_path).shared():
        thread.start()
        assert eventually(lambda: not _free(tmp_path / "gate.queue"))  # it waits, and who comes now waits behind it
        told.append("others")
    thread.join(10)
    assert told == ["others", "alone", "shared"]
    assert not runner.api.objects


def test_those_who_want_to_be_alone_are_so_together(tmp_path: Path) -> None:
    """Each lets the next one in when it has done its part; who shares comes in when all are done."""
    runner: Any = SimpleNamespace(api=Shelf(), run="r", worker="gw0", progress=None)
    told: list[str] = []
    both = threading.Barrier(2, timeout=10)
    stranger = threading.Thread(target=lambda: share())

    def share() -> None:
        with Gate(tmp_path).shared():
            told.append("stranger")

    def work() -> None:
        gate = Gate(tmp_path)
        with gate.shared():
            both.wait()
            with gate.alone(runner) as let_in_the_next:
                told.append("alone")
                let_in_the_next()
                if both.wait() == 0:
                    stranger.start()
                both.wait()
                told.append("done")

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    stranger.join(10)
    assert told == ["alone", "alone", "done", "done", "stranger"]
    assert not runner.api.objects


def test_only_who_shares_the_cluster_can_have_it_alone(tmp_path: Path) -> None:
    runner: Any = SimpleNamespace(api=Shelf(), run="r", worker="gw0", progress=None)
    with pytest.raises(RuntimeError, match="only who shares"), Gate(tmp_path).alone(runner):
        pass


def _free(file: Path) -> bool:
    with file.open("w") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def agent(node: str, uid: str, *, ready: bool = True) -> dict[str, Any]:
    metadata = {"name": f"agent-{node}-{uid}", "namespace": "net", "uid": uid, "labels": {"app": "agent"}}
    status = {"conditions": [{"type": "Ready", "status": str(ready)}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"nodeName": node}, "status": status}


DAEMON = {
    "apiVersion": "apps/v1",
    "kind": "DaemonSet",
    "metadata": {"name": "agent", "namespace": "net", "uid": "d", "labels": {}},
    "spec": {"selector": {"matchLabels": {"app": "agent"}}},
}


def runner_of(api: Shelf, named: str = "net/agent") -> Any:
    return SimpleNamespace(api=api, network_agent=named, progress=None)


def test_agents_of_these_nodes_are_replaced() -> None:
    def renew(obj: dict[str, Any]) -> None:
        new = agent(obj["spec"]["nodeName"], "new")
        api.objects[path_of(new)] = new

    api = Shelf(DAEMON, agent("n1", "old"), agent("n2", "old"), agent("n3", "old"), deleted=renew)
    restart.complete(runner_of(api), restart.begin(runner_of(api), ["n1", "n2"]))
    assert sorted(obj["metadata"]["name"] for at, obj in api.objects.items() if "/pods/" in at) == [
        "agent-n1-new",
        "agent-n2-new",
        "agent-n3-old",
    ]


def test_an_agent_that_is_away_already_is_not_deleted_again() -> None:
    """Another case restarts it: what comes in its place is awaited."""
    ending, coming = agent("n1", "ending"), agent("n2", "coming", ready=False)
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    deleted: list[dict[str, Any]] = []
    api = Shelf(DAEMON, ending, coming, deleted=deleted.append)
    agents = restart.begin(runner_of(api), ["n1", "n2"])
    for obj in (agent("n1", "new"), agent("n2", "coming")):
        api.objects[path_of(obj)] = obj
    restart.complete(runner_of(api), agents)
    assert not deleted


def test_an_agent_that_runs_without_being_ready_is_restarted_too() -> None:
    unwell = agent("n1", "unwell", ready=False)
    unwell["status"]["containerStatuses"] = [{"name": "agent", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]
    api = Shelf(DAEMON, unwell)
    agents = restart.begin(runner_of(api), ["n1"])
    assert agents.gone == {"unwell"}
    assert path_of(unwell) not in api.objects


def test_an_agent_that_does_not_come_back_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restart, "LIMIT", 0.1)
    api = Shelf(DAEMON, agent("n1", "old"))
    agents = restart.begin(runner_of(api), ["n1"])
    late = agent("n1", "new", ready=False)
    api.objects[path_of(late)] = late
    with pytest.raises(Late, match="none on n1"):
        restart.complete(runner_of(api), agents)


@pytest.mark.parametrize(("named", "nodes", "words"), [("", ["n1"], "nobody says"), ("net/agent", ["n1", "n2"], "no pod on n2")])
def test_what_cannot_be_restarted_is_unsupported(named: str, nodes: list[str], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restart, "SUCCESSION", 0.1)
    with pytest.raises(Unsupported, match=words):
        restart.begin(runner_of(Shelf(DAEMON, agent("n1", "old")), named), nodes)
