"""The machine below the lab: pods as processes in namespaces, commands in them, and rule sets on nodes."""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netproof.lab import seams, system
from netproof.lab.launch import nft
from netproof.lab.network import Space
from netproof.lab.plumbing import connect

LONGEST_LOG = 256 << 10
_PLACES = {name: seams.node_addresses(name) for name in seams.NODES}
_PLACES |= {f"outside/{name}": seams.outsider_addresses(name) for name in seams.OUTSIDERS}


@dataclass(slots=True)
class _Pod:
    """What there is of a pod, from its start until its end has been tidied up."""

    launch: seams.Launch
    folder: Path
    space: Space
    process: int  # a pidfd
    ended: asyncio.Future[int]  # its exit code, as a shell counts: 128 and the signal where a signal ended it


class Machine:
    """The lab's `Runtime`, with the changes to its links and routes that faults make."""

    def __init__(self, zygote: socket.socket) -> None:
        """Wire three nodes and the outsiders; call it in the event loop, with the socket that `launch` gave to its main function."""
        self._zygote, self._hub = zygote, Space(forwards=True)
        self._places = {name: Space(forwards=name in seams.NODES) for name in _PLACES}
        self._ports = {name: self._hub.lead(place, _PLACES[name]) for name, place in self._places.items()}
        self._pods: dict[str, _Pod] = {}
        self._folders = (Path(system.STATE, str(number)) for number in itertools.count())
        for node in seams.NODES:
            for network in seams.pod_networks(node):
                self._lead(network, node)
                self._places[node].block(network)  # all but the pods that there are
        for network in ("0.0.0.0/0", "::/0"):
            self._hub.block(network)

    async def start(self, launch: seams.Launch) -> None:
        """Files can be mounted on a folder that this machine has, or on a new one of `/` or `/etc`."""
        folder, place = next(self._folders), self._places[launch.node or launch.key]
        space = Space() if launch.node and not launch.host_network else place
        try:
            if space is not place:
                place.lead(space, launch.addresses, source=_PLACES[launch.node])
            process = os.pidfd_open(await self._begun(_order(launch, folder), folder / "log", space))
        except BaseException:
            self._clear(launch, folder, space)
            raise
        self._pods[launch.key] = _Pod(launch, folder, space, process, _end_of(process))

    async def _begun(self, order: Mapping[str, Any], log: Path, space: Space) -> int:
        mine, theirs = socket.socketpair()
        with mine:
            with theirs, log.open("ab") as output:
                socket.send_fds(self._zygote, [json.dumps(order).encode()], [theirs.fileno(), output.fileno(), space.fd])
            mine.settimeout(0)
            said = b""
            while data := await asyncio.get_running_loop().sock_recv(mine, 64):
                said += data
        if not said:
            raise OSError(0, log.read_text())
        return int(said)

    async def wait(self, key: str) -> int:
        return await asyncio.shield(self._pods[key].ended)

    async def stop(self, key: str, grace: float) -> None:
        if pod := self._pods.get(key):
            for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, None)):
                if patience != 0 and not pod.ended.done():
                    signal.pidfd_send_signal(pod.process, number)
                    await asyncio.wait([pod.ended], timeout=patience)
            del self._pods[key]
            os.close(pod.process)
            self._clear(pod.launch, pod.folder, pod.space)

    def _clear(self, launch: seams.Launch, folder: Path, space: Space) -> None:
        """Let go of what it had; its interfaces go with its network. To delete one takes 30 ms, and the kernel does many at once."""
        if space not in self._places.values():
            for address in launch.addresses:
                self._places[launch.node].unroute(address)
            space.close()
        shutil.rmtree(folder, ignore_errors=True)

    def discard(self, key: str) -> None:
        shutil.rmtree(_shared(key), ignore_errors=True)

    def log(self, key: str) -> bytes:
        return (self._pods[key].folder / "log").read_bytes()[-LONGEST_LOG:]

    async def execute(self, key: str, command: Sequence[str], *, stdin: bool) -> Process:
        pod, pipe = self._pods[key], subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=pipe if stdin else subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            env=pod.launch.environment,
            start_new_session=True,
            preexec_fn=functools.partial(system.join, pod.process),
        )

    async def dial(self, key: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await connect(self, key, ("127.0.0.1", port))

    def socket_in(self, key: str, family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket:
        space = self._pods[key].space if key in self._pods else self._places[key]
        return space.socket(family, kind)

    async def apply(self, node: str, rules: str) -> None:
        await asyncio.to_thread(_apply, self._places[node], rules)

    def forget(self, node: str, address: str, port: int, protocol: str) -> int:
        return self._places[node].forget(address, port, protocol)

    def announce(self, address: str, node: str) -> None:
        if node:
            self._lead(address, node)
        else:
            self._hub.unroute(address)

    def _lead(self, network: str, node: str) -> None:
        self._hub.route(network, self._ports[node], via=_PLACES[node][":" in network])

    def block(self, node: str, network: str) -> None:
        """Take a node's way to a network away: what it sends there is lost."""
        self._places[node].block(network)

    def unplug(self, node: str) -> None:
        """Pull a node's cable; nobody is told."""
        self._hub.switch(self._ports[node], up=False)


def _apply(space: Space, rules: str) -> None:
    with space.entered():
        done = subprocess.run([nft(), "-f", "-"], input=rules, capture_output=True, text=True, check=False)
    if done.returncode:
        raise seams.RulesRefused(done.stderr.strip())


def _end_of(process: int) -> asyncio.Future[int]:
    loop = asyncio.get_running_loop()
    ended = loop.create_future()

    def reap() -> None:
        loop.remove_reader(process)
        found = os.waitid(os.P_PIDFD, process, os.WEXITED)
        assert found
        ended.set_result(found.si_status + 128 * (found.si_code != os.CLD_EXITED))

    loop.add_reader(process, reap)
    return ended


def _order(launch: seams.Launch, folder: Path) -> Mapping[str, Any]:
    """Write the pod's files and say to the zygote how its process is started. Raises OSError where a folder can't be mounted on."""
    hostname = launch.hostname or launch.key.rpartition("/")[2]
    own = {"resolv.conf": launch.resolv_conf, "hosts": launch.hosts, "hostname": f"{hostname}\n"}
    for target, files in {"/etc": own, **launch.files}.items():
        place = Path(f"{folder}{target}")
        for made in (place, Path(target)):
            made.mkdir(parents=True, exist_ok=True)
        if not files:
            _share(place, Path(f"{_shared(launch.key)}{target}"))
        for name, text in files.items():
            (place / name).write_text(text)
    return {
        "command": launch.command,
        "environment": launch.environment,
        "hostname": hostname,
        "files": str(folder),
        "mounts": [*launch.files, *(f"/etc/{name}" for name in own)],
        "writable": [target for target, files in launch.files.items() if not files],
    }


def _share(place: Path, shared: Path) -> None:
    shared.mkdir(parents=True, exist_ok=True)
    place.rmdir()
    place.symlink_to(shared)


def _shared(key: str) -> Path:
    """Where the folders lie that all containers of a pod can write to."""
    return Path(system.STATE, "shared", key)
