"""In which address families a run's cases are run, and how a case is run again."""

from __future__ import annotations

import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from netproof.cluster.settings import Settings
from netproof.model.flow import Family
from netproof.run import ground
from netproof.run.findings import Findings

V4, V6 = Family.IPV4, Family.IPV6


@pytest.mark.parametrize(
    ("asked", "has", "smoke", "chosen"),
    [
        ((), ("IPv4", "IPv6"), False, ("IPv4",)),
        ((), ("IPv6", "IPv4"), False, ("IPv6",)),
        ((), (), False, ("IPv4",)),
        ((V6,), ("IPv4", "IPv6"), False, ("IPv6",)),
        ((V6,), ("IPv4",), False, ("IPv6",)),
        ((V4, V6), ("IPv4", "IPv6"), False, ("IPv4", "IPv6")),
        ((V4, V6), ("IPv6", "IPv4"), True, ("IPv6",)),
        ((V4,), ("IPv6", "IPv4"), True, ("IPv4",)),
    ],
)
def test_the_families_of_a_run(asked: tuple[Family, ...], has: tuple[str, ...], smoke: bool, chosen: tuple[str, ...]) -> None:  # noqa: FBT001
    assert ground.families(asked, has, smoke=smoke) == chosen


@pytest.mark.parametrize(("case", "says"), [("NPI-02a/tcp/ipv6/pod-ip", True), ("NPI-02a/tcp/ipv4/pod-ip", False)])
def test_a_case_of_another_family_than_the_primary_one_is_repeated_in_its_own(case: str, says: bool) -> None:  # noqa: FBT001
    state: Any = SimpleNamespace(families=("IPv4", "IPv6"), provider="lab")
    settings = Settings(cluster="lab", run="r", folder=Path(), probe_image="")
    command = Findings(Path(), settings, state, ()).repeat(case)
    assert ("--netproof-family=ipv6" in command) is says
    assert command.endswith(f'-k "{case}"')


@pytest.mark.parametrize(("made", "keep", "stays"), [(True, False, False), (True, True, True), (False, False, True)])
def test_a_case_is_repeated_on_the_cluster_that_stays_and_with_the_same_images(made: bool, keep: bool, stays: bool) -> None:  # noqa: FBT001
    state: Any = SimpleNamespace(families=("IPv4",), provider="kind", name="mine", made=made, keep=keep)
    settings = Settings(cluster="kind", run="r", folder=Path(), probe_image="", cni="./my cni/", images={"agent": "x/agent:tonight"})
    expected = ["pytest", "--cluster=kind", "--cni=./my cni/", "--netproof-image=agent=x/agent:tonight", "-k", "NPI-02a/tcp"]
    if stays:
        expected.insert(2, "--cluster-name=mine")
    assert shlex.split(Findings(Path(), settings, state, ()).repeat("NPI-02a/tcp")) == expected


def test_a_context_that_is_named_as_a_provider_is_repeated_as_a_context() -> None:
    state: Any = SimpleNamespace(families=("IPv4",), provider="context")
    settings = Settings(cluster="kind", run="r", folder=Path(), probe_image="", provider="context", host_network=True)
    expected = ["pytest", "--cluster=context/kind", "--netproof-host-network", "-k", "NPI-02a/tcp"]
    assert shlex.split(Findings(Path(), settings, state, ()).repeat("NPI-02a/tcp")) == expected
