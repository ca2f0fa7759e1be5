"""A real network that is broken on purpose: each breakage is seen, named, and charged to nobody else."""

from __future__ import annotations

import ipaddress
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from netproof.kube.client import Api, connect
from netproof.kube.objects import path
from netproof.kube.stream import run
from netproof.world.pods import Pod
from realcluster import Kind, ended
from waiting import await_file
from worlds import a_world

pytestmark = pytest.mark.kind

DENY = "NPI-02a/tcp/ipv4/pod-ip"


@pytest.fixture
def api(kind: Kind) -> Api:
    return connect(kind.kubeconfig, kind.context)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "report"


@contextmanager
def udp_dropped(kind: Kind, node: str) -> Iterator[None]:
    """Every UDP datagram that comes to a node from another node's pods is dropped."""
    rules = "table inet broken { chain c { type filter hook prerouting priority -400; iifname eth0 udp dport { 8080, 8081 } drop; }; }"
    kind.node(node, "nft", rules)
    try:
        yield
    finally:
        kind.node(node, "nft", "delete table inet broken")


def test_udp_across_nodes_dropped_on_one_node(kind: Kind, folder: Path) -> None:
    with udp_dropped(kind, kind.nodes[1]):
        found = kind.run(folder, "-k", "POD-02 or POD-03a or POD-03b or NPI-02a/udp")
    assert found.code == 1
    assert found.verdicts == {
        "POD-02/tcp/ipv4/pod-ip": "pass",
        "POD-03a/udp/ipv4/pod-ip": "pass",
        "POD-03b/udp/ipv4/pod-ip": "fail",
        "NPI-02a/udp/ipv4/pod-ip": "inconclusive",
    }
    assert "did not connect before anything was changed" in found.reason("NPI-02a/udp/ipv4/pod-ip")
    assert (folder / "evidence").is_dir()


def test_route_to_another_node_removed(kind: Kind, api: Api, folder: Path) -> None:
    node, other = kind.nodes
    cidr = api.get(path("Node", other))["spec"]["podCIDR"]
    # The agent would mend a route that is only removed; two more specific ones to nowhere win over it and are nobody's.
    halves = [str(half) for half in ipaddress.ip_network(cidr).subnets()]
    for half in halves:
        kind.node(node, "ip", "route", "add", "unreachable", half)
    try:
        found = kind.run(folder, "-k", "POD-01 or POD-02")
    finally:
        for half in halves:
            kind.node(node, "ip", "route", "del", "unreachable", half)
    assert found.code == 1
    assert found.verdicts == {"POD-01/tcp/ipv4/pod-ip": "pass", "POD-02/tcp/ipv4/pod-ip": "fail"}


def cilium_on(api: Api, node: str) -> str:
    pods = api.list(path("Pod", namespace="kube-system"), labels="k8s-app=cilium", fields=f"spec.nodeName={node}")
    return str(pods[0]["metadata"]["name"])


@contextmanager
def enforcement(api: Api, node: str, mode: str) -> Iterator[None]:
    pod = cilium_on(api, node)
    for wanted in (mode, "default"):
        done = run(api, "kube-system", pod, ["cilium-dbg", "config", f"PolicyEnforcement={wanted}"], container="cilium-agent", limit=60)
        assert done.code == 0, done.err
        if wanted == mode:
            try:
                yield
            except BaseException:
                run(api, "kube-system", pod, ["cilium-dbg", "config", "PolicyEnforcement=default"], container="cilium-agent", limit=60)
                raise


def test_policy_enforcement_off_on_one_node(kind: Kind, api: Api, folder: Path) -> None:
    with enforcement(api, kind.nodes[1], "never"):
        found = kind.run(folder, "-k", "NPI-01a/tcp or NPI-02a/tcp")
    assert found.code == 1
    assert found.verdicts == {DENY: "fail", "NPI-01a/tcp/ipv4/pod-ip": "pass"}
    reason = found.reason(DENY)
    assert "leak" in reason
    # x/b stands on that node, x/a on the other
    assert "-> x/b" in reason
    assert "-> x/a" not in reason


def test_control_plane_paused_in_mid_run(kind: Kind, folder: Path) -> None:
    process = kind.start(folder, "-k", "NPI-02a or SVC-01a", "-v")
    await_file(folder, "CaseStarted")
    subprocess.run(["docker", "pause", kind.control_plane], check=True, capture_output=True)
    try:
        time.sleep(20)  # the length of the pause is what is tested
    finally:
        subprocess.run(["docker", "unpause", kind.control_plane], check=True, capture_output=True)
    found = ended(process, folder)
    assert set(found.verdicts.values()) == {"pass"}, found.out
    assert found.code == 0


def test_agents_killed(kind: Kind, folder: Path) -> None:
    process = kind.start(folder, "-k", "NPI-02a/tcp")
    await_file(folder, "of 12 flows")
    kind.node(kind.nodes[1], "pkill", "-9", "-f", "agent.py serve")
    found = ended(process, folder)
    assert found.verdicts[DENY] in ("inconclusive", "error"), found.out
    assert found.code == 10
    assert "agent" in found.reason(DENY) or "out of reach" in found.reason(DENY)


def kill_listener(kind: Kind, pod: Pod, port: int) -> None:
    """Take the listening sockets of a port away from a pod's process, which goes on without them."""
    find = f"grep -lzx 'NETPROOF_POD={pod.namespace}/{pod.pod}' /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3 | head -1"
    kind.node(pod.node, "sh", "-c", f"nsenter -t $({find}) -n ss -K state listening '( sport = :{port} )'")


def test_listener_killed_while_a_deny_case_runs(kind: Kind, api: Api, tmp_path: Path) -> None:
    from netproof.model.flow import TCP
    from netproof.model.history import Decision, Expectation
    from netproof.world.case import Case
    from netproof.world.verdicts import Inconclusive

    with a_world(kind, api) as world:
        pairs = [(client, server) for client in ("y/a", "y/b") for server in ("x/a", "x/b")]
        flows = [world.flow(client, server, TCP(8080), world.runner.families[0]) for client, server in pairs]
        case = Case(world.runner, world, "NPI-02a/test", world.runner.limits)
        deny = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "deny", "namespace": "x"}}
        case.apply(deny | {"spec": {"podSelector": {}, "policyTypes": ["Ingress"]}})
        killer = threading.Timer(1.5, lambda: kill_listener(kind, world.pods["x/a"], 8080))
        killer.start()
        with pytest.raises(Inconclusive, match="x/a no longer answers on its own TCP/8080"):
            case.settle({flow: Expectation(Decision.DENY) for flow in flows})
        killer.join()
        case.restore()
