"""Everything that the user said about the cluster of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

RESERVED = ("kind", "lab")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Resolved (option, then environment, then site file, then default) and handed to a provider, which reads nothing else."""

    cluster: str  # kind, lab, or a context's name without its `context/`
    run: str  # the run's id: it names clusters, containers and namespaces, so it is a DNS label
    folder: Path  # the run's folder, absolute; the kubeconfig of a cluster that we make and the state are kept here
    probe_image: str
    provider: str = ""  # said where `cluster` leaves a doubt: `context/kind` is cluster="kind", provider="context"
    cni: str = ""  # a name in the catalogue, or a folder of the same form
    load_balancer: str = ""  # the same
    kubeconfig: Path | None = None  # to read, for contexts
    images: Mapping[str, str] = field(default_factory=dict)  # container or repository -> image or archive
    manifests: Mapping[str, str] = field(default_factory=dict)  # entry -> file that stands for its download
    claims: tuple[str, ...] = ()  # forced
    faults: tuple[str, ...] = ()  # of the lab
    kind_image: str | None = None
    kind_bin: Path | None = None
    kubectl_bin: Path | None = None
    cluster_name: str | None = None
    keep: bool = False
    host_network: bool = False  # on a context: pods on the nodes' network are allowed
    testbed: bool = False  # results of a from-source testbed stand apart
    token_sha256: str = ""  # of the token that the outsiders' agents ask for
    controller: int = 0  # process id of the run's controller; 0: this process

    @property
    def provider_name(self) -> str:
        """kind, lab or context."""
        return self.provider or (self.cluster if self.cluster in RESERVED else "context")

    @property
    def kind_cluster(self) -> str:
        """The name of the kind cluster: the user's, or one of this run's own."""
        return self.cluster_name or f"netproof-{self.run}"
