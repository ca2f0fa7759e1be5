"""The cluster on which a measurement is made: kind with Cilium, made for it and removed afterwards, or one that is there already."""

from __future__ import annotations

import hashlib
import secrets
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netproof.cluster import registry
from netproof.cluster.provider import provider_for
from netproof.cluster.settings import Settings
from netproof.cluster.state import ClusterState
from netproof.cluster.teardown import remove_namespaces
from netproof.kube.client import Api, connect
from netproof.options import DEFAULT_PROBE_IMAGE, SITE_FILE, Said

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Place:
    """A cluster that is ready. `token` is the one that its agents outside the cluster ask for."""

    settings: Settings
    state: ClusterState
    token: str

    def api(self) -> Api:
        """A client of one's own."""
        return connect(Path(self.state.kubeconfig) if self.state.kubeconfig else None, self.state.context)

    def options(self) -> list[str]:
        """What a run of pytest needs to use this cluster as a context."""
        kubeconfig = [f"--netproof-kubeconfig={self.state.kubeconfig}"] if self.state.kubeconfig else []
        return [f"--cluster=context/{self.state.context}", f"--netproof-probe-image={self.settings.probe_image}", *kubeconfig]


def site() -> Mapping[str, Any]:
    """The checkout's site file; empty where there is none."""
    file = ROOT / SITE_FILE
    return tomllib.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


@contextmanager
def cluster(*, context: str = "", kubeconfig: str = "", name: str = "") -> Iterator[Place]:
    """The context where one is named, else the kind cluster of that name where it is there, else a new one that goes afterwards.

    The measurement's own namespaces go in any case.
    """
    token, run = secrets.token_hex(16), f"b{secrets.token_hex(2)}"
    with tempfile.TemporaryDirectory() as folder:
        digest = hashlib.sha256(token.encode()).hexdigest()
        settings = _settings(run, Path(folder), digest, context=context, kubeconfig=kubeconfig, name=name)
        registry.register(settings)
        state = None
        try:
            state = provider_for(settings).up(settings, tell)
            print(f"{state.name}: {state.versions}", flush=True)
            yield Place(settings, state, token)
        finally:
            if state:
                remove_namespaces(Place(settings, state, token).api(), run, 60, tell)
                provider_for(settings).down(state, tell)
            registry.forget(run)


def _settings(run: str, folder: Path, digest: str, *, context: str, kubeconfig: str, name: str) -> Settings:
    found = site()
    said = Said({}, found)
    path = {key: Path(found[key]) if key in found else None for key in ("kind-bin", "kubectl-bin")}
    return Settings(
        cluster=context or "kind",
        provider="context" if context else "kind",
        run=run,
        folder=folder,
        cni="cilium",
        manifests=said.pairs("manifest"),
        images=said.pairs("image"),
        probe_image=found.get("probe-image", DEFAULT_PROBE_IMAGE),
        kind_image=found.get("kind-image"),
        kind_bin=path["kind-bin"],
        kubectl_bin=path["kubectl-bin"],
        token_sha256=digest,
        kubeconfig=Path(kubeconfig) if kubeconfig else None,
        cluster_name=name or None,
    )


def tell(what: str, waited: float, limit: float) -> None:
    """Progress, for people."""
    print(f"  … {what}, {waited:.0f} s of at most {limit:.0f} s", file=sys.stderr, flush=True)
