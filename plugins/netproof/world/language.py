"""The words in which a case is written: `world`, `expect`, and what follows them. `expect` waits, repeats and judges."""

from __future__ import annotations

import ipaddress
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from netproof.kube.objects import path
from netproof.kube.wait import Late, NotYet, until
from netproof.model.flow import TCP, UDP, Family, Flow, Port, Protocol, Question
from netproof.model.history import Decision, Expectation
from netproof.oracle import Ruling
from netproof.probe.stream import AgentRefused
from netproof.world import hosts, placement, pods, services
from netproof.world.case import Case
from netproof.world.moments import Newborn, Timed, parsed
from netproof.world.services import Vip
from netproof.world.stored import Stored
from netproof.world.verdicts import Failed, Inconclusive, Misused, Unsupported

ENDPOINTS_LIMIT = 30.0  # seconds: the control plane's own time to update EndpointSlices
ADDRESS_LIMIT = 60.0  # seconds until a load balancer has given an address
READY_LIMIT = 30.0
SHARE_OF_MANY = 0.01  # of the burst, where a case has some hundreds of flows: the nodes' connection tables must hold all cases' attempts
FRONT = 8000  # less than a pod's port is that of the Services which `via="cluster-ip"` puts in front of it: 80 for 8080
PROBED_LIMIT = 10.0  # the kubelet probes once a second


@dataclass(frozen=True, slots=True)
class Target:
    """Where packets go: a name for people, an address, a port."""

    name: str
    address: str
    port: Port

    @property
    def family(self) -> Family:
        return Family.of(self.address)


@dataclass(frozen=True, slots=True)
class Peer:
    """A pod, or an agent outside the cluster, as a case speaks of it."""

    name: str
    address: str
    _world: CaseWorld

    @property
    def cidr(self) -> str:
        """The block that holds its address alone: `172.30.0.100/32`."""
        return f"{self.address}/{ipaddress.ip_address(self.address).max_prefixlen}"

    def on(self, port: Port) -> Target:
        """Its own address with a port."""
        return Target(self.name, self.address, port)

    def to(self, target: Target) -> Flow:
        """The flow from here to there."""
        return Flow(self.name, target.name, target.address, target.port, target.family)

    def pings(self, peer: Peer) -> Flow:
        """ICMP echo requests to the peer's own address. Of these nothing is promised: a case only observes them."""
        return Flow(self.name, peer.name, peer.address, UDP(0), Family.of(peer.address), echo=True)

    def asks(self, name: str, type_: str = "", *, over: Protocol = UDP) -> Flow:
        """The DNS question to the resolver of its own /etc/resolv.conf; a name without a final dot walks the search list.

        Without a type it is for the addresses of the case's family. Raises Unsupported where there is no resolver of that family.
        """
        family = self._world.family
        resolver = self._world.case.runner.fleet.resolver(self.name)
        names = _search(name, resolver.search, _ndots(resolver.options))
        server = next((address for address in resolver.nameservers if Family.of(address) is family), "")
        if not server:
            raise Unsupported(f"the resolv.conf of {self.name} names no resolver with an {family} address")
        return Flow(self.name, "DNS", server, over(53), family, Question(names, type_ or self._world.record))

    @property
    def search(self) -> tuple[str, ...]:
        """The search list of its resolver."""
        return tuple(self._world.case.runner.fleet.resolver(self.name).search)


@dataclass(slots=True)
class Service:
    """A Service of the case. `by_ip`, `by_node_port`, `by_load_balancer` are targets."""

    vip: Vip
    _world: CaseWorld

    @property
    def dns(self) -> str:
        """Its name below the cluster's domain: `web.namespace.svc`."""
        return self.vip.dns

    @property
    def address(self) -> str:
        """Its cluster IP of the case's family."""
        return self.vip.addresses[self._world.family]

    def by_ip(self, port: Port | None = None) -> Target:
        """Its cluster IP; the port may be left out where there is one only."""
        return Target(f"{self.vip.name} (ClusterIP)", self.address, port or self.vip.ports[0])

    def by_node_port(self, port: Port | None = None) -> list[Target]:
        """The node port on every node of the cluster, those without endpoints and the control plane included."""
        port = port or self.vip.ports[0]
        number = Port(port.protocol, self.vip.node_ports[port])
        return [Target(f"{self.vip.name} (NodePort of {name})", address, number) for name, address in self._world.node_addresses()]

    def by_load_balancer(self, port: Port | None = None) -> Target:
        """The address that a load balancer gave. Raises Inconclusive where none is given in time (that is LBR-01's matter)."""
        try:
            address = self._world.balanced(self.vip)
        except Late as late:
            raise Inconclusive(f"no load balancer gave {self.vip.name} an address: {late}") from late
        return Target(f"{self.vip.name} (load balancer)", address, port or self.vip.ports[0])

    def becomes(self, **spec: Any) -> None:
        """Edit its spec: `becomes(externalTrafficPolicy="Local")`. Ports and addresses stay what they are."""
        self._world.case.runner.api.patch(path("Service", self.vip.name, self.vip.namespace), {"spec": spec})

    def selects(self, *names: str) -> None:
        """Make these pods its endpoints, and no others; returns when the control plane's EndpointSlices say so.

        Raises Inconclusive where they do not within 30 s: that is the control plane's failure, not the network's.
        """
        self._world.case.world.select(self.vip, names)
        self._world.await_endpoints(self.vip, names)


@dataclass(slots=True)
class CaseWorld:
    """The world as a case sees it, in the family that the case is run in."""

    case: Case
    family: Family = Family.IPV4

    @property
    def record(self) -> str:
        """The type of DNS records that hold addresses of the case's family."""
        return "A" if self.family is Family.IPV4 else "AAAA"

    @property
    def everywhere(self) -> str:
        """The block of all addresses of the case's family."""
        return "0.0.0.0/0" if self.family is Family.IPV4 else "::/0"

    def pod(self, name: str) -> Peer:
        """The pod of that name: `x/a`. Raises Inconclusive where it was given no address of the case's family."""
        found = self.case.world.pods.get(name)
        if found is None:
            raise Misused(f"there is no pod {name}; there are {', '.join(sorted(self.case.world.pods))}")
        if self.family not in found.addresses:
            raise Inconclusive(f"{name} has no {self.family} address, though the cluster's pods are to have one")
        return Peer(name, found.addresses[self.family], self)

    def namespace(self, letter: str) -> str:
        """The name that a namespace of the world has in the cluster."""
        return self.case.world.namespaces[letter]

    def held(self, flow: Flow) -> Flow:
        """The flow on one connection that lasts as long as the case: what is asked of it later goes over what stood before."""
        return replace(flow, held=self.case.world.next_number())

    def stored(self, letter: str) -> Stored:
        """The NetworkPolicies of a namespace, as objects of the API."""
        return Stored(self.case, letter)

    def port_of(self, pod: str, name: str) -> Port:
        """The port to which a standing pod's container gives that name."""
        return pods.port_names(pod.partition("/")[2])[name]

    def pairs(self, port: Port, *, same_node: bool) -> list[Flow]:
        """The flows of every ordered pair of standing pods on one node, or on different nodes."""
        standing = self.case.world.pods.values()
        pairs = [(a, b) for a, b in itertools.permutations(standing, 2) if (a.node == b.node) == same_node]
        if not pairs:
            raise Unsupported("there is one schedulable node, so no pair of pods on different nodes")
        return [self.pod(a.name).to(self.pod(b.name).on(port)) for a, b in pairs]

    def mesh(self, ports: Sequence[Port] = pods.PORTS) -> list[Flow]:
        """Every ordered pair of standing pods on these ports, by default on all that they serve."""
        return [flow for flow in self.case.world.mesh(ports) if flow.family is self.family]

    def api_service_address(self) -> str:
        """The cluster IP of the API server's own Service, `default/kubernetes`."""
        spec = self.case.runner.api.get(path("Service", "kubernetes", "default"))["spec"]
        found = [str(address) for address in spec["clusterIPs"] if Family.of(address) is self.family]
        if not found:
            raise Unsupported(f"the API server's Service has no {self.family} address")
        return found[0]

    def spread(self) -> list[str]:
        """One standing pod of namespace x on each node that takes pods, made where there is none yet."""
        world = self.case.world
        held = {pod.node: name for name, pod in world.pods.items() if name.startswith("x/")}
        missing = [node for node in self.case.runner.nodes if node.name not in held]
        made = world.add_pods({f"x/on-{node.name}"[:60]: node for node in missing}) if missing else []
        return sorted([*held.values(), *(pod.name for pod in made)])

    def pods(self, name: str, *, replicas: int = 1, ready: bool = True) -> list[str]:
        """Further pods of namespace x, in turn on each node; with `ready=False` they run, serve, and are not Ready."""
        nodes = self.case.runner.nodes
        wanted = {f"x/{name}-{self.case.world.next_number()}": nodes[i % len(nodes)] for i in range(replicas)}
        self.case.world.add_pods(wanted, readiness=True)
        self.set_ready(*wanted, ready=ready)
        return list(wanted)

    def new_pods(self, letter: str, *, beside: Sequence[str], labels: Mapping[str, str] | None = None) -> list[str]:
        """Further pods of a namespace, each on the node of one of `beside`, with these labels from birth; their agents answer."""
        names = [f"{letter}/new-{self.case.world.next_number()}" for _ in beside]
        self.case.world.add_pods({name: self._node_of(pod) for name, pod in zip(names, beside, strict=True)}, labels=labels)
        return names

    def host(self, beside: str) -> Peer:
        """The agent on the network of the node on which a pod stands, made where there is none yet (feature HostNetwork)."""
        node = self._node_of(beside)
        hosts.add(self.case.world, [node])
        return self.pod(f"{hosts.LETTER}/{node.name}")

    @property
    def host_port(self) -> int:
        """The port that agents of `host` serve, by TCP and by UDP."""
        return hosts.served_port(self.case.world)

    def end_pods(self, *names: str) -> None:
        """Delete pods of `new_pods`; returns when the API no longer has them."""
        ended = [path("Pod", pod.pod, pod.namespace) for pod in (self.case.world.pods[name] for name in names)]
        self.case.world.remove_pods(names)
        for where, name in zip(ended, names, strict=True):
            self.case.world.await_removal(where, f"pod {name}")

    def renew_pod(self, name: str, labels: Mapping[str, str] | None = None) -> None:
        """Delete a pod of `new_pods`, and make another of its name on its node, with these labels instead of the former's."""
        node = self._node_of(name)
        self.end_pods(name)
        self.case.world.add_pods({name: node}, labels=labels)

    def new_namespace(self, letter: str, labels: Mapping[str, str] | None = None) -> None:
        """A further namespace with these labels, for this case."""
        self.case.world.add_namespace(letter, labels or {})

    def end_namespace(self, letter: str) -> None:
        """Delete a namespace of `new_namespace` and all that is in it; returns when the API no longer has it."""
        self.case.world.await_removal(self.case.world.remove_namespace(letter), f"namespace {letter}")

    def set_ready(self, *names: str, ready: bool, limit: float = READY_LIMIT) -> None:
        """Make pods of `pods` Ready or not; returns when their status says so. Raises Inconclusive where it never does."""
        port, fleet = TCP(pods.READY_PORT), self.case.runner.fleet
        for name in names:
            (fleet.listen if ready else fleet.unlisten)(name, port)
        for name in names:
            self._await_ready(name, ready=ready, limit=limit)

    def service(
        self,
        name: str,
        *,
        selects: Sequence[str],
        port: Port,
        target: int | str,
        namespace: str = "x",
        labels: Mapping[str, str] | None = None,
        **spec: Any,
    ) -> Service:
        """A Service of the case's family with these pods as endpoints; a named target is a port's name in its pods.

        `spec` is merged into the Service's spec, `labels` into its own labels.
        """
        return self._service(name, namespace, {port: target}, selects=selects, labels=labels, **spec)

    def front(self, pod: str, ports: Sequence[Port], **spec: Any) -> Service:
        """A Service whose one endpoint is that pod, on these of its ports less 8000: TCP/80 leads to TCP/8080. It is made once a case."""
        name = f"only-{pod.replace('/', '-')}"
        vip = self.case.world.vips.get(name)
        if vip:
            return Service(vip, self)
        behind = {Port(port.protocol, port.number - FRONT): port.number for port in ports}
        return self._service(name, pod.partition("/")[0], behind, selects=[pod], **spec)

    def _service(
        self,
        name: str,
        namespace: str,
        ports: Mapping[Port, int | str],
        *,
        selects: Sequence[str],
        labels: Mapping[str, str] | None = None,
        **spec: Any,
    ) -> Service:
        families = {} if spec.get("type") == "ExternalName" else {"ipFamilies": [str(self.family)]}
        vip = self.case.world.service(name, namespace, ports, selects=selects, labels=labels, **families | spec)
        self.await_endpoints(vip, selects)
        return Service(vip, self)

    def serve(self, *ports: Port) -> None:
        """Have every standing pod serve further ports until the case ends. Raises Unsupported where their kernel lacks the protocol."""
        self.case.served += ports
        for name, port in itertools.product(self.case.world.pods, ports):
            try:
                self.case.runner.fleet.listen(name, port)
            except AgentRefused as refused:
                raise Unsupported(f"{name} cannot serve {port}: {refused}") from refused

    def outside(self, name: str = "a") -> Peer:
        """An agent outside the cluster. Raises Unsupported where the provider has none."""
        for outsider in self.case.runner.outside:
            if outsider.name == f"outside/{name}" and self.family in outsider.addresses:
                return Peer(outsider.name, outsider.addresses[self.family], self)
        raise Unsupported(f"the provider has no agent outside/{name} with an {self.family} address")

    def agent(self, name: str) -> Peer:
        """A pod (`x/a`) or an agent outside (`outside/a`)."""
        letter, _, rest = name.partition("/")
        return self.outside(rest) if letter == "outside" else self.pod(name)

    def node_addresses(self) -> list[tuple[str, str]]:
        """Name and InternalIP of every node, of the case's family."""
        nodes = [(node["metadata"]["name"], placement.addresses(node)) for node in self.case.runner.every_node]
        return [(name, address) for name, found in nodes for address in found if Family.of(address) is self.family]

    def node_address_of(self, pod: str) -> str:
        """The InternalIP of the node on which a pod stands."""
        return dict(self.node_addresses())[self.case.world.pods[pod].node]

    def node_of(self, pod: str, port: Port) -> Target:
        """A port of the node itself on which a pod stands."""
        return Target(f"node {self.case.world.pods[pod].node}", self.node_address_of(pod), port)

    def balanced(self, vip: Vip) -> str:
        """The load balancer's address of that Service. Raises Late."""

        def given() -> str | None:
            found = services.balanced_at(self.case.runner.api, vip)
            if self.family not in found:
                raise NotYet(f"status.loadBalancer.ingress holds {sorted(found.values()) or 'nothing'}")
            return found[self.family]

        what = f"an {self.family} address for Service {vip.name}"
        return until(given, what=what, limit=ADDRESS_LIMIT, progress=self.case.runner.progress)

    def await_endpoints(self, vip: Vip, names: Sequence[str]) -> None:
        """Wait until the Service's EndpointSlices hold exactly these pods' addresses, each as ready as its pod is meant to be."""
        wanted = {self.pod(name).address for name in names}

        def agreed() -> bool | None:
            found = {address for address in services.endpoints(self.case.runner.api, vip) if Family.of(address) is self.family}
            if found != wanted:
                raise NotYet(f"they hold {', '.join(sorted(found)) or 'nothing'}; expected {', '.join(sorted(wanted)) or 'nothing'}")
            return True

        try:
            until(agreed, what=f"the EndpointSlices of {vip.name}", limit=ENDPOINTS_LIMIT, progress=self.case.runner.progress)
        except Late as late:
            raise Inconclusive(f"the control plane's failure, not the data plane's: {late}") from late

    def _node_of(self, name: str) -> placement.Node:
        on = self.case.world.pods[name].node
        return next(node for node in self.case.runner.nodes if node.name == on)

    def _await_ready(self, name: str, *, ready: bool, limit: float) -> None:
        pod = self.case.world.pods[name]

        def agreed() -> bool | None:
            status = self.case.runner.api.get(path("Pod", pod.pod, pod.namespace))["status"]
            now = any(entry["type"] == "Ready" and entry["status"] == "True" for entry in status.get("conditions", []))
            if now != ready:
                raise NotYet(f"it is {'Ready' if now else 'not Ready'}")
            return True

        what = f"{name} to be {'Ready' if ready else 'not Ready'} (the kubelet connects to the pod to learn it)"
        try:
            until(agreed, what=what, limit=limit, progress=self.case.runner.progress)
        except Late as late:
            raise Inconclusive(str(late)) from late


@dataclass(frozen=True, slots=True)
class Promise:
    """What `expect(...)` speaks of; the verb that follows says what is promised, runs the step and judges it."""

    case: Case
    world: CaseWorld
    subject: tuple[Port | Flow, ...]
    with_sentinel: bool = False
    controls: Mapping[Flow, Flow] | None = None
    via: str = "pod-ip"

    def matrix(self, text: str, *, turned: bool = False) -> None:
        """Each pair of the drawn matrix is open (`.`) or closed (`X`) on the port; `-` and `?` are not judged.

        Rows send to columns; with `turned` columns send to rows: what is drawn for ingress then holds for its egress twin. Via
        `cluster-ip` every destination is reached through a Service of its own.
        """
        expected = {}
        for port in self._ports():
            for (row, column), decision in parsed(self.case, text).cells.items():
                source, destination = (column, row) if turned else (row, column)
                flow = self.world.pod(source).to(self._target(destination, port))
                expected[flow] = Expectation(decision, frozenset({destination}), why="as drawn in the case")
        self._settle(expected)

    def foretold(self) -> None:
        """Each pair of standing pods is open or closed on these ports as NetworkPolicy's text says of the policies that stand by then.

        For cross products, where a drawing would say no more than the policies themselves. Flows of which the text promises nothing
        are left out, and so are those that an ipBlock on pod addresses alone decides.
        """
        self._settle(self.case.foretell(self.world.mesh(self._ports())))

    def observed(self) -> None:
        """What becomes of each flow is reported, and never judged."""
        self._settle({flow: Expectation(Decision.OBSERVE) for flow in self._flows()})

    def reaches(self, *, source_kept: bool = False) -> None:
        """Each flow is answered by its own destination; with `source_kept` that sees the source's own address."""
        self._settle({flow: self._allowed(flow, {flow.destination}, kept=source_kept) for flow in self._flows()})

    def answered_only_by(self, *names: str, source_kept: bool = False) -> None:
        """Each flow is answered by one of these pods, every time it is asked."""
        self._settle({flow: self._allowed(flow, set(names), kept=source_kept) for flow in self._flows()}, by_chance=True)

    def denied(self) -> None:
        """No flow connects, and nothing of it arrives."""
        self._settle({flow: Expectation(Decision.DENY) for flow in self._flows()})

    def decided(self, decisions: Mapping[Flow, Decision], responders: Mapping[Flow, str] | None = None, *, by_chance: bool = False) -> None:
        """Each flow is decided as said, in one step. With `by_chance` each is asked many times, as a balancer picks who answers."""
        who = responders or {}
        expected = {flow: Expectation(decision, frozenset({who.get(flow, flow.destination)})) for flow, decision in decisions.items()}
        self._settle(expected, by_chance=by_chance)

    def as_ruled(self, *, pod_blocks: bool) -> None:
        """Each flow is decided as the oracle reads the policies that are queued. The flows are many, so the burst is a hundredth.

        Where ipBlocks need not match the addresses of pods, flows that are allowed by one alone are only observed.
        """
        ruled = self.case.foretold(self._flows())
        if not ruled:
            raise Misused(f"{self.case.id}: the oracle says nothing of these policies")
        limits = self.case.limits
        denied, allowed = math.ceil(limits.burst_denied * SHARE_OF_MANY), math.floor(limits.burst_allowed * SHARE_OF_MANY)
        limits = replace(limits, burst_denied=denied, burst_allowed=allowed)
        self.case.settle({flow: ruled_as(flow, ruling, pod_blocks=pod_blocks) for flow, ruling in ruled.items()}, limits=limits)

    def refused(self) -> None:
        """Each flow is refused rather than left to time out: paced single attempts of 3 s, as ICMP errors are rate-limited."""
        self._settle({flow: Expectation(Decision.REFUSE) for flow in self._flows()})

    def answers(self, *texts: str) -> None:
        """Each DNS question is answered exactly so: `NOERROR A 10.96.0.10`, `NXDOMAIN`."""
        self._settle({flow: Expectation(Decision.ALLOW, frozenset(texts)) for flow in self._flows()})

    def _settle(self, expected: Mapping[Flow, Expectation], *, by_chance: bool = False) -> None:
        self.case.settle(expected, controls=self.controls, with_sentinel=self.with_sentinel, by_chance=by_chance)

    def _target(self, pod: str, port: Port) -> Target:
        if self.via == "pod-ip":
            return self.world.pod(pod).on(port)
        return self.world.front(pod, self._ports()).by_ip(Port(port.protocol, port.number - FRONT))

    def _flows(self) -> list[Flow]:
        return [flow for flow in self.subject if isinstance(flow, Flow)]

    def _ports(self) -> list[Port]:
        return [port for port in self.subject if isinstance(port, Port)]

    def _allowed(self, flow: Flow, responders: set[str], *, kept: bool) -> Expectation:
        return Expectation(Decision.ALLOW, frozenset(responders), self.world.agent(flow.source).address if kept else "")


@dataclass(frozen=True, slots=True)
class Expect:
    """The `expect` of a case: `expect(TCP(8080)).matrix(...)`, `expect(flow, flow).reaches()`, `expect.address(service)`."""

    case: Case
    world: CaseWorld

    def __call__(
        self, *subject: Port | Flow, sentinel: bool = False, controls: Mapping[Flow, Flow] | None = None, via: str = "pod-ip"
    ) -> Promise:
        """What the promise is about: ports for a matrix, flows for the rest. See `world.sentinel` for what a sentinel is."""
        return Promise(self.case, self.world, subject, sentinel, controls, via)

    def refused(self, policy: Mapping[str, Any], field: str, *, but: Mapping[str, Any]) -> None:
        """The API server refuses the policy and names the field; `but`, the same put right, it would take. Nothing is stored."""
        Stored(self.case, str(policy["metadata"]["namespace"])).require_refused(dict(policy), field, but=dict(but))
        self.case.promised = True

    def ready(self, *names: str) -> None:
        """Pods of `world.pods` become not Ready and Ready again as their agents say: the kubelet's probes reach them. Raises Failed."""
        self.world.set_ready(*names, ready=False)
        try:
            self.world.set_ready(*names, ready=True, limit=max(PROBED_LIMIT, self.case.limits.cap))
        except Inconclusive as late:
            raise Failed(f"the kubelet's probes do not reach what they reached before: {late.reason}") from late
        self.case.promised = True

    def same(self, what: str, seen: object, promised: object) -> None:
        """What was read is what was promised. Raises Failed, with both."""
        if seen != promised:
            raise Failed(f"{what}: promised is {promised!r}, seen was {seen!r}")
        self.case.promised = True

    def address(self, service: Service) -> str:
        """A load balancer gives the Service an address within a minute. Raises Failed where it does not."""
        try:
            address = self.world.balanced(service.vip)
        except Late as late:
            raise Failed(f"the load balancer gave no address: {late}") from late
        self.case.promised = True
        return address

    def newborn(self, port: Port, kinds: Mapping[str, Mapping[str, str]], *, init: bool = False, timed: str = "") -> Newborn:
        """What holds of pods of namespace x that are made now, from their first instruction on."""
        return Newborn(self.case, self.world, port, kinds, init, timed)

    def timed(self, change: str, *ports: Port) -> Timed:
        """How fast flows follow the queued change, which the report calls so."""
        return Timed(self.case, self.world, change, ports)


def ruled_as(flow: Flow, ruling: Ruling, *, pod_blocks: bool) -> Expectation:
    """What is expected of a flow of which the oracle says that."""
    promised = ruling.judged and (pod_blocks or not ruling.rests_on_block)
    return Expectation(ruling.decision if promised else Decision.OBSERVE, frozenset({flow.destination}), why=ruling.why)


def _ndots(options: Sequence[str]) -> int:
    """How many dots a name needs to be tried as it stands first; 1 where nothing is said (resolv.conf(5))."""
    return next((int(option.removeprefix("ndots:")) for option in options if option.startswith("ndots:")), 1)


def _search(name: str, search: Sequence[str], ndots: int) -> tuple[str, ...]:
    """The names that a stub resolver asks for, in its order (resolv.conf(5), `search` and `ndots`)."""
    if name.endswith("."):
        return (name,)
    through = [f"{name}.{suffix.rstrip('.')}." for suffix in search]
    return (f"{name}.", *through) if name.count(".") >= ndots else (*through, f"{name}.")
