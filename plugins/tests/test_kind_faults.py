"""Faults of the lab's catalogue on a real network: nft rules on nodes, a stopped agent, a stopped proxy, a hand-made plane that leaks."""

from __future__ import annotations

import fnmatch
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from netproof.kube.client import Api, connect
from netproof.kube.objects import path
from netproof.model.flow import TCP, UDP, Flow, Port
from netproof.model.history import Decision, Expectation
from netproof.model.verdict import Verdict
from netproof.report.evidence import load_bundle
from netproof.world.case import Case
from netproof.world.verdicts import Failed
from netproof.world.world import World
from realcluster import Ended, Kind
from worlds import a_world

pytestmark = pytest.mark.kind

DENY = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "deny", "namespace": "x"}}
DENY_INGRESS = DENY | {"spec": {"podSelector": {}, "policyTypes": ["Ingress"]}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "report"


@contextmanager
def rules(kind: Kind, node: str, hook: str, *lines: str, family: str = "inet", inside: str = "") -> Iterator[None]:
    """Rules on a node, or in the network of a process there; `hook` is what follows `type`."""
    table = f"{family} netproof-test-{abs(hash((hook, lines))) % 10000}"
    text = f"table {table} {{ chain c {{ type {hook}; {'; '.join(lines)}; }}; }}"
    enter = ["nsenter", "-t", inside, "-n"] if inside else []
    kind.node(node, *enter, "nft", text)
    try:
        yield
    finally:
        kind.node(node, *enter, "nft", f"delete table {table}")


@contextmanager
def stopped(kind: Kind, node: str, program: str) -> Iterator[None]:
    """A program on a node that does not run on, as if it hung."""
    kind.node(node, "pkill", "-STOP", "-x", program)
    try:
        yield
    finally:
        kind.node(node, "pkill", "-CONT", "-x", program)


@contextmanager
def no_dns_over_tcp(kind: Kind) -> Iterator[None]:
    """Every CoreDNS refuses TCP."""
    with ExitStack() as stack:
        for node in (kind.control_plane, *kind.nodes):
            for process in kind.node(node, "sh", "-c", "pgrep -x coredns || true").split():
                line = "tcp dport 53 reject with tcp reset"
                stack.enter_context(rules(kind, node, "filter hook input priority 0", line, inside=process))
        yield


def wrong(found: Ended, folder: Path, case: str) -> set[str]:
    """The flows of a case that decided its verdict."""
    result = next(result for result in found.report["results"] if result["case"] == case)
    judgements = [one for one in load_bundle(folder / result["evidence"]).judgements if one.verdict is Verdict.FAIL]
    return {str(cell.flow) for one in judgements for cell in one.cells if cell.verdict is Verdict.FAIL}


def lossy(found: Ended, folder: Path, case: str) -> set[str]:
    """The flows of a case that were not simply right."""
    result = next(result for result in found.report["results"] if result["case"] == case)
    judgements = load_bundle(folder / result["evidence"]).judgements
    return {str(cell.flow) for one in judgements for cell in one.cells if cell.verdict.failing or cell.verdict is Verdict.FLAKY}


def only(flows: set[str], *patterns: str) -> bool:
    """There are some, and none that the patterns do not foresee."""
    return bool(flows) and all(any(fnmatch.fnmatch(flow, pattern) for pattern in patterns) for flow in flows)


def test_four_faults_of_one_node(kind: Kind, folder: Path) -> None:
    """Each is noticed by the case about it, in its own cells, and the others do not mind."""
    node, cidr = kind.nodes[1], "ip daddr 10.0.0.0/8 ip saddr 10.0.0.0/8"
    with (
        rules(kind, node, "nat hook postrouting priority 90", f"oifname eth0 {cidr} tcp dport 8080 masquerade"),
        rules(kind, node, "filter hook prerouting priority -400", "iifname eth0 udp dport 8080 numgen random mod 10 0 drop"),
        rules(kind, node, "filter hook prerouting priority -401", "iifname eth0 tcp dport 30000-32767 drop"),
        no_dns_over_tcp(kind),
    ):
        words = "POD-06b/tcp or POD-03b or NPO-01a or DNS-03 or POD-01/tcp or POD-02/tcp or DNS-01"
        found = kind.run(folder, "-n", "3", "-k", words)
    assert found.verdicts == {
        "POD-06b/tcp/ipv4/pod-ip": "fail",  # N46
        "POD-03b/udp/ipv4/pod-ip": "fail",  # P10
        "NPO-01a/tcp/ipv4/node-port": "fail",  # S25b, on one node
        "DNS-03/tcp/ipv4/name": "fail",  # D2
        "POD-01/tcp/ipv4/pod-ip": "pass",
        "POD-02/tcp/ipv4/pod-ip": "pass",
        "DNS-01/udp/ipv4/name": "pass",
    }, found.out
    assert only(wrong(found, folder, "POD-06b/tcp/ipv4/pod-ip"), "*/b -> *")
    assert only(wrong(found, folder, "NPO-01a/tcp/ipv4/node-port"), f"* (NodePort of {node}) *")
    # Its loss is proven by the burst, or all rounds up to the cap have some flow whose every attempt is lost.
    assert only(lossy(found, folder, "POD-03b/udp/ipv4/pod-ip"), "*/b *")


def pairs(world: World, port: Port) -> Mapping[Flow, Expectation]:
    """From y on both nodes to x on both nodes: denied."""
    found = [(client, server) for client in ("y/a", "y/b") for server in ("x/a", "x/b")]
    return {world.flow(a, b, port, world.runner.families[0]): Expectation(Decision.DENY) for a, b in found}


def test_agent_stopped_on_one_node(kind: Kind) -> None:
    """N40: what it does not program leaks on its own node, and nowhere else."""
    with a_world(kind, connect(kind.kubeconfig, kind.context)) as world:
        case = Case(world.runner, world, "NPI-02a/test", world.runner.limits)
        case.apply(DENY_INGRESS)
        with stopped(kind, kind.nodes[1], "cilium-agent"), pytest.raises(Failed) as failed:
            case.settle(pairs(world, TCP(8080)))
        case.restore()
    assert "-> x/b" in str(failed.value)
    assert "-> x/a" not in str(failed.value)


SYN = "tcp flags syn / syn,ack"


def _addresses(world: World, node: str) -> str:
    """Of the pods of x on that node."""
    mine = [pod for name, pod in world.pods.items() if name.startswith("x/") and pod.node == node]
    return ", ".join(address for pod in mine for address in pod.addresses.values())


@contextmanager
def leaky_plane(kind: Kind, api: Api, world: World) -> Iterator[None]:
    """A policy engine of a few nft rules: once a policy stands it denies ingress to the pods of x, but for one attempt in twenty."""
    over = threading.Event()

    def enforce() -> None:
        namespace = world.namespaces["x"]
        while not api.list(path("NetworkPolicy", namespace=namespace)):
            if over.wait(0.05):
                return
        with ExitStack() as stack:
            for node in kind.nodes:
                for family, came in (("bridge", ""), ("ip", 'iifname != "cni0" ')):  # pods of the node itself meet the bridge's hook alone
                    line = f"{came}ip daddr {{ {_addresses(world, node)} }} tcp dport 8080 {SYN} numgen random mod 20 != 0 drop"
                    stack.enter_context(rules(kind, node, "filter hook forward priority -200", line, family=family))
            over.wait()

    thread = threading.Thread(target=enforce)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_plane_that_leaks_one_in_twenty(flannel: Kind) -> None:
    """N51, on flannel, which has no policies of its own: a leak is a fail, whatever comes before and after it."""
    api = connect(flannel.kubeconfig, flannel.context)
    with a_world(flannel, api) as world, leaky_plane(flannel, api, world):
        case = Case(world.runner, world, "NPI-02a/test", world.runner.limits)
        case.apply(DENY_INGRESS)
        with pytest.raises(Failed, match="leak"):
            case.settle(pairs(world, TCP(8080)))


def test_one_datagram_in_ten_is_lost(flannel: Kind) -> None:
    """P10, on flannel: what is lost of allowed traffic is counted, and more than one in a hundred is a fail."""
    with a_world(flannel, connect(flannel.kubeconfig, flannel.context)) as world:
        case = Case(world.runner, world, "POD-03b/test", replace(world.runner.limits, burst_allowed=200))
        flows = [world.flow(client, "x/b", UDP(8080), world.runner.families[0]) for client in ("y/a", "z/a")]
        lossy = rules(flannel, flannel.nodes[1], "filter hook forward priority -300", "udp dport 8080 numgen random mod 10 0 drop")
        with lossy, pytest.raises(Failed, match="attempts were lost"):
            case.settle({flow: Expectation(Decision.ALLOW, frozenset({"x/b"})) for flow in flows})


def test_proxy_stopped_on_one_node(flannel: Kind, folder: Path) -> None:
    """S22, on flannel: new Services lead nowhere from the node whose kube-proxy hangs."""
    with stopped(flannel, flannel.nodes[1], "kube-proxy"):
        found = flannel.run(folder, "-n", "2", "-k", "SVC-01a or POD-01/tcp")
    assert found.code == 1, found.out
    assert found.verdicts == {"SVC-01a/tcp/ipv4/cluster-ip": "fail", "POD-01/tcp/ipv4/pod-ip": "pass"}, found.out
    assert only(wrong(found, folder, "SVC-01a/tcp/ipv4/cluster-ip"), "y/b -> *")
