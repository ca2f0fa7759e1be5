"""Images that are here and not in a registry: found in the Docker engine or in archives, and loaded onto a kind cluster's nodes."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netproof.cluster.docker import docker, local_images, tagged
from netproof.cluster.manifest import Object, from_here, images, swap_images
from netproof.problem import Problem

ARCHIVES = (".tar", ".tar.gz", ".tgz")
_NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


@dataclass(frozen=True, slots=True)
class Supply:
    """Objects whose images are settled, and what has to be loaded for them. What is in neither list is the kubelets' to pull."""

    objects: tuple[Object, ...]
    local: tuple[str, ...]
    archives: tuple[Path, ...]
    notes: tuple[str, ...]  # which image stands for which, with its id where it is known here


def supply(objects: Sequence[Object], swaps: Mapping[str, str]) -> Supply:
    """Settle the images: swaps done, and what the engine or an archive has never pulled. Raises Problem."""
    archives = {name: Path(image).expanduser() for name, image in swaps.items() if is_archive(image)}
    held = {name: archived(file) for name, file in archives.items()}
    references = {**swaps, **{name: reference for name, (reference, _) in held.items()}}
    swapped = swap_images(objects, references)
    identities = dict(held.values())
    local = local_images([image for image in images(swapped) if image not in identities])
    known = {**local, **identities}
    notes = tuple(_note(name, swaps[name], known.get(reference, "")) for name, reference in references.items())
    return Supply(tuple(from_here(swapped, known)), tuple(sorted(local)), tuple(dict.fromkeys(archives.values())), notes)


def _note(name: str, image: str, identity: str) -> str:
    short = identity.removeprefix("sha256:")[:12]
    return f"image {name}: {image} stands for it{f' ({short})' if short else ''}"


def is_archive(image: str) -> bool:
    """Whether an IMAGE of --netproof-image is a file."""
    return image.endswith(ARCHIVES)


def archived(file: Path) -> tuple[str, str]:
    """An archive's image, as `docker save` or an OCI layout names it: its name once it is loaded, and its id. Raises Problem."""
    try:
        with tarfile.open(file) as archive:
            found = _saved(_member(archive, "manifest.json")) or _layout(_member(archive, "index.json"))
    except (OSError, tarfile.TarError, ValueError) as error:
        raise Problem(f"--netproof-image: {file} is no image archive: {error}") from error
    if len(found) != 1:
        raise Problem(f"--netproof-image: {file} must hold one image with a name, and holds {', '.join(found) or 'none'}")
    return next(iter(found.items()))


def _member(archive: tarfile.TarFile, name: str) -> Any:
    try:
        file = archive.extractfile(name)
    except KeyError:
        return None
    return json.load(file) if file else None


def _saved(manifest: Any) -> dict[str, str]:
    return {tag: Path(image.get("Config", "")).stem for image in manifest or () for tag in image.get("RepoTags") or ()}


def _layout(index: Any) -> dict[str, str]:
    """The tag of an OCI layout may be a tag alone; containerd's own annotation is the whole name."""
    found = {}
    for image in (index or {}).get("manifests") or ():
        annotations = image.get("annotations") or {}
        if name := next((annotations[key] for key in _NAMES if key in annotations), ""):
            found[name] = image.get("digest", "")
    return found


def require_local(image: str) -> None:
    """Have the engine hold the image. Raises Problem where it cannot be pulled."""
    if "@" not in image and local_images([image]):
        return
    done = docker("pull", "--quiet", image, limit=300)
    if done.code:
        raise Problem(f"the image {image} is not in the Docker engine and cannot be pulled: {done.cause}")


def absent(images: Sequence[str], nodes: Sequence[str]) -> list[str]:
    """Those of the engine's images that some node lacks, or has in another version under that name.

    kind looks as well, but with `crictl`, which a node image need not have, and loads all where one is missing.
    """
    here = local_images(images)
    there = [_on_node(node) for node in nodes]
    return [image for image in images if not all(_same(here.get(image, ""), image, on_node) for on_node in there)]


def known_to(image: str, nodes: Sequence[str]) -> bool:
    """Whether every node has an image of that name, whichever version."""
    return all(_qualified(image) in _on_node(node) for node in nodes)


def _same(identity: str, image: str, on_node: Mapping[str, str]) -> bool:
    """The engine's id of an image is its configuration's digest, under which containerd's CRI plugin lists it too, or its manifest's."""
    digest = on_node.get(_qualified(image), "")
    return bool(digest) and digest in {identity, on_node.get(identity)}


def _on_node(node: str) -> dict[str, str]:
    """What a node's containerd has: digest by name."""
    lines = docker("exec", node, "ctr", "--namespace", "k8s.io", "images", "ls").out.splitlines()[1:]
    return {columns[0]: columns[2] for line in lines if len(columns := line.split()) > 2}


def _qualified(image: str) -> str:
    """The name as containerd lists it: registry and tag written out."""
    name = tagged(image)
    host, slash, _ = name.partition("/")
    if not slash:
        return f"docker.io/library/{name}"
    return name if "." in host or ":" in host or host == "localhost" else f"docker.io/{name}"
