"""What Python 3.11 does not offer of Linux: namespaces, mounts and prctl, and a network namespace as a value.

Imported before the zygote is forked, so it imports little.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
OWN = ("resolv.conf", "hosts", "hostname")  # in /etc: the lab's own, for pods to put theirs over
STATE = "/.lab"
HARMLESS = 0xE  # for a mount: no devices, no set-user-id programs, no programs
_HOST = "/.host"
_RDONLY, _REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 0x1, 0x20, 0x1000, 0x4000, 0x40000
_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE = 442, -100, 0x8000
_SET_PDEATHSIG = 1
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
    _call("prctl", ctypes.c_int(_SET_PDEATHSIG), ctypes.c_ulong(9))


def mount(source: str, target: str, *, kind: str = "", flags: int = 0) -> None:
    _call("mount", source.encode(), target.encode(), kind.encode() or None, ctypes.c_ulong(flags), None)


def bind(source: str, target: str) -> None:
    mount(source, target, flags=_BIND)


def writable(target: str) -> None:
    """Make one mount writable, below a root that was made read-only."""
    mount("", target, flags=_BIND | _REMOUNT)


def read_only_root() -> None:
    """Make every mount that this namespace sees read-only. Where the kernel cannot (before 5.12), they stay as they are."""
    settings = (ctypes.c_uint64 * 4)(_RDONLY, 0, 0, 0)
    path, size = ctypes.c_char_p(b"/"), ctypes.c_size_t(ctypes.sizeof(settings))
    with contextlib.suppress(OSError):
        _call("syscall", ctypes.c_long(_MOUNT_SETATTR), ctypes.c_int(_AT_FDCWD), path, ctypes.c_uint(_AT_RECURSIVE), settings, size)


def enter_user_namespace() -> None:
    """Become root of a new user namespace: of root with every id it has, of anybody else with its own. One thread only."""
    user, group = os.geteuid(), os.getegid()
    ready, go = os.pipe()
    writer = os.fork()  # the ids are given by a process outside
    if not writer:
        os.close(go)
        os.read(ready, 1)
        os._exit(_map_ids(os.getppid(), user, group=group))
    os.close(ready)
    try:
        unshare(NEWUSER)
    finally:
        os.close(go)
        status = os.waitstatus_to_exitcode(os.waitpid(writer, 0)[1])
    if status:
        raise OSError(status, f"uid_map: {os.strerror(status)}")


def _map_ids(pid: int, user: int, *, group: int) -> int:
    try:
        if user:
            Path(f"/proc/{pid}/setgroups").write_text("deny")
        for name, own in (("uid_map", user), ("gid_map", group)):
            Path(f"/proc/{pid}/{name}").write_text(f"0 {own} 1" if user else _identity(name))
    except OSError as error:
        return error.errno or 1
    return 0


def _identity(name: str) -> str:
    """A map of the ids that this namespace has, each to itself."""
    rows = [line.split() for line in Path(f"/proc/self/{name}").read_text().splitlines()]
    return "".join(f"{inside} {inside} {count}\n" for inside, _, count in rows)


def make_root() -> None:
    """Give this mount namespace a root of its own, in memory: the machine's folders are links in it, and new ones can be made beside them.

    `/etc` can be added to as well. The machine's own root is at `/.host`; nothing here changes it.
    """
    mount("none", "/", flags=_RECURSIVE | _PRIVATE)
    names = sorted(path.name for path in Path("/").iterdir())
    root = Path("/proc")  # any folder that is always there; it is uncovered again when the new root moves away
    mount("lab", str(root), kind="tmpfs")
    for name in (_HOST, STATE, "/etc"):
        Path(f"{root}{name}").mkdir()
    _link(names, root, origin=_HOST)
    os.chdir(root)
    _call("pivot_root", b".", b"." + _HOST.encode())
    os.chdir("/")
    etc = Path("/etc")
    for name in OWN:
        (etc / name).touch()
    _link((path.name for path in Path(_HOST, "etc").iterdir()), etc, origin=f"{_HOST}/etc")


def _link(names: Iterable[str], folder: Path, *, origin: str) -> None:
    for name in names:
        with contextlib.suppress(FileExistsError):  # the new root has its own
            (folder / name).symlink_to(f"{origin}/{name}")


def mount_proc() -> None:
    """Show the processes of this PID namespace in /proc. In a container that may be refused; then /proc stays the container's."""
    proc = Path("/proc")
    proc.unlink()
    proc.mkdir()
    try:
        mount("proc", "/proc", kind="proc", flags=HARMLESS)
    except OSError:
        proc.rmdir()
        proc.symlink_to(f"{_HOST}/proc")


def mount_point(target: str) -> None:
    """Make sure that something can be mounted there, without making anything on the machine. Raises OSError."""
    path = Path(target)
    if not path.exists():
        if Path(_HOST) in path.resolve().parents:
            raise FileNotFoundError(2, "not a folder of this machine, and none can be added to its folders", target)
        path.mkdir(parents=True)


class Space:
    """A network namespace, held by a descriptor: it lives until `close`, and until the last process and socket in it have gone."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def current(cls) -> Space:
        return cls(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    @classmethod
    def new(cls) -> Space:
        home = cls.current()
        unshare(NEWNET)
        try:
            return cls.current()
        finally:
            setns(home.fd, NEWNET)
            home.close()

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """For one stretch of this thread without `await`; sockets made in it stay in the namespace."""
        home = Space.current()
        setns(self.fd, NEWNET)
        try:
            yield
        finally:
            setns(home.fd, NEWNET)
            home.close()

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        with self.entered():
            return socket.socket(family, kind, protocol)

    def configure(self, settings: Mapping[str, str]) -> None:
        """Write settings of /proc/sys/net; those that this kernel has not, or not for each namespace, are passed over."""
        with self.entered():
            for name, value in settings.items():
                with contextlib.suppress(FileNotFoundError):
                    Path("/proc/sys/net", name).write_text(value)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1
