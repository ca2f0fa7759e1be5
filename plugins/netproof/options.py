"""What the user can say, and where: an option, then the environment, then the site file `netproof.toml`, then the default."""

from __future__ import annotations

import argparse
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from netproof.cluster.settings import RESERVED, Settings
from netproof.model.flow import Family
from netproof.problem import Problem

SITE_FILE = "netproof.toml"
MOST_POLICIES, MOST_SEED = 100_000, 10**12
DEFAULT_PROBE_IMAGE = "docker.io/library/python:3.13-alpine"

FAMILIES = {"ipv4": (Family.IPV4,), "ipv6": (Family.IPV6,), "both": (Family.IPV4, Family.IPV6)}

NO_CLUSTER = """\
a case needs a cluster: say which one.
    pytest --cluster=kind --cni=cilium -n 4      a kind cluster with that CNI, every suite, cluster removed afterwards
    pytest --cluster=prod                        the kubeconfig context `prod`: smoke; nothing but its own namespaces touched
    pytest --cluster=lab                         the embedded lab, no real cluster (Linux; needs no Docker, no registry)"""


@dataclass(frozen=True, slots=True)
class Option:
    """One option: `name` without dashes; `many` may be given more than once, and takes `KEY=VALUE` where `pairs`."""

    name: str
    help: str
    metavar: str = "NAME"
    many: bool = False
    pairs: bool = False
    flag: bool = False

    @property
    def dest(self) -> str:
        return "netproof_" + self.name.removeprefix("netproof-").replace("-", "_")

    @property
    def variable(self) -> str:
        return self.dest.upper()


OPTIONS = (
    Option("cluster", "where to run: kind, lab, or the name of a kubeconfig context (context/NAME reaches contexts named kind or lab)"),
    Option("cni", "the CNI: a name of `netproof cni list`, or a folder of the same form"),
    Option("loadbalancer", "what gives addresses to Services of type LoadBalancer: a catalogue name or a folder"),
    Option("netproof-kubeconfig", "the kubeconfig that names the context (default: KUBECONFIG, then ~/.kube/config)", "FILE"),
    Option("netproof-image", "swap an image of the CNI in: NAME is a container or a repository", "NAME=IMAGE", many=True, pairs=True),
    Option("netproof-manifest", "a local file in place of a catalogue entry's download", "NAME=FILE", many=True, pairs=True),
    Option("netproof-claim", "judge the CNI by this feature whatever its catalogue entry claims", "FEATURE", many=True),
    Option("netproof-probe-image", f"the probe pods' image, any with Python 3.9 or later (default: {DEFAULT_PROBE_IMAGE})", "IMAGE"),
    Option("netproof-family", "the address family of the cases: ipv4, ipv6 or both (default: the cluster's primary one)", "FAMILY"),
    Option("netproof-cap", "seconds from a change until the network must agree (default: lab 5, kind 30, context 120)", "SECONDS"),
    Option("netproof-budget", "seconds after which a right answer is called slow (default: none)", "SECONDS"),
    Option("netproof-burst", "attempts on a denied flow after it has settled (default: 100; allowed ones a fifth; smoke: 0)", "N"),
    Option("netproof-repeat", "how often each change is timed (default: lab 3, kind and context 10)", "N"),
    Option("netproof-all", "on a context: every suite instead of smoke", flag=True),
    Option("netproof-policies", "draw so many sets of policies and run them too (default: 0)", "N"),
    Option("netproof-seed", "what they are drawn from: the same seed draws the same sets (default: 1)", "S"),
    Option("netproof-host-network", "on a context: make pods on the nodes' network too, which need a privileged namespace", flag=True),
    Option("netproof-fault", "break the lab on purpose: an id of `netproof faults list`", "ID", many=True),
    Option("netproof-own-suites", argparse.SUPPRESS, flag=True),  # `netproof run` names the suites, the user did not
    Option("netproof-report", "the folder of report.json, junit.xml, report.html and evidence/ (default: netproof-report)", "FOLDER"),
    Option("netproof-deviations", "a file of known deviations (default: the one of the CNI in suites/deviations)", "FILE"),
)


def add(parser: pytest.Parser) -> None:
    """Register the options."""
    group = parser.getgroup("netproof", "Netproof: does a Kubernetes network keep its promises?")
    for option in OPTIONS:
        kind: dict[str, Any] = {"action": "store_true", "default": None} if option.flag else {"metavar": option.metavar}
        if option.many:
            kind |= {"action": "append"}
        group.addoption(f"--{option.name}", dest=option.dest, help=option.help, **kind)


@dataclass(frozen=True, slots=True)
class Said:
    """What was said, resolved. Values are text, lists of text, or mappings, by option name without the prefix."""

    values: Mapping[str, Any]
    site: Mapping[str, Any]

    def text(self, name: str, default: str = "") -> str:
        return str(self.values.get(name) or default)

    def number(self, name: str) -> float | None:
        """A number above or equal to 0; None where nothing was said. Raises Problem."""
        text = self.text(name)
        try:
            value = float(text) if text else None
        except ValueError:
            value = -1.0
        if value is not None and not 0 <= value < 1e9:
            raise Problem(f"--netproof-{name} wants a number of 0 or more, not {text!r}")
        return value

    def whole(self, name: str, *, default: int, most: int) -> int:
        """A whole number from 0 to `most`. Raises Problem."""
        text = self.text(name, str(default))
        if not (text.isascii() and text.isdigit() and len(text) <= len(str(most)) and int(text) <= most):
            raise Problem(f"--netproof-{name} wants a whole number from 0 to {most}, not {text!r}")
        return int(text)

    def families(self) -> tuple[Family, ...]:
        """The address families that were asked for; none where nothing was said. Raises Problem."""
        text = self.text("family").lower()
        if text and text not in FAMILIES:
            raise Problem(f"--netproof-family wants one of {', '.join(FAMILIES)}, not {text!r}")
        return FAMILIES.get(text, ())

    def pairs(self, name: str) -> dict[str, str]:
        """KEY=VALUE pairs; the site file's table of that name below them. Raises Problem."""
        found = {str(key): str(value) for key, value in self.site.get(name, {}).items()}
        for entry in self.values.get(name) or []:
            key, equals, value = entry.partition("=")
            if not (key and equals and value):
                raise Problem(f"--netproof-{name} wants NAME=VALUE, not {entry!r}")
            found[key] = value
        return found


def said(config: pytest.Config) -> Said:
    """All that was said. Raises Problem for a site file that cannot be used."""
    site = _site(config.rootpath, config.invocation_params.dir)
    return Said({option.name.removeprefix("netproof-"): _value(config, option, site) for option in OPTIONS}, site)


def draws(config: pytest.Config) -> tuple[str, ...]:
    """The names of the sets of policies to be drawn: `s1-1`, `s1-2` and so on. Raises Problem."""
    words = said(config)
    number = words.whole("policies", default=0, most=MOST_POLICIES)
    seed = words.whole("seed", default=1, most=MOST_SEED)
    return tuple(f"s{seed}-{i + 1}" for i in range(number))


def settings(config: pytest.Config, *, run: str, folder: Path, token_sha256: str, controller: int) -> Settings | None:
    """The settings of a run, None where no cluster was named. Raises Problem."""
    words = said(config)
    cluster = words.text("cluster")
    if not cluster:
        return None
    name = cluster.removeprefix("context/")
    provider = "context" if cluster.startswith("context/") or name not in RESERVED else name
    faults = tuple(words.values["fault"] or ())
    if faults and provider != "lab":
        raise Problem("--netproof-fault breaks the embedded lab, and nothing else: say --cluster=lab")
    kubeconfig = words.text("kubeconfig")
    return Settings(
        cluster=name,
        provider=provider,
        run=run,
        folder=folder,
        cni=words.text("cni"),
        load_balancer=words.text("loadbalancer"),
        kubeconfig=Path(kubeconfig).expanduser() if kubeconfig else None,
        images=words.pairs("image"),
        manifests=words.pairs("manifest"),
        claims=tuple(words.values["claim"] or ()),
        faults=faults,
        probe_image=words.text("probe-image", DEFAULT_PROBE_IMAGE),
        host_network=bool(words.values["host-network"]),
        testbed=bool(words.site.get("testbed")),
        token_sha256=token_sha256,
        controller=controller,
        **_of_pytest_kind(config, words.site),
    )


def _of_pytest_kind(config: pytest.Config, site: Mapping[str, Any]) -> dict[str, Any]:
    """The options that pytest-kind owns, read where it is installed; its default name is nobody's wish."""
    name = config.getoption("cluster_name", None)
    return {
        "kind_image": config.getoption("kind_image", None) or site.get("kind-image"),
        "kind_bin": _path(config.getoption("kind_bin", None) or site.get("kind-bin")),
        "kubectl_bin": _path(config.getoption("kind_kubectl_bin", None) or site.get("kubectl-bin")),
        "cluster_name": None if name == "pytest-kind" else name,
        "keep": bool(config.getoption("keep_cluster", None)),
    }


def _path(value: Any) -> Path | None:
    return Path(str(value)).expanduser() if value else None


def _value(config: pytest.Config, option: Option, site: Mapping[str, Any]) -> Any:
    given = config.getoption(option.dest, None)
    if given:
        return given
    environment = os.environ.get(option.variable) if option.name != "cluster" else None
    if environment:
        return environment.split() if option.many else environment
    return None if option.pairs or option.name == "cluster" else site.get(option.name.removeprefix("netproof-"))


_SITE_KEYS = {option.name.removeprefix("netproof-") for option in OPTIONS} | {"kind-image", "kind-bin", "kubectl-bin", "testbed"}


def _site(*folders: Path) -> Mapping[str, Any]:
    file = next((folder / SITE_FILE for folder in folders if (folder / SITE_FILE).is_file()), None)
    if file is None:
        return {}
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Problem(f"the site file {file} cannot be read: {error}") from error
    unknown = sorted(set(found) - _SITE_KEYS)
    if unknown:
        raise Problem(f"the site file {file} has unknown keys {', '.join(unknown)}; there are {', '.join(sorted(_SITE_KEYS))}")
    return found


def wants_smoke(config: pytest.Config, settings: Settings) -> bool:
    """Whether a run on a context is smoke: nothing was selected by paths, -m, -k or --netproof-all."""
    selected = config.option.markexpr or config.option.keyword or config.getoption("netproof_all", None)
    paths = config.args_source is pytest.Config.ArgsSource.ARGS and not config.getoption("netproof_own_suites", None)
    return settings.provider == "context" and not selected and not paths
