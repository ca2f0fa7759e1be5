"""A world: three namespaces x, y, z with pods a, b, c that belong to one worker, and the Services that its cases make."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from netproof.kube.client import NotFound
from netproof.kube.objects import path
from netproof.kube.wait import NotYet, until
from netproof.model.flow import Family, Flow, Port
from netproof.model.outcome import Outcome, Phase, Probe, Round
from netproof.problem import Problem
from netproof.world import labels, services
from netproof.world import pods as probes
from netproof.world.pace import hold
from netproof.world.placement import Node, place
from netproof.world.pods import Birth, Pod, Recipe
from netproof.world.runner import Runner
from netproof.world.services import Vip

LETTERS = ("x", "y", "z")
POD_LIMIT = 120.0  # seconds until all pods of a world run: image pulls included
_NO_BIRTHS: Mapping[str, Birth] = {}
_PULL_FAILED = ("ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName")


@dataclass(slots=True)
class World:
    """What exists of a world. `gate` is the last round of the mesh before anything was changed, `unreachable` what failed in it."""

    runner: Runner
    recipe: Recipe
    namespaces: dict[str, str]
    uids: dict[str, str] = field(default_factory=dict)  # of the namespaces
    pods: dict[str, Pod] = field(default_factory=dict)
    vips: dict[str, Vip] = field(default_factory=dict)
    _selectors: dict[str, dict[str, str]] = field(default_factory=dict)  # of the Services
    ended: set[str] = field(default_factory=set)  # pods that were removed during the case
    _numbers: int = 0
    _further: dict[str, str] = field(default_factory=dict)  # letters of further namespaces -> their names, for one case
    unsettled_until: float = -math.inf  # of the runner's clock: labels that were taken off before may still count
    gate: Round | None = None
    unreachable: tuple[Flow, ...] = ()
    _known: dict[str, dict[str, Any]] | None = None  # all its pods as the API had them; None since we changed something about them

    @property
    def is_settled(self) -> bool:
        """Whether labels that were taken off are surely gone."""
        return self.runner.clock() >= self.unsettled_until

    def outlasts_cases(self, where: str) -> bool:
        """Whether the object at a path of the API is one of its standing pods or their namespaces."""
        namespaces = [self.namespaces[letter] for letter in LETTERS]
        pods = (path("Pod", name, namespace) for namespace in namespaces for name in probes.STANDING)
        return where in {path("Namespace", namespace) for namespace in namespaces}.union(pods)

    def flow(self, source: str, destination: str, port: Port, family: Family) -> Flow:
        """The flow between two of its pods by pod IP."""
        return Flow(source, destination, self.pods[destination].addresses[family], port, family)

    def mesh(self, ports: Sequence[Port] = probes.PORTS, *, loopback: bool = False) -> list[Flow]:
        """Every ordered pair of its standing pods on those ports, in every family of the run in which both have an address.

        A pod to itself only with `loopback`.
        """
        names = [f"{letter}/{name}" for letter in LETTERS for name in "abc"]
        pairs = [pair for pair in itertools.product(names, names) if loopback or pair[0] != pair[1]]
        return [
            self.flow(a, b, port, family)
            for family in self.runner.families
            for port in ports
            for a, b in pairs
            if all(family in self.pods[name].addresses for name in (a, b))
        ]

    def stands(self, flow: Flow) -> bool:
        """Whether the pods at its ends, where it has such, are still those that it was made for."""
        pod = self.pods.get(flow.destination)
        return not {flow.source, flow.destination} & self.ended and (pod is None or flow.address in pod.addresses.values())

    def node_of(self, agent: str) -> str:
        """The node on which an agent stands; empty for one outside."""
        return self.pods[agent].node if agent in self.pods else ""

    def label_pods(self, values: Mapping[str, str | None], names: Iterable[str] | None = None) -> None:
        """Set or (with None) remove labels on its pods."""
        self.forget_pods()
        for name in list(self.pods) if names is None else names:
            pod = self.pods[name]
            self.runner.api.patch(path("Pod", pod.pod, pod.namespace), {"metadata": {"labels": dict(values)}})

    def add_pods(
        self,
        wanted: Mapping[str, Node],
        *,
        readiness: bool = False,
        labels: Mapping[str, str] | None = None,
        births: Mapping[str, Birth] = _NO_BIRTHS,
    ) -> list[Pod]:
        """Further pods (`x/ready-0`), on those nodes, with these labels, their agents answering. They live as long as the world.

        Raises Problem for an image that cannot be pulled, Late where they don't run in time.
        """
        objects = {}
        for name, node in wanted.items():
            namespace = self.namespaces[name.partition("/")[0]]
            objects[name] = probes.pod(name, namespace, node, self.recipe, readiness=readiness, birth=births.get(name))
            objects[name]["metadata"]["labels"] |= labels or {}
        return self.start(objects)

    def start(self, objects: Mapping[str, Mapping[str, Any]], *, control: int = probes.CONTROL_PORT) -> list[Pod]:
        """Make these pods, whose agents listen to us on `control`, as `add_pods` does."""
        self.forget_pods()
        for obj in objects.values():
            self.runner.api.create(obj)
        made = [replace(pod, control=control) for pod in self._await_pods(set(objects))]
        self.pods |= {pod.name: pod for pod in made}
        self.ended -= set(objects)
        self.runner.fleet.add_many({pod.name: self.runner.dial_pod(pod) for pod in made}, limit=POD_LIMIT)
        return made

    def remove_pods(self, names: Iterable[str]) -> None:
        """Delete pods that `add_pods` made."""
        self.forget_pods()
        for name in names:
            pod = self.pods.pop(name)
            self.ended.add(name)
            self.runner.fleet.drop(name)
            self.runner.api.delete(path("Pod", pod.pod, pod.namespace), uid=pod.uid, grace=0)

    def await_removal(self, where: str, what: str) -> None:
        """Wait until the API no longer has an object. Raises Late."""

        def gone() -> bool | None:
            try:
                self.runner.api.get(where)
            except NotFound:
                return True
            return None

        until(gone, what=f"the end of {what}", limit=POD_LIMIT, progress=self.runner.progress)

    def add_namespace(self, letter: str, labels: Mapping[str, str]) -> None:
        """A further namespace with these labels. It lives as long as the case; made again in one case, it has the same name."""
        name = self._further.setdefault(letter, f"{self.namespaces[LETTERS[0]][:-1]}{letter}{self.next_number()}")
        obj = probes.namespace(name, letter, self.recipe)
        obj["metadata"]["labels"] |= labels
        self.uids[letter] = self.runner.api.create(obj)["metadata"]["uid"]
        self.runner.api.create(probes.program(name, self.recipe))
        self.namespaces[letter] = name
        self.forget_pods()

    def remove_namespace(self, letter: str) -> str:
        """Delete a further namespace and let the agents in it go; its path in the API, whence it is gone only some time later."""
        self.remove_pods([name for name in self.pods if name.partition("/")[0] == letter])
        where = path("Namespace", self.namespaces.pop(letter))
        self.runner.api.delete(where, uid=self.uids.pop(letter))
        return where

    def service(
        self,
        name: str,
        letter: str,
        ports: Mapping[Port, int | str],
        *,
        selects: Sequence[str],
        labels: Mapping[str, str] | None = None,
        **spec: Any,
    ) -> Vip:
        """Make a Service in a namespace of the world that selects these pods; `labels` are its own, beside those of the run."""
        selector = self._selector(name, selects)
        own = {**(labels or {}), **self.recipe.labels}
        obj = services.service(name, self.namespaces[letter], ports, own, selector=selector, **spec)
        self.vips[name] = vip = services.vip(self.runner.api.create(obj))
        self._selectors[name] = selector
        return vip

    def select(self, vip: Vip, names: Sequence[str]) -> None:
        """Make these pods, and no others, the ones that a Service selects."""
        before, now = self._selectors[vip.name], self._selector(vip.name, names)
        selector = dict.fromkeys(before) | now
        self.runner.api.patch(path("Service", vip.name, vip.namespace), {"spec": {"selector": selector}})
        self._selectors[vip.name] = now

    def clear(self) -> None:
        """Delete the Services and the further pods and namespaces that the last case made."""
        for vip in self.vips.values():
            self.runner.api.delete(path("Service", vip.name, vip.namespace), uid=vip.uid)
        self.vips.clear()
        self._selectors.clear()
        for letter in [letter for letter in self.namespaces if letter not in LETTERS]:
            self.remove_namespace(letter)
        self._further.clear()
        self.remove_pods([name for name in self.pods if name.partition("/")[2] not in probes.STANDING])
        self.ended.clear()

    def next_number(self) -> int:
        """A number that no pod of this world has had: a name that is used again might still be the former pod's."""
        self._numbers += 1
        return self._numbers

    def _selector(self, service: str, names: Sequence[str]) -> dict[str, str]:
        """A selector of just these pods. Standing pods carry the labels of all their sets from birth; others are labelled now."""
        if all(name.partition("/")[2] in probes.STANDING for name in names):
            return {labels.SET + ("".join(sorted(name.partition("/")[2] for name in names)) or "none"): "yes"}
        label = f"{labels.SELECTED}{service}-{len(self._selectors)}"
        self.label_pods({label: "yes"}, names)
        return {label: "yes"}

    def discard(self) -> None:
        """Give the world up: its agents are let go and its namespaces deleted, without waiting for their end.

        The pods go without grace, as in `cluster.teardown.remove_namespaces`.
        """
        for name in self.pods:
            self.runner.fleet.drop(name)
        for letter, name in self.namespaces.items():
            self.runner.api.delete(path("Namespace", name), uid=self.uids[letter])
        for pod in self.pods.values():
            self.runner.api.delete(path("Pod", pod.pod, pod.namespace), uid=pod.uid, grace=0)

    def _await_pods(self, names: set[str]) -> list[Pod]:
        there: dict[str, dict[str, Any]] = {}

        def arrived() -> list[Pod] | None:
            letters = {name.partition("/")[0] for name in names - set(there)}
            seen = self.list_pods(letters)
            there.update({name: obj for name, obj in seen.items() if name in names and _is_running(obj)})
            missing = sorted(names - set(there))
            if not missing:
                return [probes.running(name, there[name]) for name in sorted(names)]
            raise NotYet(_what_holds_up(missing, seen))

        return until(arrived, what=f"{len(names)} probe pods to run", limit=POD_LIMIT, progress=self.runner.progress)

    def known_pods(self) -> dict[str, dict[str, Any]]:
        """All its pods by short name, as the API had them when it was last asked, if we changed nothing about them since."""
        if self._known is None:
            self._known = self.list_pods()
        return self._known

    def learn_pods(self) -> bool:
        """Ask the API for its pods; whether others have other labels than was known, though nobody here changed them."""
        before, self._known = self._known, self.list_pods()
        return before is not None and _labels_of(before) != _labels_of(self._known)

    def forget_pods(self) -> None:
        """Something about its pods is being changed: who asks next wants to know it anew."""
        self._known = None

    def list_pods(self, letters: Collection[str] | None = None) -> dict[str, dict[str, Any]]:
        """The pods of its namespaces, or of some of them, as the API has them, by short name."""
        found = {}
        for letter, namespace in self.namespaces.items():
            if letters is not None and letter not in letters:
                continue
            for obj in self.runner.api.list(path("Pod", namespace=namespace)):
                found[f"{letter}/{obj['metadata']['name']}"] = obj
        return found


def make(runner: Runner, number: int) -> World:
    """Make a world and prove its mesh: nine pods in three namespaces, agents answering, every pair probed on TCP and UDP.

    A mesh that is not whole is no error here: `unreachable` says what failed, and the cases on those flows will be inconclusive.
    Raises Problem where the cluster can't hold it (an image that can't be pulled), Late where it does not come up in time.
    """
    recipe = Recipe(runner.run, f"{runner.worker}-{number}", runner.token, runner.image)
    world = World(runner, recipe, {letter: f"netproof-{runner.run}-{runner.worker}-{number}-{letter}" for letter in LETTERS})
    for letter, name in world.namespaces.items():
        world.uids[letter] = runner.api.create(probes.namespace(name, letter, recipe))["metadata"]["uid"]
        runner.api.create(probes.program(name, recipe))
    nodes = place(runner.nodes)
    world.add_pods({f"{letter}/{name}": node for letter in LETTERS for name, node in nodes.items()})
    _prove_mesh(world)
    return world


def _prove_mesh(world: World) -> None:
    flows = world.mesh()
    deadline = world.runner.clock() + world.runner.limits.cap
    while True:
        world.gate = world.runner.fleet.round(flows, Phase.CONTROL)
        world.unreachable = tuple(probe.flow for probe in world.gate.probes if not _answered(probe))
        if not world.unreachable or world.runner.clock() > deadline:
            return
        hold(world.runner, world.gate.began)


def _labels_of(pods: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {name: obj["metadata"].get("labels") for name, obj in pods.items()}


def _answered(probe: Probe) -> bool:
    return any(a.outcome is Outcome.CONNECTED and a.responder == probe.flow.destination for a in probe.attempts)


def _is_running(obj: Mapping[str, Any]) -> bool:
    status = obj.get("status", {})
    return status.get("phase") == "Running" and bool(status.get("podIPs"))


def _what_holds_up(missing: Sequence[str], seen: Mapping[str, Mapping[str, Any]]) -> str:
    waiting = {name: _waiting(seen[name]) if name in seen else ("", "not created yet") for name in missing}
    name = next((name for name, (reason, _) in waiting.items() if reason in _PULL_FAILED), missing[0])
    reason, message = waiting[name]
    if reason in _PULL_FAILED:
        image = seen[name]["spec"]["containers"][0]["image"]
        node = seen[name]["spec"].get("nodeName", "?")
        raise Problem(f"the probe image {image} can't be had on node {node} ({reason}: {message}); name another by --netproof-probe-image")
    return f"{len(missing)} missing, {name}: {reason} {message}".strip()


def _waiting(obj: Mapping[str, Any]) -> tuple[str, str]:
    """Why a pod does not run yet: what its container or, before there is one, the scheduler says."""
    status = obj.get("status", {})
    for container in status.get("containerStatuses", []):
        state = container.get("state", {})
        for entry in (state.get("waiting"), state.get("terminated")):
            if entry:
                return entry.get("reason", ""), entry.get("message", "")
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] != "True":
            return condition.get("reason", ""), condition.get("message", "")
    return status.get("phase", ""), status.get("reason", "")
