"""A pod's status as the kubelet writes it: a pure function of what it knows of the pod."""

from __future__ import annotations

from dataclasses import dataclass

from netproof.lab.facts import FINISHED, condition, stamp
from netproof.lab.seams import Object, node_addresses

_OURS = ("PodScheduled", "PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready")


@dataclass(frozen=True, slots=True)
class Said:
    """What is known of a pod. `state` and `last` are those of its container, `inits` the states of its init containers so far."""

    since: str
    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    addresses: tuple[str, ...] = ()
    initialized: bool = False
    started: bool = False
    ready: bool = False
    restarts: int = 0
    state: Object | None = None
    last: Object | None = None
    inits: tuple[Object, ...] = ()


def waiting(reason: str, message: str = "") -> Object:
    """The state of a container that does not run yet, or not now."""
    return {"waiting": {"reason": reason} | ({"message": message} if message else {})}


def running() -> Object:
    """The state of a container that starts to run now."""
    return {"running": {"startedAt": stamp()}}


def terminated(code: int, before: Object, *, reason: str = "", message: str = "") -> Object:
    """The state of a container that has ended now, and was in another state before."""
    began = before.get("running", {}).get("startedAt", stamp())
    said = reason or ("Completed" if code == 0 else "Error")
    told = {"message": message} if message else {}
    return {"terminated": {"exitCode": code, "reason": said, "startedAt": began, "finishedAt": stamp()} | told}


def status(pod: Object, said: Said) -> Object:
    """The status to write into the pod; conditions that are not the kubelet's stay."""
    addresses = {"podIP": said.addresses[0], "podIPs": [{"ip": address} for address in said.addresses]} if said.addresses else {}
    hosts = node_addresses(pod["spec"]["nodeName"])
    told = {name: text for name, text in (("reason", said.reason), ("message", said.message)) if text}
    return (
        {
            "phase": said.phase,
            "conditions": _conditions(pod, said),
            "hostIP": hosts[0],
            "hostIPs": [{"ip": host} for host in hosts],
            "startTime": said.since,
            "qosClass": "BestEffort",
        }
        | addresses
        | told
        | _containers(pod, said)
    )


def _conditions(pod: Object, said: Said) -> list[Object]:
    before = pod.get("status", {}).get("conditions") or []
    names = [container["name"] for container in pod["spec"]["containers"]]
    ended = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}.get(said.phase)
    unready = {"reason": ended or "ContainersNotReady", "message": "" if ended else f"containers with unready status: [{' '.join(names)}]"}
    why = {} if said.ready else unready
    return [c for c in before if c["type"] not in _OURS] + [
        condition(before, "PodScheduled", holds=True),
        condition(before, "PodReadyToStartContainers", holds=bool(said.addresses) and said.phase not in FINISHED),
        condition(before, "Initialized", holds=said.initialized, reason="" if said.initialized else "ContainersNotInitialized"),
        condition(before, "ContainersReady", holds=said.ready, **why),
        condition(before, "Ready", holds=said.ready, **why),
    ]


def _containers(pod: Object, said: Said) -> Object:
    inits = pod["spec"].get("initContainers") or []
    states = [*said.inits, *[waiting("PodInitializing")] * (len(inits) - len(said.inits))]
    own = {"ready": said.ready, "started": said.started, "restartCount": said.restarts, "lastState": said.last or {}}
    state = said.state or waiting("ContainerCreating")
    found: Object = {"containerStatuses": [_entry(container, state) | own for container in pod["spec"]["containers"]]}
    if inits:
        found["initContainerStatuses"] = [_entry(container, state) for container, state in zip(inits, states, strict=True)]
    return found


def _entry(container: Object, state: Object) -> Object:
    done = state.get("terminated", {}).get("exitCode") == 0
    return {
        "name": container["name"],
        "image": container.get("image", ""),
        "imageID": "",
        "ready": done,
        "restartCount": 0,
        "state": state,
        "lastState": {},
    }
