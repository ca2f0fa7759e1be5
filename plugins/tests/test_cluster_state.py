"""The state file, the pool, the settings, and what is unsupported."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from netproof.cluster.loadbalancer import pool
from netproof.cluster.nodes import describe, families
from netproof.cluster.settings import Settings
from netproof.cluster.state import ClusterState, Implementation, LoadBalancer, LogSource, Node, Outsider
from netproof.cluster.survey import lacking, unrecognised
from netproof.problem import Problem

NODE = Node(
    name="n", schedulable=True, addresses={"IPv4": "10.0.0.1"}, kubelet="v1", runtime="c", kernel="6", system="d", architecture="amd64"
)
CILIUM = Implementation(
    name="cilium",
    version="1.20.2",
    reported_by="cilium-dbg version",
    claims=("NetworkPolicy",),
    logs=(LogSource(selector="k8s-app=cilium"),),
    conntrack={"tcp": 1},
)
METALLB = LoadBalancer(name="metallb", version="v0.13.12", pool="10.0.0.240-10.0.0.255")


@pytest.fixture
def state(tmp_path):
    return ClusterState(
        provider="kind",
        name="c",
        run="r",
        folder=str(tmp_path),
        kubeconfig="/k",
        context=None,
        implementation=CILIUM,
        load_balancer=METALLB,
        outsiders=(Outsider(name="outside/a", container="x", addresses={"IPv4": "10.0.0.9"}, node_network=True),),
        unsupported={"SCTP": "no"},
        versions={"kubernetes": "v1.37.2"},
        nodes=(NODE,),
        families=("IPv4",),
        notes=("a", "b"),
        seconds={"total": 1.5},
        made=True,
    )


def test_the_state_survives_its_file(state, tmp_path):
    file = state.write()
    assert ClusterState.read(tmp_path) == state
    assert json.loads(file.read_text())["name"] == "c"
    assert [path.name for path in tmp_path.iterdir()] == ["cluster.json"]


def test_a_state_without_load_balancer(state, tmp_path):
    bare = replace(state, load_balancer=None, outsiders=())
    bare.write()
    assert ClusterState.read(tmp_path) == bare


def test_no_state_yet(tmp_path):
    assert ClusterState.read(tmp_path) is None


@pytest.mark.parametrize(
    ("cluster", "said", "provider"), [("kind", "", "kind"), ("lab", "", "lab"), ("prod", "", "context"), ("kind", "context", "context")]
)
def test_which_provider(tmp_path, cluster, said, provider):
    assert Settings(cluster=cluster, provider=said, run="r", folder=tmp_path, probe_image="p").provider_name == provider


def test_a_pool_lies_in_the_upper_half_and_stays_the_same():
    first, last = pool("172.18.0.0/16", ["172.18.0.2"], "netproof-a").split("-")
    assert int(first.removeprefix("172.18.").split(".")[0]) >= 128
    assert int(last.split(".")[3]) - int(first.split(".")[3]) == 15
    assert pool("172.18.0.0/16", [], "netproof-a") == f"{first}-{last}"


def test_pools_of_a_small_network_avoid_what_is_used():
    net, chosen = "172.30.1.0/24", []
    used = ["172.30.1.1", "172.30.1.130"]
    for number in range(6):
        chosen.append(pool(net, used, f"netproof-{number}", chosen))
    assert len(set(chosen)) == 6
    assert all(128 < int(one.split("-")[0].split(".")[3]) < 240 for one in chosen)
    with pytest.raises(Problem, match="no free block"):
        pool(net, used, "netproof-7", chosen)


def test_a_network_that_is_too_small():
    with pytest.raises(Problem, match="too small"):
        pool("10.0.0.0/27", [], "c")


def test_a_wide_choice_makes_collisions_rare():
    assert len({pool("172.18.0.0/16", [], f"netproof-{number}") for number in range(50)}) > 48


def test_what_is_lacking_and_why():
    found = lacking(CILIUM, METALLB, [NODE], ["IPv4"], {"Outsider": "none here"})
    assert "NetworkPolicy" not in found
    assert "LoadBalancer" not in found
    assert found["NetworkPolicyEndPort"] == "cilium does not claim it"
    assert found["SecondNode"] == "1 node takes pods"
    assert found["IPv6"] == "this cluster has no IPv6 addresses"
    assert found["DualStack"] == "this cluster has IPv4 addresses only"
    assert found["Outsider"] == "none here"


def test_an_unrecognised_cni_and_a_forced_claim():
    found = lacking(unrecognised(()), None, [NODE, NODE], ["IPv4"], {})
    assert found["NetworkPolicy"] == "the CNI was not recognised; say --cni=NAME or --netproof-claim=NetworkPolicy"
    assert "LoadBalancer" in found
    assert "SecondNode" not in found
    assert "NetworkPolicy" not in lacking(unrecognised(("NetworkPolicy",)), None, [NODE], ["IPv4"], {})


def test_families_are_the_clusters_and_need_no_claim():
    found = lacking(unrecognised(()), None, [NODE, NODE], ["IPv6"], {})
    assert "IPv6" not in found
    assert found["DualStack"] == "this cluster has IPv6 addresses only"
    assert not {"IPv6", "DualStack"} & set(lacking(CILIUM, None, [NODE, NODE], ["IPv4", "IPv6"], {}))


def _node(name: str, *, taint: str = "", ready: str = "True") -> dict:
    return {
        "metadata": {"name": name},
        "spec": {"taints": [{"key": "k", "effect": taint}] if taint else [], "podCIDRs": ["10.244.0.0/24", "fd00::/64"]},
        "status": {
            "addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": "10.0.0.1"}],
            "conditions": [{"type": "Ready", "status": ready}],
            "nodeInfo": {"kubeletVersion": "v1.37.2"},
        },
    }


def test_nodes_are_described():
    raw = [_node("w"), _node("cp", taint="NoSchedule"), _node("x", ready="False")]
    assert [(node.name, node.schedulable) for node in describe(raw)] == [("cp", False), ("w", True), ("x", False)]
    assert describe(raw)[1].addresses == {"IPv4": "10.0.0.1"}
    assert families(raw) == ("IPv4", "IPv6")


def test_the_primary_family_comes_first():
    by_range, by_address = _node("w"), _node("w")
    by_range["spec"]["podCIDRs"].reverse()
    assert families([by_range]) == ("IPv6", "IPv4")
    by_address["spec"].pop("podCIDRs")
    by_address["status"]["addresses"] = [{"type": "InternalIP", "address": address} for address in ("fd00::1", "10.0.0.1")]
    assert families([by_address]) == ("IPv6", "IPv4")
