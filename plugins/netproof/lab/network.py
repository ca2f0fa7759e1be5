"""The lab's wires: nodes and outsiders on one bridge, a routed pair of interfaces for each pod, and no way out.

A pod sends everything to its node, whose forward hook so meets all of it, from one pod to another of the same node too. Hardware
addresses are fixed and neighbours are known for good: no packet waits for ARP or neighbour discovery.
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
from collections.abc import Iterator, Sequence

from netproof.lab import seams
from netproof.lab.netlink import Links, Tracking
from netproof.lab.system import Space

_INTERFACE = "eth0"
_GATEWAYS = ("169.254.1.1", "fe80::1")  # nobody has these addresses; the pods' neighbour entries make them their node
_EVERYWHERE = ("0.0.0.0/0", "::/0")
_NODE_MAC = "02:00:00:00:00:01"
# Refusals must be seen at any rate, links be ready at once, and nothing depend on what this machine has set for itself.
_OFF = ("rp_filter", "send_redirects", "accept_redirects", "route_localnet")
_OFF6 = ("disable_ipv6", "accept_ra", "accept_dad")
_HOST_SETTINGS = {
    "ipv4/ip_forward": "0",  # first: it sets others
    "ipv4/icmp_ratelimit": "0",
    "ipv4/icmp_ratemask": "0",
    "ipv6/icmp/ratelimit": "0",
    "ipv6/icmp/ratemask": "\n",
    "ipv4/icmp_msgs_per_sec": "1000000000",
    "ipv4/icmp_msgs_burst": "1000000000",
    "ipv4/ping_group_range": "0 0",
    "ipv4/ip_unprivileged_port_start": "0",
    **{f"ipv4/conf/{scope}/{name}": "0" for scope in ("all", "default") for name in _OFF},
    **{f"ipv6/conf/{scope}/{name}": "0" for scope in ("all", "default") for name in _OFF6},
    "ipv6/conf/default/dad_transmits": "0",
}
_NODE_SETTINGS = {**_HOST_SETTINGS, "ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1"}


class Host:
    """A network namespace that stays: a node, an outsider, or the hub with the bridge."""

    def __init__(self, *, forwards: bool) -> None:
        self.space = Space.new()
        self.links = Links(self.space)
        self.tracking = Tracking(self.space)
        self.space.configure(_NODE_SETTINGS if forwards else _HOST_SETTINGS)
        self.links.switch("lo", up=True)

    def close(self) -> None:
        self.links.close()
        self.tracking.close()
        self.space.close()


class Network:
    """Nodes, outsiders and pods, wired; everything here is done when it returns."""

    def __init__(self) -> None:
        self._hub = Host(forwards=False)
        self._hub.links.bridge("lab")
        self._numbers = itertools.count(1)
        self.nodes = {name: Host(forwards=True) for name in seams.NODES}
        self.outsiders = {name: Host(forwards=False) for name in seams.OUTSIDERS}
        places = {**self.nodes, **self.outsiders}
        for name, host in places.items():
            self._plug(name, host)
        for one, other in itertools.permutations(places, 2):
            for address in _addresses(other):
                places[one].links.neighbour(_INTERFACE, address, mac_address=_mac(other))
        for name, host in places.items():
            self._lead(name, host)

    def _plug(self, name: str, host: Host) -> None:
        macs = (f"02:01{_mac(name)[5:]}", _mac(name))
        self._hub.links.veth(name, _INTERFACE, peer_space=host.space, macs=macs, mtu=seams.MTU)
        self._hub.links.enslave(name, "lab")
        host.links.switch(_INTERFACE, up=True)
        for address, network in zip(_addresses(name), seams.NODE_NETWORKS, strict=True):
            host.links.address(_INTERFACE, f"{address}/{network.partition('/')[2]}")

    def _lead(self, name: str, host: Host) -> None:
        """Routes to the pods of other nodes; a node sends what it knows no way for to an outsider, where it ends."""
        for node in seams.NODES:
            if node != name:
                for network, via in zip(seams.pod_networks(node), seams.node_addresses(node), strict=True):
                    host.links.route(network, _INTERFACE, via=via)
        if name in self.nodes:
            for network, via in zip(_EVERYWHERE, seams.outsider_addresses(seams.OUTSIDERS[0]), strict=True):
                host.links.route(network, _INTERFACE, via=via)

    def join(self, node: str, addresses: Sequence[str]) -> Space:
        """A new namespace with these addresses, wired to the node."""
        host, number = self.nodes[node], next(self._numbers)
        name, pod_mac = (
            f"pod{number}",
            f"02:02:{number >> 24 & 255:02x}:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}",
        )
        space = Space.new()
        try:
            space.configure(_HOST_SETTINGS)
            host.links.veth(name, _INTERFACE, peer_space=space, macs=(_NODE_MAC, pod_mac), mtu=seams.MTU)
            with _links(space) as links:
                for interface in ("lo", _INTERFACE):
                    links.switch(interface, up=True)
                for address in addresses:
                    _give(links, address)
            for address in addresses:
                host.links.neighbour(name, address, mac_address=pod_mac)
                host.links.route(_single(address), name, source=_of_family(address, seams.node_addresses(node)))
        except BaseException:
            self.part(node, addresses, space=space)
            raise
        return space

    def part(self, node: str, addresses: Sequence[str], *, space: Space) -> None:
        """Lead nothing to a pod any more, and let go of its namespace, with which its interfaces go.

        To delete an interface takes 30 ms in which nothing else would be done; the kernel, left to it, does many at once.
        """
        for address in addresses:
            self.nodes[node].links.unroute(_single(address))
        space.close()

    def announce(self, address: str, node: str) -> None:
        for outsider in self.outsiders.values():
            self.route(outsider, _single(address), via=_of_family(address, seams.node_addresses(node)) if node else "")

    def route(self, host: Host, network: str, *, via: str) -> None:
        if via:
            host.links.route(network, _INTERFACE, via=via)
        else:
            host.links.unroute(network)

    def link(self, node: str, *, up: bool) -> None:
        """Pull a node's cable or plug it in again, at the hub's end: the node's addresses and routes stay."""
        self._hub.links.switch(node, up=up)

    def mtu(self, node: str, size: int) -> None:
        self.nodes[node].links.mtu(_INTERFACE, size)

    def close(self) -> None:
        for host in (self._hub, *self.nodes.values(), *self.outsiders.values()):
            host.close()


@contextlib.contextmanager
def _links(space: Space) -> Iterator[Links]:
    links = Links(space)
    try:
        yield links
    finally:
        links.close()


def _give(links: Links, address: str) -> None:
    """An address of a pod, and the way out of it."""
    gateway = _of_family(address, _GATEWAYS)
    links.address(_INTERFACE, _single(address))
    links.neighbour(_INTERFACE, gateway, mac_address=_NODE_MAC)
    links.route(_of_family(address, _EVERYWHERE), _INTERFACE, via=gateway, source=address)


def _addresses(name: str) -> tuple[str, str]:
    return seams.node_addresses(name) if name in seams.NODES else seams.outsider_addresses(name)


def _mac(name: str) -> str:
    return f"02:00:00:00:01:{int(ipaddress.ip_address(_addresses(name)[0])) & 255:02x}"


def _single(address: str) -> str:
    return str(ipaddress.ip_network(address))


def _of_family(address: str, pair: Sequence[str]) -> str:
    """The IPv4 or the IPv6 one of a pair, as the address is."""
    return pair[":" in address]
