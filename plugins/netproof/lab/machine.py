"""The machine below the lab: pods as processes in namespaces, commands in them, and rule sets on nodes."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from netproof.lab import preflight, seams
from netproof.lab.children import Child, Children, Command, Log, Program, script
from netproof.lab.network import Network
from netproof.lab.system import OWN, STATE, Space, mount_point


@dataclass(slots=True)
class _Pod:
    """What there is of a pod, from its start until its end has been tidied up."""

    launch: seams.Launch
    folder: Path
    log: Log
    space: Space | None = None
    child: Child | None = None


class Machine:
    """The lab's `Runtime`, with the changes to its links and routes that faults make."""

    def __init__(self, zygote: socket.socket) -> None:
        """Wire three nodes and the outsiders; call it in the event loop, with the socket that `launch` gave to its main function."""
        self._children = Children(zygote)
        self._network = Network()
        self._pods: dict[str, _Pod] = {}
        self._codes: dict[str, int] = {}  # of pods that were stopped
        self._nft = preflight.nft()
        self._number = 0

    # --- pods

    async def start(self, launch: seams.Launch) -> None:
        """Make the pod's namespaces, addresses and process; the program has begun when this returns.

        Raises OSError, and then nothing of it is left. Files can be mounted on a folder that this machine has, or on a new one
        of `/` or `/etc`.
        """
        if launch.key in self._pods:
            raise FileExistsError(17, "a pod of that name is there", launch.key)
        self._number += 1
        pod = self._pods[launch.key] = _Pod(launch, Path(STATE, str(self._number)), Log())
        try:
            self._wire(pod)
            program = _program(launch, pod.folder, space=pod.space)
            null, writing = os.open(os.devnull, os.O_RDONLY), pod.log.take()
            pod.child = await self._children.start(program, streams=(null, writing, writing))
            if launch.key not in self._pods:
                await pod.child.end(0)
                raise ConnectionAbortedError(103, "it was stopped while it was started", launch.key)
        except BaseException:
            self._clear(pod)
            raise
        self._codes.pop(launch.key, None)

    def _wire(self, pod: _Pod) -> None:
        launch = pod.launch
        if _has_network(launch):
            pod.space = self._network.join(launch.node, launch.addresses)
        else:
            pod.space = self._place(launch.node or launch.key.rpartition("/")[2])

    async def stop(self, key: str, grace: float) -> None:
        """End the process (SIGTERM, after `grace` seconds SIGKILL) and remove all that is its; no error where it is gone already.

        Its exit code can still be asked for until a pod of that name is started again.
        """
        pod = self._pods.get(key)
        if not pod:
            return
        if pod.child:
            await pod.child.end(grace)
            self._codes[key] = pod.child.ended.result()
        self._clear(pod)

    def _clear(self, pod: _Pod) -> None:
        if self._pods.get(pod.launch.key) is not pod:  # somebody else has waited for the same end
            return
        del self._pods[pod.launch.key]
        if pod.space and _has_network(pod.launch):
            self._network.part(pod.launch.node, pod.launch.addresses, space=pod.space)
        pod.log.close()
        shutil.rmtree(pod.folder, ignore_errors=True)

    def discard(self, uid: str) -> None:
        shutil.rmtree(_shared(uid), ignore_errors=True)

    def exit_code(self, key: str) -> int | None:
        pod = self._pods.get(key)
        if not pod:
            return self._codes[key]
        return pod.child.ended.result() if pod.child and pod.child.ended.done() else None

    def log(self, key: str) -> bytes:
        return self._pods[key].log.text()

    async def execute(self, key: str, command: Sequence[str], *, stdin: bool) -> Command:
        pod = self._pods[key]
        if not pod.child or pod.child.ended.done():
            raise ProcessLookupError(3, "the pod's process has ended", key)
        launch = pod.launch
        source = _source(command, launch, folder=pod.folder)
        program = Program(tuple(command), launch.environment, source=source, space=pod.space, join=pod.child.pid)
        return await Command.start(self._children, program, stdin=stdin)

    # --- sockets

    def socket_in(self, key: str, family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket:
        return self._place(key).socket(family, kind)

    async def dial(self, key: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        sock = self.socket_in(key, socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.settimeout(0)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return await asyncio.open_connection(sock=sock)
        except BaseException:
            sock.close()
            raise

    def _place(self, name: str) -> Space:
        """A pod's, a node's or an outsider's namespace. Raises KeyError."""
        if name in self._pods and (space := self._pods[name].space):
            return space
        host = self._network.nodes.get(name) or self._network.outsiders[name.removeprefix("outside/")]
        return host.space

    # --- rules and links

    async def apply(self, node: str, rules: str) -> None:
        stdin = os.memfd_create("rules")
        os.write(stdin, rules.encode())
        os.lseek(stdin, 0, os.SEEK_SET)
        log = Log()
        writing = log.take()
        program = Program((self._nft, "-f", "-"), space=self._network.nodes[node].space)
        child = await self._children.start(program, streams=(stdin, writing, writing))
        refused, said = await child.ended, log.text().decode(errors="replace").strip()
        log.close()
        if refused:
            raise seams.RulesRefused(said)

    def forget(self, node: str, address: str, port: int, protocol: str) -> int:
        return self._network.nodes[node].tracking.forget(address, port, protocol=protocol)

    def announce(self, address: str, node: str) -> None:
        self._network.announce(address, node)

    def alter_route(self, node: str, network: str, via: str = "") -> None:
        """Lead a network to another next hop on the nodes' link; without one, take the node's route to it away."""
        self._network.route(self._network.nodes[node], network, via=via)

    def link(self, node: str, *, up: bool) -> None:
        """Unplug a node from the link that nodes and outsiders share, or plug it in again; nobody is told."""
        self._network.link(node, up=up)

    def mtu(self, node: str, size: int) -> None:
        """The longest packet of a node's link: a longer one is refused on its way out, and lost on its way in.

        Below 1280 a link has no IPv6.
        """
        self._network.mtu(node, size)

    async def close(self) -> None:
        """End every pod at once, and the network."""
        await asyncio.gather(*(self.stop(key, 0) for key in list(self._pods)))
        self._network.close()


def _has_network(launch: seams.Launch) -> bool:
    """Whether it has a network namespace of its own, other than outsiders and pods on their node's network."""
    return bool(launch.node) and not launch.host_network


def _program(launch: seams.Launch, folder: Path, *, space: Space | None) -> Program:
    """Write the pod's files and say how its process is started. Raises OSError where a folder can't be mounted on."""
    mounts: list[tuple[str, str]] = []
    for number, (target, files) in enumerate(launch.files.items()):
        mount_point(target)
        place = folder if files or not launch.uid else _shared(launch.uid)
        mounts.append((_written(place / (str(number) if files else target.strip("/").replace("/", "-")), files), target))
    hostname = launch.hostname or launch.key.rpartition("/")[2]
    own = _written(folder / "etc", {"resolv.conf": launch.resolv_conf, "hosts": launch.hosts, "hostname": f"{hostname}\n"})
    mounts += [(f"{own}/{name}", f"/etc/{name}") for name in OWN]
    return Program(
        launch.command,
        {"HOSTNAME": hostname, **launch.environment},
        source=_source(launch.command, launch, folder=folder),
        space=space,
        apart=True,
        hostname=hostname,
        mounts=tuple(mounts),
        empty=tuple(target for target, files in launch.files.items() if not files),
    )


def _shared(uid: str) -> Path:
    """Where the folders lie that all containers of a pod can write to, by the place where they are mounted."""
    return Path(STATE, "shared", uid)


def _written(folder: Path, files: Mapping[str, str]) -> str:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder)


def _source(command: Sequence[str], launch: seams.Launch, *, folder: Path) -> str:
    """Where a pod's Python file is outside of the pod; empty where it is no file of its own."""
    name = command[script(command)]
    for number, (target, files) in enumerate(launch.files.items()):
        inner = os.path.relpath(name, target)
        if inner in files:
            return str(folder / str(number) / inner)
    return ""
