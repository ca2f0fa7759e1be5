"""What Python 3.11 does not offer of Linux: namespaces, mounts, prctl. Imported before the zygote is forked, so it imports little."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import subprocess
from pathlib import Path

NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
STATE = "/.lab"
_HOST = "/.host"
_RDONLY, _REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 0x1, 0x20, 0x1000, 0x4000, 0x40000
_HARMLESS = 0xE  # no devices, no set-user-id programs, no programs
_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE = 442, -100, 0x8000
_SET_PDEATHSIG, _SIGKILL = 1, 9
_libc = ctypes.CDLL(None, use_errno=True)


def _call(function: str, *arguments: object) -> None:
    if getattr(_libc, function)(*arguments) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{function}: {os.strerror(code)}")


def unshare(flags: int) -> None:
    _call("unshare", ctypes.c_int(flags))


def setns(fd: int, flags: int) -> None:
    """Enter namespaces: `fd` is one of them, or a process's pidfd, which holds all."""
    _call("setns", ctypes.c_int(fd), ctypes.c_int(flags))


def die_with_parent() -> None:
    """Be killed when the parent thread ends. Set it after every change of credentials: they clear it."""
    _call("prctl", ctypes.c_int(_SET_PDEATHSIG), ctypes.c_ulong(_SIGKILL))


def join(process: int) -> None:
    """Between fork and exec: enter the mounts, host name and network of a process, given its pidfd. In /proc are the lab's processes."""
    try:
        setns(process, NEWNS | NEWUTS | NEWNET)
    except OSError:  # it ended this moment
        os._exit(128 + _SIGKILL)
    unshare(NEWNS)
    show_processes()
    os.chdir("/")


def mount(source: str, target: str, *, kind: str = "", flags: int = 0) -> None:
    _call("mount", source.encode(), target.encode(), kind.encode() or None, ctypes.c_ulong(flags), None)


def bind(source: str, target: str) -> None:
    mount(source, target, flags=_BIND | _RECURSIVE)


def read_only(target: str) -> None:
    """Make a mount and all below it read-only. Raises OSError on Linux before 5.12."""
    settings = (ctypes.c_uint64 * 4)(_RDONLY, 0, 0, 0)
    path, size = ctypes.c_char_p(target.encode()), ctypes.c_size_t(ctypes.sizeof(settings))
    _call("syscall", ctypes.c_long(_MOUNT_SETATTR), ctypes.c_int(_AT_FDCWD), path, ctypes.c_uint(_AT_RECURSIVE), settings, size)


def writable(target: str) -> None:
    """Make a mount, and none below it, writable again."""
    mount("none", target, flags=_REMOUNT | _BIND)


def show_processes() -> None:
    """Show the processes of this PID namespace in /proc. In a container that may be refused; then /proc stays what it was."""
    with contextlib.suppress(OSError):
        mount("proc", "/proc", kind="proc", flags=_HARMLESS)


def enter_user_namespace() -> None:
    """Become root of a new user namespace: of root with every id it has, of anybody else with its own. One thread only."""
    if user := os.geteuid():
        maps = {"setgroups": "deny", "uid_map": f"0 {user} 1", "gid_map": f"0 {os.getegid()} 1"}
    else:
        maps = {name: _identity(name) for name in ("uid_map", "gid_map")}
    given = [f"printf '{text}' >/proc/{os.getpid()}/{name}" for name, text in maps.items()]
    script = "\n".join(["read go", *given])
    writer = subprocess.Popen(["sh", "-ec", script], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)  # the ids are given from outside
    try:
        unshare(NEWUSER)
    finally:
        writer.communicate(b"go\n")
    if writer.returncode:
        raise PermissionError(errno.EPERM, "uid_map: not permitted")


def _identity(name: str) -> str:
    """A map of the ids that this namespace has, each to itself."""
    rows = [line.split() for line in Path(f"/proc/self/{name}").read_text().splitlines()]
    return "".join(f"{inside} {inside} {count}\n" for inside, _, count in rows)


def make_root() -> None:
    """Give this mount namespace a root of its own, in memory: the machine's files are links in it, and folders can be made beside them.

    `/etc` can be added to as well. The machine's own root is at `/.host`, read-only.
    """
    mount("none", "/", flags=_RECURSIVE | _PRIVATE)
    shown = {folder: sorted(path.name for path in Path(folder).iterdir()) for folder in ("/", "/etc/")}
    root = "/sys"  # any folder that is always there; it is uncovered again when the new root moves away
    mount("lab", root, kind="tmpfs")
    for name in (_HOST, STATE, "/etc", "/proc"):
        Path(f"{root}{name}").mkdir()
    for name in ("resolv.conf", "hosts", "hostname"):  # for pods to put theirs over
        Path(f"{root}/etc/{name}").touch()
    for folder, names in shown.items():
        for name in names:
            with contextlib.suppress(FileExistsError):  # the new root has its own
                Path(f"{root}{folder}{name}").symlink_to(f"{_HOST}{folder}{name}")
    bind("/proc", f"{root}/proc")
    os.chdir(root)
    _call("pivot_root", b".", f".{_HOST}".encode())
    os.chdir("/")
    read_only(_HOST)
