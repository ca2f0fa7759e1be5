"""Processes of the lab as the event loop sees them: started through the zygote, written to, read from, awaited, ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netproof.lab.system import Space

if TYPE_CHECKING:
    from netproof.lab.zygote import Order

_PYTHON = re.compile(r"(.*/)?python3?(\.\d+)?")
_FLAGS = {"-I", "-E", "-s", "-u", "-B"}
LONGEST_LOG = 256 << 10


@dataclass(frozen=True, slots=True)
class Program:
    """What to start: in which namespaces, with what in view."""

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    source: str = ""  # where the lab finds the Python file that the command runs, if not under its own name
    space: Space | None = None
    apart: bool = False
    hostname: str = ""
    mounts: tuple[tuple[str, str], ...] = ()
    empty: tuple[str, ...] = ()
    join: int = 0


@dataclass(slots=True)
class Child:
    """A process that was started, leader of its own session; a pod's first process takes the pod's others with it."""

    pid: int
    ended: asyncio.Future[int]  # its exit code, as a shell counts: 128 and the signal where a signal ended it
    warned: bool = False  # has had its SIGTERM

    def signal(self, number: int) -> None:
        """Send it a signal; no error where it is gone."""
        if not self.ended.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def end(self, grace: float) -> None:
        """SIGTERM, and SIGKILL where it is still there after the grace period; it is gone when this returns."""
        if grace > 0:
            if not self.warned:
                self.signal(signal.SIGTERM)
            self.warned = True
            await asyncio.wait([self.ended], timeout=grace)
        self.signal(signal.SIGKILL)
        await asyncio.wait([self.ended])


class Children:
    """Starts programs through the zygote, and hears how they end."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._number = 0
        self._asked: dict[int, asyncio.Future[Child]] = {}
        self._running: dict[int, asyncio.Future[int]] = {}
        asyncio.get_running_loop().add_reader(control.fileno(), self._hear)

    async def start(self, program: Program, *, streams: tuple[int, int, int]) -> Child:
        """Start it with these descriptors as its standard streams; closes them here. Raises OSError where it can't be started."""
        reading, report = os.pipe()
        try:
            asked = self._order(program, fds=[*streams, report])
        except OSError:
            os.close(reading)
            raise
        finally:
            for fd in {*streams, report}:
                os.close(fd)
        try:
            child, complaint = await asyncio.gather(asked, _everything(reading))
        except asyncio.CancelledError:
            if not asked.cancelled():
                asked.result().signal(signal.SIGKILL)
            raise
        if complaint:
            code, _, text = complaint.decode().partition(" ")
            raise OSError(int(code), text)
        return child

    def _order(self, program: Program, *, fds: list[int]) -> asyncio.Future[Child]:
        self._number += 1
        place = script(program.command)
        order: Order = {
            "number": self._number,
            "command": list(program.command),
            "script": place,
            "source": program.source or program.command[place],
            "environment": {"PATH": _path(), **program.environment},
            "apart": program.apart,
            "hostname": program.hostname,
            "mounts": list(program.mounts),
            "empty": list(program.empty),
            "join": program.join,
        }
        spaces = [program.space.fd] if program.space else []
        socket.send_fds(self._control, [json.dumps(order).encode()], fds + spaces)
        future = self._asked[self._number] = asyncio.get_running_loop().create_future()
        return future

    def _hear(self) -> None:
        data = self._control.recv(4096)
        if not data:
            print("the lab's zygote has ended, and the lab with it", file=sys.stderr, flush=True)
            os._exit(70)
        message: dict[str, Any] = json.loads(data)
        if "ended" in message:
            if future := self._running.pop(message["ended"], None):
                future.set_result(message["code"] if message["code"] >= 0 else 128 - message["code"])
            return
        child = Child(message["pid"], asyncio.get_running_loop().create_future())
        if child.pid:
            self._running[child.pid] = child.ended
        else:  # the zygote has said why in the report
            child.ended.set_result(127)
        asked = self._asked.pop(message["number"])
        if asked.cancelled():
            child.signal(signal.SIGKILL)
        else:
            asked.set_result(child)


class Log:
    """The end of what was written to a pipe."""

    def __init__(self) -> None:
        self._text = bytearray()
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        asyncio.get_running_loop().add_reader(self._reading, self._read)

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._reading, 1 << 16)
            self._text += data
            del self._text[:-LONGEST_LOG]
            if not data:
                self.close()

    def take(self) -> int:
        """The end to write to, for a process; whoever takes it closes it."""
        taken, self._writing = self._writing, -1
        return taken

    def text(self) -> bytes:
        """All that is in it, with what is still in the pipe."""
        if self._reading >= 0:
            self._read()
        return bytes(self._text)

    def close(self) -> None:
        """Stop listening; the text stays."""
        if self._reading >= 0:
            asyncio.get_running_loop().remove_reader(self._reading)
            os.close(self._reading)
            self._reading = -1
        if self._writing >= 0:
            os.close(self.take())


class Command:
    """A program with pipes, as `asyncio.subprocess.Process`."""

    def __init__(
        self, child: Child, *, stdin: asyncio.StreamWriter | None, stdout: asyncio.StreamReader, stderr: asyncio.StreamReader
    ) -> None:
        self.stdin: asyncio.StreamWriter | None = stdin
        self.stdout: asyncio.StreamReader | None = stdout
        self.stderr: asyncio.StreamReader | None = stderr
        self.child = child

    @classmethod
    async def start(cls, children: Children, program: Program, *, stdin: bool) -> Command:
        null = os.open(os.devnull, os.O_RDONLY)
        sources, sinks = zip(os.pipe() if stdin else (null, -1), os.pipe(), os.pipe(), strict=True)
        mine = [sinks[0], sources[1], sources[2]]
        try:
            child = await children.start(program, streams=(sources[0], sinks[1], sinks[2]))
        except BaseException:
            for fd in mine:
                if fd >= 0:
                    os.close(fd)
            raise
        return cls(child, stdin=await writer(mine[0]) if stdin else None, stdout=await reader(mine[1]), stderr=await reader(mine[2]))

    async def wait(self) -> int:
        return await asyncio.shield(self.child.ended)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child.pid, signal.SIGKILL)  # those that it has started too


async def reader(fd: int) -> asyncio.StreamReader:
    stream = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(fd, "rb", 0))
    return stream


async def writer(fd: int) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), os.fdopen(fd, "wb", 0)
    )
    return asyncio.StreamWriter(transport, protocol, None, loop)


async def _everything(fd: int) -> bytes:
    return await (await reader(fd)).read()


def script(command: Sequence[str]) -> int:
    """The place of the file in `python3 [FLAGS] FILE ...`; 0 for any other command."""
    if not command or not _PYTHON.fullmatch(command[0]):
        return 0
    for place, word in enumerate(command[1:], 1):
        if word not in _FLAGS:
            return 0 if word.startswith("-") else place
    return 0


def _path() -> str:
    return os.pathsep.join([str(Path(sys.executable).parent), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"])
