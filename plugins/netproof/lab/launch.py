"""How the lab's process is begun, and why nothing of it can be left behind.

Sockets on which the machine outside shall reach the lab are bound before; they stay open in it. Two processes: the launcher, which
waits, and the first process of new namespaces, which is the lab. The kernel ends the second with the first, every other process of the
lab with the second, and with the last process go its namespaces, interfaces and mounts.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import sys

from netproof.lab import preflight, system
from netproof.lab.zygote import zygote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn


class Impossible(Exception):  # noqa: N818
    """The lab can't run here; the text is one sentence that says what is missing."""


def launch(main: Callable[[socket.socket], None], *, lifeline: int) -> int:
    """Run `main` as process 1 of namespaces of its own, where it is root; its exit code once it has ended. Raises Impossible.

    `main` gets the control socket of the zygote (see `Machine`); import what is large in it, not before. All ends at once when
    `lifeline`, a descriptor for reading, comes to its end (a pipe whose other end the process holds that wants the lab), and when
    this process is killed. Call it in a process without other threads.
    """
    way = preflight.way()
    if isinstance(way, str):
        raise Impossible(way)
    if way is preflight.Way.USER_NAMESPACE:
        system.enter_user_namespace()
    system.unshare(system.NEWPID)
    alive, parent = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if not pid:
        os.close(parent)
        _first(main, alive)
    os.close(alive)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever wanted the lab, who may still need it to tidy up
    return _watch(pid, lifeline)


def _watch(pid: int, lifeline: int) -> int:
    process = os.pidfd_open(pid)
    poller = select.poll()
    poller.register(process, select.POLLIN)
    poller.register(lifeline, select.POLLIN)
    while not any(fd == process for fd, _ in poller.poll()):
        if not os.read(lifeline, 4096):
            os.kill(pid, signal.SIGKILL)
            poller.unregister(lifeline)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _first(main: Callable[[socket.socket], None], alive: int) -> NoReturn:
    status = 1
    try:
        system.die_with_parent()
        if select.select([alive], [], [], 0)[0]:  # the parent has ended before that was set
            os._exit(1)
        os.setsid()
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        system.unshare(system.NEWNET | system.NEWNS | system.NEWUTS | system.NEWIPC)
        system.make_root()
        system.mount_proc()
        main(_zygote())
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _zygote() -> socket.socket:
    control, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (control, other):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    if not os.fork():
        try:
            system.die_with_parent()
            kept = other.fileno()
            os.closerange(3, kept)
            os.closerange(kept + 1, 1 << 20)
            zygote(other)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(1)
    other.close()
    return control
