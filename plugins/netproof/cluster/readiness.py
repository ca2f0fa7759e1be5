"""Waiting for what was applied: told of, bounded, and ended early where waiting is in vain."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from netproof.cluster.catalogue import Reference
from netproof.cluster.nodes import ready
from netproof.cluster.progress import Progress
from netproof.kube.client import Api, ApiError, ApiUnavailable, NotFound
from netproof.kube.objects import path
from netproof.kube.wait import Late, NotYet, until
from netproof.problem import Problem

LIMIT = 300.0
_HOPELESS = ("not found", "denied", "unauthorized", "InvalidImageName", "ErrImageNeverPull", "couldn't parse image", "no such host")
_PATIENCE = 30.0  # a pull that fails for a reason that may pass is given this long
_SHOWN = 3
_PASSING_TAINTS = {f"node.kubernetes.io/{name}" for name in ("not-ready", "unreachable", "network-unavailable")}


def wait_ready(api: Api, wanted: Sequence[Reference], *, what: str, progress: Progress, nodes: bool = False, limit: float = LIMIT) -> None:
    """Wait until every DaemonSet and Deployment is complete and, with `nodes`, every node is Ready and takes the pods that it will take.

    Raises Problem: an image that no node can pull ends the wait early, a deadline says what is missing.
    """
    failing: dict[str, float] = {}

    def look() -> bool:
        missing = [text for reference in wanted if (text := _missing(api, reference))]
        missing += _unready(api.list(path("Node"))) if nodes else []
        if not missing:
            return True
        spaces = {reference.namespace for reference in wanted}
        _require_pullable([pod for space in sorted(spaces) for pod in api.list(path("Pod", namespace=space))], failing)
        raise NotYet("; ".join(missing[:_SHOWN]))

    try:
        until(look, what=what, limit=limit, every=0.5, progress=progress)
    except Late as late:
        raise Problem(f"{late}{_last_warning(api, {reference.namespace for reference in wanted})}") from late


def _last_warning(api: Api, spaces: Iterable[str]) -> str:
    """What the cluster itself says is wrong: the newest warning among the events, as a part of a sentence."""
    try:
        events = [event for space in sorted(spaces) for event in api.list(path("Event", namespace=space), fields="type=Warning")]
    except (ApiError, ApiUnavailable):
        return ""
    newest = max(events, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "", default=None)
    if newest is None:
        return ""
    return (
        f"; the newest warning, of {newest['involvedObject'].get('name', '?')}: {newest.get('reason')}: {_short(newest.get('message', ''))}"
    )


def _missing(api: Api, reference: Reference) -> str:
    """What a workload lacks, "" where nothing."""
    try:
        item = api.get(path(reference.kind, reference.name, reference.namespace))
    except NotFound:
        return f"{reference} does not exist"
    status, spec = item.get("status") or {}, item.get("spec") or {}
    if status.get("observedGeneration", 0) < item["metadata"].get("generation", 0):
        return f"{reference} has not been looked at"
    if reference.kind == "DaemonSet":
        wanted = status.get("desiredNumberScheduled", 0)
        have = min(status.get("numberReady", 0), status.get("updatedNumberScheduled", 0))
        return "" if wanted and have >= wanted else f"{reference}: {have} of {wanted} ready"
    wanted = spec.get("replicas", 1)
    have = min(status.get("availableReplicas", 0), status.get("updatedReplicas", 0))
    return "" if have >= wanted else f"{reference}: {have} of {wanted} available"


def _unready(nodes: Iterable[Mapping[str, Any]]) -> list[str]:
    late = sorted(node["metadata"]["name"] for node in nodes if not ready(node) or _still_tainted(node))
    return [f"not Ready: {', '.join(late)}"] if late else []


def _still_tainted(node: Mapping[str, Any]) -> bool:
    """Ready comes first; the taint that keeps pods away until then is taken off a moment later.

    https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/#taint-based-evictions names those of Kubernetes; a CNI
    may have its own, called not-ready too.
    """
    keys = [taint["key"] for taint in (node.get("spec") or {}).get("taints") or ()]
    return any(key.endswith("not-ready") or key in _PASSING_TAINTS for key in keys)


def _require_pullable(pods: Iterable[Mapping[str, Any]], failing: dict[str, float]) -> None:
    """Raises Problem for an image that cannot be pulled: at once where the registry says so, else after some patience."""
    now = time.monotonic()
    for pod in pods:
        for image, message in pull_failures(pod):
            first = failing.setdefault(f"{pod['metadata']['uid']} {image}", now)
            if any(word in message for word in _HOPELESS) or now - first > _PATIENCE:
                node = pod["spec"].get("nodeName", "a node")
                raise Problem(f"{node} cannot pull the image {image}: {_short(message)}")


def pull_failures(pod: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The images that a pod's node fails to pull, each with what it says."""
    status = pod.get("status") or {}
    containers = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    waiting = [(entry["image"], (entry.get("state") or {}).get("waiting") or {}) for entry in containers]
    return [
        (image, f"{state['reason']}: {state.get('message', '')}")
        for image, state in waiting
        if state.get("reason") in {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"}
    ]


def _short(message: str) -> str:
    """The innermost cause: the kubelet wraps the runtime's words several times."""
    text = message.rstrip(": ")
    return ": ".join(text.rsplit(": ", 2)[1:]) if len(text) > 200 else text
