"""The lab's API as its clients see it: Netproof's own, and kubectl."""

from __future__ import annotations

import asyncio
import copy
import json
import shutil
import subprocess
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from labserver import ECHO, TOKEN, LabServer
from netproof.kube import stream
from netproof.kube.client import Api, ApiError, Conflict, Forbidden, Invalid, NotFound, connect
from netproof.kube.objects import path
from netproof.kube.rights import Right, missing
from netproof.kube.stream import Channel, ChannelClosed
from netproof.lab.seams import Object
from netproof.lab.store import HISTORY, Store
from netproof.lab.tls import certificates, kubeconfig
from netproof.problem import Problem

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def server() -> Iterator[LabServer]:
    with LabServer(certificates()).serve() as server:
        yield server


@pytest.fixture(scope="module")
def connected(server: LabServer, tmp_path_factory: pytest.TempPathFactory) -> Api:
    return connect(server.kubeconfig(tmp_path_factory.mktemp("lab")), None)


@pytest.fixture
def lab(server: LabServer) -> LabServer:
    """The server with two empty namespaces, default and x."""
    server.do(server.reset)
    return server


@pytest.fixture
def api(lab: LabServer, connected: Api) -> Api:
    return connected


def pod(name: str = "web", **spec: Any) -> Object:
    labels = {"app": name, "tier": "front"}
    containers = [{"name": "agent", "image": "python:3", "command": ["sleep"], "ports": [{"containerPort": 80, "name": "http"}]}]
    return _object("v1", "Pod", name, {"containers": containers} | spec, labels=labels)


def service(name: str = "web", **spec: Any) -> Object:
    return _object("v1", "Service", name, {"selector": {"app": "web"}, "ports": [{"port": 80}]} | spec)


def policy(**spec: Any) -> Object:
    return _object("networking.k8s.io/v1", "NetworkPolicy", "deny", {"podSelector": {}} | spec)


def _object(version: str, kind: str, name: str, spec: Object, **metadata: Any) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "x"} | metadata, "spec": spec}


def names(objects: Sequence[Object]) -> list[str]:
    return [obj["metadata"]["name"] for obj in objects]


# who may ask, and what is there


def test_a_dry_run_changes_nothing(api: Api) -> None:
    assert api.create(pod(), dry_run=True)["kind"] == "Pod"
    assert api.list(path("Pod", namespace="x")) == []
    with pytest.raises(Invalid):
        api.create(pod(restartPolicy="Sometimes"), dry_run=True)


def test_connect_and_rights(lab: LabServer, api: Api) -> None:
    assert (api.context, api.server) == ("lab", lab.url)
    assert api.version()["gitVersion"].startswith("v1.37")
    assert missing(api, [Right("create", "pods"), Right("delete", "nodes")]) == []


@pytest.mark.parametrize("where", ["/version", "/api/v1/pods", "/api/v1/namespaces/x/pods/web/exec"])
def test_a_wrong_token_is_refused(lab: LabServer, where: str) -> None:
    code, status = lab.ask("GET", where, token="wrong")
    assert (code, status["reason"]) == (401, "Unauthorized")


def test_another_authority_is_refused(lab: LabServer, tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(kubeconfig(lab.url, certificates().authority, TOKEN))
    with pytest.raises(Problem, match="certificate is not accepted"):
        connect(file, None)


@pytest.mark.parametrize(
    ("method", "where", "code"),
    [
        ("GET", "/api/v1/nonsense", 404),
        ("GET", "/api/v1/namespaces/x/pods/none", 404),
        ("GET", "/api/v1/pods/web", 404),
        ("GET", "/api/v1/pods?labelSelector=a+b", 400),
        ("GET", "/api/v1/pods?labelSelector=!a=b", 400),
        ("GET", "/api/v1/pods?fieldSelector=spec.nodeName=lab-1", 400),
        ("GET", "/apis/apps/v1/namespaces/x/deployments/web", 404),
        ("POST", "/api/v1/nodes", 405),
        ("DELETE", "/api/v1/namespaces/x/pods", 405),
    ],
)
def test_what_is_not_there(lab: LabServer, method: str, where: str, code: int) -> None:
    answered, status = lab.ask(method, where, {} if method == "POST" else None)
    assert (answered, status["kind"], status["code"]) == (code, "Status", code)


# lists


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("app=web", ["web"]),
        ("app==web,tier", ["web"]),
        ("app!=web", ["db", "new"]),
        ("app in (web, db)", ["db", "web"]),
        ("app notin (web)", ["db", "new"]),
        ("!old", ["db", "new", "web"]),
        ("netproof.dev/run", []),
    ],
)
def test_label_selectors(api: Api, labels: str, expected: list[str]) -> None:
    for name in ("web", "db", "new"):
        api.create(pod(name))
    assert names(api.list(path("Pod", namespace="x"), labels=labels)) == expected


def test_a_name_may_be_selected_as_a_field_and_in_all_namespaces(api: Api) -> None:
    for name in ("a", "b"):
        api.create(pod(name))
    found = api.list(path("Pod"), fields="metadata.name=a")
    assert names(found) == ["a"]
    assert (found[0]["apiVersion"], found[0]["kind"]) == ("v1", "Pod")


# defaults


def test_namespaces_and_pods_are_completed(api: Api) -> None:
    made = api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "y", "labels": {"ns": "y"}}})
    assert made["metadata"]["labels"] == {"ns": "y", "kubernetes.io/metadata.name": "y"}
    assert made["status"] == {"phase": "Active"}
    spec = (made := api.create(pod()))["spec"]
    assert (spec["restartPolicy"], spec["dnsPolicy"], spec["terminationGracePeriodSeconds"]) == ("Always", "ClusterFirst", 30)
    assert spec["containers"][0]["ports"] == [{"containerPort": 80, "name": "http", "protocol": "TCP"}]
    assert made["status"] == {"phase": "Pending"}
    assert made["metadata"]["uid"]


@pytest.mark.parametrize(
    ("spec", "types"),
    [
        ({}, ["Ingress"]),
        ({"egress": []}, ["Ingress"]),
        ({"egress": [{}]}, ["Ingress", "Egress"]),
        ({"policyTypes": ["Egress"]}, ["Egress"]),
    ],
)
def test_policy_types_are_implied(api: Api, spec: Object, types: list[str]) -> None:
    assert api.create(policy(**spec))["spec"]["policyTypes"] == types


def test_policy_ports_are_tcp(api: Api) -> None:
    made = api.create(policy(ingress=[{"ports": [{"port": 80}, {"protocol": "UDP"}]}]))
    assert made["spec"]["ingress"][0]["ports"] == [{"port": 80, "protocol": "TCP"}, {"protocol": "UDP"}]


def test_services_are_completed(api: Api) -> None:
    spec = api.create(service())["spec"]
    assert spec["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80}]
    assert spec["clusterIPs"] == [spec["clusterIP"]]
    assert spec["clusterIP"].startswith("10.96.")
    assert (spec["ipFamilies"], spec["ipFamilyPolicy"], spec["internalTrafficPolicy"]) == (["IPv4"], "SingleStack", "Cluster")
    assert "externalTrafficPolicy" not in spec


def test_families(api: Api) -> None:
    both = api.create(service("both", ipFamilyPolicy="PreferDualStack"))["spec"]
    assert both["ipFamilies"] == ["IPv4", "IPv6"]
    assert both["clusterIPs"][1].startswith("fd00:96::")
    assert api.create(service("six", ipFamilies=["IPv6"]))["spec"]["clusterIP"].startswith("fd00:96::")
    assert api.create(service("none", clusterIP="None"))["spec"]["clusterIPs"] == ["None"]
    asked = api.create(service("asked", clusterIP="fd00:96::77"))["spec"]
    assert (asked["clusterIPs"], asked["ipFamilies"]) == (["fd00:96::77"], ["IPv6"])


def test_node_ports(api: Api) -> None:
    ports = [{"name": "a", "port": 53}, {"name": "b", "port": 53, "protocol": "UDP", "nodePort": 30001}]
    given = [port["nodePort"] for port in api.create(service(type="NodePort", ports=ports))["spec"]["ports"]]
    assert given[0] in range(30000, 32768)
    assert given[1] == 30001
    again = service("again", type="NodePort", ports=[{"port": 80, "nodePort": given[0]}])
    with pytest.raises(Invalid, match="provided port is already allocated"):
        api.create(again)
    api.delete(path("Service", "web", "x"))
    assert api.create(again)["spec"]["ports"][0]["nodePort"] == given[0]


def test_load_balancers(api: Api) -> None:
    made = api.create(service(type="LoadBalancer"))
    assert (made["spec"]["externalTrafficPolicy"], made["status"]) == ("Cluster", {"loadBalancer": {}})
    local = api.patch(path("Service", "web", "x"), {"spec": {"externalTrafficPolicy": "Local"}})["spec"]
    assert local["healthCheckNodePort"] != local["ports"][0]["nodePort"]
    assert local["ports"] == made["spec"]["ports"]
    cluster = api.patch(path("Service", "web", "x"), {"spec": {"externalTrafficPolicy": "Cluster"}})["spec"]
    assert "healthCheckNodePort" not in cluster


def test_a_service_keeps_its_addresses(api: Api) -> None:
    was = api.create(service(type="NodePort"))["spec"]
    where = path("Service", "web", "x")
    bare = {"ports": [{"port": 81}], "selector": {"app": "db"}}
    now = api.patch(where, [{"op": "replace", "path": "/spec", "value": bare}], kind="json")["spec"]
    assert (now["clusterIPs"], now["selector"], now["type"]) == (was["clusterIPs"], {"app": "db"}, "ClusterIP")
    both = api.patch(where, {"spec": {"ipFamilyPolicy": "RequireDualStack"}})["spec"]
    assert (both["clusterIPs"][:1], both["ipFamilies"]) == (was["clusterIPs"], ["IPv4", "IPv6"])


# what is refused

SELECTOR = {"matchExpressions": [{"key": "a", "operator": "In"}]}
BLOCKS = "spec.ingress[0].from[0].ipBlock"


def block(cidr: str, *excepts: str) -> Object:
    return {"ingress": [{"from": [{"ipBlock": {"cidr": cidr, "except": list(excepts)}}]}]}


def port(**port: object) -> Object:
    return {"egress": [{"ports": [port]}]}


@pytest.mark.parametrize(
    ("spec", "at", "said"),
    [
        (port(port=0), "spec.egress[0].ports[0].port", "Invalid value: 0: must be between 1 and 65535, inclusive"),
        (port(port="no_name"), "spec.egress[0].ports[0].port", 'Invalid value: "no_name": a port name has'),
        (port(port=80, endPort=79), "spec.egress[0].ports[0].endPort", "must be greater than or equal to `port`"),
        (port(port="http", endPort=80), "spec.egress[0].ports[0].endPort", "must be greater than or equal to `port`"),
        (port(endPort=80), "spec.egress[0].ports[0].endPort", "must be greater than or equal to `port`"),
        (port(protocol="ICMP"), "spec.egress[0].ports[0].protocol", 'Unsupported value: "ICMP": supported values: "TCP", "UDP", "SCTP"'),
        (block("10.0.0.0"), f"{BLOCKS}.cidr", "must be a valid CIDR value"),
        (block("10.0.0.0/33"), f"{BLOCKS}.cidr", "must be a valid CIDR value"),
        (block("10.0.0.0/255.0.0.0"), f"{BLOCKS}.cidr", "must be a valid CIDR value"),
        (block("10.0.0.1/24"), f"{BLOCKS}.cidr", "no bits set beyond the prefix length"),
        ({"ingress": [{"from": [{"ipBlock": {}}]}]}, f"{BLOCKS}.cidr", "Required value"),
        (port(port=80, endPort=65536), "spec.egress[0].ports[0].endPort", "must be between 1 and 65535, inclusive"),
        (block("10.0.0.0/24", "10.0.0.0/24"), f"{BLOCKS}.except[0]", "must be a strict subset of `cidr`"),
        (block("10.0.0.0/24", "fd00::/64"), f"{BLOCKS}.except[0]", "must be a strict subset of `cidr`"),
        ({"ingress": [{"from": [{}]}]}, "spec.ingress[0].from[0]", "Required value: must specify a peer"),
        (
            {"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}]}]},
            "spec.ingress[0].from[0]",
            "Forbidden: may not specify both ipBlock and another peer",
        ),
        ({"podSelector": SELECTOR}, "spec.podSelector.matchExpressions[0].values", "Required value: must be specified"),
        (
            {"podSelector": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}},
            "spec.podSelector.matchExpressions[0].values",
            "Forbidden: must be specified for `operator` In and NotIn, and for no other",
        ),
        (
            {"ingress": [{"from": [{"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "Gt"}]}}]}]},
            "spec.ingress[0].from[0].namespaceSelector.matchExpressions[0].operator",
            'Invalid value: "Gt": not a valid selector operator',
        ),
        (
            {"podSelector": {"matchLabels": {"a": "b c"}}},
            "spec.podSelector.matchLabels",
            "a label value has no more than 63 bytes and matches",
        ),
        ({"podSelector": {"matchLabels": {"-": ""}}}, "spec.podSelector.matchLabels", "a qualified name has"),
        ({"policyTypes": ["Both"]}, "spec.policyTypes[0]", 'supported values: "Ingress", "Egress"'),
        ({"policyTypes": ["Ingress"] * 3}, "spec.policyTypes", "may not specify more than two policyTypes"),
    ],
)
def test_invalid_policies(lab: LabServer, spec: Object, at: str, said: str) -> None:
    code, status = lab.ask("POST", "/apis/networking.k8s.io/v1/namespaces/x/networkpolicies", policy(**spec))
    assert (code, status["reason"]) == (422, "Invalid")
    causes = status["details"]["causes"]
    assert [cause["field"] for cause in causes] == [at]
    assert said in causes[0]["message"]
    assert status["message"] == f'NetworkPolicy.networking.k8s.io "deny" is invalid: {at}: {causes[0]["message"]}'


TWICE = [{"name": "a", "port": 80}, {"name": "b", "port": 80}]


@pytest.mark.parametrize(
    ("spec", "at", "said"),
    [
        ({"ports": []}, "spec.ports", "Required value"),
        ({"ports": [{"port": 80}, {"port": 81}]}, "spec.ports[0].name", "Required value"),
        ({"ports": TWICE}, "spec.ports[1]", 'Duplicate value: {"port": 80, "protocol": "TCP"}'),
        ({"ports": [{"port": 80, "targetPort": 0}]}, "spec.ports[0].targetPort", "must be between 1 and 65535"),
        ({"selector": {"app": "-"}}, "spec.selector", "a label value has"),
        (
            {"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]},
            "spec.ports[0].nodePort",
            "not in the valid range, 30000-32767",
        ),
        (
            {"type": "ExternalName"},
            "spec.type",
            'Unsupported value: "ExternalName": supported values: "ClusterIP", "LoadBalancer", "NodePort"',
        ),
        ({"externalTrafficPolicy": "Local"}, "spec.externalTrafficPolicy", "may only be set for externally-accessible services"),
        ({"clusterIP": "None", "type": "NodePort"}, "spec.clusterIPs[0]", "may not be set to 'None' for NodePort services"),
        ({"clusterIP": "10.0.0.1"}, "spec.clusterIPs", "failed to allocate IP 10.0.0.1"),
        ({"loadBalancerSourceRanges": ["10.0.0.0/8"]}, "spec.loadBalancerSourceRanges", "may only be used when `type` is 'LoadBalancer'"),
        ({"ipFamilies": ["IPv4", "IPv6"]}, "spec.ipFamilyPolicy", "must be RequireDualStack or PreferDualStack"),
    ],
)
def test_invalid_services(lab: LabServer, spec: Object, at: str, said: str) -> None:
    code, status = lab.ask("POST", "/api/v1/namespaces/x/services", service(**spec))
    causes = status["details"]["causes"]
    assert (code, causes[0]["field"]) == (422, at)
    assert said in causes[0]["message"]


def test_a_cluster_ip_is_immutable(api: Api) -> None:
    api.create(service())
    with pytest.raises(Invalid, match="may not change once set"):
        api.patch(path("Service", "web", "x"), {"spec": {"clusterIP": "10.96.1.1"}})


def test_all_that_is_wrong_is_said(lab: LabServer) -> None:
    wrong = pod("Bad_Name", containers=[{"command": ["sleep", 1], "ports": [{"name": "1"}]}], restartPolicy="Sometimes")
    code, status = lab.ask("POST", "/api/v1/namespaces/x/pods", wrong)
    assert code == 422
    container = "spec.containers[0]"
    assert {cause["field"] for cause in status["details"]["causes"]} == {
        "metadata.name",
        "spec.restartPolicy",
        f"{container}.name",
        f"{container}.command[1]",
        f"{container}.ports[0].name",
        f"{container}.ports[0].containerPort",
    }
    assert status["message"].startswith('Pod "Bad_Name" is invalid: metadata.name: Invalid value: "Bad_Name": a lowercase RFC 1123')


def test_a_pods_spec_is_immutable(api: Api) -> None:
    api.create(pod())
    with pytest.raises(Invalid, match="spec: Forbidden: pod updates may not change it"):
        api.patch(path("Pod", "web", "x"), {"spec": {"nodeName": "lab-2"}})


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        (b"{", "application/json", 400),
        ({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a"}, "spec": "text"}, "application/json", 400),
        (service(), "application/json", 400),
        (pod() | {"metadata": {"name": "web", "namespace": "y"}}, "application/json", 400),
        (pod() | {"metadata": "web"}, "application/json", 400),
        (b"k8s\0", "application/vnd.kubernetes.protobuf", 400),
        (pod() | {"metadata": {}}, "application/json", 422),
    ],
)
def test_unusable_bodies(lab: LabServer, body: object, kind: str, code: int) -> None:
    assert lab.ask("POST", "/api/v1/namespaces/x/pods", body, kind=kind)[0] == code


def test_names_are_taken(api: Api) -> None:
    api.create(pod())
    with pytest.raises(Conflict) as caught:
        api.create(pod())
    assert (caught.value.reason, caught.value.message) == ("AlreadyExists", 'pods "web" already exists')


def test_namespaces_must_be_there_and_stay(api: Api) -> None:
    with pytest.raises(NotFound, match='namespaces "none" not found'):
        api.create(pod() | {"metadata": {"name": "web", "namespace": "none"}})
    api.delete(path("Namespace", "x"))
    assert api.get(path("Namespace", "x"))["status"]["phase"] == "Terminating"
    with pytest.raises(Forbidden, match="because it is being terminated"):
        api.create(pod())
    assert api.delete(path("Namespace", "x"))  # the second time a conflict, which the client knows
    with pytest.raises(Forbidden):
        api.delete(path("Namespace", "default"))


# changes


def test_merge_patch(api: Api) -> None:
    was = api.create(pod())
    now = api.patch(path("Pod", "web", "x"), {"metadata": {"labels": {"app": None, "new": "yes"}}})
    assert now["metadata"]["labels"] == {"tier": "front", "new": "yes"}
    assert (now["metadata"]["uid"], now["spec"]) == (was["metadata"]["uid"], was["spec"])
    assert int(now["metadata"]["resourceVersion"]) > int(was["metadata"]["resourceVersion"])
    assert api.patch(path("Pod", "web", "x"), {"metadata": {"labels": {"new": "yes"}}}) == now


def test_json_patch_replaces_what_is_there(api: Api) -> None:
    api.create(policy(ingress=[{}]))
    where, spec = path("NetworkPolicy", "deny", "x"), {"podSelector": {"matchLabels": {"a": "b"}}}
    now = api.patch(where, [{"op": "replace", "path": "/spec", "value": spec}], kind="json")
    assert now["spec"] == spec | {"policyTypes": ["Ingress"]}
    for operation in ({"op": "replace", "path": "/spec/none", "value": 1}, {"op": "remove", "path": "/spec/podSelector"}):
        with pytest.raises(Invalid):
            api.patch(where, [operation], kind="json")
    assert api.get(where) == now


def test_what_only_the_server_writes(lab: LabServer, api: Api) -> None:
    made = api.create(service() | {"status": {"loadBalancer": {"ingress": [{"ip": "172.31.0.1"}]}}})
    assert made["status"] == {"loadBalancer": {}}
    where = path("Service", "web", "x")
    change = {"status": {"loadBalancer": {"ingress": []}}, "metadata": {"uid": "mine", "creationTimestamp": None}}
    assert api.patch(where, change) == made
    assert lab.ask("PATCH", where, change, kind="application/strategic-merge-patch+json")[0] == 415


def test_stale_writes_are_refused(api: Api) -> None:
    was = api.create(service())["metadata"]
    where, change = path("Service", "web", "x"), {"metadata": {"labels": {"new": "yes"}}}
    api.patch(where, change)
    with pytest.raises(Conflict, match="the object has been modified"):
        api.patch(where, {"metadata": {"resourceVersion": was["resourceVersion"], "labels": {"new": "no"}}})


# deletion


def test_deletion_with_preconditions(api: Api) -> None:
    made = api.create(service())
    assert not api.delete(path("Service", "web", "x"), uid="another")
    assert api.delete(path("Service", "web", "x"), uid=made["metadata"]["uid"])
    assert not api.delete(path("Service", "web", "x"))


def test_a_bound_pod_is_the_kubelets_to_remove(lab: LabServer, api: Api) -> None:
    for name in ("web", "unbound"):
        api.create(pod(name))
    lab.run_pod("web", "x")
    assert api.delete(path("Pod", "unbound", "x"))
    assert names(api.list(path("Pod", namespace="x"))) == ["web"]
    for grace, expected in ((None, 30), (40, 30), (1, 1)):
        assert api.delete(path("Pod", "web", "x"), grace=grace)
        metadata = api.get(path("Pod", "web", "x"))["metadata"]
        assert metadata["deletionGracePeriodSeconds"] == expected
        assert metadata["deletionTimestamp"]


# watches


def test_watch_tells_what_is_and_what_changes(lab: LabServer, api: Api) -> None:
    api.create(pod("old"))
    began = api.get(path("Pod", namespace="x"))["metadata"]["resourceVersion"]
    api.create(pod())
    api.patch(path("Pod", "web", "x"), {"metadata": {"labels": {"new": "yes"}}})
    api.patch(path("Pod", "web", "x"), {"metadata": {"labels": {"app": "left"}}})
    api.create(service())
    api.delete(path("Pod", "old", "x"))
    changes = lab.watch(f"/api/v1/namespaces/x/pods?watch=true&resourceVersion={began}", events=4)
    assert [kind for kind, _ in changes] == ["ADDED", "MODIFIED", "MODIFIED", "DELETED"]
    selected = lab.watch(f"/api/v1/pods?watch=1&labelSelector=app%3Dweb&resourceVersion={began}", events=3)
    assert [kind for kind, _ in selected] == ["ADDED", "MODIFIED", "DELETED"]
    initial = lab.watch("/api/v1/pods?watch=true&sendInitialEvents=true&allowWatchBookmarks=true", events=2)
    assert [(kind, obj["metadata"].get("name")) for kind, obj in initial] == [("ADDED", "web"), ("BOOKMARK", None)]
    assert initial[1][1]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_watch_of_forgotten_changes(lab: LabServer, api: Api) -> None:
    made = api.create(service())

    def many() -> None:
        for number in range(HISTORY + 1):
            lab.store.update(made | {"metadata": made["metadata"] | {"labels": {"number": str(number)}}})

    lab.do(many)
    code, status = lab.ask("GET", "/api/v1/services?watch=true&resourceVersion=1")
    assert (code, status["reason"]) == (410, "Expired")


# streams


@pytest.fixture
def running(lab: LabServer, api: Api) -> LabServer:
    api.create(pod())
    lab.run_pod("web", "x")
    return lab


def ending(channel: Channel) -> str:
    def drained() -> None:
        while channel.receive(5):
            pass

    with pytest.raises(ChannelClosed) as caught:
        drained()
    return str(caught.value)


def gathered(channel: Channel, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += channel.receive(5)
    return data


def test_a_command_and_its_end(running: LabServer, api: Api) -> None:
    done = stream.run(api, "x", "web", ["sh", "-c", "echo out; echo err >&2; exit 3"], container="agent")
    assert (done.code, done.out, done.err) == (3, "out\n", "err\n")
    assert stream.run(api, "x", "web", ["true"]).code == 0
    assert stream.run(api, "x", "web", ["sh", "-c", "kill -9 $$"]).code == 137
    with pytest.raises(ChannelClosed, match="no-such-program"):
        stream.run(api, "x", "web", ["no-such-program"])


def test_a_command_that_is_written_to(running: LabServer, api: Api) -> None:
    channel = stream.execute(api, "x", "web", ["cat"])
    data = bytes(range(256)) * 1000
    channel.send(data)
    assert gathered(channel, len(data)) == data
    channel.close()


@pytest.mark.parametrize("kind", ["exec", "forward"])
def test_a_pods_end_is_that_of_its_streams(running: LabServer, api: Api, kind: str) -> None:
    channel = stream.execute(api, "x", "web", ["cat"]) if kind == "exec" else stream.forward(api, "x", "web", ECHO)
    channel.send(b"hello")
    assert gathered(channel, 5) == b"hello"
    began = time.monotonic()
    running.do(lambda: running.store.remove("Pod", "web", "x"))
    assert ending(channel)
    assert time.monotonic() - began < 2


def test_forwarded_ports(running: LabServer, api: Api) -> None:
    channel = stream.forward(api, "x", "web", ECHO)
    data = b"0123456789" * 100_000
    channel.send(data)
    assert gathered(channel, len(data)) == data
    channel.close()
    assert "connection refused" in ending(stream.forward(api, "x", "web", 81))


def test_streams_into_what_does_not_run(lab: LabServer, api: Api) -> None:
    with pytest.raises(NotFound):
        stream.forward(api, "x", "none", ECHO)
    api.create(pod())
    for phase in ("Pending", "Failed"):
        lab.run_pod("web", "x", phase=phase)
        with pytest.raises(Invalid, match=f"pod web does not run; current phase is {phase}"):
            stream.forward(api, "x", "web", ECHO)
    lab.run_pod("web", "x")
    with pytest.raises(Invalid, match="container other is not valid for pod web"):
        stream.run(api, "x", "web", ["true"], container="other")
    code, status = lab.ask("GET", f"{path('Pod', 'web', 'x')}/exec")
    assert (code, status["reason"]) == (400, "BadRequest")


def test_logs(running: LabServer, api: Api) -> None:
    assert api.text(f"{path('Pod', 'web', 'x')}/log") == "one\ntwo\n"
    api.create(pod("unstarted"))
    with pytest.raises(ApiError, match="does not run"):
        api.text(f"{path('Pod', 'unstarted', 'x')}/log")


# the store itself


def test_the_store_copies_what_goes_in() -> None:
    store, obj = Store(), pod()
    made = store.create(obj)
    obj["spec"]["containers"] = []
    assert made["spec"]["containers"]
    before = store.snapshot()
    version = store.version
    assert store.update(copy.deepcopy(made)) is made
    assert store.version == version
    changed = store.update(made | {"status": {"phase": "Running"}})
    assert changed["metadata"]["uid"] == made["metadata"]["uid"]
    assert before["Pod"] == (made,)
    store.remove("Pod", "web", "x")
    assert store.list("Pod") == ()
    with pytest.raises(KeyError):
        store.update(made)
    assert [change.gone for change in store.since(version)] == [False, True]
    store.create(made)
    with pytest.raises(KeyError):
        store.create(made)


def test_newer_wakes_all_who_wait() -> None:
    async def waited() -> list[int]:
        store = Store()
        waiting = [asyncio.create_task(store.newer(store.version)) for _ in range(2)]
        await asyncio.sleep(0)
        store.create(pod())
        return await asyncio.gather(*waiting)

    assert asyncio.run(waited()) == [2, 2]


# kubectl


@pytest.fixture
def kubectl(lab: LabServer, tmp_path: Path) -> Callable[..., str]:
    site = tomllib.loads((ROOT / "netproof.toml").read_text()) if (ROOT / "netproof.toml").is_file() else {}
    program = site.get("kubectl-bin") or shutil.which("kubectl")
    if not program:
        pytest.skip("no kubectl")
    common = [program, f"--kubeconfig={lab.kubeconfig(tmp_path)}", f"--cache-dir={tmp_path}", "-n", "x"]

    def called(*words: str, feed: object = None) -> str:
        done = subprocess.run([*common, *words], input=str(feed or ""), capture_output=True, text=True, timeout=20, check=False)
        return done.stdout + done.stderr

    return called


def test_kubectl_gets_enters_and_deletes(lab: LabServer, api: Api, kubectl: Callable[..., str]) -> None:
    assert kubectl("create", "--validate=false", "-f", "-", feed=json.dumps(pod())) == "pod/web created\n"
    lab.run_pod("web", "x")
    api.create(policy())
    assert [line.split()[:2] for line in kubectl("get", "po", "-A").splitlines()] == [["NAMESPACE", "NAME"], ["x", "web"]]
    assert yaml.safe_load(kubectl("get", "pod", "web", "-o", "yaml"))["spec"]["nodeName"] == "lab-1"
    assert "command terminated with exit code 3" in kubectl("exec", "web", "--", "sh", "-c", "exit 3")
    assert kubectl("exec", "-i", "web", "--", "cat", feed="text") == "text"
    assert kubectl("logs", "web") == "one\ntwo\n"
    assert kubectl("delete", "netpol", "deny").startswith('networkpolicy.networking.k8s.io "deny" deleted')
    gone = threading.Timer(0.5, lambda: lab.do(lambda: lab.store.remove("Pod", "web", "x")))  # as a kubelet would
    gone.start()
    assert kubectl("delete", "pod", "web").startswith('pod "web" deleted')
    assert kubectl("get", "pods") == "No resources found in x namespace.\n"
    assert "spec.ports: Required value" in kubectl("create", "--validate=false", "-f", "-", feed=json.dumps(service(ports=[])))
