"""What the oracle is asked about, and what it answers."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from netproof.model.flow import Family, Port, Protocol
from netproof.model.history import Decision
from netproof.oracle.fields import Field

ENDED = ("Succeeded", "Failed")  # phases in which "all containers in the pod have terminated" (API reference, PodStatus.phase)


class Direction(enum.StrEnum):
    """An element of `policyTypes`: which traffic of the pods that it selects a policy is about."""

    EGRESS = "Egress"
    INGRESS = "Ingress"


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod as policies see it. `ports` are the names that its containers give to ports."""

    namespace: str
    name: str
    node: str
    addresses: Mapping[Family, str]
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: frozenset[tuple[str, Port]] = frozenset()
    host_network: bool = False
    phase: str = "Running"

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"

    @property
    def ended(self) -> bool:
        """Whether it will never send or receive again: its address may be another's by now."""
        return self.phase in ENDED

    @staticmethod
    def of(obj: Mapping[str, object]) -> Pod:
        """The pod that an API object describes. Raises PolicyError where a field is not what the API says."""
        whole = Field("Pod", "", obj)
        meta, spec, status = whole.at("metadata"), whole.at("spec"), whole.at("status")
        texts = [entry.at("ip").text() for entry in status.at("podIPs").items()]
        return Pod(
            namespace=meta.at("namespace").text(),
            name=meta.at("name").text(),
            node=spec.at("nodeName").text() if spec.at("nodeName").given else "",
            addresses={Family.of(text): text for text in texts},
            labels={key: value.text() for key, value in meta.at("labels").entries()},
            ports=frozenset(_named_ports(spec)),
            host_network=spec.at("hostNetwork").value is True,
            phase=status.at("phase").text() if status.at("phase").given else "Pending",
        )


@dataclass(frozen=True, slots=True)
class Outside:
    """An address that no pod of the pod network has: a host elsewhere, or a node.

    It is the address that the policy sees. "Cluster ingress and egress mechanisms often require rewriting the source or destination IP of
    packets": for a Service's address name the pod behind it instead, and for a client behind a NAT whatever stands in its place.
    """

    address: str
    name: str = ""  # for people


Endpoint = Pod | Outside


@dataclass(frozen=True, slots=True, order=True)
class Clause:
    """A rule of a policy, and what it says in a few words."""

    policy: str  # namespace/name
    direction: Direction
    index: int
    text: str

    def __str__(self) -> str:
        return f"{self.policy} {self.direction.lower()}[{self.index}] ({self.text})"


@dataclass(frozen=True, slots=True, order=True)
class Isolation:
    """A pod that is isolated in a direction, and the policies, sorted, that make it so."""

    pod: str  # namespace/name
    direction: Direction
    policies: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.pod} is isolated for {self.direction.lower()} by {', '.join(self.policies)}"


@dataclass(frozen=True, slots=True)
class Ruling:
    """What becomes of a flow, and why.

    `decision` is ALLOW, DENY, or OBSERVE where nothing is promised; `not_judged_because` then says why not. `allowed_by` holds every rule
    that lets the flow pass, of the source's policies and of the destination's, and does so too where the other side denies it.
    `denied_by` holds the isolation of each side that lets it not pass. `rests_on_block` is "pod" or "node" where it is allowed only by an
    ipBlock that holds the address of such a one: "these should be cluster-external IPs", so that is a claim of its own.
    """

    decision: Decision
    why: str
    allowed_by: tuple[Clause, ...] = ()
    denied_by: tuple[Isolation, ...] = ()
    not_judged_because: str = ""
    rests_on_block: str = ""

    @property
    def judged(self) -> bool:
        """Whether anything is promised of this flow."""
        return not self.not_judged_because


def _named_ports(spec: Field) -> Iterator[tuple[str, Port]]:
    """Of containers, and of init containers that keep running: `restartPolicy` Always makes one a sidecar."""
    sidecars = [entry for entry in spec.at("initContainers").items() if entry.at("restartPolicy").value == "Always"]
    for container in [*spec.at("containers").items(), *sidecars]:
        for port in container.at("ports").items():
            if port.at("name").given:
                protocol = Protocol(port.at("protocol").text()) if port.at("protocol").given else Protocol.TCP  # "Defaults to "TCP""
                yield port.at("name").text(), protocol(port.at("containerPort").number())
