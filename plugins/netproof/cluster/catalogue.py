"""The catalogue of CNIs and load balancers: `manifests/<kind>/<name>/<kind>.toml`, or anybody's own folder of that form.

version, homepage      what the entry was written for
claims                 features (features.py) that it says it has; CNIs only
pod_cidr               the pod network that its manifest is written for, where that is fixed; CNIs only
source                 manifest or chart: an address or a file of the folder; sha256: of a download, "" is allowed and said in the
                       header; for a chart: values (files of the folder), namespace, release
overlay                files of partial objects, merged into the source's objects of the same name (manifest.py says how)
apply                  files of whole objects, applied with it
pool                   files applied once it runs, with ${POOL} for the range of addresses; load balancers only
ready                  DaemonSets and Deployments to wait for beside those of the manifest: what an operator creates
detect                 objects that show that it is there, where somebody else installed it
version_command        how the program says its version: selector, container, command, pattern (the first group is the version)
agent                  the DaemonSet whose pods program the nodes, for cases that restart them: namespace, name; CNIs only
logs                   pods whose logs are evidence: selector, namespace, container
conntrack              entries of its own connection tables: tcp, any
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netproof.cluster.features import require_claims
from netproof.cluster.state import LogSource
from netproof.files import manifests
from netproof.problem import Problem

KINDS = ("cni", "loadbalancer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the objects come from. `location` is an address or an absolute path."""

    kind: str  # manifest or chart
    location: str
    sha256: str = ""
    values: tuple[Path, ...] = ()
    namespace: str = "default"
    release: str = ""

    @property
    def remote(self) -> bool:
        return is_remote(self.location)

    @property
    def pinned(self) -> bool:
        return not self.remote or bool(self.sha256)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """An object by name."""

    kind: str
    name: str
    namespace: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionCommand:
    """`command` in `container` of a pod that `selector` finds prints the version: the first group of `pattern`, or all of it."""

    selector: str
    command: tuple[str, ...]
    container: str = ""
    namespace: str = ""
    pattern: str = ""

    def version(self, output: str) -> str:
        """The version in what the command printed, "" where there is none."""
        if not self.pattern:
            return output.strip().splitlines()[0].strip() if output.strip() else ""
        found = re.search(self.pattern, output)
        return (found.group(1) if found.re.groups else found.group(0)) if found else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry, checked. Paths are absolute and there."""

    kind: str  # cni or loadbalancer
    name: str
    folder: Path
    version: str
    homepage: str
    source: Source
    claims: tuple[str, ...] = ()
    pod_cidr: str = ""
    overlay: tuple[Path, ...] = ()
    apply: tuple[Path, ...] = ()
    pool: tuple[Path, ...] = ()
    ready: tuple[Reference, ...] = ()
    detect: tuple[Reference, ...] = ()
    version_command: VersionCommand | None = None
    agent: Reference | None = None
    logs: tuple[LogSource, ...] = ()
    conntrack: Mapping[str, int] = field(default_factory=dict)


def is_remote(location: str) -> bool:
    """Whether it is an address rather than a file."""
    return location.startswith(("https://", "http://"))


def names(kind: str) -> list[str]:
    """The entries that the catalogue has."""
    return sorted(path.parent.name for path in (manifests() / kind).glob(f"*/{kind}.toml"))


def entries(kind: str) -> list[Entry]:
    """All entries of the catalogue. Raises Problem."""
    return [load(name, kind) for name in names(kind)]


def load(name_or_folder: str, kind: str = "cni") -> Entry:
    """The entry of that name, or of a folder (said with a slash) that holds `<kind>.toml`. Raises Problem."""
    folder = _folder(name_or_folder, kind)
    file = folder / f"{kind}.toml"
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Problem(f"{folder} has no {kind}.toml") from None
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(f"{file} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise Problem(f"{file} is no TOML: {error}") from error
    return _Reader(file, table).entry(kind)


def _folder(name: str, kind: str) -> Path:
    if "/" in name or name in {".", ".."}:
        folder = Path(name).expanduser().resolve()
        if not folder.is_dir():
            raise Problem(f"there is no folder {folder} for --{kind}")
        return folder
    if name not in names(kind):
        raise Problem(f"no {kind} entry is called {name!r}: there are {', '.join(names(kind)) or 'none'}; a folder is said as ./{name}/")
    return manifests() / kind / name


_TEXT, _NUMBER, _STRINGS, _FILES = "a string", "a number", "a list of strings", "a list of files"
_TABLE, _TABLES = "a table", "a list of tables"
_KEYS: Mapping[str, str] = {
    "version": _TEXT,
    "homepage": _TEXT,
    "source": _TABLE,
    "claims": _STRINGS,
    "pod_cidr": _TEXT,
    "overlay": _FILES,
    "apply": _FILES,
    "pool": _FILES,
    "ready": _TABLES,
    "detect": _TABLES,
    "version_command": _TABLE,
    "agent": _TABLE,
    "logs": _TABLES,
    "conntrack": _TABLE,
}
_ONLY = {"claims": "cni", "pod_cidr": "cni", "agent": "cni", "conntrack": "cni", "pool": "loadbalancer"}
_SOURCE = {
    "manifest": _TEXT,
    "chart": _TEXT,
    "sha256": _TEXT,
    "values": _FILES,
    "namespace": _TEXT,
    "release": _TEXT,
}
_REFERENCE = {"kind": _TEXT, "namespace": _TEXT, "name": _TEXT}
_COMMAND = {"selector": _TEXT, "namespace": _TEXT, "container": _TEXT, "command": _STRINGS, "pattern": _TEXT}
_AGENT = {"namespace": _TEXT, "name": _TEXT}
_LOGS = {"selector": _TEXT, "namespace": _TEXT, "container": _TEXT}
_CONNTRACK = {"tcp": _NUMBER, "any": _NUMBER}


class _Reader:
    """Checks a parsed file key by key; every complaint names the file and the key."""

    def __init__(self, file: Path, table: Mapping[str, Any]) -> None:
        self.file, self.table = file, table

    def entry(self, kind: str) -> Entry:
        table = self.checked(self.table, _KEYS, "", required=("version", "homepage", "source"))
        for key in table:
            if _ONLY.get(key, kind) != kind:
                raise self.wrong(f"{key} belongs to a {_ONLY[key]}.toml")
        optional = {key: table[key] for key in ("pod_cidr", "overlay", "apply", "pool", "conntrack") if key in table}
        return Entry(
            kind=kind,
            name=self.file.parent.name,
            folder=self.file.parent,
            version=table["version"],
            homepage=table["homepage"],
            source=self.source(table["source"]),
            claims=require_claims(table.get("claims", ()), where=str(self.file)),
            ready=self.references("ready", table),
            detect=self.references("detect", table),
            version_command=self.version_command(table.get("version_command")),
            agent=self.agent(table.get("agent")),
            logs=self.logs(table.get("logs", [])),
            **optional | {"conntrack": self.checked(table.get("conntrack", {}), _CONNTRACK, "conntrack.")},
        )

    def source(self, raw: Mapping[str, Any]) -> Source:
        table = self.checked(raw, _SOURCE, "source.")
        kinds = [kind for kind in ("manifest", "chart") if kind in table]
        if len(kinds) != 1:
            raise self.wrong("source needs either manifest or chart: an address, or a file of this folder")
        location = table.pop(kinds[0])
        if kinds[0] == "manifest" and set(table) - {"sha256"}:
            raise self.wrong(f"source.{sorted(set(table) - {'sha256'})[0]} is for charts")
        if is_remote(location) and "sha256" not in table:
            raise self.wrong('source.sha256 is missing: the digest of the download, or "" where none is known')
        if table.get("sha256") and not re.fullmatch(r"[0-9a-f]{64}", table["sha256"]):
            raise self.wrong(f"source.sha256 is no SHA-256 digest in lower case: {table['sha256']!r}")
        return Source(
            kind=kinds[0],
            location=location if is_remote(location) else str(self.path(location, f"source.{kinds[0]}")),
            **{"release": self.file.parent.name} | table,
        )

    def references(self, key: str, table: Mapping[str, Any]) -> tuple[Reference, ...]:
        return tuple(Reference(**self.checked(raw, _REFERENCE, f"{key}.", required=("kind", "name"))) for raw in table.get(key, ()))

    def version_command(self, raw: Mapping[str, Any] | None) -> VersionCommand | None:
        if raw is None:
            return None
        table = self.checked(raw, _COMMAND, "version_command.", required=("selector", "command"))
        try:
            re.compile(table.get("pattern", ""))
        except re.error as error:
            raise self.wrong(f"version_command.pattern is no regular expression: {error}") from error
        return VersionCommand(**table)

    def agent(self, raw: Mapping[str, Any] | None) -> Reference | None:
        return Reference(kind="DaemonSet", **self.checked(raw, _AGENT, "agent.", required=("namespace", "name"))) if raw else None

    def logs(self, raw: list[Mapping[str, Any]]) -> tuple[LogSource, ...]:
        return tuple(LogSource(**self.checked(table, _LOGS, "logs.", required=("selector",))) for table in raw)

    def checked(self, table: Mapping[str, Any], keys: Mapping[str, str], prefix: str, required: tuple[str, ...] = ()) -> dict[str, Any]:
        """The table with its values converted: no unknown key, the right types, all that is required."""
        for key in table:
            if key not in keys:
                raise self.wrong(f"{prefix}{key} is no key; there are {', '.join(keys)}")
        for key in required:
            if not table.get(key):
                raise self.wrong(f"{prefix}{key} is missing: {keys[key]} is expected")
        return {key: self.value(value, keys[key], f"{prefix}{key}") for key, value in table.items()}

    def value(self, value: Any, expected: str, key: str) -> Any:
        if not _fits(value, expected):
            raise self.wrong(f"{key} is {value!r}, and {expected} is expected")
        if expected == _FILES:
            return tuple(self.path(name, key) for name in value)
        return tuple(value) if expected == _STRINGS else value

    def path(self, name: str, key: str) -> Path:
        path = (self.file.parent / name).resolve()
        if not path.is_file():
            raise self.wrong(f"{key} names {name}, which is no file of {self.file.parent}")
        return path

    def wrong(self, text: str) -> Problem:
        return Problem(f"{self.file}: {text}")


def _fits(value: Any, expected: str) -> bool:
    match expected:
        case "a string":
            return isinstance(value, str)
        case "a number":
            return isinstance(value, int) and not isinstance(value, bool) and value > 0
        case "a table":
            return isinstance(value, dict)
        case "a list of tables":
            return isinstance(value, list) and all(isinstance(item, dict) for item in value)
        case _:
            return isinstance(value, list) and all(isinstance(item, str) for item in value)
