"""Faults of the pod network."""

from __future__ import annotations

from dataclasses import replace

from netproof.lab.faults.edits import rule
from netproof.lab.faults.model import Fault, Turn
from netproof.lab.faults.policy import GITHUB, ONE, TWO
from netproof.lab.plane.model import Allow, Isolation, Peer, Plane, Pod
from netproof.lab.seams import POD_NETWORKS, pod_networks

_CROSSING = ("*/b -> */[ac] *", "*/[ac] -> */b *")


def _from_others(node: str) -> str:
    """To pods of this node, from pods of the others."""
    own = pod_networks(node)[0]
    return f"ip saddr {POD_NETWORKS[0]} ip saddr != {own} ip daddr {own}"


def _between_own(node: str) -> str:
    own = pod_networks(node)[0]
    return f"ip saddr {own} ip daddr {own}"


def _apart(plane: Plane) -> Plane:
    """Pods of the tests' namespaces let in what comes from their own, and what is no pod."""
    others = [pod for pod in plane.pods if pod.namespace != "kube-system"]

    def walled(pod: Pod) -> Isolation:
        strangers = tuple(address for other in others if other.namespace != pod.namespace for address in other.addresses)
        everybody = tuple(Peer(network, tuple(a for a in strangers if (":" in a) == (":" in network))) for network in ("0.0.0.0/0", "::/0"))
        return Isolation(pod.key, pod.addresses, "ingress", (Allow("namespaces", everybody, None),))

    closed = {(one.pod, one.direction) for one in plane.isolations}
    more = [walled(pod) for pod in plane.own if pod in others and (pod.key, "ingress") not in closed]
    return replace(plane, isolations=(*plane.isolations, *more))


def _lossy(text: str, node: str) -> str:
    """The first of the two hooks that a packet meets on its way to another node loses it."""
    return rule("forward", f"{_from_others(node)} ct direction original numgen random mod 10 0 drop")(text, node)


FAULTS = (
    Fault(
        id="P6",
        breaks="one node has no way to the pods of another",
        seen=GITHUB + "flannel-io/flannel/issues/1237",
        spares=("POD-01/*", "POD-03a/*"),
        turns=(Turn("POD-02/*", _CROSSING), Turn("POD-03b/*", _CROSSING), Turn("POD-09*", _CROSSING)),
        links=lambda machine: machine.block(ONE, pod_networks(TWO)[0]),
    ),
    Fault(
        id="P7",
        breaks="UDP from other nodes does not arrive",
        seen=GITHUB + "projectcalico/calico/issues/3145",
        spares=("POD-01/*", "POD-02/*", "POD-03a/*", "SVC-01a/*"),
        turns=(Turn("POD-03b/*", ("* -> */b *",)), Turn("POD-06b/udp/*", ("* -> */b *",))),
        rules=lambda text, node: rule("forward", f"{_from_others(node)} udp dport {{ 8080, 8081 }} drop", node=TWO)(text, node),
    ),
    Fault(
        id="P8",
        breaks="pods of one node do not reach each other",
        seen=GITHUB + "containernetworking/plugins/issues/430",
        spares=("POD-02/*", "POD-03b/*"),
        turns=(Turn("POD-01/*"), Turn("POD-03a/*"), Turn("POD-06a/*")),
        rules=lambda text, node: rule("forward", f"{_between_own(node)} ct status != dnat drop")(text, node),
    ),
    Fault(
        id="P9",
        breaks="pods of one node see each other under the node's address",
        seen=GITHUB + "cloudnativelabs/kube-router/issues/173",
        spares=("POD-01/*", "POD-02/*", "POD-06b/*"),
        turns=(Turn("POD-06a/*"),),
        rules=lambda text, node: rule("postrouting", f"{_between_own(node)} ct status != dnat masquerade")(text, node),
    ),
    Fault(
        id="P10",
        breaks="one connection in ten to another node is lost",
        seen=GITHUB + "weaveworks/weave/issues/3355",
        spares=("POD-01/*", "POD-03a/*"),
        turns=(Turn("POD-02/*"), Turn("POD-03b/*")),
        rules=_lossy,
    ),
    Fault(
        id="P11",
        breaks="a node is cut off from the others",
        seen=GITHUB + "flannel-io/flannel/issues/947",
        spares=("POD-01/*", "POD-03a/*"),
        turns=(Turn("POD-02/*", ("*/b -> *", "* -> */b *")), Turn("NPO-01b/*", ("* -> web (NodePort of lab-2)*",))),
        links=lambda machine: machine.unplug(TWO),
    ),
    Fault(
        id="P12",
        breaks="pods of different namespaces do not reach each other",
        seen=GITHUB + "kubevirt/kubevirtci/issues/1614",
        spares=("DNS-01/*", "DNS-16/*"),
        turns=(Turn("POD-08/*"), Turn("NPI-01a/*", ("x/* -> y/*", "y/* -> x/*"))),
        plane=_apart,
    ),
)
