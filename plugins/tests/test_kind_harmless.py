"""A cluster that Netproof has visited is as it was: whole runs, interrupted runs, killed runs, and runs that could not begin."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from netproof.kube.client import Api, connect
from netproof.kube.objects import path
from netproof.world.labels import RUN
from realcluster import ROOT, Kind, ended
from waiting import await_file

pytestmark = pytest.mark.kind

CASE = "NPI-02a/tcp/ipv4/pod-ip"
PASSING = {"Event", "Lease"}  # what a cluster writes by itself all the time


@pytest.fixture
def api(kind: Kind) -> Api:
    return connect(kind.kubeconfig, kind.context)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "report"


def everything(api: Api) -> dict[str, str]:
    """What every object that can be listed says, and who wrote it when; Events, Leases and the nodes' own heartbeats apart.

    All but its status, which is for its controllers to write, as the kubelet of a young cluster does now and then. A write that was
    taken back is still seen, by its manager and its time.
    """
    found = {}
    for where in ["/api/v1", *(f"/apis/{group['preferredVersion']['groupVersion']}" for group in api.get("/apis")["groups"])]:
        for kind in api.get(where)["resources"]:
            if "list" in kind["verbs"] and "/" not in kind["name"] and kind["kind"] not in PASSING | {"Node", "ComponentStatus"}:
                for item in api.list(f"{where}/{kind['name']}"):
                    meta = item["metadata"]
                    writes = [entry for entry in meta.get("managedFields", ()) if entry.get("subresource") != "status"]
                    own = {key: value for key, value in meta.items() if key != "resourceVersion"} | {"managedFields": writes}
                    said = {key: value for key, value in item.items() if key != "status"} | {"metadata": own}
                    found[f"{kind['kind']} {meta.get('namespace', '')}/{meta['name']}"] = json.dumps(said, sort_keys=True)
    return found


def ours(api: Api) -> list[str]:
    return [space["metadata"]["name"] for space in api.list(path("Namespace"), labels=RUN)]


def cleanup(kind: Kind, folder: Path, *words: str) -> str:
    command = [sys.executable, "-m", "netproof.cli", "cleanup", f"--cluster={kind.context}", f"--kubeconfig={kind.kubeconfig}", *words]
    environment = os.environ | {"XDG_STATE_HOME": str(folder.parent / "state"), "PYTHONPATH": str(ROOT / "plugins")}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=180).stdout


def test_smoke_leaves_the_cluster_as_it_was(kind: Kind, api: Api, folder: Path) -> None:
    before = everything(api)
    found = kind.run(folder)
    after = everything(api)
    assert found.code == 0, found.out
    assert set(found.verdicts.values()) == {"pass"}
    assert len(found.verdicts) >= 10
    # Identities are Cilium's own cache of label sets; it collects the unused ones by itself.
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert not {name for name in changed if not name.startswith(("CiliumIdentity", "CiliumNode", "ReplicaSet", "APIService"))}
    assert not ours(api)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_so_and_leaves_nothing(kind: Kind, api: Api, folder: Path, number: signal.Signals) -> None:
    process = kind.start(folder, "-k", "NPI-02", "-n", "2")
    await_file(folder, "CaseStarted", "Waiting")
    process.send_signal(number)
    found = ended(process, folder)
    assert found.code == 2
    assert "interrupted by" in found.report["incomplete"]["reason"]
    assert found.report["incomplete"]["under_way"]
    assert not ours(api)


def test_a_killed_worker_is_named_and_leaves_nothing(kind: Kind, api: Api, folder: Path) -> None:
    process = kind.start(folder, "-k", "NPI-02", "-n", "2")
    await_file(folder, "CaseStarted", "Waiting")
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True).stdout.split()
    os.kill(int(children[0]), signal.SIGKILL)
    found = ended(process, folder)
    assert found.code in (1, 10)
    told = json.dumps(found.report["results"]) + json.dumps(found.report["superseded"])
    assert "ended while it ran" in told
    assert not ours(api)


def test_what_a_killed_run_leaves_is_found(kind: Kind, api: Api, folder: Path) -> None:
    process = kind.start(folder, "-k", "NPI-02a")
    await_file(folder, "Waiting")
    process.kill()
    process.wait(timeout=30)
    assert ours(api)
    assert "removed namespace netproof-" in cleanup(kind, folder)
    assert not ours(api)
    assert "nothing of Netproof's was found" in cleanup(kind, folder)


def limited(kind: Kind, api: Api, name: str, rules: list[dict[str, Any]], target: Path) -> Path:
    """A kubeconfig of a service account that may do just this."""
    meta = {"name": f"limited-{name}"}
    api.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta | {"namespace": "default"}})
    api.create({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": meta, "rules": rules})
    subject = {"kind": "ServiceAccount", "name": meta["name"], "namespace": "default"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": meta["name"]}
    binding = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": meta}
    api.create(binding | {"subjects": [subject], "roleRef": role})
    token = kind.node(kind.control_plane, "kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", "create", "token", meta["name"]).strip()
    config = yaml.safe_load(kind.kubeconfig.read_text())
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    target.write_text(yaml.safe_dump(config))
    return target


def forget(api: Api, name: str) -> None:
    for where in (
        f"/api/v1/namespaces/default/serviceaccounts/limited-{name}",
        f"/apis/rbac.authorization.k8s.io/v1/clusterroles/limited-{name}",
        f"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/limited-{name}",
    ):
        api.delete(where)


def may(verbs: str, groups: str, *resources: str) -> dict[str, Any]:
    """A rule of a role; the core group is written `core`."""
    return {"verbs": verbs.split(), "apiGroups": ["" if g == "core" else g for g in groups.split()], "resources": list(resources)}


LOOK = [
    may("get list", "core", "nodes", "pods", "services", "namespaces", "configmaps"),
    may("get list", "networking.k8s.io discovery.k8s.io apps", "*"),
]
WORK = [may("create patch delete", "core networking.k8s.io", "namespaces", "pods", "services", "configmaps", "networkpolicies")]
EXEC = [may("get create", "core", "pods/exec")]


@pytest.mark.parametrize(
    ("name", "rules", "said"),
    [
        ("reader", LOOK, "no right on"),
        ("streamless", LOOK + WORK, "neither port-forward nor exec is allowed"),
    ],
)
def test_missing_rights_are_one_sentence(kind: Kind, api: Api, folder: Path, name: str, rules: list[dict[str, Any]], said: str) -> None:
    config = limited(kind, api, name, rules, folder.parent / "limited")
    try:
        found = kind.run(folder, kubeconfig=config)
    finally:
        forget(api, name)
    assert found.code == 4
    assert said in found.out
    assert "Traceback" not in found.out
    assert not ours(api)


def test_exec_stands_in_where_port_forward_is_not_allowed(kind: Kind, api: Api, folder: Path) -> None:
    config = limited(kind, api, "exec", LOOK + WORK + EXEC, folder.parent / "limited")
    try:
        found = kind.run(folder, "-k", CASE, kubeconfig=config)
    finally:
        forget(api, "exec")
    assert found.verdicts == {CASE: "pass"}, found.out


def test_an_image_that_cannot_be_pulled_is_one_sentence(kind: Kind, api: Api, folder: Path) -> None:
    """From a registry that refuses at once: to learn that a name does not exist takes some machines minutes."""
    found = kind.run(folder, "-k", "NPI-02", "-n", "2", image="127.0.0.1:1/no/such:1")
    assert found.code == 4
    assert "the probe image 127.0.0.1:1/no/such:1 can't be had on node" in found.out
    assert "Traceback" not in found.out
    assert not ours(api)


def test_one_node_only(kind: Kind, api: Api, folder: Path) -> None:
    api.patch(path("Node", kind.nodes[1]), {"spec": {"unschedulable": True}})
    try:
        found = kind.run(folder, "-k", "POD-01 or POD-02 or NPI-02a/tcp")
    finally:
        api.patch(path("Node", kind.nodes[1]), {"spec": {"unschedulable": None}})
    assert found.code == 0, found.out
    assert found.verdicts == {"POD-01/tcp/ipv4/pod-ip": "pass", "POD-02/tcp/ipv4/pod-ip": "unsupported", CASE: "pass"}
    assert "node" in found.reason("POD-02/tcp/ipv4/pod-ip")


def test_no_node_takes_pods(kind: Kind, api: Api, folder: Path) -> None:
    for node in kind.nodes:
        api.patch(path("Node", node), {"spec": {"unschedulable": True}})
    try:
        found = kind.run(folder, "-k", CASE)
    finally:
        for node in kind.nodes:
            api.patch(path("Node", node), {"spec": {"unschedulable": None}})
    assert found.code == 4
    assert "takes probe pods" in found.out
    assert "Traceback" not in found.out
    assert not ours(api)
