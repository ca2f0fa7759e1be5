"""The Docker engine, by its command line: kind uses the same."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from typing import Any

from netproof.cluster.command import Done, run
from netproof.problem import Problem

LABEL = "netproof.dev/run"
NOT_FOUND = "No such"


def network() -> str:
    """The network of kind's nodes; kind reads the same variable."""
    return os.environ.get("KIND_EXPERIMENTAL_DOCKER_NETWORK") or "kind"


def require_engine() -> str:
    """The engine's version. Raises Problem where there is no `docker` or no engine answers it."""
    if not shutil.which("docker"):
        raise Problem("kind needs Docker, and no `docker` is on the PATH: install it, or take an existing cluster by --cluster=CONTEXT")
    done = run(["docker", "version", "--format", "{{.Server.Version}}"], limit=20)
    if done.code:
        raise Problem(f"kind needs a Docker engine, and none answers: {done.cause}")
    return done.out.strip()


def docker(*argv: str, data: bytes | None = None, limit: float = 60) -> Done:
    """One call, whatever its exit code."""
    return run(["docker", *argv], what=f"docker {argv[0]}", data=data, limit=limit)


def inspect(kind: str, *names: str) -> list[dict[str, Any]]:
    """What `docker inspect` says of those that exist."""
    if not names:
        return []
    done = docker("inspect", f"--type={kind}", *names)
    if done.code and NOT_FOUND.lower() not in done.err.lower():
        done.require(f"docker inspect {' '.join(names)}")
    found: list[dict[str, Any]] = json.loads(done.out or "[]")
    return found


def containers(label: str) -> list[str]:
    """Names of all containers, running or not, with this label (`key=value`)."""
    done = docker("ps", "--all", "--filter", f"label={label}", "--format", "{{.Names}}").require("docker ps")
    return done.out.split()


def remove(names: Sequence[str]) -> list[str]:
    """Remove containers with their volumes; those that are gone, or that somebody else is removing, are left out of the answer."""
    done = docker("rm", "--force", "--volumes", *names, limit=180) if names else None
    if done and any(not _going(line) for line in done.err.splitlines()):
        done.require(f"docker rm {' '.join(names)}")
    return done.out.split() if done else []


def _going(line: str) -> bool:
    return not line.strip() or NOT_FOUND in line or "already in progress" in line


def local_images(references: Sequence[str]) -> dict[str, str]:
    """Those of the references that the engine has, with their ids. Ones by digest are left out: what kind loads has no digest."""
    plain = [reference for reference in references if "@" not in reference]
    ids = {tag: image["Id"] for image in inspect("image", *plain) for tag in image.get("RepoTags") or ()}
    return {reference: ids[tagged(reference)] for reference in plain if tagged(reference) in ids}


def tagged(reference: str) -> str:
    """The reference as the engine lists it: Docker Hub's prefixes left out, the tag written out."""
    short = reference.removeprefix("docker.io/").removeprefix("library/")
    return short if ":" in short.rsplit("/", 1)[-1] else f"{short}:latest"
