"""A plan written down as nftables rules.

A table of blocks, one after the other in the order of their dependence. A chain or map that no hook calls is named by its content, so a
name stands for the same thing for ever; the chains of the hooks are few and short, and they alone name what is in force. Their rules hold
no set of their own: a packet on its way through them would find it empty when they are replaced.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from netproof.lab.plane.model import Allow, Backend, Choice, Frontend, Isolation, Peer, Plane, PortRange, is_ipv6
from netproof.lab.seams import NODES, POD_NETWORKS, SERVICE_NETWORKS, node_addresses, pod_networks

TABLE = "inet lab"
_MARK = "0x4000"  # on a packet between the hooks: give it the node's address on its way out
_LINE = 50  # elements on a line
_HOOKS = {
    "prerouting": ("nat hook prerouting priority -100",),
    "output": ("nat hook output priority -100",),
    "postrouting": ("nat hook postrouting priority 100", f"meta mark {_MARK} masquerade"),
    "forward": ("filter hook forward priority 0", "ct state established,related accept"),
}


def text(plane: Plane) -> str:
    """The whole rule set of a node, for `nft -f`. Equal plans give equal texts."""
    blocks: dict[str, str] = {}
    hooks = {name: [f"type {head}; policy accept;", *first] for name, (head, *first) in _HOOKS.items()}
    for family in (_Family(plane, blocks, False, "ip", "ipv4_addr"), _Family(plane, blocks, True, "ip6", "ipv6_addr")):  # noqa: FBT003
        for name, rule in family.rules():
            hooks[name].append(rule)
    written = [*blocks.values(), *(_block("chain", name, lines) for name, lines in hooks.items())]
    return "\n".join([f"table {TABLE} {{", *written, "}\n"])


def _block(type_: str, name: str, lines: Iterable[str]) -> str:
    return "\n".join([f"\t{type_} {name} {{", *(f"\t\t{line}" for line in lines), "\t}"])


def _set(elements: Iterable[str]) -> str:
    """One element as it is, several in braces; in order, without repetition. nft joins those that overlap."""
    found = sorted(set(elements))
    return found[0] if len(found) == 1 else "{ " + ", ".join(found) + " }"


@dataclass(frozen=True, slots=True)
class _Family:
    """What a plan means for one family of addresses. Blocks are written once, however often they are referred to."""

    plane: Plane
    blocks: dict[str, str]
    six: bool
    ip: str
    type: str

    def rules(self) -> Iterator[tuple[str, str]]:
        """The rules of the hooks. Translation comes first, so that policies see the pods at both ends."""
        own, inside, outside = pod_networks(self.plane.node)[self.six], self._frontends("inside"), self._frontends("outside")
        unclaimed = f"jump {self._add('chain', 'unclaimed', self._unclaimed())}"
        for rule in (f"{self.ip} saddr {own} {inside}", f"{self.ip} saddr != {own} {outside}", unclaimed):
            yield "prerouting", rule
        yield from (("output", inside), ("output", unclaimed))
        # A pod that a Service led back to itself must not see its own address as the other end's, and no policy concerns it.
        selves = [f"{one} . {one}" for pod in self.plane.own for one in self._mine(pod.addresses)]
        itself = f"{self.ip} saddr . {self.ip} daddr @{self._filled('set', 'self', f'{self.type} . {self.type}', selves)}"
        yield from (("postrouting", f"{itself} masquerade"), ("forward", f"{itself} accept"))
        # What goes from a pod of this node to neither a pod nor a node has the node's address, as in most clusters.
        nodes = [node_addresses(node)[self.six] for node in NODES]
        inner = self._filled("set", "inner", f"{self.type}; flags interval", [POD_NETWORKS[self.six], *nodes])
        yield "postrouting", f"{self.ip} saddr {own} {self.ip} daddr != @{inner} masquerade"
        # Both ends must agree: a flow between two pods of the node passes the source's rules and then the destination's.
        for direction, near, far in (("egress", "saddr", "daddr"), ("ingress", "daddr", "saddr")):
            isolated = [one for one in self.plane.isolations if one.direction == direction]
            chains = {address: self._isolation(one, f"{self.ip} {far}") for one in isolated for address in self._mine(one.addresses)}
            jumps = [f"{address} : jump {chain}" for address, chain in chains.items()]
            if jumps:
                yield "forward", f"{self.ip} {near} vmap @{self._filled('map', direction, f'{self.type} : verdict', jumps)}"

    def _mine(self, addresses: Iterable[str]) -> list[str]:
        return [one for one in addresses if is_ipv6(one) == self.six]

    def _add(self, type_: str, prefix: str, lines: Iterable[str], identity: object = None) -> str:
        """The name of a block with these lines, or of one for something that is more than its lines."""
        lines = list(lines)
        name = f"{prefix}-{hashlib.sha256(repr(identity or lines).encode()).hexdigest()[:12]}"
        self.blocks.setdefault(name, _block(type_, name, lines))
        return name

    def _filled(self, type_: str, prefix: str, of: str, elements: Iterable[str]) -> str:
        """The name of a map or set with these elements."""
        found = sorted(set(elements))
        lines = [f"\t{', '.join(found[at : at + _LINE])}," for at in range(0, len(found), _LINE)]
        return self._add(type_, prefix, [f"type {of}", *(["elements = {", *lines, "}"] if lines else [])])

    # --- Services

    def _frontends(self, side: str) -> str:
        """The rule that looks up where a packet shall go."""
        chosen = [(one, getattr(one, side)) for one in self.plane.frontends if is_ipv6(one.address) == self.six]
        places = [f"{one.address} . {one.protocol} . {one.port} : {self._verdict(one, choice)}" for one, choice in chosen if choice]
        name = self._filled("map", "frontends", f"{self.type} . inet_proto . inet_service : verdict", places)
        return f"{self.ip} daddr . meta l4proto . th dport vmap @{name}"

    def _unclaimed(self) -> Iterator[str]:
        """No packet to a service network leaves the node as it is, or it would wander to where the default route leads."""
        if vips := self._mine(one.address for one in self.plane.frontends if one.kind == "cluster-ip"):
            yield f"{self.ip} daddr {_set(vips)} goto {self._refuse()}"
        yield f"{self.ip} daddr {SERVICE_NETWORKS[self.six]} drop"

    def _verdict(self, frontend: Frontend, choice: Choice) -> str:
        """What becomes of a packet to a frontend; a chain of its own where one word doesn't say it."""
        lines = [*self._admission(frontend), *self._choice(frontend, choice)]
        return lines[0] if len(lines) == 1 and not choice.backends else "goto " + self._add("chain", "to", lines)

    def _admission(self, frontend: Frontend) -> Iterator[str]:
        """Ranges of one family alone admit nobody of the other."""
        if frontend.source_ranges is not None:
            own = self._mine(frontend.source_ranges)
            yield f"{self.ip} saddr != {_set(own)} drop" if own else "drop"

    def _choice(self, frontend: Frontend, choice: Choice) -> Iterator[str]:
        if not choice.backends:
            yield "drop" if choice.otherwise == "drop" else f"goto {self._refuse()}"
            return
        if choice.masquerade:
            yield f"meta mark set {_MARK}"
        if frontend.affinity is None:
            yield self._translation(frontend, choice.backends)
        else:
            yield from self._sticky(frontend, choice.backends)

    def _translation(self, frontend: Frontend, backends: Sequence[Backend]) -> str:
        places = ", ".join(f"{number} : {one.address} . {one.port}" for number, one in enumerate(backends))
        return f"meta l4proto {frontend.protocol} dnat {self.ip} to numgen random mod {len(backends)} map {{ {places} }}"

    def _sticky(self, frontend: Frontend, backends: Sequence[Backend]) -> Iterator[str]:
        """Each backend has a set of the clients that it served last, which lasts as long as the backend does."""
        chains = []
        for backend in backends:
            lines = [f"type {self.type}; flags dynamic,timeout; timeout {frontend.affinity}s; size 65535"]
            clients = self._add("set", "clients", lines, (frontend.name, frontend.protocol, backend, frontend.affinity))
            remember = f"update @{clients} {{ {self.ip} saddr }}"
            chains.append(self._add("chain", "to", [remember, self._translation(frontend, (backend,))]))
            yield f"{self.ip} saddr @{clients} goto {chains[-1]}"
        places = ", ".join(f"{number} : goto {chain}" for number, chain in enumerate(chains))
        yield f"numgen random mod {len(chains)} vmap {{ {places} }}"

    def _refuse(self) -> str:
        """TCP by a reset: over IPv6 an ICMP error would fail a connection at its second SYN only, a second later."""
        return self._add("chain", "refuse", ["meta l4proto tcp reject with tcp reset", "reject with icmpx port-unreachable"])

    # --- policies

    def _isolation(self, isolation: Isolation, far: str) -> str:
        """What is allowed returns to the hook's chain, which may have more to ask; the rest ends here."""
        lines = {f"{match} return".lstrip() for allow in isolation.allows for match in self._matches(allow, far)}
        return self._add("chain", isolation.direction, [*sorted(lines), "drop"])

    def _matches(self, allow: Allow, far: str) -> Iterator[str]:
        peers = [""] if allow.peers is None else self._peers(allow.peers, far)
        ports = [""] if allow.ports is None else _ports(allow.ports)
        return (f"{peer} {port}".strip() for peer, port in product(peers, ports))

    def _peers(self, peers: Sequence[Peer], far: str) -> Iterator[str]:
        mine = [(one.network, self._mine(one.excepts)) for one in peers if is_ipv6(one.network) == self.six]
        if whole := [network for network, excepts in mine if not excepts]:
            yield f"{far} {_set(whole)}"
        yield from (f"{far} {network} {far} != {_set(excepts)}" for network, excepts in mine if excepts)


def _ports(ports: Sequence[PortRange]) -> Iterator[str]:
    for protocol in sorted({one.protocol for one in ports}):
        ranges = [str(one.first) if one.first == one.last else f"{one.first}-{one.last}" for one in ports if one.protocol == protocol]
        yield f"{protocol} dport {_set(ranges)}"
