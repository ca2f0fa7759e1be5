"""Images that are here and not in a registry: found in the Docker engine or in archives, and loaded onto a kind cluster's nodes."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netproof.cluster.command import run
from netproof.cluster.docker import docker, local_images, tagged
from netproof.cluster.manifest import Object, images, never_pulled, swap_images
from netproof.problem import Problem

ARCHIVES = (".tar", ".tar.gz", ".tgz")
_NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


@dataclass(frozen=True, slots=True)
class Supply:
    """Objects whose images are settled, and what has to be loaded for them. What is in neither list is the kubelets' to pull."""

    objects: tuple[Object, ...]
    local: tuple[str, ...]
    archives: tuple[Path, ...]


def supply(objects: Sequence[Object], swaps: Mapping[str, str]) -> Supply:
    """Settle the images: swaps done, and what the engine or an archive has never pulled. Raises Problem."""
    references = {name: _reference(image) for name, image in swaps.items()}
    archived = {references[name]: Path(image).expanduser() for name, image in swaps.items() if is_archive(image)}
    swapped = swap_images(objects, references)
    wanted = [image for image in images(swapped) if image not in archived]
    local = sorted(local_images(wanted))
    return Supply(tuple(never_pulled(swapped, {*local, *archived})), tuple(local), tuple(dict.fromkeys(archived.values())))


def is_archive(image: str) -> bool:
    """Whether an IMAGE of --netproof-image is a file."""
    return image.endswith(ARCHIVES)


def _reference(image: str) -> str:
    return archived_reference(Path(image).expanduser()) if is_archive(image) else image


def archived_reference(file: Path) -> str:
    """The name under which an archive's image is known once it is loaded: `docker save`'s or an OCI layout's. Raises Problem."""
    try:
        with tarfile.open(file) as archive:
            names = _tags(_member(archive, "manifest.json")) or _annotations(_member(archive, "index.json"))
    except (OSError, tarfile.TarError, ValueError) as error:
        raise Problem(f"--netproof-image: {file} is no image archive: {error}") from error
    if len(names) != 1:
        raise Problem(f"--netproof-image: {file} must hold one image with a name, and holds {', '.join(names) or 'none'}")
    return names[0]


def _member(archive: tarfile.TarFile, name: str) -> Any:
    try:
        file = archive.extractfile(name)
    except KeyError:
        return None
    return json.load(file) if file else None


def _tags(manifest: Any) -> list[str]:
    return [tag for image in manifest or () for tag in image.get("RepoTags") or ()]


def _annotations(index: Any) -> list[str]:
    annotations = [image.get("annotations") or {} for image in (index or {}).get("manifests") or ()]
    return [next(found[name] for name in _NAMES if name in found) for found in annotations if found.keys() & set(_NAMES)]


def require_local(image: str) -> None:
    """Have the engine hold the image. Raises Problem where it cannot be pulled."""
    if "@" not in image and local_images([image]):
        return
    done = docker("pull", "--quiet", image, limit=300)
    if done.code:
        raise Problem(f"the image {image} is not in the Docker engine and cannot be pulled: {done.cause}")


def on_all_nodes(image: str, nodes: Sequence[str]) -> bool:
    """Whether every node's containerd has an image of that name."""
    name = f"docker.io/{tagged(image)}" if "/" in image else f"docker.io/library/{tagged(image)}"
    known = {tagged(image), name}
    return all(known & set(_node_images(node)) for node in nodes)


def _node_images(node: str) -> list[str]:
    return docker("exec", node, "ctr", "--namespace", "k8s.io", "images", "ls", "--quiet").out.split()


def save(images: Sequence[str], file: Path) -> Path:
    """An archive of images of the engine."""
    run(["docker", "save", "--output", str(file), *images], what="docker save", limit=600).require("docker save")
    return file
