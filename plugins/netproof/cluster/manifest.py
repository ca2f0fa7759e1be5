"""Kubernetes objects as YAML gives them: read, merged, and their images found and swapped. No I/O but reading files."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from netproof.problem import Problem

Object = dict[str, Any]

_CONTAINERS = ("initContainers", "containers")
_WORKLOADS = ("DaemonSet", "Deployment")


def parse(text: str, *, where: str) -> list[Object]:
    """The objects of a YAML stream, lists opened and empty documents left out. Raises Problem."""
    try:
        documents = list(yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except yaml.YAMLError as error:
        raise Problem(f"{where} is no YAML: {' '.join(str(error).split())}") from error
    objects = [item for document in documents if document for item in _items(document)]
    for item in objects:
        if not (isinstance(item, dict) and item.get("apiVersion") and item.get("kind") and (item.get("metadata") or {}).get("name")):
            raise Problem(f"{where} holds something that is no Kubernetes object with a name: {str(item)[:80]}")
    return objects


def read(files: Iterable[Path]) -> list[Object]:
    """The objects of files, in their order. Raises Problem."""
    return [item for file in files for item in parse(file.read_text(encoding="utf-8"), where=str(file))]


def _items(document: Any) -> list[Any]:
    is_list = isinstance(document, dict) and document.get("kind") == "List"
    return list(document.get("items") or ()) if is_list else [document]


def identity(item: Mapping[str, Any]) -> tuple[str, str, str]:
    """Kind, namespace and name."""
    metadata = item["metadata"]
    return item["kind"], metadata.get("namespace", ""), metadata["name"]


def overlaid(objects: Sequence[Object], partial: Sequence[Object], *, strict: bool) -> list[Object]:
    """The objects with each partial one merged into that of the same identity: null removes, items of a list are met by their `name`.

    A list whose items have no names is replaced. With `strict` a partial object that meets none raises Problem; without, it is left out.
    """
    merged = {identity(item): item for item in objects}
    for item in partial:
        if identity(item) in merged:
            merged[identity(item)] = _merged(merged[identity(item)], item)
        elif strict:
            raise Problem(f"the overlay's {' '.join(filter(None, identity(item)))} meets no object of the manifest")
    return list(merged.values())


def _merged(target: Any, patch: Any) -> Any:
    if _named(target) and _named(patch):
        merged = {entry["name"]: entry for entry in target}
        return list((merged | {entry["name"]: _merged(merged.get(entry["name"]), entry) for entry in patch}).values())
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result


def _named(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, dict) and "name" in entry for entry in value)


def workloads(objects: Iterable[Object]) -> list[Object]:
    """The DaemonSets and Deployments."""
    return [item for item in objects if item["kind"] in _WORKLOADS]


def _containers(objects: Iterable[Object]) -> Iterator[dict[str, Any]]:
    for item in objects:
        spec = _pod_spec(item)
        for key in _CONTAINERS:
            yield from spec.get(key) or ()


def _pod_spec(item: Mapping[str, Any]) -> dict[str, Any]:
    spec = item.get("spec") or {}
    if item["kind"] == "Pod":
        return spec if isinstance(spec, dict) else {}
    if item["kind"] == "CronJob":
        spec = (spec.get("jobTemplate") or {}).get("spec") or {}
    template = spec.get("template") if isinstance(spec, dict) else None
    return (template.get("spec") or {}) if isinstance(template, dict) else {}


def images(objects: Iterable[Object]) -> list[str]:
    """The images of all pod templates, each once."""
    return list(dict.fromkeys(container["image"] for container in _containers(objects) if container.get("image")))


def repository(image: str) -> str:
    """An image's name without registry defaults, tag and digest."""
    name = image.partition("@")[0].removeprefix("docker.io/").removeprefix("library/")
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"


def swap_images(objects: Sequence[Object], swaps: Mapping[str, str]) -> list[Object]:
    """The objects with other images. A swap is named by a container or by an image's repository (with or without tag).

    Raises Problem for a name that meets nothing.
    """
    result = copy.deepcopy(list(objects))
    met: set[str] = set()
    for container in _containers(result):
        image = container.get("image", "")
        for name in {container.get("name", ""), image, image.partition("@")[0], repository(image)} & swaps.keys():
            container["image"] = swaps[name]
            met.add(name)
    for name in swaps:
        if name not in met:
            raise Problem(f"--netproof-image {name}: no container and no image is called that; there are {_choice(objects)}")
    return result


def _choice(objects: Sequence[Object]) -> str:
    containers = dict.fromkeys(container.get("name", "") for container in _containers(objects))
    repositories = dict.fromkeys(repository(image) for image in images(objects))
    return f"the containers {', '.join(containers)} and the images {', '.join(repositories)}"


def from_here(objects: Sequence[Object], identities: Mapping[str, str]) -> list[Object]:
    """The objects, some of whose images are loaded from here (`identities`: id by image).

    Those are never pulled, and a new image of an old name makes new pods.
    """
    result = copy.deepcopy(list(objects))
    for item in result:
        spec = _pod_spec(item)
        ours = [entry for key in _CONTAINERS for entry in spec.get(key) or () if entry.get("image") in identities]
        for container in ours:
            container["imagePullPolicy"] = "IfNotPresent"
        if ours and item["kind"] in _WORKLOADS:
            metadata = item["spec"]["template"].setdefault("metadata", {})
            short = sorted({identities[entry["image"]].removeprefix("sha256:")[:12] for entry in ours})
            metadata["annotations"] = {**(metadata.get("annotations") or {}), "netproof.dev/images": ",".join(short)}
    return result


def filled(text: str, values: Mapping[str, str]) -> str:
    """The text with each `${NAME}` replaced."""
    for name, value in values.items():
        text = text.replace(f"${{{name}}}", value)
    return text
