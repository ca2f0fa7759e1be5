"""A real kind cluster with Cilium for the tests marked `kind`: made once, used as an existing cluster, removed at the end."""

from __future__ import annotations

import os
import secrets
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from realcluster import ROOT, Kind, cluster_of


@pytest.fixture(scope="session")
def kind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kind]:
    """A three-node kind cluster with Cilium of this test run's own; with NETPROOF_TEST_KUBECONFIG the one named there."""
    yield from _cluster("cilium", "NETPROOF_TEST_KUBECONFIG", tmp_path_factory)


@pytest.fixture(scope="session")
def flannel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kind]:
    """One with flannel; with NETPROOF_TEST_FLANNEL the one of the kubeconfig named there."""
    yield from _cluster("flannel", "NETPROOF_TEST_FLANNEL", tmp_path_factory)


def _cluster(cni: str, variable: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kind]:
    from netproof.cluster.provider import provider_for
    from netproof.cluster.settings import Settings

    site = tomllib.loads((ROOT / "netproof.toml").read_text()) if (ROOT / "netproof.toml").is_file() else {}
    image = str(site.get("probe-image", "docker.io/library/python:3.13-alpine"))
    if given := os.environ.get(variable):
        yield cluster_of(Path(given), image)
        return
    settings = Settings(
        cluster="kind",
        provider="kind",
        run=f"t{secrets.token_hex(2)}",
        folder=tmp_path_factory.mktemp("cluster"),
        cni=cni,
        manifests=site.get("manifest", {}),
        probe_image=image,
        kind_image=site.get("kind-image"),
        kind_bin=Path(site["kind-bin"]) if "kind-bin" in site else None,
        kubectl_bin=Path(site["kubectl-bin"]) if "kubectl-bin" in site else None,
        token_sha256="0" * 64,
    )
    provider = provider_for(settings)
    state = provider.up(settings, lambda *_: None)
    try:
        yield cluster_of(settings.folder / "kubeconfig", image)
    finally:
        provider.down(state, lambda *_: None)
