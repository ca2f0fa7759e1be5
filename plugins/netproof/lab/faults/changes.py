"""Faults of NetworkPolicy where policies combine, where objects come and go, and of traffic that policies are not about."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace

from netproof.lab.faults.edits import allows, egress, ingress, isolations, objects, policies, rule
from netproof.lab.faults.model import Fault, Turn
from netproof.lab.faults.policy import GITHUB, SPARED
from netproof.lab.plane.model import Allow, Isolation, Peer, Plane
from netproof.lab.seams import NODES, POD_NETWORKS, Object, Snapshot, node_addresses

HURRY = 1.0  # seconds between two edits below which one of them is lost
MOST = 100  # policies of a namespace that are looked at, where there is such a limit
_TYPES = (("ip", "ipv4_addr"), ("ip6", "ipv6_addr"))  # of addresses, in nftables

Objects = Callable[[Snapshot, str], Snapshot]
Planes = Callable[[Plane], Plane]
Rules = Callable[[str, str], str]


# --- policies that combine


def _silent(policy: Object) -> Object:
    """The policy without its rules: it isolates, and allows nothing."""
    return policy | {"spec": {key: value for key, value in policy["spec"].items() if key not in ("ingress", "egress")}}


def _denials_win(snapshot: Snapshot, _node: str) -> Snapshot:
    """A policy that allows nothing for a direction takes away what the others of its namespace allow for it."""
    given = list(snapshot.get("NetworkPolicy", ()))
    closed = {(p["metadata"]["namespace"], word) for p in given for word in p["spec"]["policyTypes"] if not p["spec"].get(word.lower())}

    def denied(policy: Object) -> Object:
        words = [word.lower() for word in ("Ingress", "Egress") if (policy["metadata"]["namespace"], word) in closed]
        return policy | {"spec": {key: value for key, value in policy["spec"].items() if key not in words}}

    return {**snapshot, "NetworkPolicy": [denied(policy) for policy in given]}


def _first_rule(policy: Object) -> Object:
    short = {side: policy["spec"][side][:1] for side in ("ingress", "egress") if policy["spec"].get(side)}
    return policy | {"spec": policy["spec"] | short}


def _mixed(isolation: Isolation) -> Isolation:
    """All peers on all ports."""
    if len(isolation.allows) < 2:
        return isolation
    peers = None if any(one.peers is None for one in isolation.allows) else tuple(p for one in isolation.allows for p in one.peers or ())
    ports = None if any(one.ports is None for one in isolation.allows) else tuple(p for one in isolation.allows for p in one.ports or ())
    return replace(isolation, allows=(Allow("all of them", peers, ports),))


def _both_ways(plane: Plane) -> Plane:
    """What is allowed for one direction is allowed for the other."""
    others = {(one.pod, one.direction): one.allows for one in plane.isolations}

    def changed(one: Isolation) -> Isolation:
        return replace(one, allows=(*one.allows, *others.get((one.pod, "egress" if ingress(one) else "ingress"), ())))

    return isolations(changed)(plane)


def _birth(born: dict[str, int], policy: Object) -> int:
    """When the policy was made, by the version that it was first seen with."""
    return born.setdefault(policy["metadata"]["uid"], int(policy["metadata"]["resourceVersion"]))


def _newest_alone() -> Objects:
    """Of the policies of a namespace the one made last counts; the others only isolate."""
    born: dict[str, int] = {}

    def changed(snapshot: Snapshot, _node: str) -> Snapshot:
        given = sorted(snapshot.get("NetworkPolicy", ()), key=lambda policy: _birth(born, policy))
        newest = {policy["metadata"]["namespace"]: policy["metadata"]["uid"] for policy in given}
        kept = [p if p["metadata"]["uid"] == newest[p["metadata"]["namespace"]] else _silent(p) for p in given]
        return {**snapshot, "NetworkPolicy": kept}

    return changed


def _later_exceptions() -> tuple[Objects, Planes]:
    """What a policy excepts is taken out of what those made before it allow."""
    born: dict[str, int] = {}
    ages: dict[str, int] = {}

    def noted(policy: Object) -> Object:
        ages[f"{policy['metadata']['namespace']}/{policy['metadata']['name']}"] = _birth(born, policy)
        return policy

    def changed(isolation: Isolation) -> Isolation:
        excepted = [(network, ages.get(one.policy, 0)) for one in isolation.allows for peer in one.peers or () for network in peer.excepts]

        def kept(one: Allow) -> Allow:
            later = {network for network, age in excepted if age > ages.get(one.policy, 0)}
            return one if one.peers is None else replace(one, peers=tuple(peer for peer in one.peers if peer.network not in later))

        return replace(isolation, allows=tuple(map(kept, isolation.allows)))

    return policies(noted), isolations(changed)


def _last_word_of_destinations(plane: Plane) -> Plane:
    """On one node what the destination's rules allow is not asked of the source's."""
    own = {pod.key: pod.addresses for pod in plane.own}
    receiving = [one for one in plane.isolations if ingress(one) and one.allows]

    def changed(isolation: Isolation) -> Isolation:
        if not egress(isolation):
            return isolation
        more = [Allow("last-word", tuple(Peer(a, pod=one.pod) for a in own[one.pod]), a.ports) for one in receiving for a in one.allows]
        return replace(isolation, allows=(*isolation.allows, *more))

    return isolations(changed)(plane)


# --- objects that come and go


def _late_pods_are_free() -> Planes:
    """A pod of a namespace in which somebody is isolated already is never isolated itself."""
    known: dict[str, bool] = {}  # pod -> whether it came late
    closed: dict[str, set[str]] = {}  # node -> the namespaces of pods that are isolated there

    def changed(plane: Plane) -> Plane:
        for pod in plane.pods:
            known.setdefault(pod.key, any(pod.namespace in namespaces for namespaces in closed.values()))
        closed[plane.node] = {one.pod.partition("/")[0] for one in plane.isolations}
        return isolations(lambda one: None if known.get(one.pod) else one)(plane)

    return changed


def _late_peers_are_missing() -> Planes:
    """A policy's peers are the pods that there were when it came."""
    known: dict[str, frozenset[str]] = {}

    def changed(plane: Plane) -> Plane:
        there = frozenset(pod.key for pod in plane.pods)

        def kept(allow: Allow) -> Allow:
            first = known.setdefault(allow.policy, there)
            return allow if allow.peers is None else replace(allow, peers=tuple(p for p in allow.peers if not p.pod or p.pod in first))

        return allows(kept)(plane)

    return changed


def _peers_go_together() -> Planes:
    """The end of one peer of a rule takes the rule along."""
    peers: dict[str, set[str]] = {}  # policy -> the pods that it ever allowed

    def changed(plane: Plane) -> Plane:
        there = {pod.key for pod in plane.pods}

        def kept(allow: Allow) -> Allow | None:
            mine = peers.setdefault(allow.policy, set())
            mine.update(peer.pod for peer in allow.peers or () if peer.pod)
            return None if mine - there else allow

        return allows(kept)(plane)

    return changed


def _labels_of_predecessors(kind: str) -> Objects:
    """An object that is made anew under its name has its predecessor's labels too."""
    seen: dict[tuple[str, str], tuple[str, dict[str, str]]] = {}  # place -> the uid and the labels
    former: dict[str, dict[str, str]] = {}  # uid -> its predecessor's labels

    def changed(obj: Object) -> Object:
        meta = obj["metadata"]
        place, labels = (meta.get("namespace", ""), meta["name"]), dict(meta.get("labels") or {})
        uid, before = seen.get(place, (meta["uid"], {}))
        if uid != meta["uid"]:
            former[meta["uid"]] = before
        seen[place] = meta["uid"], labels
        return obj | {"metadata": meta | {"labels": former.get(meta["uid"], {}) | labels}}

    return objects(kind, changed)


def _both(first: Objects, second: Objects) -> Objects:
    return lambda snapshot, node: second(first(snapshot, node), node)


def _at_most(snapshot: Snapshot, _node: str) -> Snapshot:
    """Beyond a number of policies a namespace's further ones are not looked at."""
    counted: dict[str, int] = {}
    kept = []
    for policy in snapshot.get("NetworkPolicy", ()):
        namespace = policy["metadata"]["namespace"]
        counted[namespace] = counted.get(namespace, 0) + 1
        kept += [policy] if counted[namespace] <= MOST else []
    return {**snapshot, "NetworkPolicy": kept}


def _lost_in_a_hurry() -> Objects:
    """An edit that follows another at once is lost."""
    specs: dict[str, tuple[object, object, float]] = {}  # uid -> what is acted on, what was seen last, and when

    def changed(policy: Object) -> Object:
        uid, spec, now = policy["metadata"]["uid"], policy["spec"], time.monotonic()
        acting, last, at = specs.get(uid, (spec, spec, now))
        if spec != last:
            acting, at = (spec if now - at > HURRY else acting), now
        specs[uid] = acting, spec, at
        return policy | {"spec": acting}

    return policies(changed)


# --- traffic that policies are not about


def _open_beside_its_own(text: str, _node: str) -> str:
    """What a pod sent itself last makes way, for a second, for all else that it sends or gets."""

    def noted(found: re.Match[str]) -> str:
        rule, ip = found.groups()
        talkers = f"@talkers-{ip}"
        return f"{rule}update {talkers} {{ {ip} saddr }} accept\n\t\t{ip} saddr {talkers} accept\n\t\t{ip} daddr {talkers} accept"

    body = "flags dynamic,timeout; timeout 1s; size 65535\n\t}"
    sets = "".join(f"\n\tset talkers-{ip} {{\n\t\ttype {type_}; {body}" for ip, type_ in _TYPES)
    head, brace, rest = text.partition("{")
    return head + brace + sets + re.sub(r"((ip6?) saddr \. ip6? daddr @self-\S+ )accept", noted, rest)


def _hook(text: str, pattern: str) -> tuple[str, ...]:
    """The rules of the hooks that look like that."""
    return tuple(re.findall(rf"^\t\t({pattern})$", text, re.MULTILINE))


def _nodes_are_peers(text: str, node: str) -> str:
    """What a node sends its own pods is asked of their rules."""
    return rule("output", *_hook(text, r"ip daddr vmap @ingress-\S+"))(text, node)


def _own_node_is_a_peer(text: str, node: str) -> str:
    """What a pod sends its own node is asked of its rules."""
    own = node_addresses(node)[0]
    return rule("prerouting", *(f"ip daddr {own} {line}" for line in _hook(text, r"ip saddr vmap @egress-\S+")))(text, node)


def _hosts_isolate_their_nodes() -> tuple[Objects, Rules]:
    """A policy in a namespace of pods on their nodes' network isolates these nodes."""
    isolated: set[str] = set()

    def noted(snapshot: Snapshot, _node: str) -> Snapshot:
        named = {policy["metadata"]["namespace"] for policy in snapshot.get("NetworkPolicy", ())}
        hosts = [pod for pod in snapshot.get("Pod", ()) if pod["spec"].get("hostNetwork") and pod["metadata"]["namespace"] in named]
        isolated.clear()
        isolated.update(pod["spec"]["nodeName"] for pod in hosts)
        return snapshot

    def changed(text: str, node: str) -> str:
        return rule("output", f"ip daddr {POD_NETWORKS[0]} drop")(text, node) if node in isolated else text

    return noted, changed


def _everybody_means_pods(allow: Allow) -> Allow:
    return replace(allow, peers=tuple(Peer(network) for network in POD_NETWORKS)) if allow.peers is None else allow


def _cut_by_changes() -> Rules:
    """Each change of policies cuts the connections that stood before."""
    generations: dict[str, tuple[tuple[str, ...], int]] = {}

    def changed(text: str, node: str) -> str:
        acting = tuple(sorted(set(re.findall(r"(?:in|e)gress-[0-9a-f]{12}", text))))
        last, number = generations.get(node, ((), 1))
        number += acting != last
        generations[node] = acting, number
        marks = f"ct state new ct mark set {number}", f"ct state established ct mark != {{ 0, {number} }} drop"
        return rule("forward", *marks)(text, node)

    return changed


def _established(text: str, condition: str) -> str:
    """Of the connections that stand only those packets pass unasked that meet the condition."""
    return text.replace("ct state established,related accept", f"ct state established,related {condition} accept")


def _other_nodes(isolation: Isolation) -> Isolation:
    nodes = Allow("nodes", tuple(Peer(address) for node in NODES for address in node_addresses(node)), None)
    return replace(isolation, allows=(*isolation.allows, nodes)) if ingress(isolation) else isolation


_EXCEPTIONS, _HOSTS = _later_exceptions(), _hosts_isolate_their_nodes()
_TOWARDS = ("x/* -> *", "* -> x/*")

FAULTS = (
    Fault(
        id="N4b",
        breaks="`except` denies what a policy that was there before allows",
        seen=GITHUB + "Azure/azure-container-networking/pull/462",
        spares=(*SPARED, "NPC-02c/*/forward"),
        turns=(Turn("NPC-02c/*/backward", ("* -> outside/b *",)),),
        objects=_EXCEPTIONS[0],
        plane=_EXCEPTIONS[1],
    ),
    Fault(
        id="N20b",
        breaks="of several rules of a policy only the first counts",
        seen=GITHUB + "antrea-io/antrea/issues/386",
        spares=SPARED,
        turns=(Turn("NPC-01f/*"), Turn("NPC-02b/*")),
        objects=policies(_first_rule),
    ),
    Fault(
        id="N25",
        breaks="replies are asked of the rules for new connections",
        seen=GITHUB + "aws/aws-network-policy-agent/issues/189",
        spares=SPARED,
        turns=(Turn("NPT-01/*", ("y/* -> x/*",)), Turn("NPI-04a/*", ("x/* -> y/*",))),
        rules=lambda text, _node: _established(text, "ct direction original"),
    ),
    Fault(
        id="N28b",
        breaks="between pods of one node the destination's rules have the last word",
        seen=GITHUB + "kubernetes/kubernetes/issues/88090",
        spares=SPARED,
        turns=(Turn("NPC-03b/*/ingress", ("y/a -> x/a *", "y/b -> x/b *")),),
        plane=_last_word_of_destinations,
    ),
    Fault(
        id="N34",
        breaks="a policy that selects a pod on its node's network isolates the node",
        seen=GITHUB + "cloudnativelabs/kube-router/issues/1067",
        spares=SPARED,
        turns=(Turn("NPT-02c/*", ()),),
        objects=_HOSTS[0],
        rules=_HOSTS[1],
    ),
    Fault(
        id="N35",
        breaks="policies hold for what a node sends its own pods, the kubelet's probes among it",
        seen=GITHUB + "kubernetes-sigs/kube-network-policies/issues/150",
        spares=SPARED,
        turns=(Turn("NPT-02a/*", ()), Turn("NPT-02b/*", ("host/* -> x/*",))),
        rules=_nodes_are_peers,
    ),
    Fault(
        id="N36",
        breaks="an isolated pod does not reach itself through its Service",
        seen=GITHUB + "cilium/cilium/issues/22107",
        legal=True,
        spares=SPARED,
        turns=(Turn("NPT-04/*", sees="*observed: timed out (x/*"),),
        rules=lambda text, _node: re.sub(r"\n\t\tip6? saddr \. ip6? daddr @self-\S+ accept", "", text),
    ),
    Fault(
        id="N36b",
        breaks="while a pod reaches itself through its Service, what it and others send each other passes their policies",
        seen=GITHUB + "cilium/cilium/pull/48521",
        spares=SPARED,
        turns=(Turn("NPT-04b/*/ingress", ("y/* -> x/[ab] *",)), Turn("NPT-04b/*/egress", ("x/[ab] -> y/*",))),
        rules=_open_beside_its_own,
    ),
    Fault(
        id="N48",
        breaks="policies of a namespace beyond the hundredth are not looked at",
        seen=GITHUB + "antrea-io/antrea/issues/2949",
        spares=SPARED,
        turns=(Turn("NPC-08a/*", ("z/* -> x/a *",)),),
        objects=_at_most,
    ),
    Fault(
        id="N70",
        breaks="a policy without rules takes away what the others of its namespace allow",
        seen=GITHUB + "Azure/AKS/issues/1138",
        spares=SPARED,
        turns=(
            Turn("NPC-01c/*", ("* -> x/a *", "x/a -> *")),
            Turn("NPC-01d/*"),
            Turn("NPC-01e/*", ("y/* -> *", "* -> y/*")),
            Turn("NPC-02a/*"),
            Turn("NPI-03c/*"),
        ),
        objects=_denials_win,
    ),
    Fault(
        id="N71",
        breaks="the peers of one rule are allowed on the ports of another",
        seen=GITHUB + "Azure/azure-container-networking/issues/432",
        spares=SPARED,
        turns=(Turn("NPC-01[gh]/*", ("*y/* TCP/8081", "*z/* TCP/8080", "y/* TCP/8081", "z/* TCP/8080")),),
        plane=isolations(_mixed),
    ),
    Fault(
        id="N72",
        breaks="what a policy allows for one direction is allowed for the other",
        seen=GITHUB + "cloud-bulldozer/e2e-benchmarking/issues/473",
        spares=SPARED,
        turns=(Turn("NPC-01i/*/ingress", ("x/* -> *",)), Turn("NPC-01i/*/egress", ("* -> x/*",))),
        plane=_both_ways,
    ),
    Fault(
        id="N73",
        breaks="of the policies of a namespace only the one that was made last counts",
        seen=GITHUB + "openshift/sdn/pull/124",
        spares=SPARED,
        turns=(Turn("NPC-02a/*", _TOWARDS), Turn("NPC-01h/*")),
        objects=_newest_alone(),
    ),
    Fault(
        id="N74",
        breaks="a pod that is made in a namespace with isolated pods is not isolated",
        seen=GITHUB + "cloudnativelabs/kube-router/issues/873",
        spares=SPARED,
        turns=(Turn("NPC-06a/*", ("z/* -> x/new-*", "x/new-* -> z/*")),),
        plane=_late_pods_are_free(),
    ),
    Fault(
        id="N75",
        breaks="pods that come after a policy are not among its peers",
        seen=GITHUB + "k8snetworkplumbingwg/multi-networkpolicy-iptables/issues/42",
        spares=SPARED,
        turns=(Turn("NPC-06[bd]/*", ("[yw]/new-* -> x/*", "x/* -> [yw]/new-*")),),
        plane=_late_peers_are_missing(),
    ),
    Fault(
        id="N76",
        breaks="the end of one peer of a rule takes the rule along",
        seen=GITHUB + "weaveworks/weave/issues/3177",
        spares=SPARED,
        turns=(Turn("NPC-06c/*", ("y/new-* -> x/*", "x/* -> y/new-*")),),
        plane=_peers_go_together(),
    ),
    Fault(
        id="N77",
        breaks="pods and namespaces that are made anew under their names keep their predecessors' labels",
        seen=GITHUB + "ovn-org/ovn-kubernetes/issues/1850",
        spares=SPARED,
        turns=(Turn("NPC-06e/*", ("w/new-* -> x/*",)), Turn("NPC-06f/*", ("y/new-* -> x/*",))),
        objects=_both(_labels_of_predecessors("Namespace"), _labels_of_predecessors("Pod")),
    ),
    Fault(
        id="N78",
        breaks="an edit that follows another at once is lost",
        seen=GITHUB + "ovn-kubernetes/ovn-kubernetes/pull/2826",
        spares=SPARED,
        turns=(Turn("NPC-08b/*", ("z/* -> x/*",)),),
        objects=_lost_in_a_hurry(),
    ),
    Fault(
        id="N79",
        breaks="a change of policies cuts the connections that stand",
        seen=GITHUB + "cilium/cilium/issues/2569",
        spares=SPARED,
        turns=(Turn("NPT-08[ab]/*", ("y/* -> x/* (held)",)),),
        rules=_cut_by_changes(),
    ),
    Fault(
        id="N80",
        breaks="a rule for everybody lets in pods alone",
        seen=GITHUB + "ahmetb/kubernetes-network-policy-recipes/issues/1",
        spares=SPARED,
        turns=(Turn("NPT-06c/*"),),
        plane=allows(_everybody_means_pods, ingress),
    ),
    Fault(
        id="N81",
        breaks="connections that a policy comes to deny are cut",
        seen=GITHUB + "kubernetes-sigs/network-policy-api/issues/305",
        legal=True,
        spares=(*SPARED, "NPT-08[ab]/*"),
        turns=(Turn("NPT-07/*", sees="*observed: timed out (* (held)*"),),
        rules=lambda text, _node: _established(text, "ct direction reply"),
    ),
    Fault(
        id="N82",
        breaks="what is denied is rejected",
        seen=GITHUB + "kubernetes-sigs/network-policy-api/issues/305",
        legal=True,
        spares=(*SPARED, "NPI-02a/*"),
        turns=(Turn("NPT-12/*", sees="*observed: unreachable*"),),
        rules=lambda text, _node: text.replace("\t\tdrop\n", "\t\treject with icmpx admin-prohibited\n"),
    ),
    Fault(
        id="N83",
        breaks="nodes other than a pod's own are let in by every isolation",
        seen=GITHUB + "aws/aws-network-policy-agent/issues/67",
        legal=True,
        spares=(*SPARED, "NPI-02a/*"),
        turns=(Turn("NPT-05[ab]/*", sees="*observed: answered (host/*"),),
        plane=isolations(_other_nodes),
    ),
    Fault(
        id="N84",
        breaks="egress policies hold for what a pod sends its own node",
        seen=GITHUB + "cilium/cilium/issues/12277",
        legal=True,
        spares=(*SPARED, "NPI-02b/*"),
        turns=(Turn("NPT-02d/*", sees="*observed: timed out (x/*"),),
        rules=_own_node_is_a_peer,
    ),
    Fault(
        id="N85",
        breaks="ICMP meets no policy",
        seen=GITHUB + "kubernetes-sigs/kube-network-policies/issues/191",
        legal=True,
        spares=(*SPARED, "NPI-02a/*"),
        turns=(Turn("NPT-09/*", sees="*, z/a -> x/a ICMP echo*"),),
        rules=lambda text, node: rule("forward", "meta l4proto { icmp, ipv6-icmp } accept")(text, node),
    ),
)
