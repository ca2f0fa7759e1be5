"""Outsiders: the same agent in containers on the network of kind's nodes, so outside the cluster and one hop away from it."""

from __future__ import annotations

import io
import json
import socket
import tarfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from netproof.cluster.channel import PipeChannel
from netproof.cluster.docker import LABEL, containers, docker, inspect, network, remove
from netproof.cluster.settings import Settings
from netproof.cluster.state import Outsider
from netproof.probe.local import SocketChannel
from netproof.probe.stream import Channel
from netproof.problem import Problem

NAMES = ("a", "b")
AGENT = "netproof/agent.py"
CONTROL = 9600
PORTS = ("TCP/8080", "UDP/8080", "TCP/8081", "UDP/8081")
SILENCE = 6 * 3600  # seconds without a word; longer than a pod's, as a run's first case with an outsider may come late


def start(settings: Settings, names: Sequence[str] = NAMES) -> tuple[Outsider, ...]:
    """Outsiders of a run, their agents started; the network must be there. Raises Problem. What an earlier call left is replaced.

    They publish no port, have no capability and run as nobody.
    """
    stop(settings.run)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda name: _create(settings, name), names))
    docker("start", *(_container(settings.run, name) for name in names)).require("starting the outsiders")
    return tuple(_outsider(settings.run, name) for name in names)


def stop(run: str) -> list[str]:
    """Remove the outsiders of a run; the names of those that were there."""
    return remove(containers(f"{LABEL}={run}"))


def dial(outsider: Outsider) -> Channel:
    """A channel to its agent, by a relay inside the container or the lab's socket, so no network is crossed. Raises ConnectionError."""
    try:
        if outsider.socket:
            return SocketChannel(_connected(outsider.socket))
        return PipeChannel(["docker", "exec", "--interactive", outsider.container, "python3", f"/{AGENT}", "relay", str(CONTROL)])
    except OSError as error:
        raise ConnectionError(f"{outsider.name} cannot be reached: {error}") from error


def _connected(where: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(where.replace("@", "\0", 1))  # as the kernel writes names that are no files
    except OSError:
        sock.close()
        raise
    return sock


def _container(run: str, name: str) -> str:
    return f"netproof-{run}-outside-{name}"


def _create(settings: Settings, name: str) -> None:
    container = _container(settings.run, name)
    environment = {"NETPROOF_AGENT": configuration(settings), "NETPROOF_POD": f"outside/{name}", "NETPROOF_UID": container}
    docker(
        *("create", "--name", container, "--hostname", container, "--network", network(), "--label", f"{LABEL}={settings.run}"),
        *("--user", "65534:65534", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--restart", "no"),
        *(f"--env={key}={value}" for key, value in environment.items()),
        "--env=NETPROOF_NODE=",
        *(settings.probe_image, "python3", f"/{AGENT}", "serve"),
        limit=300,  # the engine may have to pull the image
    ).require(f"creating the outsider from {settings.probe_image}")
    docker("cp", "-", f"{container}:/", data=_archive()).require(f"copying the agent to {container}")


def configuration(settings: Settings) -> str:
    """What an outsider's agent is told."""
    return json.dumps(
        {"run": settings.run, "token_sha256": settings.token_sha256, "control": CONTROL, "ports": list(PORTS), "silence": SILENCE}
    )


def _archive() -> bytes:
    """The program as a tar archive, readable by anybody: `docker cp` of a file would keep the owner and mode that it has here."""
    program = (Path(__file__).parents[1] / "probe" / "agent.py").read_bytes()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo(AGENT)
        member.size, member.mode = len(program), 0o644
        archive.addfile(member, io.BytesIO(program))
    return buffer.getvalue()


def _outsider(run: str, name: str) -> Outsider:
    container = _container(run, name)
    found = inspect("container", container)
    if not found or not found[0]["State"]["Running"]:
        said = docker("logs", "--tail", "1", container)
        raise Problem(f"the outsider {container} ended at once: {said.cause}; can the probe image run python3?")
    return Outsider(name=f"outside/{name}", container=container, addresses=addresses(found[0], network()), node_network=True)


def addresses(container: dict[str, Any], on: str) -> dict[str, str]:
    """A container's addresses on a network by family."""
    link = container["NetworkSettings"]["Networks"].get(on) or {}
    by_family = {"IPv4": link.get("IPAddress"), "IPv6": link.get("GlobalIPv6Address")}
    return {family: address for family, address in by_family.items() if address}
