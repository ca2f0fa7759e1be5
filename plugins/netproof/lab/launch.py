"""Whether the lab can run on this machine, how it is begun, and why nothing of it can be left behind.

Sockets on which the machine outside shall reach the lab are bound before; they stay open in it. Two processes: the launcher, which
waits, and the first process of new namespaces, which is the lab. The kernel ends the second with the first, every other process of the
lab with the second, and with the last process go its namespaces, interfaces and mounts.
"""

from __future__ import annotations

import errno
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import warnings
from pathlib import Path

from netproof.lab import system
from netproof.lab.zygote import zygote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_RULES = """table inet t {
  map m { type inet_service : verdict; }
  chain c { type nat hook prerouting priority dstnat; tcp dport vmap @m; }
  chain d { ip daddr 10.0.0.1 tcp dport 80 dnat ip to numgen random mod 1 map { 0 : 10.0.0.2 . 80 }; }
}
"""
_NFT = "the lab needs the `nft` command"
_INSTALLERS = ("apt-get install", "dnf install", "apk add", "pacman -S", "zypper install")
_SWITCHES = {"kernel/unprivileged_userns_clone": 0, "kernel/apparmor_restrict_unprivileged_userns": 1}  # what forbids


class Impossible(Exception):  # noqa: N818
    """The lab can't run here; the text is one sentence that says what is missing, with the command that helps."""


def launch(main: Callable[[socket.socket], None], *, lifeline: int) -> int:
    """Run `main` as process 1 of namespaces of its own, where it is root; its exit code once it has ended. Raises Impossible.

    `main` gets the control socket of the zygote (see `Machine`); import what is large in it, not before. All ends at once when
    `lifeline`, a descriptor for reading, comes to its end (a pipe whose other end the process holds that wants the lab), and when
    this process is killed. Call it in a process without other threads.
    """
    if rootless():
        system.enter_user_namespace()
    system.unshare(system.NEWPID)
    launcher = os.pidfd_open(os.getpid())
    sys.stdout.flush()
    sys.stderr.flush()
    first = os.fork()
    if not first:
        _enter(launcher)
        main(_zygote())
        sys.exit()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever wanted the lab, who may still need it to tidy up
    select.select([os.pidfd_open(first), lifeline], [], [])
    os.kill(first, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])


def _enter(launcher: int) -> None:
    system.die_with_parent()
    if select.select([launcher], [], [], 0)[0]:  # it has ended before that was set
        os._exit(1)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    system.unshare(system.NEWNET | system.NEWNS | system.NEWUTS | system.NEWIPC)
    system.make_root()
    system.show_processes()


def _zygote() -> socket.socket:
    control, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if not os.fork():
        control.close()
        zygote(other)
    other.close()
    return control


# --- what may be missing ---


def problem() -> str | None:
    """Why the lab can't run here, in one sentence; None where it can. Takes about 50 ms."""
    try:
        rootless()
    except Impossible as error:
        return str(error)
    return None


def rootless() -> bool:
    """Whether the lab is root of a user namespace; where that is refused, it is this machine's root. Raises Impossible."""
    if not sys.platform.startswith("linux"):
        raise Impossible(f"the lab needs Linux and this is {sys.platform}: use --cluster=kind, or run it in a Linux virtual machine")
    if not nft():
        command = next((text for text in _INSTALLERS if shutil.which(text.split()[0])), _INSTALLERS[0])
        raise Impossible(f"{_NFT}: sudo {command} nftables")
    refused = _refused(in_user_namespace=True)
    as_root = _refused(in_user_namespace=False) if refused and os.geteuid() == 0 else refused
    if as_root:
        raise Impossible(_sentence(*as_root))
    return not refused


def nft() -> str:
    """Where the program is: an ordinary user's PATH often lacks the folder. Empty where it is nowhere."""
    return shutil.which("nft", path=f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin") or ""


def _attempt(*, in_user_namespace: bool) -> None:
    """What the lab will do. Raises OSError, without a number where nft is to blame."""
    from netproof.lab.network import Space

    if in_user_namespace:
        system.enter_user_namespace()
    system.unshare(system.NEWPID | system.NEWNET | system.NEWNS | system.NEWUTS | system.NEWIPC)
    system.make_root()
    Space(forwards=True).lead(Space(), ["10.0.0.1", "fd00::1"])
    done = subprocess.run([nft(), "-f", "-"], input=_RULES, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(0, done.stderr.strip().splitlines()[0])


def _refused(*, in_user_namespace: bool) -> tuple[int, str] | None:
    """Attempt it in a process with which all goes that it makes: the number and the text of the error."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads: the child only makes system calls
        pid = os.fork()
    if not pid:
        said = "good"
        try:
            _attempt(in_user_namespace=in_user_namespace)
        except BaseException as error:
            said = f"{getattr(error, 'errno', errno.EINVAL)} {getattr(error, 'strerror', repr(error))}"
        finally:
            os.write(writing, said.encode())
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        code, _, text = pipe.read().partition(" ")
    os.waitpid(pid, 0)
    return None if code == "good" else (int(code), text)


def _sentence(code: int, said: str) -> str:
    if not code:
        return f"{_NFT} with maps and nat, and this one, or the kernel, refused a small rule set ({said}): sudo modprobe nf_tables nft_nat"
    if code == errno.ENOSYS:
        return f"the lab needs Linux 5.12 or later, and this is {os.uname().release}: use --cluster=kind"
    if code == errno.ENOSPC:
        limits = " ".join(f"user.max_{kind}_namespaces=65536" for kind in ("user", "pid", "net", "mnt", "uts", "ipc"))
        return f"a limit of namespaces is reached: sudo sysctl {limits}"
    if any(Path(name).exists() for name in ("/.dockerenv", "/run/.containerenv")):
        return f"this container may not make networks ({said}): start it with docker run --privileged, or run outside of it"
    for name, forbids in _SWITCHES.items():
        path, dotted = Path("/proc/sys", name), name.replace("/", ".")
        if path.exists() and path.read_text().strip() == str(forbids):
            return f"this machine restricts user namespaces ({dotted}={forbids}): sudo sysctl -w {dotted}={1 - forbids}"
    if os.geteuid() == 0:
        return f"this kernel lacks what the lab needs ({said}): modprobe -a veth nf_tables"
    return f"the kernel refuses an ordinary user what the lab needs ({said}): run it as root, with sudo -E"
