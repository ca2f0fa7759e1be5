"""The objects that a world consists of, made from `manifests/probe/` by filling in what is this run's."""

from __future__ import annotations

import copy
import functools
import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from netproof import files
from netproof.model.flow import TCP, UDP, Family, Port
from netproof.probe import agent
from netproof.world import labels
from netproof.world.placement import Node

CONTROL_PORT = 9600  # on the pod's loopback
READY_PORT = 9601  # open while a pod with `readiness` shall be Ready: the kubelet's probe connects to it
PORTS = (TCP(8080), UDP(8080), TCP(8081), UDP(8081))
STANDING = ("a", "b", "c")  # the pods that every namespace of a world has
RECORDS = "/netproof-first"  # where an init container leaves what it saw
SILENCE = 120  # seconds without a word from the runner after which an agent ends
# Labels for selectors, from birth: a pod that is relabelled gets a new identity, which takes some implementations many seconds.
TRAITS: Mapping[str, dict[str, str]] = {
    "a": {"rank": "high"},
    "b": {"tier": "back", "rank": "", "size": "big"},
    "c": {"tier": "front", "spare": "", "size": "big"},
}
# The same for pods that go by different labels in each namespace, and for namespaces.
APPS: Mapping[str, str] = {"x/a": "web", "x/b": "db", "y/a": "db", "y/c": "web", "z/a": "", "z/b": "web", "z/c": "db"}
NAMESPACE_TRAITS: Mapping[str, dict[str, str]] = {
    "x": {"env": "prod"},
    "y": {"env": "test", "shared": "", "stage": "test"},
    "z": {"shared": "", "stage": ""},
}

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Pod:
    """A probe pod as it runs. `name` is short (`x/a`), `namespace` and `pod` are the API's; `control` is its agent's port on loopback."""

    name: str
    namespace: str
    pod: str
    uid: str
    node: str
    addresses: Mapping[Family, str]
    control: int = CONTROL_PORT


@dataclass(frozen=True, slots=True)
class Birth:
    """What a pod is made for whose first instant is looked at: labels beyond the usual, and what its containers are told to do first.

    `init` is empty where it has no init container.
    """

    labels: Mapping[str, str]
    main: str
    init: str = ""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What the objects of one world share."""

    run: str
    world: str
    token: str
    image: str

    @property
    def labels(self) -> dict[str, str]:
        return {labels.RUN: self.run, labels.WORLD: self.key}

    @property
    def key(self) -> str:
        """What every object of this world carries, and those of no other."""
        return f"{self.run}-{self.world}"


def agent_settings(run: str, token: str) -> str:
    """The agent's configuration as its environment holds it. The token itself is not in it, so nothing secret reaches the API."""
    digest = hashlib.sha256(token.encode()).hexdigest()
    ports = [str(port) for port in PORTS]
    return json.dumps({"run": run, "token_sha256": digest, "control": CONTROL_PORT, "ports": ports, "silence": SILENCE})


def namespace(name: str, letter: str, recipe: Recipe) -> Object:
    """A namespace of the world; `ns: x` is what namespace selectors of cases speak of."""
    made = _template("namespace.yaml")
    made["metadata"]["name"] = name
    made["metadata"]["labels"] |= recipe.labels | namespace_traits(letter)
    return made


def namespace_traits(letter: str) -> dict[str, str]:
    """The labels of a namespace of the world that selectors can speak of."""
    return {"ns": letter, **NAMESPACE_TRAITS.get(letter, {})}


def traits(name: str) -> dict[str, str]:
    """The labels that a pod (`x/a`) has from birth for selectors to speak of."""
    own = name.partition("/")[2]
    return {"pod": own, **TRAITS.get(own, {}), **({"app": APPS[name]} if name in APPS else {})}


def program(namespace: str, recipe: Recipe) -> Object:
    """The ConfigMap with the agent's program."""
    metadata = {"name": "netproof-agent", "namespace": namespace, "labels": recipe.labels}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"agent.py": _source()}}


def pod(key: str, namespace: str, node: Node, recipe: Recipe, *, readiness: bool = False, birth: Birth | None = None) -> Object:
    """A probe pod (`x/a`) for that node. With `readiness` it is Ready only while its agent listens on READY_PORT."""
    name = key.partition("/")[2]
    made = _template("pod.yaml")
    made["metadata"] |= {"name": name, "namespace": namespace}
    made["metadata"]["labels"] |= recipe.labels | traits(key) | _sets(name)
    spec = made["spec"]
    spec["nodeSelector"] = {"kubernetes.io/hostname": node.hostname}
    container = spec["containers"][0]
    container["image"] = recipe.image
    container["env"] += [
        {"name": "NETPROOF_POD", "value": f"{namespace}/{name}"},
        {"name": "NETPROOF_AGENT", "value": agent_settings(recipe.run, recipe.token)},
    ]
    container["ports"] = [*({"containerPort": p.number, "protocol": str(p.protocol), "name": n} for n, p in port_names(name).items())]
    if readiness:
        container["readinessProbe"] = {"tcpSocket": {"port": READY_PORT}, "periodSeconds": 1, "failureThreshold": 1}
    if birth:
        _prepare(made, birth)
    return made


def _prepare(made: Object, birth: Birth) -> None:
    """Have the containers do first what they shall. What the init container saw reaches the agent through a volume that both have."""
    made["metadata"]["labels"] |= birth.labels
    container, spec = made["spec"]["containers"][0], made["spec"]
    if birth.init:
        spec["volumes"] += [{"name": "first", "emptyDir": {}}]
        container["volumeMounts"] += [{"name": "first", "mountPath": RECORDS}]
        before = {key: value for key, value in copy.deepcopy(container).items() if key not in ("ports", "readinessProbe")}
        command = [*container["command"][:-1], "first"]
        spec["initContainers"] = [before | {"name": "first", "command": command, "env": before["env"] + _first(birth.init)}]
    container["env"] += _first(birth.main)


def _first(settings: str) -> list[Object]:
    return [{"name": "NETPROOF_FIRST", "value": settings}]


def port_names(pod: str) -> dict[str, Port]:
    """The names of a probe pod's ports. `web` is TCP/8080 and UDP/8080 is `web-udp`, but in pods called b, where both are 8081."""
    main, other = (8081, 8080) if pod == "b" else (8080, 8081)
    return {"web": TCP(main), "web-udp": UDP(main), "other": TCP(other), "other-udp": UDP(other)}


def _sets(name: str) -> dict[str, str]:
    """The labels of every set of standing pods that this one belongs to. A label put on a running pod would give it a new identity."""
    sets = itertools.chain.from_iterable(itertools.combinations(STANDING, size) for size in range(1, len(STANDING) + 1))
    return {labels.SET + "".join(chosen): "yes" for chosen in sets if name in chosen}


def running(name: str, obj: Mapping[str, Any]) -> Pod:
    """The pod as the API shows it once it has its addresses."""
    addresses = {Family.of(entry["ip"]): entry["ip"] for entry in obj["status"]["podIPs"]}
    meta = obj["metadata"]
    return Pod(name, meta["namespace"], meta["name"], meta["uid"], obj["spec"]["nodeName"], addresses)


@functools.cache
def _source() -> str:
    return Path(agent.__file__).read_text()


@functools.cache
def _parsed(name: str) -> Object:
    parsed: Object = yaml.safe_load((files.manifests() / "probe" / name).read_text())
    return parsed


def _template(name: str) -> Object:
    return copy.deepcopy(_parsed(name))
