"""What NetworkPolicy's text says of a step before it is run: the oracle's ruling on each flow, beside what the case expects."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from netproof.kube.objects import path
from netproof.model.flow import Flow, Port
from netproof.model.history import Decision, Expectation
from netproof.oracle import Outside, Pod, PolicyError, Ruling, Snapshot, decide
from netproof.oracle.values import Endpoint
from netproof.world.labels import WORLD
from netproof.world.pods import port_names
from netproof.world.services import Vip
from netproof.world.verdicts import Misused
from netproof.world.world import World

Object = Mapping[str, Any]
Labels = Mapping[str, Mapping[str, str | None]]  # API path of a pod or namespace -> the labels that are about to be set there


Behind = Mapping[Flow, tuple[str, Port]]
_NOWHERE: Behind = MappingProxyType({})


def behind(world: World, expected: Mapping[Flow, Expectation]) -> dict[Flow, tuple[str, Port]]:
    """For flows of pods to a cluster IP that leads to one standing pod: that pod, and its port."""
    places = {(address, port): target for vip in world.vips.values() for port, target in vip.targets.items() for address in _ips(vip)}
    found = {}
    for flow, promised in expected.items():
        target, responder = places.get((flow.address, flow.port)), next(iter(promised.responders), "")
        if target is not None and flow.source in world.pods and responder in world.pods and len(promised.responders) == 1:
            port = port_names(world.pods[responder].pod).get(target) if isinstance(target, str) else flow.port.protocol(target)
            if port:
                found[flow] = (responder, port)
    return found


def _ips(vip: Vip) -> Iterable[str]:
    return vip.addresses.values()


def rulings(
    world: World, flows: Iterable[Flow], policies: Sequence[Object], changed: Labels, leads: Behind = _NOWHERE
) -> dict[Flow, Ruling]:
    """The oracle's ruling on each flow between pods, or from a pod to an agent outside.

    Of flows through a Service only those are ruled that `leads` names, as flows to the pod behind it.
    `policies` are those that will stand, as they are sent. Nothing is said where there are none, or where one of them says what the
    oracle cannot read: the API server is the judge of that.
    """
    if not policies:
        return {}
    try:
        snapshot = Snapshot(policies, _pods(world, changed), _namespaces(world, changed))
    except PolicyError:
        return {}
    found = {}
    for flow in flows:
        source = _end(world, snapshot, flow.source, "")
        pod, port = leads.get(flow, ("", flow.port))
        destination = _end(world, snapshot, pod, "") if pod else _end(world, snapshot, flow.destination, flow.address)
        if source and destination and not flow.question and not flow.echo:
            found[flow] = decide(snapshot, source, destination, port, flow.family)
    return found


def agreed(case: str, expected: Mapping[Flow, Expectation], found: Mapping[Flow, Ruling], world: World) -> dict[Flow, Expectation]:
    """The expectations, each with the rule that decides it. Raises Misused for one that the text of the API contradicts."""
    made = dict(expected)
    for flow, ruling in found.items():
        wanted = expected[flow]
        why = _short(ruling.why, world)
        if contradicts(ruling, wanted):
            raise Misused(f"{case} expects {flow} to be {_word(wanted.decision)}, and its policies say otherwise: {why}")
        if ruling.judged:
            made[flow] = replace(wanted, why=why)
    return made


def contradicts(ruling: Ruling, promised: Expectation) -> bool:
    """Whether the text says another thing of a flow than was promised; of what is only observed it cannot."""
    return ruling.judged and promised.decision in (Decision.ALLOW, Decision.DENY) and promised.decision is not ruling.decision


def _word(decision: Decision) -> str:
    return "allowed" if decision is Decision.ALLOW else "denied"


def _pods(world: World, changed: Labels) -> list[Pod]:
    found = []
    for obj in world.known_pods().values():
        pod = Pod.of(obj)
        found.append(replace(pod, labels=_with(pod.labels, changed.get(path("Pod", pod.name, pod.namespace), {}))))
    return found


def _namespaces(world: World, changed: Labels) -> dict[str, dict[str, str]]:
    found = {}
    for namespace in world.namespaces.values():
        where = path("Namespace", namespace)
        found[namespace] = _with(world.runner.api.get(where)["metadata"].get("labels") or {}, changed.get(where, {}))
    return found


def _with(labels: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    return {key: value for key, value in {**labels, **changes}.items() if value is not None}


def _end(world: World, snapshot: Snapshot, name: str, address: str) -> Endpoint | None:
    """Who stands at an end of a flow; None where that is not known: behind a Service, and whose address a client outside has on arrival."""
    pod = world.pods.get(name)
    if pod and (not address or address in pod.addresses.values()):
        return snapshot.pod(f"{pod.namespace}/{pod.pod}")
    return Outside(address, name) if address and name.startswith("outside/") else None


def _short(why: str, world: World) -> str:
    """In the words of the case: its namespaces by their letters, without the label that every selector carries."""
    for letter, name in world.namespaces.items():
        why = why.replace(name, letter)
    label = rf"{re.escape(WORLD)}=[^\s,)\]]+"
    return re.sub(rf",? ?{label}", "", re.sub(f"{label},", "", why))
