"""The lab's wires: network namespaces, and what their kernel is asked by netlink.

Every namespace has one way out, a pair of interfaces: a pod's leads to its node, a node's and an outsider's to the hub, which leads nowhere
else. So a node's forward hook meets all that its pods send, from one to another of the same node too. Nobody asks for hardware addresses,
as both ends of a pair have the same: no packet waits for ARP or neighbour discovery.
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import os
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from netproof.lab import system

_EVERYWHERE = ("0.0.0.0/0", "::/0")
_GATEWAYS = ("169.254.1.1", "fe80::1")  # nobody has these; what is sent there reaches the other end of the pair
_LO, _ETH0 = 1, 1000  # numbers of interfaces: of eth0, and after it those of the other ends
_NUMBERS = itertools.count(_ETH0 + 1)
_MAC = bytes((2, 0, 0, 0, 0, 1))
_FAMILIES = (socket.AF_INET, socket.AF_INET6)
# Refusals must be seen at any rate, links be ready at once, and nothing depend on what this machine has set for itself.
_OFF = ("rp_filter", "send_redirects", "accept_redirects", "route_localnet")
_OFF6 = ("disable_ipv6", "accept_ra", "accept_dad", "dad_transmits")
_SETTINGS = {
    "ipv4/ip_forward": "0",  # first: it sets others
    "ipv4/icmp_ratemask": "0",
    "ipv6/icmp/ratemask": "\n",
    **{f"ipv4/conf/{scope}/{name}": "0" for scope in ("all", "default") for name in _OFF},
    **{f"ipv6/conf/{scope}/{name}": "0" for scope in ("all", "default") for name in _OFF6},
}
_FORWARDING = {"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1"}

_CURRENT = "/proc/thread-self/ns/net"
_ROUTING, _NETFILTER = 0, 12
_NEW_LINK, _NEW_ADDRESS, _NEW_ROUTE, _DEL_ROUTE, _CT_GET, _CT_DELETE = 16, 20, 24, 25, 0x101, 0x102
_REQUEST, _ACK, _DUMP, _PUT, _ERROR, _DONE = 0x1, 0x4, 0x300, 0x500, 2, 3
_UP, _NOARP, _NODAD, _ONLINK, _UNICAST, _BLACKHOLE = 0x1, 0x80, 0x2, 0x4, 1, 6


class Space:
    """A new network namespace, held by a descriptor: it lives until `close`, and until the last process and socket in it have gone.

    What is asked of it is done, or refused by OSError, when a call returns.
    """

    def __init__(self, *, forwards: bool = False) -> None:
        with _coming_back():
            system.unshare(system.NEWNET)
            self.fd = os.open(_CURRENT, os.O_RDONLY)
            for name, value in (_SETTINGS | (_FORWARDING if forwards else {})).items():
                with contextlib.suppress(FileNotFoundError):  # this kernel has it not, or not for each namespace
                    Path("/proc/sys/net", name).write_text(value)
        self.switch(_LO, up=True)

    def close(self) -> None:
        os.close(self.fd)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """For one stretch of this thread without `await`; sockets made in it stay in the namespace, and so does what is started in it."""
        with _coming_back():
            system.setns(self.fd, system.NEWNET)
            yield

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        with self.entered():
            return socket.socket(family, kind, protocol)

    def lead(self, space: Space, addresses: Sequence[str], *, source: Sequence[str] = ()) -> int:
        """Give another namespace these addresses, and a pair of interfaces to this one: the number of the one here.

        `source`: this namespace's own addresses, IPv4 and IPv6, which it speaks from.
        """
        number = next(_NUMBERS)
        there = _link(_ETH0, _NOARP, _NOARP) + _pack({1: _MAC, 3: b"eth0", 28: struct.pack("=I", space.fd)})
        here = {1: _MAC, 3: f"pair{number}".encode(), 18: {1: b"veth", 2: {1: there}}}
        self._ask(_NEW_LINK, _link(number, _UP | _NOARP, _UP | _NOARP) + _pack(here), _PUT)
        space.switch(_ETH0, up=True)  # it can't be before the other end is there
        for address in addresses:
            family, packed = ":" in address, ipaddress.ip_address(address).packed
            body = struct.pack("=BBBBi", _FAMILIES[family], 8 * len(packed), _NODAD, 0, _ETH0)
            space._ask(_NEW_ADDRESS, body + _pack({1: packed, 2: packed}), _PUT)
            space.route(_EVERYWHERE[family], _ETH0, via=_GATEWAYS[family], source=address)
            self.route(address, number, source=source[family] if source else "")
        return number

    def switch(self, number: int, *, up: bool) -> None:
        self._ask(_NEW_LINK, _link(number, _UP * up, _UP))

    def route(self, network: str, number: int, *, via: str = "", source: str = "") -> None:
        """Lead a network to an interface, in place of a route that is there. `via` need not be in a network of the interface."""
        addresses = {kind: ipaddress.ip_address(address).packed for kind, address in ((5, via), (7, source)) if address}
        self._ask(_NEW_ROUTE, _route(network, _UNICAST, _ONLINK if via else 0) + _pack({4: struct.pack("=I", number), **addresses}), _PUT)

    def block(self, network: str) -> None:
        """Lead a network nowhere: what is sent there is lost."""
        self._ask(_NEW_ROUTE, _route(network, _BLACKHOLE), _PUT)

    def unroute(self, network: str) -> None:
        """Remove the route to a network; no error where there is none."""
        with contextlib.suppress(ProcessLookupError):
            self._ask(_DEL_ROUTE, _route(network))

    def forget(self, address: str, port: int, protocol: str) -> int:
        """Delete the tracked connections whose original destination this is; how many there were."""
        family, packed, count = ":" in address, ipaddress.ip_address(address).packed, 0
        number: int = getattr(socket, f"IPPROTO_{protocol.upper()}")
        wanted = (_pack({4 if family else 2: packed}), _pack({1: bytes([number])}), _pack({3: port.to_bytes(2, "big")}))
        head = struct.pack("=BBH", _FAMILIES[family], 0, 0)
        for entry in self._ask(_CT_GET, head, _DUMP, protocol=_NETFILTER):
            original = entry[4 : 4 + struct.unpack_from("=H", entry, 4)[0]]  # the first attribute of an entry
            if all(part in original for part in wanted):
                with contextlib.suppress(FileNotFoundError):  # it has ended by itself meanwhile
                    self._ask(_CT_DELETE, head + original, protocol=_NETFILTER)
                    count += 1
        return count

    def _ask(self, kind: int, body: bytes, flags: int = 0, *, protocol: int = _ROUTING) -> list[bytes]:
        found: list[bytes] = []
        with self.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as sock:
            sock.send(struct.pack("=IHHII", 16 + len(body), kind, flags | _REQUEST | _ACK, 0, 0) + body)
            while True:
                data = sock.recv(1 << 17)
                while data:
                    length, answer = struct.unpack_from("=IH", data)
                    if answer in (_ERROR, _DONE):
                        if code := -struct.unpack_from("=i", data, 16)[0]:
                            raise OSError(code, os.strerror(code))
                        return found
                    found.append(data[16:length])
                    data = data[(length + 3) & ~3 :]


@contextlib.contextmanager
def _coming_back() -> Iterator[None]:
    home = os.open(_CURRENT, os.O_RDONLY)
    try:
        yield
    finally:
        system.setns(home, system.NEWNET)
        os.close(home)


def _pack(attributes: Mapping[int, Any]) -> bytes:
    """Attributes by the kernel's numbers for them: bytes, or others nested in one."""
    packed = b""
    for kind, value in attributes.items():
        data = value if isinstance(value, bytes) else _pack(value)
        packed += struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)
    return packed


def _link(number: int, flags: int, which: int) -> bytes:
    return struct.pack("=BxHiII", 0, 0, number, flags, which)


def _route(network: str, kind: int = 0, flags: int = 0) -> bytes:
    target = ipaddress.ip_network(network)
    main, static, anywhere = 254, 4, 0
    family = _FAMILIES[target.version == 6]
    head = struct.pack("=BBBBBBBBI", family, target.prefixlen, 0, 0, main, static, anywhere, kind, flags)
    return head + _pack({1: target.network_address.packed})
