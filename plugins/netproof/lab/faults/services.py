"""Faults of Services and load balancers."""

from __future__ import annotations

import copy
from dataclasses import replace

from netproof.lab.faults.edits import choices, frontends, leads, objects, only_on, rule
from netproof.lab.faults.model import Fault, Turn
from netproof.lab.faults.policy import GITHUB, TWO
from netproof.lab.plane.model import Backend, Choice, Frontend, Plane
from netproof.lab.seams import Object, pod_networks


def _never_refuses(choice: Choice) -> Choice:
    return replace(choice, otherwise="drop")


def _by_remote_endpoints(frontend: Frontend, _plane: Plane) -> Frontend:
    """Where the external traffic policy leaves no endpoint, those of other nodes stand in."""
    if not frontend.outside or frontend.outside.backends or not frontend.serving:
        return frontend
    return replace(frontend, outside=replace(frontend.outside, backends=frontend.serving, masquerade=True))


def _hidden_clients(choice: Choice) -> Choice:
    return replace(choice, masquerade=True) if choice.backends else choice


def _hides_outsiders(frontend: Frontend, _plane: Plane) -> Frontend:
    return replace(frontend, outside=replace(frontend.outside, masquerade=True)) if frontend.outside else frontend


def _everywhere(frontend: Frontend, _plane: Plane) -> Frontend:
    """internalTrafficPolicy is not looked at."""
    if frontend.kind != "cluster-ip" or not frontend.serving:
        return frontend
    return replace(frontend, inside=replace(frontend.inside, backends=frontend.serving))


def _only_at_home(frontend: Frontend, plane: Plane) -> Frontend:
    """A node port answers only where a pod of the Service runs."""
    if frontend.kind != "node-port":
        return frontend
    local = tuple(one for one in frontend.backends() if one.node == plane.node)
    found = leads(frontend, local)
    return replace(found, inside=_never_refuses(found.inside), outside=_never_refuses(found.outside or found.inside))


def _first_backends() -> object:
    """Of each frontend the backends are those that it had first."""
    known: dict[tuple[str, str], tuple[Backend, ...]] = {}

    def changed(frontend: Frontend, plane: Plane) -> Frontend:
        if not frontend.backends() and (plane.node, str(frontend.place)) not in known:
            return frontend
        return leads(frontend, known.setdefault((plane.node, str(frontend.place)), tuple(sorted(frontend.backends()))))

    return frontends(changed)


def _none_removed() -> object:
    """An endpoint that was once there stays one."""
    known: dict[tuple[str, str], set[Backend]] = {}

    def changed(frontend: Frontend, plane: Plane) -> Frontend:
        found = known.setdefault((plane.node, str(frontend.place)), set())
        found |= frontend.backends()
        return leads(frontend, sorted(found))

    return frontends(changed)


def _ready(slice_: Object) -> Object:
    made = copy.deepcopy(slice_)
    for endpoint in made.get("endpoints") or ():
        endpoint["conditions"] = {**(endpoint.get("conditions") or {}), "ready": True, "serving": True}
    return made


def _open_to_all(frontend: Frontend, _plane: Plane) -> Frontend:
    return replace(frontend, source_ranges=None)


def _without(kind: str, protocol: str = "") -> object:
    return frontends(lambda one, _plane: None if one.kind == kind and protocol in ("", one.protocol) else one)


def _inside_forgotten(frontend: Frontend, _plane: Plane) -> Frontend:
    """Only what comes from outside is led to endpoints."""
    nobody = Choice((), otherwise="drop")
    return replace(frontend, inside=nobody) if frontend.kind == "load-balancer" else frontend


def _wrong_port(frontend: Frontend, _plane: Plane) -> Frontend:
    """The endpoints' port is taken for the Service's."""
    return leads(frontend, (replace(one, port=frontend.port) for one in frontend.inside.backends))


def _no_hairpin(text: str, node: str) -> str:
    own = pod_networks(node)[0]
    return rule("forward", f"ct status dnat ip saddr {own} ip saddr . ip daddr @{_selves(text)} drop")(text, node)


def _selves(text: str) -> str:
    """The name of the set of IPv4 addresses beside themselves."""
    return text.partition("ip saddr . ip daddr @")[2].split()[0]


SPARED = ("POD-0[12]/*", "NPI-02a/*")

FAULTS = (
    Fault(
        id="S4",
        breaks="a Service without endpoints hangs instead of refusing",
        seen=GITHUB + "kubernetes/kubernetes/issues/78994",
        spares=SPARED,
        turns=(Turn("SVC-14/*"),),
        plane=choices(_never_refuses),
    ),
    Fault(
        id="S5",
        breaks="externalTrafficPolicy Local leads to endpoints of other nodes",
        seen=GITHUB + "kubernetes/kubernetes/issues/66062",
        spares=SPARED,
        turns=(Turn("NPO-06a/*", ("* -> web (NodePort of lab-[23])*",)),),
        plane=frontends(_by_remote_endpoints),
    ),
    Fault(
        id="S8",
        breaks="under externalTrafficPolicy Local the client's address is rewritten",
        seen=GITHUB + "projectcalico/calico/issues/4665",
        spares=SPARED,
        turns=(Turn("NPO-06b/*"),),
        plane=frontends(_hides_outsiders),
    ),
    Fault(
        id="S11",
        breaks="internalTrafficPolicy is ignored",
        seen=GITHUB + "projectcalico/calico/issues/8255",
        spares=SPARED,
        turns=(Turn("NPO-08/*"),),
        plane=frontends(_everywhere),
    ),
    Fault(
        id="S18",
        breaks="UDP through cluster IPs is not translated",
        seen=GITHUB + "cilium/cilium/issues/9207",
        spares=SPARED,
        turns=(Turn("SVC-02/*"), Turn("SVC-12/udp/*"), Turn("SVC-11/udp/*")),
        plane=_without("cluster-ip", "udp"),  # type: ignore[arg-type]
    ),
    Fault(
        id="S19",
        breaks="loadBalancerSourceRanges are ignored",
        seen=GITHUB + "kubernetes/kubernetes/issues/88698",
        spares=SPARED,
        turns=(Turn("LBR-06/*", ("outside/b -> *",)),),
        plane=frontends(_open_to_all),
    ),
    Fault(
        id="S21",
        breaks="an endpoint does not reach itself through its Service",
        seen=GITHUB + "kubernetes/kubernetes/issues/45790",
        spares=SPARED,
        turns=(Turn("SVC-11/*"),),
        rules=_no_hairpin,
    ),
    Fault(
        id="S22",
        breaks="endpoints that come later are left out",
        seen=GITHUB + "kubernetes/kubernetes/issues/112604",
        spares=SPARED,
        turns=(Turn("SVC-09a/*"), Turn("SVC-27b/*")),
        plane=_first_backends(),  # type: ignore[arg-type]
    ),
    Fault(
        id="S22b",
        breaks="endpoints that are gone still get traffic",
        seen=GITHUB + "kubernetes/kubernetes/issues/47589",
        spares=SPARED,
        turns=(Turn("SVC-09[ab]/*"), Turn("SVC-27b/*")),
        plane=_none_removed(),  # type: ignore[arg-type]
    ),
    Fault(
        id="S22c",
        breaks="one node is not told of Services",
        seen=GITHUB + "kubernetes/kubernetes/issues/121362",
        spares=SPARED,
        turns=(Turn("SVC-01[ab]/*", ("y/b -> *",)), Turn("SVC-02/*", ("y/b -> *",)), Turn("NPO-01c/*", ("y/b -> *",))),
        plane=only_on(TWO, frontends(lambda one, _plane: one if "kube-dns" in one.name else None)),
    ),
    Fault(
        id="S23",
        breaks="a cluster IP hides the client's address",
        seen=GITHUB + "openshift/origin/issues/11042",
        spares=SPARED,
        turns=(Turn("SVC-12/*"), Turn("NPT-06a/*", ("y/a -> only-b *", "y/b -> only-a *"))),
        plane=choices(_hidden_clients),
    ),
    Fault(
        id="S24",
        breaks="a load balancer's address is not led to endpoints inside the cluster",
        seen=GITHUB + "kubernetes/kubernetes/issues/115931",
        spares=SPARED,
        turns=(Turn("LBR-03/*"),),
        plane=frontends(_inside_forgotten),
    ),
    Fault(
        id="S24b",
        breaks="a load balancer's address leads nowhere",
        seen=GITHUB + "kubernetes/kubernetes/issues/92857",
        spares=SPARED,
        turns=(Turn("LBR-02/*"), Turn("LBR-03/*"), Turn("LBR-06/*")),
        plane=_without("load-balancer"),  # type: ignore[arg-type]
    ),
    Fault(
        id="S25",
        breaks="a node port answers only on the nodes that run a pod of the Service",
        seen=GITHUB + "kubernetes/kubernetes/issues/58908",
        spares=SPARED,
        turns=(Turn("NPO-01[ab]/*", ("* -> web (NodePort of lab-[23])*",)),),
        plane=frontends(_only_at_home),
    ),
    Fault(
        id="S25b",
        breaks="node ports are not opened",
        seen=GITHUB + "kubernetes/kubernetes/issues/58908",
        spares=SPARED,
        turns=(Turn("NPO-01[ab]/*"), Turn("NPO-06b/*")),
        plane=_without("node-port"),  # type: ignore[arg-type]
    ),
    Fault(
        id="S27",
        breaks="a node takes half a minute to put rules into force",
        seen=GITHUB + "kubernetes/kubernetes/issues/135639",
        spares=SPARED,
        turns=(Turn("NPI-02a/*", ("* -> x/b *",)), Turn("SVC-01a/*", ("y/b -> *",))),
        delay=lambda node: 30.0 if node == TWO else 0.0,
    ),
    Fault(
        id="S28",
        breaks="endpoints that are not ready get traffic",
        seen=GITHUB + "kubernetes/kubernetes/issues/47589",
        spares=SPARED,
        turns=(Turn("SVC-27[ab]/*"),),
        objects=objects("EndpointSlice", _ready),
    ),
    Fault(
        id="S30",
        breaks="the Service's port is taken for the pods'",
        seen=GITHUB + "cloudnativelabs/kube-router/issues/905",
        spares=SPARED,
        turns=(Turn("SVC-01a/*"), Turn("NPO-01c/*", ("* -> web (ClusterIP)*",))),
        plane=frontends(lambda one, plane: _wrong_port(one, plane) if one.kind == "cluster-ip" and one.port == 80 else one),
    ),
)
