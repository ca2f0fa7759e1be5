"""The catalogue: what is in it, and one sentence for each way to get an entry wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from netproof.cluster import catalogue
from netproof.cluster.catalogue import Reference, VersionCommand
from netproof.problem import Problem

GOOD = """
version = "1"
homepage = "https://example.org"
claims = ["NetworkPolicy"]
[source]
manifest = "install.yaml"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "vendor").mkdir()
    (tmp_path / "vendor" / "install.yaml").write_text("")
    return tmp_path / "vendor"


def _load(folder: Path, text: str) -> catalogue.Entry:
    (folder / "cni.toml").write_text(text)
    return catalogue.load(f"{folder}/", "cni")


@pytest.mark.parametrize("kind", catalogue.KINDS)
def test_every_entry_of_the_catalogue_loads(kind):
    found = catalogue.entries(kind)
    assert [entry.name for entry in found] == catalogue.names(kind)
    assert all(entry.detect and entry.logs and entry.source.location for entry in found)


def test_what_the_entries_say():
    cilium, flannel = catalogue.load("cilium"), catalogue.load("flannel")
    assert "NetworkPolicy" in cilium.claims
    assert not cilium.source.pinned
    assert "NetworkPolicy" not in flannel.claims
    assert flannel.source.pinned
    assert Reference(kind="DaemonSet", namespace="kube-flannel", name="kube-flannel-ds") in flannel.detect
    assert catalogue.load("metallb", "loadbalancer").pool


def test_a_folder_of_ones_own(folder):
    entry = _load(folder, GOOD)
    assert (entry.name, entry.source.kind, entry.source.location) == ("vendor", "manifest", str(folder / "install.yaml"))
    assert entry.source.pinned


def test_an_unknown_name_lists_those_there_are():
    with pytest.raises(Problem, match=r"no cni entry is called 'cillium': there are cilium, flannel"):
        catalogue.load("cillium")


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(Problem, match=r"there is no folder .*nowhere for --cni"):
        catalogue.load(f"{tmp_path}/nowhere/")


def test_a_folder_without_an_entry(tmp_path):
    with pytest.raises(Problem, match=r"has no cni\.toml"):
        catalogue.load(f"{tmp_path}/")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("claims = [", "claims = "), r"is no TOML: .*line 4"),
        (('version = "1"', ""), r"version is missing: a string is expected"),
        (('version = "1"', "version = 1"), r"version is 1, and a string is expected"),
        (('version = "1"', 'version = "1"\ncolour = "red"'), r"colour is no key; there are version, homepage, source"),
        (('"NetworkPolicy"', '"Networking"'), r"'Networking' is no feature that can be claimed; there are NetworkPolicy"),
        (("[source]", "[elsewhere]"), r"elsewhere is no key"),
        (('[source]\nmanifest = "install.yaml"', ""), r"source is missing: a table is expected"),
        (('manifest = "install.yaml"', 'sha256 = ""'), r"source needs either manifest or chart"),
        (('manifest = "install.yaml"', 'manifest = "other.yaml"'), r"source\.manifest names other\.yaml, which is no file of"),
        (('"install.yaml"', '"install.yaml"\nvalues = []'), r"source\.values is for charts"),
        (('"install.yaml"', '"https://example.org/a.yaml"'), r"source\.sha256 is missing"),
        (('"install.yaml"', '"https://example.org/a.yaml"\nsha256 = "F00"'), r"source\.sha256 is no SHA-256 digest"),
        (("[source]", 'pool = ["install.yaml"]\n[source]'), r"pool belongs to a loadbalancer\.toml"),
        (("[source]", 'overlay = ["ptp.yaml"]\n[source]'), r"overlay names ptp\.yaml, which is no file of"),
        (("[source]", '[[ready]]\nname = "x"\n[source]'), r"ready\.kind is missing"),
        (("[source]", "[conntrack]\ntcp = 0\n[source]"), r"conntrack\.tcp is 0, and a number is expected"),
        (
            ("[source]", '[version_command]\nselector = "a=b"\ncommand = ["v"]\npattern = "("\n[source]'),
            r"pattern is no regular expression",
        ),
    ],
)
def test_one_sentence_for_each_mistake(folder, change, sentence):
    with pytest.raises(Problem, match=sentence) as raised:
        _load(folder, GOOD.replace(*change))
    assert str(folder / "cni.toml") in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_version_in_a_programs_words():
    pattern = VersionCommand(selector="a=b", command=("v",), pattern=r"Daemon: (\S+)")
    assert pattern.version("Client: 1.0\nDaemon: 1.20.2 offline\n") == "1.20.2"
    assert pattern.version("nothing of the kind") == ""
    assert VersionCommand(selector="a=b", command=("v",)).version("v1\nmore\n") == "v1"
