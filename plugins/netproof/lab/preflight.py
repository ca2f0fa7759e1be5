"""Whether the lab can run on this machine, found out by doing in a child process what it will do, and what is missing where it can't."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from enum import Enum
from pathlib import Path

from netproof.lab import system

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_RULES = """
table inet t {
  map m { type inet_service : verdict; }
  chain c { type nat hook prerouting priority dstnat; tcp dport vmap @m; }
  chain d { ip daddr 10.0.0.1 tcp dport 80 dnat ip to numgen random mod 1 map { 0 : 10.0.0.2 . 80 }; }
}
"""
_NFT = "the lab needs the `nft` command"
_INSTALLERS = {
    "apt-get": "apt-get install nftables",
    "dnf": "dnf install nftables",
    "apk": "apk add nftables",
    "pacman": "pacman -S nftables",
    "zypper": "zypper install nftables",
}
_SWITCHES = {"kernel/unprivileged_userns_clone": "0", "kernel/apparmor_restrict_unprivileged_userns": "1"}


class Way(Enum):
    """How a process of this machine becomes one that may make networks."""

    USER_NAMESPACE = "as root of a user namespace"
    ROOT = "as root"


def problem() -> str | None:
    """One sentence that says why the lab can't run here, with the command that helps; None where it can. Takes about 50 ms."""
    found = way()
    return found if isinstance(found, str) else None


def way() -> Way | str:
    """How the lab can run here, or why it can't."""
    if not sys.platform.startswith("linux"):
        return f"the lab needs the Linux kernel and this is {sys.platform}: use --cluster=kind, or run it in a Linux virtual machine"
    if not nft():
        command = next((text for tool, text in _INSTALLERS.items() if shutil.which(tool)), _INSTALLERS["apt-get"])
        return f"{_NFT}: sudo {command}"
    refused = _trial(Way.USER_NAMESPACE)
    if not refused:
        return Way.USER_NAMESPACE
    if os.geteuid() == 0:
        refused = _trial(Way.ROOT)
    return _sentence(*refused) if refused else Way.ROOT


def nft() -> str:
    """Where the program is: an ordinary user's PATH often lacks the folder. Empty where it is nowhere."""
    return shutil.which("nft", path=f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin") or ""


def _steps(chosen: Way) -> dict[str, Callable[[], None]]:
    user = {"user": system.enter_user_namespace} if chosen is Way.USER_NAMESPACE else {}
    return {
        **user,
        "pid": lambda: system.unshare(system.NEWPID),
        "mnt": lambda: system.unshare(system.NEWNS),
        "uts": lambda: system.unshare(system.NEWUTS | system.NEWIPC),
        "net": lambda: system.unshare(system.NEWNET),
        "root": system.make_root,
        "link": _link,
        "forward": lambda: _forward("ipv4/ip_forward"),
        "ipv6": lambda: _forward("ipv6/conf/all/forwarding"),
        "rules": _rules,
    }


def _link() -> None:
    from netproof.lab.netlink import Links

    here = system.Space.current()
    Links(here).veth("a", "b", peer_space=here, macs=("02:00:00:00:00:01", "02:00:00:00:00:02"), mtu=1500)
    Links(here).bridge("c")


def _forward(name: str) -> None:
    Path("/proc/sys/net", name).write_text("1")


def _rules() -> None:
    done = subprocess.run([nft(), "-f", "-"], input=_RULES.encode(), capture_output=True, check=False)
    if done.returncode:
        raise OSError(0, done.stderr.decode(errors="replace").strip().splitlines()[0])


def _trial(chosen: Way) -> tuple[str, int, str] | None:
    """The step that failed, its errno and its text. All that the trial makes goes with its process."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads: the child only makes system calls
        pid = os.fork()
    if not pid:
        os.close(reading)
        _try(chosen, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read().decode()
    os.waitpid(pid, 0)
    if text == "good":
        return None
    step, code, said = text.split("\0") if text else ("trial", "0", "the trial ended early")
    return step, int(code), said


def _try(chosen: Way, report: int) -> None:
    step = ""
    try:
        for name, do in _steps(chosen).items():
            step = name
            do()
        os.write(report, b"good")
    except OSError as error:
        os.write(report, f"{step}\0{error.errno or 0}\0{error.strerror}".encode())
    except BaseException as error:
        os.write(report, f"{step}\0{0}\0{error!r}".encode())
    finally:
        os._exit(0)


def _sentence(step: str, code: int, said: str) -> str:
    if step == "rules":
        return f"{_NFT} with maps and nat, and this one, or the kernel, refused a small rule set ({said}): sudo modprobe nf_tables nft_nat"
    if step == "ipv6":
        return f"the lab is dual-stack and this kernel has no IPv6 to forward ({said}): boot it without ipv6.disable=1"
    if code == 28 and step in ("user", "pid", "mnt", "net", "uts"):
        return f"the limit of {step} namespaces is reached: sudo sysctl user.max_{step}_namespaces=65536"
    if _contained():
        return f"this container may not make networks ({step}: {said}): start it with docker run --privileged, or run outside of it"
    for name, value in _SWITCHES.items():
        if _setting(name) == value:
            dotted, other = name.replace("/", "."), 1 - int(value)
            return f"this machine restricts user namespaces ({dotted}={value}): sudo sysctl -w {dotted}={other}"
    if os.geteuid() == 0:
        return f"this kernel lacks what the lab needs ({step}: {said}): modprobe -a veth bridge nf_tables"
    return f"the kernel refuses an ordinary user what the lab needs ({step}: {said}): run it as root, with sudo -E"


def _setting(name: str) -> str:
    try:
        return Path("/proc/sys", name).read_text().strip()
    except OSError:
        return ""


def _contained() -> bool:
    return any(Path(name).exists() for name in ("/.dockerenv", "/run/.containerenv"))
