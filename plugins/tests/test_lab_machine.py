"""The lab's machine: pods as processes in namespaces whose packets are real. Each test has a lab of its own, in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import hashlib
import ipaddress
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from itertools import product
from pathlib import Path

import pytest
from netproof.lab import launch as starting
from netproof.lab import seams, system
from netproof.lab.launch import launch, problem
from netproof.lab.machine import Machine
from netproof.probe import agent

needs_lab = pytest.mark.skipif(bool(problem()), reason=str(problem()))
Check = Callable[[Machine], Awaitable[None]]
NOBODY = 65534
# Says its name and where a caller comes from, to whoever connects.
SERVER = """
import os, signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
listener = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)
print("serving", flush=True)
while True:
    guest, peer = listener.accept()
    guest.sendall(f"{os.environ['NAME']} {peer[0].removeprefix('::ffff:')}".encode())
    guest.close()
"""
A, B, C = ("10.244.1.2", "fd00:244:0:1::2"), ("10.244.1.3", "fd00:244:0:1::3"), ("10.244.2.2", "fd00:244:0:2::2")


def pod(name: str, addresses: tuple[str, ...], *command: str, **changes: object) -> seams.Launch:
    """A pod on the node that its addresses belong to; without a command, the server on port 8080."""
    node = next(n for n in seams.NODES if ipaddress.ip_address(addresses[0]) in ipaddress.ip_network(seams.pod_networks(n)[0]))
    given = {"environment": {"NAME": name}, "files": {"/program": {"server.py": SERVER}}, "hosts": "127.0.0.1 localhost\n", **changes}
    return seams.Launch(f"x/{name}", node, addresses, command or ("python3", "-I", "/program/server.py", "8080"), **given)  # type: ignore[arg-type]


async def serving(machine: Machine, *launches: seams.Launch) -> None:
    await asyncio.gather(*map(machine.start, launches))
    for launched in launches:
        async with asyncio.timeout(10):
            while b"serving" not in machine.log(launched.key):
                await asyncio.sleep(0.01)


async def ask(machine: Machine, source: str, address: str, port: int = 8080, *, patience: float = 2) -> str:
    """What a server answers to a connection from a pod, node or outsider. Raises OSError, TimeoutError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with machine.socket_in(source, family, socket.SOCK_STREAM) as sock:
        sock.settimeout(0)
        async with asyncio.timeout(patience):
            loop = asyncio.get_running_loop()
            await loop.sock_connect(sock, (address, port))
            return (await loop.sock_recv(sock, 100)).decode()


async def run(machine: Machine, key: str, *command: str, text: bytes = b"") -> tuple[int, str, str]:
    process = await machine.execute(key, command, stdin=bool(text))
    if process.stdin:
        process.stdin.write(text)
        process.stdin.close()
    assert process.stdout is not None
    assert process.stderr is not None
    said, complained = await asyncio.gather(process.stdout.read(), process.stderr.read())
    return await process.wait(), said.decode(), complained.decode()


def hook(name: str, rule: str) -> str:
    return f"table inet t {{ chain c {{ type filter hook {name} priority 0; {rule}; }}; }}"


def in_lab(check: Check, *, before: Callable[[], None] = lambda: None) -> None:
    """Run a check inside of a lab; what it raises fails the test."""
    reading, report = os.pipe()
    lifeline, holding = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(holding)
        for fd in (1, 2):
            os.dup2(report, fd)
        _as_launcher(check, lifeline, before=before)
    os.close(report)
    os.close(lifeline)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(holding)
    if status:
        pytest.fail(f"in the lab (exit {status}):\n{said}", pytrace=False)


def _as_launcher(check: Check, lifeline: int, *, before: Callable[[], None]) -> None:
    async def checked(control: socket.socket) -> None:
        machine = Machine(control)
        async with asyncio.timeout(20):
            await check(machine)

    status = 1
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__  # not pytest's
    try:
        before()
        status = launch(lambda control: asyncio.run(checked(control)), lifeline=lifeline)
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else bool(ended.code)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def as_root() -> None:
    starting.rootless = lambda: False


def as_nobody() -> None:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    ctypes.CDLL(None).prctl(4, 1)  # as if it had been nobody's process from the start: its /proc files are its own


@needs_lab
@pytest.mark.parametrize("before", [as_root, as_nobody, lambda: None], ids=["root", "nobody", "best"])
def test_every_pod_reaches_every_pod_with_its_own_address(before: Callable[[], None]) -> None:
    if before in (as_root, as_nobody) and os.geteuid():
        pytest.skip("only root can choose whose lab it is")

    async def check(machine: Machine) -> None:
        pods = {"a": A, "b": B, "c": C}
        await serving(machine, *(pod(name, addresses) for name, addresses in pods.items()))
        for (name, own), (other, theirs), family in product(pods.items(), pods.items(), (0, 1)):
            assert await ask(machine, f"x/{name}", theirs[family]) == f"{other} {own[family]}"
        assert await ask(machine, "lab-1", C[0]) == "c 172.30.0.11"
        assert await ask(machine, "lab-2", C[1]) == "c fd00:30::c"
        assert await ask(machine, "outside/b", A[1]) == "a fd00:30::65"

    in_lab(check, before=before)


@needs_lab
def test_a_pod_sees_its_files_and_cannot_change_the_machine(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("untouched")

    async def check(machine: Machine) -> None:
        files = {"/etc/settings": {"one": "1\n"}, "/new/deep": {"two": "2\n"}, "/program": {"server.py": SERVER}}
        await serving(machine, pod("a", A, files=files, resolv_conf="nameserver 10.96.0.10\n", hostname="pod-a"))
        for word, expected in {
            "hostname; cat /etc/hostname": "pod-a\npod-a\n",
            "cat /etc/resolv.conf /etc/hosts": "nameserver 10.96.0.10\n127.0.0.1 localhost\n",
            "cat /etc/settings/one; echo $NAME": "1\na\n",
            "cat /new/deep/two": "2\n",
            "ps -o pid= -p 1 | tr -d ' '": "1\n",
        }.items():
            assert await run(machine, "x/a", "sh", "-c", word) == (0, expected, ""), word
        for word in (f"echo gone > {mine}", "touch /etc/settings/two", "touch /etc/x", f"rm {mine}"):
            assert (await run(machine, "x/a", "sh", "-c", word))[0] != 0, word

    in_lab(check)
    assert mine.read_text() == "untouched"


@needs_lab
def test_the_containers_of_a_pod_share_what_they_can_write_to() -> None:
    """What one leaves the next one finds, until the pod is removed; another pod finds nothing."""

    async def check(machine: Machine) -> None:
        for word, name, code in (
            ("echo left > /shared/file", "a", 0),
            ("grep left /shared/file", "a", 0),
            ("cat /shared/file", "b", 1),
            ("cat /shared/file", "a", 1),
        ):
            await machine.start(pod(name, A, "sh", "-c", word, files={"/shared": {}}))
            assert await machine.wait(f"x/{name}") == code, word
            await machine.stop(f"x/{name}", 0)
            if name == "b":
                machine.discard("x/a")

    in_lab(check)


@needs_lab
def test_a_pod_that_cannot_start_leaves_nothing() -> None:
    async def check(machine: Machine) -> None:
        with pytest.raises(OSError, match="/usr/no"):
            await machine.start(pod("a", A, files={"/usr/no/such/folder": {}}))
        with pytest.raises(KeyError):
            machine.log("x/a")
        await serving(machine, pod("a", A))
        assert await ask(machine, "lab-1", A[0]) == "a 172.30.0.11"

    in_lab(check)
    assert not Path("/usr/no").exists()


@needs_lab
@pytest.mark.parametrize("command", [("no-such-program",), ("python3", "/program/bad.py")])
def test_a_command_that_cannot_run_says_why_in_the_log(command: tuple[str, ...]) -> None:
    async def check(machine: Machine) -> None:
        await machine.start(pod("a", A, *command, files={"/program": {"bad.py": "1 +"}}))
        assert await machine.wait("x/a") != 0
        assert re.search(rb"no-such-program'\n$|SyntaxError: invalid syntax\n$", machine.log("x/a"))

    in_lab(check)


@needs_lab
def test_the_end_of_a_pod() -> None:
    async def check(machine: Machine) -> None:
        stubborn = "trap '' TERM; sleep 60 & echo serving; wait"
        await serving(
            machine, pod("polite", A), pod("stubborn", B, "sh", "-c", stubborn), pod("brief", C, "sh", "-c", "echo serving; exit 7")
        )
        assert await machine.wait("x/brief") == 7
        process = await machine.execute("x/brief", ["true"], stdin=False)
        assert await process.wait() == 137
        ended = [asyncio.ensure_future(machine.wait(f"x/{name}")) for name in ("polite", "stubborn")]
        await asyncio.sleep(0)
        began = time.monotonic()
        await asyncio.gather(machine.stop("x/polite", 10), machine.stop("x/stubborn", 0.2))
        assert 0.2 <= time.monotonic() - began < 5
        assert await asyncio.gather(*ended) == [3, 137]
        with pytest.raises(TimeoutError):  # it is led to the pods' networks, where it ends
            await ask(machine, "lab-2", A[0], patience=0.3)
        await machine.stop("x/polite", 10)
        await machine.stop("x/never", 10)
        with pytest.raises(KeyError):
            await machine.wait("x/never")
        await serving(machine, pod("polite", A))
        assert await ask(machine, "lab-1", A[0]) == "polite 172.30.0.11"

    in_lab(check)


@needs_lab
def test_a_stop_that_is_cancelled_can_be_hurried() -> None:
    async def check(machine: Machine) -> None:
        await serving(machine, pod("a", A, "sh", "-c", "trap '' TERM; echo serving; sleep 60"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(machine.stop("x/a", 60), 0.1)
        await machine.stop("x/a", 0)
        with pytest.raises(KeyError):
            machine.log("x/a")

    in_lab(check)


@needs_lab
def test_the_log_keeps_the_end() -> None:
    async def check(machine: Machine) -> None:
        await machine.start(pod("a", A, "sh", "-c", "yes | head -c 300000; echo bye >&2"))
        await machine.wait("x/a")
        assert len(machine.log("x/a")) == 256 << 10
        assert machine.log("x/a").endswith(b"y\nbye\n")

    in_lab(check)


@needs_lab
def test_commands_run_in_the_pod() -> None:
    async def check(machine: Machine) -> None:
        await serving(machine, pod("a", A))
        assert await run(machine, "x/a", "cat", text=b"in and out") == (0, "in and out", "")
        assert await run(machine, "x/a", "sh", "-c", "echo wrong >&2; exit 4") == (4, "", "wrong\n")
        asks = "import socket; print(socket.create_connection(('::1', 8080)).recv(99).decode())"
        assert await run(machine, "x/a", "python3", "-c", asks) == (0, "a ::1\n", "")
        code, _, complaint = await run(machine, "x/a", "python3", "-I", "/program/server.py")  # a file of the pod's
        assert (code, complaint.splitlines()[-1]) == (1, "IndexError: list index out of range")
        assert await run(machine, "x/a", "sh", "-c", "hostname; test -d /proc/$$ && echo here") == (0, "a\nhere\n", "")
        with pytest.raises(FileNotFoundError, match="no-such-program"):
            await machine.execute("x/a", ["no-such-program"], stdin=False)
        with pytest.raises(KeyError):
            await machine.execute("x/none", ["true"], stdin=False)
        endless = await machine.execute("x/a", ["sleep", "60"], stdin=False)
        endless.kill()
        assert await endless.wait() == -9

    in_lab(check)


@needs_lab
def test_dialling_reaches_the_loopback_of_pods_and_outsiders() -> None:
    async def check(machine: Machine) -> None:
        outsider = seams.Launch("outside/a", "", seams.outsider_addresses("a"), pod("o", A).command, {"NAME": "o"}, pod("o", A).files)
        shared = pod("h", A, "python3", "/program/server.py", "8081", host_network=True)
        await serving(machine, pod("a", A), outsider, shared)
        for key, port, expected in (("x/a", 8080, b"a 127.0.0.1"), ("outside/a", 8080, b"o 127.0.0.1"), ("x/h", 8081, b"h 127.0.0.1")):
            reader, writer = await machine.dial(key, port)
            assert await reader.read() == expected
            writer.close()
        assert await ask(machine, "x/a", "172.30.0.11", 8081) == f"h {A[0]}"
        assert await ask(machine, "x/a", "fd00:30::64") == f"o {A[1]}"
        with pytest.raises(ConnectionRefusedError):
            await machine.dial("x/a", 1)
        with pytest.raises(KeyError):
            await machine.dial("x/none", 8080)

    in_lab(check)


@needs_lab
def test_rules_meet_the_packets_of_one_node_and_are_all_or_nothing() -> None:
    async def check(machine: Machine) -> None:
        await serving(machine, pod("a", A), pod("b", B))
        refusing = "table inet t\ndelete table inet t\n" + hook("forward", "tcp dport 8080 reject with tcp reset")
        await machine.apply("lab-1", refusing)
        for source, address in (("x/a", B[0]), ("x/a", B[1]), ("outside/a", A[0])):
            with pytest.raises(ConnectionRefusedError):
                await ask(machine, source, address)
        with pytest.raises(seams.RulesRefused, match="syntax error"):
            await machine.apply("lab-1", "flush ruleset\nnonsense")
        with pytest.raises(ConnectionRefusedError):
            await ask(machine, "x/a", B[0])
        await machine.apply("lab-1", "delete table inet t")
        assert await ask(machine, "x/a", B[0]) == f"b {A[0]}"

    in_lab(check)


@needs_lab
def test_forgotten_connections() -> None:
    async def check(machine: Machine) -> None:
        await serving(machine, pod("a", A), pod("b", B))
        await machine.apply("lab-1", hook("forward", "ct state established accept"))
        for address in (B[0], B[1]):
            with machine.socket_in("x/a", socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sock:
                for port in (53, 53, 54):
                    sock.sendto(b"?", (address, port))
            assert machine.forget("lab-1", address, 53, "UDP") == 1
            assert machine.forget("lab-1", address, 53, "UDP") == 0
            assert machine.forget("lab-1", address, 54, "TCP") == 0
            assert machine.forget("lab-2", address, 54, "UDP") == 0
            assert machine.forget("lab-1", address, 54, "UDP") == 1

    in_lab(check)


@needs_lab
def test_an_announced_address_leads_outsiders_to_its_node() -> None:
    async def check(machine: Machine) -> None:
        for address in ("172.31.0.7", "fd00:31::7"):
            for node in ("lab-1", "lab-3"):
                machine.announce(address, node)
                family = "ip6" if ":" in address else "ip"
                rules = hook("prerouting", f"{family} daddr {address} reject with tcp reset")
                await machine.apply(node, rules)
                with pytest.raises(ConnectionRefusedError):
                    await ask(machine, "outside/b", address)
            machine.announce(address, "")
            machine.announce(address, "")
            with pytest.raises(TimeoutError):
                await ask(machine, "outside/b", address, patience=0.2)

    in_lab(check)


@needs_lab
def test_nothing_leads_out() -> None:
    async def check(machine: Machine) -> None:
        await serving(machine, pod("a", A), pod("h", B, "python3", "/program/server.py", "8081", host_network=True))
        own = {"lo", "eth0"}
        assert {line.split(":")[0].strip() for line in (await run(machine, "x/a", "cat", "/proc/net/dev"))[1].splitlines()[2:]} >= own
        for source, address in product(("x/a", "lab-1", "outside/a"), ("192.0.2.1", "2001:db8::1")):
            with pytest.raises(TimeoutError):
                await ask(machine, source, address, patience=0.2)

    in_lab(check)


@needs_lab
def test_ways_can_be_blocked_and_nodes_unplugged() -> None:
    async def check(machine: Machine) -> None:
        await serving(machine, pod("a", A), pod("c", C))

        async def lost(source: str, destination: str) -> None:
            with pytest.raises(TimeoutError):
                await ask(machine, source, destination, patience=0.2)

        assert [await ask(machine, "x/a", address) for address in C] == [f"c {address}" for address in A]
        machine.block("lab-1", seams.pod_networks("lab-2")[0])
        await lost("x/a", C[0])
        assert await ask(machine, "lab-3", C[0]) == "c 172.30.0.13"
        assert await ask(machine, "x/a", C[1]) == f"c {A[1]}"
        machine.unplug("lab-2")
        await lost("x/a", C[1])
        await lost("lab-3", "172.30.0.12")
        assert await ask(machine, "lab-2", C[0]) == "c 172.30.0.12"

    in_lab(check)


@needs_lab
def test_every_refusal_is_seen() -> None:
    async def check(machine: Machine) -> None:
        await serving(machine, pod("a", A), pod("c", C))
        for address, _ in product((*C, *A[:1]), range(60)):
            with machine.socket_in("x/a", socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.connect((address, 7777))
                sock.settimeout(1)
                sock.send(b"?")
                with pytest.raises(ConnectionRefusedError):
                    sock.recv(1)

    in_lab(check)


# --- what is left behind


def descendants(pid: int) -> set[int]:
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return set(children).union(*map(descendants, children))


def running(pids: set[int]) -> set[int]:
    """Those that are there and no zombies: the dead wait for whoever reaps orphans on this machine."""

    def alive(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    return {pid for pid in pids if alive(pid)}


def namespaces(pids: set[int]) -> set[str]:
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            found.add(str(Path(f"/proc/{pid}/ns/net").readlink()))
    return found


def gone(pids: set[int], limit: float) -> bool:
    deadline = time.monotonic() + limit
    while running(pids) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not running(pids)


@needs_lab
@pytest.mark.parametrize("end", ["kill the launcher", "kill its first process", "close the lifeline"])
def test_however_it_ends_nothing_is_left(end: str) -> None:
    async def stays(machine: Machine) -> None:
        await serving(machine, pod("a", A), pod("c", C))
        await machine.execute("x/a", ["sleep", "60"], stdin=False)
        print("up", flush=True)
        await asyncio.Event().wait()

    reading, report = os.pipe()
    lifeline, holding = os.pipe()
    launcher = os.fork()
    if not launcher:
        os.close(holding)
        os.dup2(report, 1)
        _as_launcher(stays, lifeline, before=lambda: None)
    assert os.read(reading, 2) == b"up"
    pids = descendants(launcher)
    spaces = namespaces(pids)
    assert len(pids) >= 5
    if end == "kill the launcher":
        os.kill(launcher, signal.SIGKILL)
    elif end == "kill its first process":
        os.kill(min(pids), signal.SIGKILL)
    os.close(holding)
    assert gone(pids, 10)
    os.waitpid(launcher, 0)
    everybody = {int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()}
    assert not spaces & namespaces(running(everybody))
    for fd in (reading, report, lifeline):
        os.close(fd)


# --- size and speed


@needs_lab
def test_thirty_six_agents_are_small() -> None:
    done = subprocess.run(
        [sys.executable, __file__], capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) <= 6 * 1024  # kB


async def many(machine: Machine) -> None:
    settings = {
        "run": "r",
        "token_sha256": hashlib.sha256(b"").hexdigest(),
        "control": 9600,
        "ports": ["TCP/8080", "UDP/8080"],
        "silence": 60,
    }
    files = {"/netproof": {"agent.py": Path(agent.__file__).read_text()}}

    async def one(number: int) -> int:
        node = seams.NODES[number % 3]
        addresses = tuple(str(ipaddress.ip_network(network)[number + 2]) for network in seams.pod_networks(node))
        environment = {"NETPROOF_AGENT": json.dumps(settings), "NETPROOF_POD": f"x/{number}"}
        await machine.start(
            seams.Launch(f"x/{number}", node, addresses, ("python3", "-I", "/netproof/agent.py", "serve"), environment, files)
        )
        while True:
            try:
                _, writer = await machine.dial(f"x/{number}", 9600)
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)
            else:
                return writer.close() or number

    await asyncio.gather(*map(one, range(36)))
    sizes = [
        int(found[1]) for path in Path("/proc").glob("[0-9]*/smaps_rollup") if (found := re.search(r"\nPss: +(\d+)", path.read_text()))
    ]
    print(sorted(sizes)[17])


# --- what is missing


def in_child(act: Callable[[], str]) -> str:
    """What a function says in a process of its own, whose namespaces it may spoil."""
    reading, report = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.write(report, act().encode())
        except BaseException as error:
            os.write(report, repr(error).encode())
        finally:
            os._exit(0)
    os.close(report)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    return said


def test_the_lab_needs_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "needs Linux and this is darwin: use --cluster=kind" in str(problem())


@pytest.mark.parametrize(("tool", "command"), [("apk", "sudo apk add nftables"), ("none", "sudo apt-get install nftables")])
def test_nft_is_asked_for_in_the_words_of_the_machine(monkeypatch: pytest.MonkeyPatch, tool: str, command: str) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path=None: "/sbin/apk" if name == tool else None)
    assert problem() == f"the lab needs the `nft` command: {command}"


@needs_lab
@pytest.mark.parametrize("kind", ["user", "net"])
def test_an_exhausted_limit_is_named_with_the_command_that_helps(kind: str) -> None:
    def act() -> str:
        system.enter_user_namespace()
        Path(f"/proc/sys/user/max_{kind}_namespaces").write_text("0")
        os.geteuid = lambda: 1000  # or it would do without
        return str(problem())

    said = in_child(act)
    assert said.startswith("a limit of namespaces is reached: sudo sysctl ")
    assert f"user.max_{kind}_namespaces=65536" in said


@needs_lab
def test_a_broken_nft_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "nft"
    broken.write_text("#!/bin/sh\necho 'Error: no such table' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert "refused a small rule set (Error: no such table)" in str(problem())


@pytest.mark.parametrize(
    ("switch", "value", "help_"),
    [
        ("proc/sys/kernel/unprivileged_userns_clone", "0", "sudo sysctl -w kernel.unprivileged_userns_clone=1"),
        ("proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"),
        (".dockerenv", "", "docker run --privileged, or run outside of it"),
        ("nothing", "", "run it as root, with sudo -E"),
    ],
)
def test_a_refusal_is_explained_by_what_the_machine_has_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, switch: str, value: str, help_: str
) -> None:
    (tmp_path / switch).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / switch).write_text(f"{value}\n")
    monkeypatch.setattr(starting, "Path", lambda *parts: tmp_path.joinpath(*(part.strip("/") for part in parts)))
    monkeypatch.setattr(starting, "_refused", lambda **_way: (errno.EPERM, "unshare: Operation not permitted"))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(starting, "nft", lambda: "/usr/sbin/nft")
    assert str(problem()).endswith(help_)


if __name__ == "__main__":
    sys.exit(_as_launcher(many, os.pipe()[0], before=lambda: None))
