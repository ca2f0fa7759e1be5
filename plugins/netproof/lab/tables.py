"""The tables that `kubectl get` prints, as the server makes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from netproof.lab.kinds import Kind
from netproof.lab.seams import Object

Cell = Callable[[Object], object]


def table(objects: Sequence[Object], kind: Kind, *, version: int, include: str) -> Object:
    """The rows of those objects; a title with a * is one of the wide columns. `include`: None, Metadata or Object."""
    columns: Mapping[str, Cell] = {"Name": _name, **_COLUMNS.get(kind.name, {"Age": _age})}
    titles = [{"name": title.strip("*"), "type": "string", "priority": int(title.endswith("*")), "format": ""} for title in columns]
    titles[0]["format"] = "name"
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": str(version)},
        "columnDefinitions": [title | {"description": ""} for title in titles],
        "rows": [{"cells": [cell(obj) for cell in columns.values()], "object": _included(obj, include)} for obj in objects],
    }


def _included(obj: Object, include: str) -> Object | None:
    if include == "None":
        return None
    return obj if include == "Object" else {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}


def _name(obj: Object) -> str:
    return str(obj["metadata"]["name"])


def _age(obj: Object) -> str:
    seconds = int((datetime.now(UTC) - datetime.fromisoformat(obj["metadata"]["creationTimestamp"])).total_seconds())
    unit, size = next(((unit, size) for unit, size in (("d", 86400), ("h", 3600), ("m", 60)) if seconds >= 2 * size), ("s", 1))
    return f"{max(0, seconds) // size}{unit}"


def _phase(obj: Object) -> str:
    status = obj.get("status") or {}
    if "deletionTimestamp" in obj["metadata"]:
        return "Terminating"
    states = [state for entry in status.get("containerStatuses") or () for state in (entry.get("state") or {}).values()]
    return next((state["reason"] for state in states if state.get("reason")), status.get("reason") or status.get("phase") or "Unknown")


def _ready(obj: Object) -> str:
    statuses = (obj.get("status") or {}).get("containerStatuses") or ()
    return f"{sum(bool(entry.get('ready')) for entry in statuses)}/{len(obj['spec']['containers'])}"


def _restarts(obj: Object) -> str:
    return str(sum(entry.get("restartCount", 0) for entry in (obj.get("status") or {}).get("containerStatuses") or ()))


def _node_status(obj: Object) -> str:
    conditions = (obj.get("status") or {}).get("conditions") or ()
    ready = any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)
    return ("Ready" if ready else "NotReady") + (",SchedulingDisabled" if (obj.get("spec") or {}).get("unschedulable") else "")


def _node_address(obj: Object) -> str:
    return next((entry["address"] for entry in obj["status"].get("addresses", ()) if entry["type"] == "InternalIP"), "<none>")


def _external(obj: Object) -> str:
    given = [entry.get("ip", "") for entry in obj.get("status", {}).get("loadBalancer", {}).get("ingress", ())]
    waiting = "<pending>" if obj["spec"]["type"] == "LoadBalancer" else "<none>"
    return ",".join([*given, *obj["spec"].get("externalIPs", ())]) or obj["spec"].get("externalName") or waiting


def _service_ports(obj: Object) -> str:
    shown = [
        f"{port['port']}{':' + str(port['nodePort']) if port.get('nodePort') else ''}/{port['protocol']}"
        for port in obj["spec"].get("ports", ())
    ]
    return ",".join(shown) or "<none>"


def _pairs(labels: Mapping[str, str] | None) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())) or "<none>"


def _endpoints(obj: Object) -> str:
    return ",".join(address for entry in obj.get("endpoints") or () for address in entry["addresses"]) or "<unset>"


_COLUMNS: Mapping[str, Mapping[str, Cell]] = {
    "Pod": {
        "Ready": _ready,
        "Status": _phase,
        "Restarts": _restarts,
        "Age": _age,
        "IP*": lambda obj: (obj.get("status") or {}).get("podIP") or "<none>",
        "Node*": lambda obj: obj["spec"].get("nodeName") or "<none>",
    },
    "Service": {
        "Type": lambda obj: obj["spec"]["type"],
        "Cluster-IP": lambda obj: obj["spec"].get("clusterIP") or "<none>",
        "External-IP": _external,
        "Port(s)": _service_ports,
        "Age": _age,
        "Selector*": lambda obj: _pairs(obj["spec"].get("selector")),
    },
    "Namespace": {"Status": lambda obj: (obj.get("status") or {}).get("phase", ""), "Age": _age},
    "Node": {"Status": _node_status, "Age": _age, "Internal-IP*": _node_address},
    "NetworkPolicy": {"Pod-Selector": lambda obj: _pairs(obj["spec"]["podSelector"].get("matchLabels")), "Age": _age},
    "EndpointSlice": {
        "AddressType": lambda obj: obj["addressType"],
        "Ports": lambda obj: ",".join(str(port.get("port")) for port in obj.get("ports") or ()) or "<unset>",
        "Endpoints": _endpoints,
        "Age": _age,
    },
    "Event": {
        "Type": lambda obj: obj.get("type", ""),
        "Reason": lambda obj: obj.get("reason", ""),
        "Object": lambda obj: f"{obj['involvedObject'].get('kind', '').lower()}/{obj['involvedObject'].get('name', '')}",
        "Message": lambda obj: obj.get("message", ""),
    },
}
