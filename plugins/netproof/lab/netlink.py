"""A network namespace's links, addresses, routes and neighbours by rtnetlink, and its connection tracking by ctnetlink."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator

from netproof.lab.system import Space

_REQUEST, _ACK, _DUMP, _CREATE, _REPLACE, _EXCLUSIVE = 0x1, 0x4, 0x300, 0x400, 0x100, 0x200
_ERROR, _DONE = 2, 3
_NEW_LINK, _NEW_ADDRESS, _NEW_ROUTE, _DEL_ROUTE, _NEW_NEIGHBOUR = 16, 20, 24, 25, 28
_UP = 1
_MAC, _NAME, _MTU, _MASTER, _INFO, _SPACE = 1, 3, 4, 10, 18, 28  # attributes of a link
_NODAD, _PERMANENT, _ONLINK = 0x2, 0x80, 4
_NETFILTER, _CT_GET, _CT_DELETE = 12, 0x101, 0x102


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def attribute(kind: int, *parts: bytes) -> bytes:
    """One attribute, padded; of several parts, the attributes nested in it."""
    data = b"".join(parts)
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        found[kind & 0x3FFF] = data[4:length]
        data = data[max(4, (length + 3) & ~3) :]
    return found


class Netlink:
    """One netlink socket in a namespace: requests that the kernel answers at once. Raises OSError with what the kernel said."""

    def __init__(self, space: Space, protocol: int) -> None:
        self.socket = space.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)

    def close(self) -> None:
        self.socket.close()

    def ask(self, kind: int, body: bytes, *, flags: int = 0) -> None:
        """A request that is done, or refused, when this returns."""
        for _ in self._answers(kind, body, flags=flags | _ACK):
            pass

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        return list(self._answers(kind, body, flags=_DUMP))

    def _answers(self, kind: int, body: bytes, *, flags: int) -> Iterator[bytes]:
        self.socket.send(struct.pack("=IHHII", 16 + len(body), kind, flags | _REQUEST, 0, 0) + body)
        while True:
            data = self.socket.recv(1 << 17)
            while data:
                length, answer = struct.unpack_from("=IH", data)
                if answer in (_ERROR, _DONE):
                    return _raise(-struct.unpack_from("=i", data, 16)[0])
                yield data[16:length]
                data = data[(length + 3) & ~3 :]


def _raise(code: int) -> None:
    if code:
        raise OSError(code, os.strerror(code))


class Links(Netlink):
    """Changes to a namespace's links and routes, by interface name."""

    def __init__(self, space: Space) -> None:
        super().__init__(space, socket.NETLINK_ROUTE)

    def veth(self, name: str, peer: str, *, peer_space: Space, macs: tuple[str, str], mtu: int) -> None:
        """A pair of interfaces: `name` here, which is up, and `peer` in the other namespace, which is not yet."""
        here, there = (
            _link(flags) + attribute(_NAME, end.encode()) + attribute(_MAC, mac(address)) + attribute(_MTU, struct.pack("=I", mtu))
            for flags, end, address in zip((_UP, 0), (name, peer), macs, strict=True)
        )
        there += attribute(_SPACE, struct.pack("=i", peer_space.fd))
        info = attribute(_INFO, attribute(1, b"veth"), attribute(2, attribute(1, there)))
        self.ask(_NEW_LINK, here + info, flags=_CREATE | _EXCLUSIVE)

    def bridge(self, name: str) -> None:
        body = _link(_UP) + attribute(_NAME, name.encode()) + attribute(_INFO, attribute(1, b"bridge"))
        self.ask(_NEW_LINK, body, flags=_CREATE | _EXCLUSIVE)

    def switch(self, name: str, *, up: bool) -> None:
        self.ask(_NEW_LINK, _link(_UP * up) + attribute(_NAME, name.encode()))

    def enslave(self, name: str, bridge: str) -> None:
        self.ask(_NEW_LINK, _link(_UP) + attribute(_NAME, name.encode()) + attribute(_MASTER, struct.pack("=I", self.index(bridge))))

    def mtu(self, name: str, size: int) -> None:
        self.ask(_NEW_LINK, _link(_UP) + attribute(_NAME, name.encode()) + attribute(_MTU, struct.pack("=I", size)))

    def index(self, name: str) -> int:
        found = fcntl.ioctl(self.socket, 0x8933, struct.pack("16si20x", name.encode(), 0))  # SIOCGIFINDEX
        return int(struct.unpack_from("=i", found, 16)[0])

    def address(self, name: str, address: str) -> None:
        """Give it an address with a prefix length, in use at once: nobody else can have it."""
        interface = ipaddress.ip_interface(address)
        body = struct.pack("=BBBBi", _family(interface), interface.network.prefixlen, _NODAD, 0, self.index(name))
        self.ask(_NEW_ADDRESS, body + attribute(1, interface.packed) + attribute(2, interface.packed), flags=_CREATE | _REPLACE)

    def route(self, network: str, device: str, *, via: str = "", source: str = "") -> None:
        """Lead a network to an interface, in place of a route that is there. `via` need not be in a network of the interface."""
        body = _route(network, scope=0 if via or ":" in network else 253, onlink=bool(via)) + attribute(
            4, struct.pack("=i", self.index(device))
        )
        for kind, address in ((5, via), (7, source)):
            body += attribute(kind, ipaddress.ip_address(address).packed) if address else b""
        self.ask(_NEW_ROUTE, body, flags=_CREATE | _REPLACE)

    def unroute(self, network: str) -> None:
        """Remove the route to a network; no error where there is none."""
        with contextlib.suppress(ProcessLookupError):
            self.ask(_DEL_ROUTE, _route(network, scope=255))

    def neighbour(self, device: str, address: str, *, mac_address: str) -> None:
        """Who has an address, for good: nobody asks."""
        ip = ipaddress.ip_address(address)
        body = struct.pack("=BBHiHBB", _family(ip), 0, 0, self.index(device), _PERMANENT, 0, 0)
        self.ask(_NEW_NEIGHBOUR, body + attribute(1, ip.packed) + attribute(2, mac(mac_address)), flags=_CREATE | _REPLACE)


class Tracking(Netlink):
    """A namespace's conntrack entries."""

    def __init__(self, space: Space) -> None:
        super().__init__(space, _NETFILTER)

    def forget(self, address: str, port: int, *, protocol: str) -> int:
        """Delete those whose original destination this is; how many there were."""
        ip = ipaddress.ip_address(address)
        number = getattr(socket, f"IPPROTO_{protocol.upper()}")
        wanted = (ip.packed, number, port)
        count = 0
        for entry in self.dump(_CT_GET, struct.pack("=BBH", _family(ip), 0, 0)):
            original = attributes(entry[4:])[1]
            if _destination(original) == wanted:
                count += self._delete(struct.pack("=BBH", _family(ip), 0, 0) + attribute(0x8001, original))
        return count

    def _delete(self, body: bytes) -> int:
        try:
            self.ask(_CT_DELETE, body)
        except OSError as error:
            if error.errno != errno.ENOENT:  # it has ended by itself meanwhile
                raise
            return 0
        return 1


def _destination(original: bytes) -> tuple[bytes, int, int]:
    parts = attributes(original)
    addresses, ports = attributes(parts[1]), attributes(parts[2])
    return addresses.get(2) or addresses[4], ports[1][0], int.from_bytes(ports.get(3, b""), "big")


def _link(flags: int) -> bytes:
    return struct.pack("=BxHiII", 0, 0, 0, flags, _UP)


def _family(address: object) -> int:
    return socket.AF_INET if getattr(address, "version", 4) == 4 else socket.AF_INET6


def _route(network: str, *, scope: int, onlink: bool = False) -> bytes:
    target = ipaddress.ip_network(network)
    main, static, unicast = 254, 4, 1
    kind = 0 if scope == 255 else unicast
    head = struct.pack("=BBBBBBBBI", _family(target), target.prefixlen, 0, 0, main, static, scope, kind, _ONLINK * onlink)
    return head + attribute(1, target.network_address.packed)
