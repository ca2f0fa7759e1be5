"""The CNI: which one it is, at what version, and what it claims."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from netproof.cluster.catalogue import Entry, Reference, VersionCommand
from netproof.cluster.state import Implementation
from netproof.kube import stream
from netproof.kube.client import Api, ApiError, ApiUnavailable
from netproof.kube.objects import path
from netproof.kube.wait import Late

UNRECOGNISED = "the CNI was not recognised; say --cni=NAME or --netproof-claim={feature}"


def detect(api: Api, entries: Iterable[Entry]) -> list[Entry]:
    """The entries of which an object is there. Several may be: one may build on another."""
    return [entry for entry in entries if workload(api, entry.detect)]


def workload(api: Api, references: Sequence[Reference]) -> Mapping[str, Any] | None:
    """The first of the objects that is there and may be read."""
    for reference in references:
        try:
            return api.get(path(reference.kind, reference.name, reference.namespace))
        except ApiError:
            continue
    return None


def implementation(
    api: Api, entry: Entry, *, claims: Sequence[str] = (), objects: Sequence[Mapping[str, Any]] = (), execute: bool, kernel: int = 0
) -> Implementation:
    """What is to be said of the CNI. Its program is asked for its version where `execute` allows that, else an image's tag is read.

    `objects` are what was applied; where it was not us, the workload that `detect` names is looked at.
    """
    version, by = _version(api, entry, objects, execute=execute)
    conntrack = {**entry.conntrack, **({"kernel": kernel} if kernel else {})}
    return Implementation(
        name=entry.name,
        version=version,
        reported_by=by,
        claims=tuple(dict.fromkeys([*entry.claims, *claims])),
        logs=entry.logs,
        agent=f"{entry.agent.namespace}/{entry.agent.name}" if entry.agent else "",
        conntrack=conntrack,
    )


def _version(api: Api, entry: Entry, objects: Sequence[Mapping[str, Any]], *, execute: bool) -> tuple[str, str]:
    asked = ask(api, entry.version_command) if execute and entry.version_command else ""
    if asked and entry.version_command:
        return asked, "program"
    found = next((item for item in objects if item["kind"] == "DaemonSet"), None) or workload(api, entry.detect)
    tag = image_tag(found, entry.version_command.container if entry.version_command else "")
    return (tag, "image tag") if tag else ("unknown", "nothing")


def ask(api: Api, command: VersionCommand) -> str:
    """What the program says of its version; "" where it cannot be asked."""
    try:
        pod = next(iter(running(api, command.selector, command.namespace)), None)
        if pod is None:
            return ""
        metadata = pod["metadata"]
        container = command.container or pod["spec"]["containers"][0]["name"]
        done = stream.run(api, metadata["namespace"], metadata["name"], list(command.command), container=container, limit=20)
    except (ApiError, ApiUnavailable, Late, OSError):
        return ""  # no version is no reason to end a run
    return command.version(done.out or done.err)


def running(api: Api, selector: str, namespace: str = "") -> list[dict[str, Any]]:
    """Running pods of a selector, in one namespace or in all."""
    pods = api.list(path("Pod", namespace=namespace), labels=selector)
    return [pod for pod in pods if (pod.get("status") or {}).get("phase") == "Running"]


def image_tag(item: Mapping[str, Any] | None, container: str = "") -> str:
    """The tag (or digest) of a workload's image: of that container, else of the first."""
    if item is None:
        return ""
    containers = item["spec"]["template"]["spec"]["containers"]
    image = next((entry["image"] for entry in containers if entry["name"] == container), containers[0]["image"])
    name, _, digest = image.partition("@")
    tag = name.rsplit("/", 1)[-1].partition(":")[2]
    return str(tag or digest)
