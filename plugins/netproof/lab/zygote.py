"""The process of which pods and their commands are forks: Python and what its programs import are loaded once, for all of them.

It is forked before anything large is imported. Orders come over a socket, a packet each, with descriptors: standard input, output and
error, a pipe that stays silent unless the program can't be started, and where given a network namespace. It answers with the process
id, and says when a process has ended.
"""

from __future__ import annotations

import array
import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import types

from netproof.lab import system

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn, TypedDict

    class Order(TypedDict):
        """A program to be started; `script` is the place in `command` of a Python file to be run in the fork, 0 for none."""

        number: int
        command: list[str]
        script: int
        source: str  # where the zygote finds that file
        environment: dict[str, str]
        apart: bool  # in mount, UTS and PID namespaces of its own
        hostname: str
        mounts: list[tuple[str, str]]  # source, target
        empty: list[str]  # the targets that can be written to
        join: int  # the process whose mount, UTS and PID namespaces it shares, 0 for none


LARGEST = 1 << 18
_KEPT = 16


def zygote(control: socket.socket) -> NoReturn:
    """Serve orders until the other end of the socket is closed; then every process here is ended by its namespace."""
    gc.disable()  # a collection would touch, and so copy, every page that the forks share
    wake = _wake_on_child()
    programs: dict[bytes, types.CodeType] = {}
    poller = select.poll()
    for fd in (control.fileno(), wake):
        poller.register(fd, select.POLLIN)
    while True:
        for fd, _ in poller.poll():
            if fd == wake:
                os.read(wake, 4096)
                _reap(control)
            else:
                _serve(control, programs)


def _wake_on_child() -> int:
    wake, alarm = os.pipe()
    os.set_blocking(alarm, False)
    signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return wake


def _serve(control: socket.socket, programs: dict[bytes, types.CodeType]) -> None:
    data, fds = _receive(control)
    if not data:
        os._exit(0)
    order: Order = json.loads(data)
    program = _program(order, programs) if order["script"] else None
    gc.freeze()
    pid = 0
    try:
        pid = _fork(order, fds, program)
    except OSError as error:
        _complain(order, fds[3], error=error)
    for fd in fds:
        os.close(fd)
    control.send(json.dumps({"number": order["number"], "pid": pid}).encode())


def _fork(order: Order, fds: list[int], program: types.CodeType | None) -> int:
    """Fork into the PID namespace that the order wants: with a pod's first process, all of its processes end."""
    home = os.open("/proc/self/ns/pid", os.O_RDONLY)
    joined = os.pidfd_open(order["join"]) if order["join"] else -1
    try:
        if order["apart"]:
            system.unshare(system.NEWPID)
        elif order["join"]:
            system.setns(joined, system.NEWPID)
        pid = os.fork()
        if not pid:
            _child(order, fds, program=program, joined=joined)
        return pid
    finally:
        system.setns(home, system.NEWPID)
        for fd in {home, joined} - {-1}:
            os.close(fd)


def _complain(order: Order, report: int, *, error: OSError) -> None:
    os.write(report, f"{error.errno or 0} {error.strerror}: {error.filename or order['command'][0]}".encode())


def _receive(control: socket.socket) -> tuple[bytes, list[int]]:
    data, ancillary, _, _ = control.recvmsg(LARGEST, socket.CMSG_SPACE(5 * 4), socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for _level, _kind, carried in ancillary:
        fds.frombytes(carried)
    return data, list(fds)


def _reap(control: socket.socket) -> None:
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            control.send(json.dumps({"ended": found[0], "code": os.waitstatus_to_exitcode(found[1])}).encode())


def _program(order: Order, programs: dict[bytes, types.CodeType]) -> types.CodeType | None:
    """The compiled file, from memory where the same text was run before; None where Python itself shall say what is wrong with it."""
    try:
        with open(order["source"], "rb") as file:  # noqa: PTH123
            source = file.read()
        if source not in programs:
            if len(programs) >= _KEPT:
                programs.clear()
            programs[source] = _compiled(source, order["command"][order["script"]])
        return programs[source]
    except (OSError, SyntaxError, ValueError):
        return None


def _compiled(source: bytes, name: str) -> types.CodeType:
    import ast
    import importlib

    tree = ast.parse(source, name)
    for node in ast.walk(tree):  # what it will import is loaded here, so that all forks share it
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for found in names:
            if found.partition(".")[0] in sys.stdlib_module_names:
                with contextlib.suppress(ImportError):
                    importlib.import_module(found)
    return compile(tree, name, "exec", dont_inherit=True)


def _child(order: Order, fds: list[int], *, program: types.CodeType | None, joined: int) -> NoReturn:
    report = fds[3]
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        _enter(order, fds[4:], joined=joined)
        for number in range(3):
            os.dup2(fds[number], number)
        os.chdir("/")
        if program:
            os.closerange(3, report)
            os.closerange(report + 1, 1 << 20)
            os.close(report)
            _run(order, program)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.execvpe(order["command"][0], order["command"], order["environment"])
    except OSError as error:
        _complain(order, report, error=error)
    finally:
        os._exit(127)


def _enter(order: Order, space: list[int], *, joined: int) -> None:
    if order["join"]:
        system.setns(joined, system.NEWNS | system.NEWUTS)
    for fd in space:
        system.setns(fd, system.NEWNET)
    if order["apart"]:
        system.unshare(system.NEWNS | system.NEWUTS)
        socket.sethostname(order["hostname"])
        for source, target in order["mounts"]:
            system.bind(source, target)
        system.read_only_root()
        for target in order["empty"]:
            system.writable(target)
        with contextlib.suppress(OSError):  # refused in a container; /proc then shows the lab's processes
            system.mount("proc", "/proc", kind="proc", flags=system.HARMLESS)


def _run(order: Order, program: types.CodeType) -> NoReturn:
    """Be `python3 FILE`, without the time and the memory of a new interpreter."""
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv = order["command"][order["script"] :]
    module = types.ModuleType("__main__")
    module.__file__ = sys.argv[0]
    sys.modules["__main__"] = module
    gc.enable()
    status: Any = 0
    try:
        exec(program, module.__dict__)
    except SystemExit as ended:
        status = ended.code
    except BaseException:  # as the interpreter would: nothing above this may run on in the fork
        import traceback

        traceback.print_exc()
        status = 1
    if status is not None and not isinstance(status, int):
        print(status, file=sys.stderr)
        status = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit((status or 0) & 0xFF)
