"""The lab's rules judged by packets: two nodes with pods behind them and a machine outside, all of them network namespaces."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import selectors
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar, cast

import pytest
from labobjects import addresses, endpoint, pod, policy, service, slices, snapshot
from netproof.lab.plane import reconcile
from netproof.lab.plane.reconcile import PIECE, Reconciler
from netproof.lab.seams import Object, RulesRefused, Runtime, Snapshot, node_addresses, outsider_addresses

PATIENCE = 5.0  # for an answer that must come; the machine may be busy
AT_ONCE = 0.9  # for one that must come before a second SYN could bring it
SILENCE = 0.4  # for one that must not
NODES = ("lab-1", "lab-2")
PODS = {"x/a": ("lab-1", 10), "x/b": ("lab-2", 11), "x/c": ("lab-1", 12), "y/a": ("lab-1", 13)}
A, B, C, Y = (pod(key, *place) for key, place in PODS.items())
IP = {key: addresses(*place) for key, place in PODS.items()}
VIP, VIP6 = "10.96.1.1", "fd00:96::1:1"
OUTSIDE, BALANCER = outsider_addresses("a"), ("172.31.0.7", "fd00:31::7")
T = TypeVar("T")


def skip_reason() -> str:
    """Why no namespaces can be made here; "" where they can."""
    if os.geteuid():
        return "making network namespaces needs root"
    missing = [name for name in ("ip", "nft", "conntrack") if not shutil.which(name)]
    return f"there is no `{missing[0]}` command" if missing else ""


pytestmark = pytest.mark.skipif(bool(skip_reason()), reason=skip_reason())


def run(*command: str, given: str = "") -> str:
    done = subprocess.run(command, input=given, text=True, capture_output=True, check=False)
    if done.returncode:
        raise RulesRefused(f"{command}: {done.stderr}")
    return done.stdout


class Net:
    """The namespaces, and in each pod a server on 8080 and 8081 that answers with its key and the client's address."""

    def __init__(self) -> None:
        self.prefix = f"npl{os.getpid()}-"
        self.names = ("link", *NODES, *PODS, "outside")
        self._selector = selectors.DefaultSelector()
        self._sockets: list[socket.socket] = []
        self._serving = threading.Thread(target=self._serve, daemon=True)
        self._pool = ThreadPoolExecutor(16)

    def __enter__(self) -> Net:
        try:
            self._build()
        except BaseException:
            self.__exit__()
            raise
        for key in (*PODS, "outside"):
            for port in (8080, 8081):
                self._listen(key, port)
        self._serving.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._sockets, served = [], self._sockets
        if self._serving.ident:
            self._serving.join()
        for sock in served:
            sock.close()
        self._pool.shutdown()
        for name in self.names:
            subprocess.run(["ip", "netns", "del", self.space(name)], check=False, capture_output=True)

    def space(self, name: str) -> str:
        return self.prefix + name.replace("/", "-")

    def _build(self) -> None:
        unlimited = ["net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0", "net.ipv4.icmp_msgs_per_sec=100000"]
        quiet = ["net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.all.accept_dad=0"]
        for name in self.names:
            run("ip", "netns", "add", self.space(name))
            forwards = ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"] if name in NODES else []
            run("ip", "netns", "exec", self.space(name), "sysctl", "-qw", *quiet, *unlimited, *forwards)
        self._ip("link", "link add name hub type bridge", "link set hub up")
        for name in (*NODES, "outside"):
            self._join(name)
        for key, (node, number) in PODS.items():
            self._attach(key, node, number)

    def _ip(self, name: str, *commands: str) -> None:
        run("ip", "-n", self.space(name), "-batch", "-", given="\n".join(["link set lo up", *commands]) + "\n")

    def _join(self, name: str) -> None:
        port = name.replace("lab-", "p")[:8]
        self._ip("link", f"link add name {port} type veth peer name eth0 netns {self.space(name)}", f"link set {port} master hub up")
        v4, v6 = node_addresses(name) if name in NODES else OUTSIDE
        routes = [f"addr add {v4}/24 dev eth0", f"addr add {v6}/64 dev eth0 nodad", "link set eth0 up"]
        for other, number in ((other, other[-1]) for other in NODES if other != name):
            first, second = node_addresses(other)
            routes += [f"route add 10.244.{number}.0/24 via {first}", f"route add fd00:244:0:{number}::/64 via {second}"]
        if name in NODES:
            routes += [f"route add default via {OUTSIDE[0]}", f"route add ::/0 via {OUTSIDE[1]}"]
        else:
            first, second = node_addresses(NODES[0])
            routes += [f"route add 172.31.0.0/24 via {first}", f"route add fd00:31::/64 via {second}"]
        self._ip(name, *routes)

    def _attach(self, key: str, node: str, number: int) -> None:
        v4, v6 = addresses(node, number)
        end = f"v{number}"
        ends = f"link add name {end} type veth peer name eth0 netns {self.space(key)}"
        gateway = [f"addr add 169.254.1.1/32 dev {end} scope link", f"addr add fe80::1/64 dev {end} nodad", f"link set {end} up"]
        own = node_addresses(node)
        routes = [f"route add {v4}/32 dev {end} src {own[0]}", f"route add {v6}/128 dev {end} src {own[1]}"]
        self._ip(node, ends, *gateway, *routes)
        inner = [f"addr add {v4}/32 dev eth0", f"addr add {v6}/128 dev eth0 nodad", "link set eth0 up"]
        self._ip(key, *inner, "route add default via 169.254.1.1 dev eth0 onlink", "route add ::/0 via fe80::1 dev eth0")

    def inside(self, name: str, action: Callable[[], T]) -> T:
        """Call something in a thread that has entered a namespace."""

        def enter() -> T:
            with Path("/run/netns", self.space(name)).open() as file:
                if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), 0x40000000):
                    raise OSError(ctypes.get_errno(), "setns")
            return action()

        return self._pool.submit(enter).result()

    def socket(self, name: str, kind: int, family: int = socket.AF_INET) -> socket.socket:
        """A socket that stays in a namespace."""
        return self.inside(name, lambda: socket.socket(family, kind))

    def _listen(self, key: str, port: int) -> None:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            sock = self.socket(key, kind, socket.AF_INET6)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.bind(("::", port))
            if kind == socket.SOCK_STREAM:
                sock.listen(64)
            self._sockets.append(sock)
            self._selector.register(sock, selectors.EVENT_READ, key)

    def _serve(self) -> None:
        while self._sockets:
            for event, _ in self._selector.select(0.05):
                sock, key = event.fileobj, event.data
                assert isinstance(sock, socket.socket)
                if sock.type == socket.SOCK_STREAM:
                    connection, client = sock.accept()
                    with connection, contextlib.suppress(OSError):
                        connection.sendall(self._answer(key, client[0]))
                else:
                    _, client = sock.recvfrom(2000)
                    with contextlib.suppress(OSError):
                        sock.sendto(self._answer(key, client[0]), client)

    @staticmethod
    def _answer(key: str, client: str) -> bytes:
        return f"{key} {client.removeprefix('::ffff:')}".encode()

    def ask(self, source: str, address: str, port: int = 8080, *, udp: bool = False, patience: float = PATIENCE) -> str:
        """Who answered and whom it saw; else `refused` or `silence`."""
        kind = socket.SOCK_DGRAM if udp else socket.SOCK_STREAM
        with self.socket(source, kind, socket.AF_INET6 if ":" in address else socket.AF_INET) as sock:
            sock.settimeout(patience)
            try:
                sock.connect((address, port))
                if udp:
                    with contextlib.suppress(PermissionError):  # a node's own packet; that it was refused is heard as well
                        sock.send(b"?")
                return sock.recv(2000).decode()
            except ConnectionRefusedError:
                return "refused"
            except TimeoutError:
                return "silence"

    def who(self, source: str, address: str, port: int = 8080) -> str:
        """The pod that answered."""
        return self.ask(source, address, port).partition(" ")[0]

    @contextlib.contextmanager
    def talk(self, source: str, address: str, port: int) -> Iterator[Callable[[], str]]:
        """One UDP socket for a number of questions; each returns the pod that answered, or `refused`."""
        with self.socket(source, socket.SOCK_DGRAM, socket.AF_INET6 if ":" in address else socket.AF_INET) as sock:
            sock.settimeout(PATIENCE)
            sock.connect((address, port))

            def say() -> str:
                try:
                    sock.send(b"?")
                    return sock.recv(2000).decode().partition(" ")[0]
                except ConnectionRefusedError:
                    return "refused"

            yield say

    def silent(self, *flows: tuple[str, str, int]) -> bool:
        """Whether none of the flows has an answer; all are tried at once."""
        with ThreadPoolExecutor(len(flows)) as pool:
            return set(pool.map(lambda flow: self.ask(*flow, patience=SILENCE), flows)) == {"silence"}


class Machine:
    """As much of a Runtime as the reconciler uses."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.applied: list[tuple[str, str]] = []

    async def apply(self, node: str, rules: str) -> None:
        self.applied.append((node, rules))
        await asyncio.to_thread(run, "ip", "netns", "exec", self.net.space(node), "nft", "-f", "-", given=rules)

    def forget(self, node: str, address: str, port: int, protocol: str) -> int:
        family = ["-f", "ipv6"] if ":" in address else []
        command = ["conntrack", "-D", *family, "-p", protocol, "--orig-dst", address, "--orig-port-dst", str(port)]
        done = subprocess.run(["ip", "netns", "exec", self.net.space(node), *command], capture_output=True, check=False)
        return len(done.stdout.splitlines())


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    with Net() as made:
        yield made


@pytest.fixture(scope="module")
def machine(net: Net) -> Machine:
    return Machine(net)


@pytest.fixture(scope="module")
def reconcilers(machine: Machine) -> list[Reconciler]:
    return [Reconciler(cast("Runtime", machine), node) for node in NODES]


@pytest.fixture
def become(reconcilers: list[Reconciler]) -> Callable[..., None]:
    """Bring the rules for some objects, and the four pods, to the nodes."""

    async def all_nodes(given: Snapshot) -> None:
        await asyncio.gather(*(reconciler.reconcile(given) for reconciler in reconcilers))

    return lambda *objects: asyncio.run(all_nodes(snapshot(A, B, C, Y, *objects)))


Become = Callable[..., None]


def test_no_objects_no_restriction(net: Net, become: Become) -> None:
    become()
    assert {net.ask("x/a", IP[key][family]) for key in PODS for family in (0, 1)} == {
        f"{key} {IP['x/a'][family]}" for key in PODS for family in (0, 1)
    }


def test_a_cluster_ip_leads_to_every_endpoint_and_keeps_the_client(net: Net, become: Become) -> None:
    become(service("x/web", 1), slices("x/web", B, C))
    assert {net.ask("x/a", VIP, 80) for _ in range(24)} == {f"x/b {IP['x/a'][0]}", f"x/c {IP['x/a'][0]}"}
    assert {net.ask("x/a", VIP6, 80) for _ in range(24)} == {f"x/b {IP['x/a'][1]}", f"x/c {IP['x/a'][1]}"}
    assert net.ask("lab-1", VIP, 80) in (f"x/b {node_addresses('lab-1')[0]}", f"x/c {node_addresses('lab-1')[0]}")
    assert net.who("lab-2", VIP6, 80) in ("x/b", "x/c")


def test_nothing_else_answers_on_a_cluster_ip(net: Net, become: Become) -> None:
    become(service("x/web", 1), slices("x/web", B))
    assert net.ask("x/a", VIP, 81) == net.ask("x/a", VIP6, 81) == net.ask("x/a", VIP, 80, udp=True) == "refused"
    assert net.silent(("x/a", "10.96.1.2", 80), ("lab-1", "fd00:96::1:2", 80))


def test_without_endpoints_all_are_refused_at_once(net: Net, become: Become) -> None:
    udp = {"name": "dns", "port": 53, "protocol": "UDP"}
    become(service("x/web", 1, type="NodePort", ports=[{"name": "web", "port": 80, "nodePort": 30080}, udp]))
    for source in ("x/a", "lab-1"):
        assert {net.ask(source, address, port, udp=port == 53, patience=AT_ONCE) for address in (VIP, VIP6) for port in (80, 53)} == {
            "refused"
        }
    asked = [(source, address) for source in ("x/a", "lab-1", "outside") for address in node_addresses("lab-1")]
    assert {net.ask(source, address, 30080, patience=AT_ONCE) for source, address in asked} == {"refused"}


def test_a_pod_reaches_itself_through_its_service(net: Net, become: Become) -> None:
    become(service("x/web", 1), slices("x/web", A), policy("x/deny", policyTypes=["Ingress", "Egress"]))
    assert [net.who("x/a", VIP, 80), net.who("x/a", VIP6, 80)] == ["x/a", "x/a"]


def test_a_node_port_answers_on_every_node_to_everybody(net: Net, become: Become) -> None:
    become(service("x/web", 1, type="NodePort", port={"nodePort": 30080}), slices("x/web", B))
    for address in (*node_addresses("lab-1"), *node_addresses("lab-2")):
        assert {net.who(source, address, 30080) for source in ("x/a", "x/b", "lab-1", "lab-2", "outside")} == {"x/b"}
    assert net.ask("outside", node_addresses("lab-1")[0], 30080) == f"x/b {node_addresses('lab-1')[0]}"


def test_local_traffic_policy_keeps_the_client_and_the_node(net: Net, become: Become) -> None:
    local = service("x/web", 1, type="NodePort", port={"nodePort": 30080}, externalTrafficPolicy="Local", internalTrafficPolicy="Local")
    become(local, slices("x/web", B))
    for family in (0, 1):
        assert net.ask("outside", node_addresses("lab-2")[family], 30080) == f"x/b {OUTSIDE[family]}"
    assert net.ask("x/a", node_addresses("lab-2")[0], 30080) == f"x/b {IP['x/a'][0]}"
    assert net.who("x/a", node_addresses("lab-1")[0], 30080) == net.who("lab-1", node_addresses("lab-1")[0], 30080) == "x/b"
    assert net.who("x/b", VIP, 80) == "x/b"
    assert net.silent(*(("outside", address, 30080) for address in node_addresses("lab-1")), ("x/a", VIP, 80), ("lab-1", VIP6, 80))


def test_a_load_balancer_admits_its_source_ranges_alone(net: Net, become: Become) -> None:
    ranges = ["172.30.0.0/24", "10.244.1.10/32", "fd00:244::/48"]
    become(service("x/web", 1, type="LoadBalancer", balancer=BALANCER, loadBalancerSourceRanges=ranges), slices("x/web", B))
    assert net.who("outside", BALANCER[0], 80) == net.who("x/a", BALANCER[0], 80) == net.who("x/a", BALANCER[1], 80) == "x/b"
    assert net.silent(("outside", BALANCER[1], 80), ("x/c", BALANCER[0], 80))


def test_an_external_ip_is_served_where_it_arrives(net: Net, become: Become) -> None:
    become(service("x/web", 1, externalIPs=["172.31.0.99"]), slices("x/web", C))
    assert {net.who(source, "172.31.0.99", 80) for source in ("outside", "x/b", "lab-2")} == {"x/c"}


def test_a_host_port_leads_to_its_pod(net: Net, become: Become) -> None:
    become(pod("x/h", "lab-1", 10, ports=[{"containerPort": 8081, "hostPort": 9090}]))
    assert net.ask("outside", node_addresses("lab-1")[0], 9090) == f"x/a {OUTSIDE[0]}"
    assert net.who("x/b", node_addresses("lab-1")[1], 9090) == "x/a"


def test_affinity_outlives_other_changes_but_not_its_backend(net: Net, become: Become) -> None:
    sticky = service("x/web", 1, sessionAffinity="ClientIP")
    become(sticky, slices("x/web", B, C))
    first = net.who("x/a", VIP, 80)
    answers = set()
    for number in range(2, 7):
        become(sticky, slices("x/web", B, C), service("x/other", number))
        answers |= {net.who("x/a", VIP, 80) for _ in range(3)}
    assert answers == {first}
    other, rest = ("x/c", C) if first == "x/b" else ("x/b", B)
    become(sticky, slices("x/web", rest))
    assert net.who("x/a", VIP, 80) == other
    become(sticky, slices("x/web", B, C))
    assert {net.who("x/a", VIP, 80) for _ in range(8)} == {other}


def test_affinity_ends_with_its_time(net: Net, become: Become) -> None:
    config = {"clientIP": {"timeoutSeconds": 1}}
    become(service("x/web", 1, sessionAffinity="ClientIP", sessionAffinityConfig=config), slices("x/web", B, C))
    assert net.who("x/a", VIP, 80)
    assert remembered(net)
    deadline = time.monotonic() + 5
    while remembered(net):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def remembered(net: Net) -> bool:
    return "expires" in run("ip", "netns", "exec", net.space("lab-1"), "nft", "list", "sets")


def test_terminating_endpoints_serve_where_no_other_is_left(net: Net, become: Become) -> None:
    ending = endpoint(B, ready=False, terminating=True)
    become(service("x/web", 1), slices("x/web", ending, C))
    assert {net.who("x/a", VIP, 80) for _ in range(8)} == {"x/c"}
    become(service("x/web", 1), slices("x/web", ending))
    assert net.who("x/a", VIP, 80) == "x/b"
    become(service("x/web", 1), slices("x/web", endpoint(B, ready=False, serving=False, terminating=True)))
    assert net.ask("x/a", VIP, 80) == "refused"


def test_a_udp_flow_leaves_an_endpoint_that_is_gone(net: Net, become: Become) -> None:
    dns = service("x/dns", 1, port={"port": 53, "protocol": "UDP", "name": "dns"})

    def behind(*pods: Object | tuple[Object, dict[str, bool]]) -> list[Object]:
        return slices("x/dns", *pods, name="dns", protocol="UDP")

    for vip in (VIP, VIP6):
        with net.talk("x/a", vip, 53) as say:
            become(dns, behind(B))
            assert say() == "x/b"
            become(dns, behind(endpoint(B, ready=False, terminating=True), C))
            assert say() == "x/b"  # it still serves
            become(dns, behind(C))
            assert say() == "x/c"
            become(dns, behind())
            assert say() == "refused"
            become(dns, behind(B))
            assert say() == "x/b"


def test_a_udp_flow_begun_before_its_service_finds_it(net: Net, become: Become) -> None:
    dns = service("x/dns", 1, type="NodePort", port={"port": 53, "protocol": "UDP", "name": "dns", "nodePort": 30053})
    with net.talk("outside", node_addresses("lab-2")[0], 30053) as say:
        become()
        assert say() == "refused"
        become(dns, slices("x/dns", B, name="dns", protocol="UDP"))
        assert say() == "x/b"


def test_both_ends_must_agree(net: Net, become: Become) -> None:
    """Same node and across nodes, both families, pod IP and Service."""
    become(service("x/web", 1), slices("x/web", C), policy("x/in", {"matchLabels": {"pod": "c"}}))
    assert net.silent(
        *((source, address, 8080) for source in ("x/a", "x/b", "outside") for address in IP["x/c"]), ("x/a", VIP, 80), ("x/b", VIP6, 80)
    )
    assert [net.who("lab-1", address) for address in IP["x/c"]] == ["x/c", "x/c"]
    assert [net.who("x/c", IP["x/c"][0]), net.who("x/c", IP["x/b"][1])] == ["x/c", "x/b"]
    allows = {"policyTypes": ["Egress"], "egress": [{"to": [{"podSelector": {"matchLabels": {"pod": "c"}}}]}]}
    become(policy("x/out", {"matchLabels": {"pod": "a"}}, **allows), policy("x/in", {"matchLabels": {"pod": "c"}}))
    assert net.silent(("x/a", IP["x/c"][0], 8080), ("x/a", IP["x/b"][0], 8080), ("x/a", IP["y/a"][1], 8080))
    become(policy("x/out", {"matchLabels": {"pod": "a"}}, **allows), policy("x/in", {"matchLabels": {"pod": "c"}}, ingress=[{}]))
    assert [net.who("x/a", address) for address in IP["x/c"]] == ["x/c", "x/c"]
    assert net.silent(("x/a", IP["x/b"][0], 8080), ("x/a", IP["y/a"][1], 8080))


def test_ports_and_peers_of_a_policy(net: Net, become: Become) -> None:
    block = {"ipBlock": {"cidr": "10.244.0.0/16", "except": ["10.244.1.12/32"]}}
    rules = [
        {"from": [block], "ports": [{"port": "web"}, {"protocol": "UDP", "port": 8000, "endPort": 8080}]},
        {"from": [{"podSelector": {"matchLabels": {"pod": "c"}}}], "ports": [{"port": 8081}]},
    ]
    become(service("x/web", 1), slices("x/web", B), policy("x/p", {"matchLabels": {"pod": "b"}}, ingress=rules))
    assert [
        net.who("x/a", IP["x/b"][0]),
        net.who("y/a", VIP, 80),
        net.who("x/c", IP["x/b"][0], 8081),
        net.who("x/c", IP["x/b"][1], 8081),
    ] == ["x/b"] * 4
    assert net.ask("x/a", IP["x/b"][0], udp=True) == f"x/b {IP['x/a'][0]}"
    assert net.ask("x/a", IP["x/b"][0], 8081, udp=True, patience=SILENCE) == "silence"
    assert net.silent(("x/a", IP["x/b"][0], 8081), ("x/c", IP["x/b"][0], 8080), ("x/a", IP["x/b"][1], 8080), ("x/c", VIP, 80))


def test_what_is_open_stays_open_when_the_rules_change(net: Net, become: Become) -> None:
    become()
    with net.socket("x/a", socket.SOCK_STREAM) as sock:
        sock.settimeout(PATIENCE)
        sock.connect((IP["x/b"][0], 8080))
        become(policy("x/deny", policyTypes=["Ingress", "Egress"]), service("x/web", 1))
        assert sock.recv(100).startswith(b"x/b")
        sock.sendall(b"more")
    assert net.silent(("x/a", IP["x/b"][0], 8080))


def test_a_pod_has_its_nodes_address_outside_the_cluster(net: Net, become: Become) -> None:
    become()
    assert net.ask("x/a", OUTSIDE[0]) == f"outside {node_addresses('lab-1')[0]}"
    assert net.ask("x/a", OUTSIDE[1]) == f"outside {node_addresses('lab-1')[1]}"
    assert net.ask("lab-1", IP["x/a"][0]) == f"x/a {node_addresses('lab-1')[0]}"


def test_what_is_no_longer_in_force_goes_later(net: Net, machine: Machine, become: Become, monkeypatch: pytest.MonkeyPatch) -> None:
    become(service("x/web", 7), policy("x/all"))
    become()
    assert net.who("x/a", IP["x/b"][0], 8080) == "x/b"
    monkeypatch.setattr(reconcile, "LINGERS", -1.0)
    machine.applied.clear()
    become(service("x/web", 1))
    assert all("\ndelete " in rules for node, rules in machine.applied if node == "lab-2")
    assert net.ask("x/a", VIP, 80) == "refused"


def test_rules_too_large_for_one_message_come_in_pieces(net: Net, machine: Machine, become: Become) -> None:
    wide = [{"from": [{"ipBlock": {"cidr": f"10.1.{third}.0/24"}}]} for third in range(0, 256, 2)]
    many = [
        service(f"x/s{number}", 1) | {"spec": service("x/s", 1, ports=[{"name": "web", "port": number}])["spec"]}
        for number in range(1, 3000)
    ]
    machine.applied.clear()
    become(many, policy("x/wide", {"matchLabels": {"pod": "b"}}, ingress=wide))
    assert max(sizes := [len(rules) for node, rules in machine.applied if node == "lab-2"]) < 1.5 * PIECE
    assert len(sizes) > 3
    assert net.ask("x/a", VIP, 399) == "refused"
    assert net.silent(("x/a", IP["x/b"][0], 8080))
