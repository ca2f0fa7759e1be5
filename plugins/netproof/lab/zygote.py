"""The process of which pods are forks: Python and the modules of its programs are loaded once, for all of them.

It is forked before anything large is imported. Orders come over a socket, a packet each, with descriptors: where to answer, where to
write, a network namespace. An order has the `command`, its `environment`, the pod's `hostname`, and `mounts`: what is mounted there is
below the folder `files`, and `writable` names those that the pod can change. The answer is the process id, and closed once the program has
begun. The parent of a pod's first process ends at once, so that process 1 of the lab inherits it, and learns how it ends.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import os
import signal
import socket
import sys
import types
from pathlib import Path

from netproof.lab import system

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    Order = dict[str, Any]

_LARGEST = 1 << 17
_FLAGS = {"-I", "-E", "-s", "-u", "-B"}  # of Python: they change nothing here


def zygote(control: socket.socket) -> NoReturn:
    """Serve orders until the other end of the socket is closed. In a pod's process this ends as its Python program does."""
    gc.disable()  # a collection would touch, and so copy, every page that the forks share
    while True:
        data, fds, _, _ = socket.recv_fds(control, _LARGEST, 3)
        if not data:
            os._exit(0)
        order: Order = json.loads(data)
        arguments = [word for word in order["command"][1:] if word not in _FLAGS]
        program = _program(order, arguments)
        gc.freeze()
        parent = os.fork()
        if not parent:
            _begin(order, fds)
            if program:
                _run(program, arguments, order["environment"])
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            os.execvpe(order["command"][0], order["command"], order["environment"])
        os.waitpid(parent, 0)
        for fd in fds:
            os.close(fd)


def _program(order: Order, arguments: list[str]) -> types.CodeType | None:
    """The Python file of the pod's that the command runs; None for any other, and where Python itself shall say what is wrong with it."""
    if Path(order["command"][0]).name.startswith("python3") and arguments:
        with contextlib.suppress(OSError, SyntaxError, ValueError):
            return _compiled(Path(order["files"] + arguments[0]).read_bytes(), arguments[0])
    return None


@functools.lru_cache(maxsize=16)
def _compiled(source: bytes, name: str) -> types.CodeType:
    return compile(source, name, "exec", dont_inherit=True)


def _begin(order: Order, fds: list[int]) -> None:
    """Be the parent, which ends here, and then the pod's first process. What goes wrong is written where the pod writes."""
    report, output, space = fds
    for number, fd in enumerate((os.open(os.devnull, os.O_RDONLY), output, output)):
        os.dup2(fd, number)
    system.unshare(system.NEWPID)
    if pid := os.fork():
        os.write(report, str(pid).encode())
        os._exit(0)
    os.setsid()
    system.setns(space, system.NEWNET)
    system.unshare(system.NEWNS | system.NEWUTS)
    socket.sethostname(order["hostname"])
    for target in order["mounts"]:
        system.bind(order["files"] + target, target)
    system.read_only("/")
    for target in order["writable"]:
        system.writable(target)
    system.show_processes()
    os.chdir("/")
    os.closerange(3, 1 << 20)


def _run(program: types.CodeType, arguments: list[str], environment: dict[str, str]) -> NoReturn:
    """Be `python3 FILE`, without the time and the memory of a new interpreter."""
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = arguments
    module = sys.modules["__main__"] = types.ModuleType("__main__")
    module.__file__ = arguments[0]
    gc.enable()
    exec(program, vars(module))
    sys.exit()
