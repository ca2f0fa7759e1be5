"""What a control plane does with objects: pods get nodes, Services get endpoints and addresses, deleted namespaces are emptied.

Everything is derived anew from the store on each of its changes; nothing is polled.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from netproof.lab.balancing import Balancer, HealthPorts
from netproof.lab.endpoints import MANAGED, slices
from netproof.lab.facts import condition, is_deleted, is_part, key, stamp
from netproof.lab.seams import Object, Runtime

if TYPE_CHECKING:
    from netproof.lab.store import Store


class Controllers:
    """The reconcile loop of the objects. `run` ends only by cancellation."""

    def __init__(self, store: Store, runtime: Runtime) -> None:
        self._store, self._health, self._balancer = store, HealthPorts(store, runtime), Balancer(store, runtime)

    async def run(self) -> None:
        """Reconcile on each change of the store."""
        while True:
            seen = self._store.version
            self.reconcile()
            await self._health.reconcile()
            await self._store.newer(seen)

    def reconcile(self) -> None:
        """Bring the objects once to what they should be; no change where they are it."""
        self._schedule()
        self._slice()
        self._balancer.reconcile()
        self._empty()

    def _schedule(self) -> None:
        """Bind each pod to the node that its nodeSelector admits and that has the fewest pods."""
        labels = {node["metadata"]["name"]: node["metadata"].get("labels") or {} for node in self._store.list("Node")}
        pods = self._store.list("Pod")
        load = Counter(pod["spec"].get("nodeName", "") for pod in pods)
        for pod in (pod for pod in pods if not pod["spec"].get("nodeName")):
            fitting = [name for name in labels if is_part(pod["spec"].get("nodeSelector") or {}, labels[name])]
            if is_deleted(pod):
                self._discard("Pod", pod)
            elif fitting:
                node = min(fitting, key=lambda name: (load[name], name))
                load[node] += 1
                self._store.update(_scheduled(pod, holds=True) | {"spec": pod["spec"] | {"nodeName": node}})
            else:
                message = f"0/{len(labels)} nodes are available: none of them matches the pod's nodeSelector."
                self._store.update(_scheduled(pod, holds=False, reason="Unschedulable", message=message))

    def _slice(self) -> None:
        pods = defaultdict[str, list[Object]](list)
        for pod in self._store.list("Pod"):
            if pod["spec"].get("nodeName"):
                pods[pod["metadata"]["namespace"]].append(pod)
        services = self._store.list("Service")
        wanted = {key(made): made for service in services for made in slices(service, pods.get(service["metadata"]["namespace"], ()))}
        known = {key(found): found for found in self._store.list("EndpointSlice")}
        for name, made in wanted.items():
            (self._store.update if name in known else self._store.create)(made)
        for name in known.keys() - wanted.keys():
            if is_part(MANAGED, known[name]["metadata"].get("labels") or {}):
                self._discard("EndpointSlice", known[name])

    def _empty(self) -> None:
        """Delete what is in terminating namespaces, and then these."""
        for name in [namespace["metadata"]["name"] for namespace in self._store.list("Namespace") if is_deleted(namespace)]:
            everything = [(kind, obj) for kind, objects in self._store.snapshot().items() for obj in objects]
            left = [(kind, obj) for kind, obj in everything if obj["metadata"].get("namespace") == name]
            for kind, obj in left:
                self._discard(kind, obj)
            if not left:
                self._store.remove("Namespace", name)

    def _discard(self, kind: str, obj: Object) -> None:
        """Remove it; where a finalizer or a process keeps it, mark it as deleted."""
        metadata, spec = obj["metadata"], obj.get("spec", {})
        if not metadata.get("finalizers") and not (kind == "Pod" and spec.get("nodeName")):
            self._store.remove(kind, metadata["name"], metadata["namespace"])
        elif not is_deleted(obj):
            grace = spec.get("terminationGracePeriodSeconds", 0)
            mark = {"deletionTimestamp": stamp(grace), "deletionGracePeriodSeconds": grace}
            self._store.update(obj | {"metadata": metadata | mark})


def _scheduled(pod: Object, *, holds: bool, reason: str = "", message: str = "") -> Object:
    """The pod with the condition that says whether it has a node."""
    status = pod.get("status") or {}
    before = status.get("conditions") or []
    said = condition(before, "PodScheduled", holds=holds, reason=reason, message=message)
    conditions = [*(one for one in before if one["type"] != "PodScheduled"), said]
    return pod | {"status": {"phase": "Pending"} | status | {"conditions": conditions}}
