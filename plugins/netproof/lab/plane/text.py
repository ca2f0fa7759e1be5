"""A plan written down as nftables rules.

A table of blocks, one after the other in the order of their dependence. A chain or map that no hook calls is named by its content, so a
name stands for the same thing for ever; the chains of the hooks are few and short, and they alone name what is in force.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from typing import Any

from netproof.lab.plane.model import ANY_PORT, Allow, Backend, Choice, Frontend, Isolation, Peer, Plane, PortRange, is_ipv6
from netproof.lab.seams import NODES, POD_NETWORKS, SERVICE_NETWORKS, node_addresses, pod_networks

TABLE = "inet lab"
_MARK = "0x4000"  # on a packet between the hooks: give it the node's address on its way out
_KEY = {False: "ipv4_addr", True: "ipv6_addr"}


def text(plane: Plane) -> str:
    """The whole rule set of a node, for `nft -f`. Equal plans give equal texts."""
    writer = _Writer()
    hooks = "\n".join(_block("chain", name, lines) for name, lines in _hooks(plane, writer))
    return f"table {TABLE} {{\n" + "\n".join(writer.blocks.values()) + f"\n{hooks}\n}}\n"


def _block(type_: str, name: str, lines: Iterable[str]) -> str:
    return f"\t{type_} {name} {{\n" + "\n".join(f"\t\t{line}" for line in lines) + "\n\t}"


@dataclass(slots=True)
class _Writer:
    """The blocks so far; one that is there already is not written twice."""

    blocks: dict[str, str] = field(default_factory=dict)

    def add(self, type_: str, prefix: str, lines: Iterable[str], identity: object = None) -> str:
        """The name of a block with these lines, or one for something that is more than its lines."""
        lines = list(lines)
        name = f"{prefix}-{hashlib.sha256(repr(identity or lines).encode()).hexdigest()[:12]}"
        self.blocks.setdefault(name, _block(type_, name, lines))
        return name

    def map(self, prefix: str, key: str, elements: Iterable[tuple[str, str]]) -> str:
        """The name of a map from keys to verdicts."""
        written = sorted(f"{left} : {right}" for left, right in elements)
        return self.add("map", prefix, [f"type {key} : verdict", *_elements(written)])


def _elements(written: list[str]) -> list[str]:
    return ["elements = {", *(f"\t{element}," for element in written), "}"] if written else []


def _of(address: str) -> str:
    return "ip6" if is_ipv6(address) else "ip"


def _set(elements: Iterable[str]) -> str:
    """One element as it is, several in braces; in order, without repetition."""
    found = sorted(set(elements))
    return found[0] if len(found) == 1 else "{ " + ", ".join(found) + " }"


def _hooks(plane: Plane, writer: _Writer) -> Iterator[tuple[str, list[str]]]:
    """The chains that the kernel calls. Translation first, so that policies see the pods at both ends."""
    unclaimed = writer.add("chain", "unclaimed", _unclaimed(plane, _refuse(writer)))
    inside, outside = _frontends(plane, writer, lambda one: one.inside), _frontends(plane, writer, lambda one: one.outside)
    yield "prerouting", [_hook("nat", "prerouting", -100), *_arriving(plane, inside, outside), f"goto {unclaimed}"]
    yield "output", [_hook("nat", "output", -100), *inside.values(), f"goto {unclaimed}"]
    selves = [writer.add("set", "self", _selves(plane, ipv6=ipv6)) for ipv6 in (False, True)]
    itself = [f"{ip} saddr . {ip} daddr @{name}" for ip, name in zip(("ip", "ip6"), selves, strict=True)]
    masqueraded = [f"meta mark {_MARK}", *itself, *_leaving(plane)]
    yield "postrouting", [_hook("nat", "postrouting", 100), *(f"{match} masquerade" for match in masqueraded)]
    accepted = ["ct state established,related", *itself]
    yield "forward", [_hook("filter", "forward", 0), *(f"{match} accept" for match in accepted), *_isolations(plane, writer)]


def _hook(type_: str, name: str, priority: int) -> str:
    return f"type {type_} hook {name} priority {priority}; policy accept;"


# --- Services ---


def _arriving(plane: Plane, inside: dict[bool, str], outside: dict[bool, str]) -> Iterator[str]:
    for network in pod_networks(plane.node):
        yield f"{_of(network)} saddr {network} {inside[is_ipv6(network)]}"
        yield f"{_of(network)} saddr != {network} {outside[is_ipv6(network)]}"


def _frontends(plane: Plane, writer: _Writer, side: Callable[[Frontend], Choice | None]) -> dict[bool, str]:
    """For either family the rule that looks up where a packet shall go."""
    rules = {}
    for ipv6, key in _KEY.items():
        chosen = [(one, side(one)) for one in plane.frontends if is_ipv6(one.address) == ipv6]
        elements = [(f"{one.address} . {one.protocol} . {one.port}", _verdict(one, choice, writer)) for one, choice in chosen if choice]
        name = writer.map("frontends", f"{key} . inet_proto . inet_service", elements)
        rules[ipv6] = f"{'ip6' if ipv6 else 'ip'} daddr . meta l4proto . th dport vmap @{name}"
    return rules


def _verdict(frontend: Frontend, choice: Choice, writer: _Writer) -> str:
    """What becomes of a packet to a frontend; a chain of its own where one word doesn't say it."""
    lines = [*_admission(frontend), *_choice(frontend, choice, writer)]
    return lines[0] if len(lines) == 1 and not choice.backends else "goto " + writer.add("chain", "to", lines)


def _admission(frontend: Frontend) -> Iterator[str]:
    if frontend.source_ranges is not None:
        own = [network for network in frontend.source_ranges if is_ipv6(network) == is_ipv6(frontend.address)]
        yield f"{_of(frontend.address)} saddr != {_set(_apart(own))} drop" if own else "drop"


def _choice(frontend: Frontend, choice: Choice, writer: _Writer) -> Iterator[str]:
    if not choice.backends:
        yield "drop" if choice.otherwise == "drop" else f"goto {_refuse(writer)}"
        return
    if choice.masquerade:
        yield f"meta mark set {_MARK}"
    if frontend.affinity is None:
        yield _translation(frontend, choice.backends)
    else:
        yield from _sticky(frontend, choice.backends, writer)


def _translation(frontend: Frontend, backends: tuple[Backend, ...]) -> str:
    start = f"meta l4proto {frontend.protocol} dnat {_of(frontend.address)} to"
    if len(backends) == 1:
        host = f"[{backends[0].address}]" if is_ipv6(frontend.address) else backends[0].address
        return f"{start} {host}:{backends[0].port}"
    places = ", ".join(f"{number} : {one.address} . {one.port}" for number, one in enumerate(backends))
    return f"{start} numgen random mod {len(backends)} map {{ {places} }}"


def _sticky(frontend: Frontend, backends: tuple[Backend, ...], writer: _Writer) -> Iterator[str]:
    """Each backend has a set of the clients that it served last, which lasts as long as the backend does."""
    client, chains = f"{_of(frontend.address)} saddr", []
    for backend in backends:
        lines = [f"type {_KEY[is_ipv6(frontend.address)]}; flags dynamic,timeout; timeout {frontend.affinity}s; size 65535"]
        clients = writer.add("set", "clients", lines, (frontend.name, frontend.protocol, backend, frontend.affinity))
        chains.append(writer.add("chain", "to", [f"update @{clients} {{ {client} }}", _translation(frontend, (backend,))]))
        yield f"{client} @{clients} goto {chains[-1]}"
    places = ", ".join(f"{number} : goto {chain}" for number, chain in enumerate(chains))
    yield f"numgen random mod {len(chains)} vmap {{ {places} }}"


def _refuse(writer: _Writer) -> str:
    """TCP by a reset: over IPv6 an ICMP error would fail a connection at its second SYN only, a second later."""
    return writer.add("chain", "refuse", ["meta l4proto tcp reject with tcp reset", "reject with icmpx port-unreachable"])


def _unclaimed(plane: Plane, refuse: str) -> Iterator[str]:
    """No packet to a service network leaves the node as it is, or it would wander to where the default route leads."""
    vips = [one.address for one in plane.frontends if one.kind == "cluster-ip"]
    for network in SERVICE_NETWORKS:
        own = [address for address in vips if is_ipv6(address) == is_ipv6(network)]
        if own:
            yield f"{_of(network)} daddr {_set(own)} goto {refuse}"
        yield f"{_of(network)} daddr {network} drop"


def _selves(plane: Plane, *, ipv6: bool) -> list[str]:
    """Pods beside themselves: a pod that a Service led back to itself must not see its own address as the other end's."""
    mine = [address for pod in plane.own for address in pod.addresses if is_ipv6(address) == ipv6]
    return [f"type {_KEY[ipv6]} . {_KEY[ipv6]}", *_elements([f"{address} . {address}" for address in sorted(set(mine))])]


def _leaving(plane: Plane) -> Iterator[str]:
    """What goes from a pod of this node to neither a pod nor a node has the node's address, as in most clusters."""
    for index, network in enumerate(pod_networks(plane.node)):
        nodes = [node_addresses(node)[index] for node in NODES]
        yield f"{_of(network)} saddr {network} {_of(network)} daddr != {_set([POD_NETWORKS[index], *nodes])}"


# --- Policies ---


def _isolations(plane: Plane, writer: _Writer) -> Iterator[str]:
    """Both ends must agree: a flow between two pods of the node passes the source's rules and then the destination's."""
    for direction, end in (("egress", "saddr"), ("ingress", "daddr")):
        isolated = [one for one in plane.isolations if one.direction == direction]
        for ipv6, key in _KEY.items():
            mine = {address: one for one in isolated for address in one.addresses if is_ipv6(address) == ipv6}
            elements = [(address, f"jump {_isolation(one, writer, ipv6=ipv6)}") for address, one in mine.items()]
            if elements:
                yield f"{'ip6' if ipv6 else 'ip'} {end} vmap @{writer.map(direction, key, elements)}"


def _isolation(isolation: Isolation, writer: _Writer, *, ipv6: bool) -> str:
    """What is allowed returns to the hook's chain, which may have more to ask; the rest ends here."""
    far = "saddr" if isolation.direction == "ingress" else "daddr"
    lines = {f"{match} return".lstrip() for allow in isolation.allows for match in _matches(allow, far, ipv6=ipv6)}
    return writer.add("chain", isolation.direction, [*sorted(lines), "drop"])


@lru_cache(maxsize=2048)  # most of a plan is as it was before the last change, and networks are slow to compare
def _matches(allow: Allow, far: str, *, ipv6: bool) -> tuple[str, ...]:
    peers = [""] if allow.peers is None else list(_peers(allow.peers, far, ipv6=ipv6))
    ports = [""] if allow.ports is None else list(_ports(allow.ports))
    return tuple(f"{peer} {port}".strip() for peer in peers for port in ports)


def _peers(peers: tuple[Peer, ...], far: str, *, ipv6: bool) -> Iterator[str]:
    mine = [peer for peer in peers if is_ipv6(peer.network) == ipv6]
    match = f"{'ip6' if ipv6 else 'ip'} {far}"
    if whole := [peer.network for peer in mine if not peer.excepts]:
        yield f"{match} {_set(_apart(whole))}"
    for peer in (peer for peer in mine if peer.excepts):
        excepts = [network for network in peer.excepts if is_ipv6(network) == ipv6]
        yield f"{match} {peer.network}" + (f" {match} != {_set(_apart(excepts))}" if excepts else "")


def _apart(networks: Iterable[str]) -> Iterator[str]:
    """The same addresses in networks that do not overlap: nft takes no others into a set."""
    known: Any = [ipaddress.ip_network(given, strict=False) for given in networks]  # of one family, which its type can't tell
    for network in ipaddress.collapse_addresses(known):
        yield str(network.network_address if network.prefixlen == network.max_prefixlen else network)


def _ports(ports: tuple[PortRange, ...]) -> Iterator[str]:
    for protocol, group in groupby(sorted(ports, key=lambda one: (one.protocol, one.first)), key=lambda one: one.protocol):
        ranges = _joined([(one.first, one.last) for one in group])
        if ranges == [ANY_PORT]:
            yield f"meta l4proto {protocol}"
        else:
            yield f"{protocol} dport {_set(str(first) if first == last else f'{first}-{last}' for first, last in ranges)}"


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sorted ranges, those that touch made one."""
    joined: list[tuple[int, int]] = []
    for first, last in ranges:
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = joined[-1][0], max(last, joined[-1][1])
        else:
            joined.append((first, last))
    return joined
