"""What a control plane does with objects: pods get nodes, Services get endpoints and addresses, deleted namespaces are emptied.

Everything is derived anew from the store on each of its changes; nothing is polled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from netproof.lab.balancing import Balancer, HealthPorts
from netproof.lab.endpoints import MANAGED, slices
from netproof.lab.facts import among, condition, is_deleted, is_part, key, stamp
from netproof.lab.seams import Object, Runtime

if TYPE_CHECKING:
    from netproof.lab.store import Store


class Controllers:
    """The reconcile loop of the objects. `run` ends only by cancellation."""

    def __init__(self, store: Store, runtime: Runtime) -> None:
        self._store = store
        self._health = HealthPorts(store, runtime)
        self._balancer = Balancer(store, runtime)

    async def run(self) -> None:
        """Reconcile on each change of the store."""
        try:
            while True:
                seen = self._store.version
                self.reconcile()
                await self._health.reconcile()
                await self._store.newer(seen)
        finally:
            self._health.close()

    def reconcile(self) -> None:
        """Bring the objects once to what they should be; no change where they are it."""
        self._schedule()
        self._slice()
        self._balancer.reconcile()
        self._empty()

    def _schedule(self) -> None:
        nodes, pods = self._store.list("Node"), self._store.list("Pod")
        load = Counter(pod["spec"].get("nodeName", "") for pod in pods)
        for pod in pods:
            if pod["spec"].get("nodeName"):
                continue
            if is_deleted(pod):
                self._discard("Pod", pod)
            else:
                placed = place(pod, nodes, load)
                load[placed["spec"].get("nodeName", "")] += 1
                if placed != pod:
                    self._store.update(placed)

    def _slice(self) -> None:
        pods, nodes, services = self._store.list("Pod"), self._store.list("Node"), self._store.list("Service")
        bound = [pod for pod in pods if pod["spec"].get("nodeName")]
        wanted = {key(made): made for service in services for made in slices(service, bound, nodes)}
        owners = {service["metadata"]["uid"] for service in services}
        for made in wanted.values():
            self._write_slice(made)
        for found in self._store.list("EndpointSlice"):
            if key(found) not in wanted and (is_part(MANAGED, found["metadata"].get("labels") or {}) or _is_orphan(found, owners)):
                self._store.remove("EndpointSlice", found["metadata"]["name"], found["metadata"]["namespace"])

    def _write_slice(self, made: Object) -> None:
        before = self._store.get("EndpointSlice", made["metadata"]["name"], made["metadata"]["namespace"])
        if before is None:
            self._store.create(made)
            return
        now = before | made | {"metadata": before["metadata"] | made["metadata"]}
        if now != before:
            self._store.update(now)

    def _empty(self) -> None:
        """Delete what is in terminating namespaces, and then these."""
        for namespace in self._store.list("Namespace"):
            if not is_deleted(namespace):
                continue
            name = namespace["metadata"]["name"]
            snapshot = self._store.snapshot()
            left = [(kind, obj) for kind, objects in snapshot.items() for obj in objects if obj["metadata"].get("namespace") == name]
            for kind, obj in left:
                self._discard(kind, obj)
            if not left:
                self._store.remove("Namespace", name)

    def _discard(self, kind: str, obj: Object) -> None:
        metadata = obj["metadata"]
        lingers = metadata.get("finalizers") or (kind == "Pod" and obj["spec"].get("nodeName"))
        if not lingers:
            self._store.remove(kind, metadata["name"], metadata["namespace"])
        elif not is_deleted(obj):
            grace = obj["spec"].get("terminationGracePeriodSeconds", 30) if kind == "Pod" else 0
            mark = {"deletionTimestamp": stamp(grace), "deletionGracePeriodSeconds": grace}
            self._store.update(obj | {"metadata": metadata | mark})


def _is_orphan(obj: Object, owners: set[str]) -> bool:
    named = [owner["uid"] for owner in obj["metadata"].get("ownerReferences") or [] if owner["kind"] == "Service"]
    return bool(named) and not owners.intersection(named)


# --- pods to nodes -----------------------------------------------------------------------------------------------------------


def place(pod: Object, nodes: Sequence[Object], load: Counter[str]) -> Object:
    """The pod bound to the node that fits it and has the fewest pods, or with the condition that says why none does."""
    reasons = {node["metadata"]["name"]: _unfit(pod, node) for node in nodes}
    fitting = sorted((name for name, reason in reasons.items() if not reason), key=lambda name: (load[name], name))
    status = pod.get("status") or {}
    others = [c for c in status.get("conditions") or [] if c["type"] != "PodScheduled"]
    if fitting:
        scheduled = condition(status.get("conditions") or [], "PodScheduled", holds=True)
        spec = pod["spec"] | {"nodeName": fitting[0]}
    else:
        counted = ", ".join(f"{count} {reason}" for reason, count in sorted(Counter(reasons.values()).items()))
        message = f"0/{len(nodes)} nodes are available: {counted}."
        scheduled = condition(status.get("conditions") or [], "PodScheduled", holds=False, reason="Unschedulable", message=message)
        spec = pod["spec"]
    return pod | {"spec": spec, "status": {"phase": "Pending"} | status | {"conditions": [*others, scheduled]}}


def _unfit(pod: Object, node: Object) -> str:
    """Why a node can't take a pod; empty where it can."""
    spec, labels = pod["spec"], node["metadata"].get("labels") or {}
    if node.get("spec", {}).get("unschedulable"):
        return "node(s) were unschedulable"
    if any(not _is_tolerated(taint, spec.get("tolerations") or []) for taint in node.get("spec", {}).get("taints") or []):
        return "node(s) had untolerated taints"
    required = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution")
    fits = is_part(spec.get("nodeSelector") or {}, labels) and (not required or _has_affinity(required, node, labels))
    return "" if fits else "node(s) didn't match the pod's node affinity/selector"


def _has_affinity(required: Object, node: Object, labels: dict[str, str]) -> bool:
    """Terms are alternatives, what one term lists must all hold; an empty term matches nothing."""
    fields = {"metadata.name": node["metadata"]["name"]}
    terms = [(term.get("matchExpressions") or [], term.get("matchFields") or []) for term in required.get("nodeSelectorTerms") or []]
    return any((by_label or by_field) and among(labels, by_label) and among(fields, by_field) for by_label, by_field in terms)


def _is_tolerated(taint: Object, tolerations: Sequence[Object]) -> bool:
    def tolerates(said: Object) -> bool:
        same_key = said.get("key") in (None, "", taint["key"])
        same_value = said.get("operator") == "Exists" or said.get("value", "") == taint.get("value", "")
        return same_key and same_value and said.get("effect") in (None, "", taint["effect"])

    return taint["effect"] == "PreferNoSchedule" or any(map(tolerates, tolerations))
