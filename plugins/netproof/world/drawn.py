"""A generated set of policies as a case sees it: the same for every world, with the addresses and names of the one it is in."""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from netproof.drawing import FEATURES, Drawn, Stage, Way, draw
from netproof.drawing.stage import Object, resolved
from netproof.model.flow import Family, Flow
from netproof.oracle import Outside, Pod
from netproof.world import pods
from netproof.world.language import CaseWorld
from netproof.world.world import LETTERS

_NODES = {"a": "one", "b": "two", "c": "one"}  # as `placement.place` has them
_OUTSIDE = {Family.IPV4: ("192.0.2.1", "192.0.2.2"), Family.IPV6: ("2001:db8::1", "2001:db8::2")}


@dataclass(frozen=True, slots=True)
class DrawnSet:
    """The set of a name (`s1-17`: seed and number). Its policies and flows are those of the world that the case is in now."""

    name: str
    features: frozenset[str]
    world: CaseWorld

    @property
    def policies(self) -> list[Object]:
        """The policies, to be applied."""
        return self.placed(self.drawing.policies)

    @property
    def flows(self) -> list[Flow]:
        """The flows to be probed."""
        return [self.flow(way) for way in self.drawing.ways]

    @property
    def pod_blocks(self) -> bool:
        """Whether the cluster claims that ipBlocks match the addresses of pods."""
        return "NetworkPolicyIPBlockPods" in self.features

    @property
    def drawing(self) -> Drawn:
        """The set as it was drawn."""
        seed, _, number = self.name.removeprefix("s").partition("-")
        return _drawing(self.features, self.world.family, int(seed), int(number))

    @property
    def stage(self) -> Stage:
        """The world that it was drawn for."""
        return stage(self.features, self.world.family)

    @property
    def addresses(self) -> dict[str, str]:
        """Of the standing pods and of the agents outside, by their names."""
        standing = self.world.case.world.pods
        found = {name: self.world.pod(name).address for name in standing if name.partition("/")[2] in pods.STANDING}
        return found | ({f"outside/{name}": self.world.outside(name).address for name in "ab"} if "Outsider" in self.features else {})

    def placed(self, policies: Sequence[Object]) -> list[Object]:
        """Policies of a drawing with the addresses and the names of this world."""
        return resolved(policies, self.addresses, self.world.case.world.namespaces)

    def shown(self, policies: Sequence[Object]) -> list[Object]:
        """Policies of a drawing for people: with the addresses of this world, and letters for namespaces."""
        found = resolved(policies, self.addresses)
        return [policy | {"spec": {"podSelector": {}} | policy["spec"]} for policy in found]  # left out it selects everything

    def flow(self, way: Way) -> Flow:
        """A flow of a drawing in this world."""
        return self.world.agent(way.source).to(self.world.agent(way.destination).on(way.port))


def relevant(lacking: Collection[str]) -> frozenset[str]:
    """The features that sets are drawn with, where a cluster lacks these."""
    return frozenset(FEATURES) - set(lacking)


@functools.cache
def stage(features: frozenset[str], family: Family) -> Stage:
    """A world like those of all workers, at addresses of its own."""
    outside = tuple(Outside(address, f"outside/{name}") for name, address in zip("ab", _OUTSIDE[family], strict=True))
    labels = {letter: pods.namespace_traits(letter) for letter in LETTERS}
    return Stage(tuple(_pods()), labels, outside if "Outsider" in features else (), features, family)


def _pods() -> list[Pod]:
    names = [(letter, name) for letter in LETTERS for name in pods.STANDING]
    return [
        Pod(
            namespace=letter,
            name=name,
            node=_NODES[name],
            addresses={Family.IPV4: f"198.18.{'b' in name:d}.{i}", Family.IPV6: f"fd00:0:0:{'b' in name:d}::{i:x}"},
            labels=pods.traits(f"{letter}/{name}"),
            ports=frozenset(pods.port_names(name).items()),
        )
        for i, (letter, name) in enumerate(names, 1)
    ]


@functools.lru_cache(maxsize=4)
def _drawing(features: frozenset[str], family: Family, seed: int, number: int) -> Drawn:
    return draw(stage(features, family), seed=seed, number=number)
