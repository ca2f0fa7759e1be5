"""The words in which a case is written: `world`, `expect`, and what follows them. `expect` waits, repeats and judges."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from netproof.kube.objects import path
from netproof.kube.wait import Late, NotYet, until
from netproof.model.flow import TCP, UDP, Family, Flow, Port, Protocol, Question
from netproof.model.history import Decision, Expectation
from netproof.world import placement, pods, services
from netproof.world.case import Case
from netproof.world.moments import Newborn, Timed, drawn
from netproof.world.services import Vip
from netproof.world.verdicts import Failed, Inconclusive, Misused, Unsupported

ENDPOINTS_LIMIT = 30.0  # seconds: the control plane's own time to update EndpointSlices
ADDRESS_LIMIT = 60.0  # seconds until a load balancer has given an address
READY_LIMIT = 30.0


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

    def on(self, port: Port) -> Target:
        """Its own address with a port."""
        return Target(self.name, self.address, port)

    def to(self, target: Target) -> Flow:
        """The flow from here to there."""
        return Flow(self.name, target.name, target.address, target.port, target.family)

    def asks(self, name: str, type_: str = "A", *, over: Protocol = UDP) -> Flow:
        """The DNS question to the resolver of its own /etc/resolv.conf; a name without a final dot walks the search list."""
        resolver = self._world.case.runner.fleet.resolver(self.name)
        names = _search(name, resolver.search, _ndots(resolver.options))
        server = next(address for address in resolver.nameservers if Family.of(address) is self._world.family)
        return Flow(self.name, "DNS", server, over(53), self._world.family, Question(names, type_))

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

    def pod(self, name: str) -> Peer:
        """The pod of that name: `x/a`."""
        try:
            return Peer(name, self.case.world.pods[name].addresses[self.family], self)
        except KeyError:
            raise Misused(
                f"there is no pod {name} with an {self.family} address; there are {', '.join(sorted(self.case.world.pods))}"
            ) from None

    def namespace(self, letter: str) -> str:
        """The name that a namespace of the world has in the cluster."""
        return self.case.world.namespaces[letter]

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

    def mesh(self) -> list[Flow]:
        """Every ordered pair of standing pods on every port that they serve."""
        return [flow for flow in self.case.world.mesh() if flow.family is self.family]

    def api_service_address(self) -> str:
        """The cluster IP of the API server's own Service, `default/kubernetes`."""
        spec = self.case.runner.api.get(path("Service", "kubernetes", "default"))["spec"]
        return next(str(address) for address in spec["clusterIPs"] if Family.of(address) is self.family)

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

    def set_ready(self, *names: str, ready: bool) -> None:
        """Make pods of `pods` Ready or not; returns when their status says so. Raises Inconclusive where it never does."""
        port, fleet = TCP(pods.READY_PORT), self.case.runner.fleet
        for name in names:
            (fleet.listen if ready else fleet.unlisten)(name, port)
        for name in names:
            self._await_ready(name, ready=ready)

    def service(self, name: str, *, selects: Sequence[str], port: Port, target: int, **spec: Any) -> Service:
        """A Service in namespace x with these pods as endpoints. `spec` is merged into the Service's spec."""
        vip = self.case.world.service(name, "x", {port: target}, selects=selects, **spec)
        self.await_endpoints(vip, selects)
        return Service(vip, self)

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

    def _await_ready(self, name: str, *, ready: bool) -> None:
        pod = self.case.world.pods[name]

        def agreed() -> bool | None:
            status = self.case.runner.api.get(path("Pod", pod.pod, pod.namespace))["status"]
            now = any(entry["type"] == "Ready" and entry["status"] == "True" for entry in status.get("conditions", []))
            if now != ready:
                raise NotYet(f"it is {'Ready' if now else 'not Ready'}")
            return True

        what = f"{name} to be {'Ready' if ready else 'not Ready'} (the kubelet connects to the pod to learn it)"
        try:
            until(agreed, what=what, limit=READY_LIMIT, progress=self.case.runner.progress)
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

    def matrix(self, text: str) -> None:
        """Each pair of the drawn matrix is open (`.`) or closed (`X`) on the port; `-` and `?` are not judged."""
        self._settle(drawn(self.case, self.world, self._ports(), text))

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

    def refused(self) -> None:
        """Each flow is refused rather than left to time out: paced single attempts of 3 s, as ICMP errors are rate-limited."""
        self._settle({flow: Expectation(Decision.REFUSE) for flow in self._flows()})

    def answers(self, *texts: str) -> None:
        """Each DNS question is answered exactly so: `NOERROR A 10.96.0.10`, `NXDOMAIN`."""
        self._settle({flow: Expectation(Decision.ALLOW, frozenset(texts)) for flow in self._flows()})

    def _settle(self, expected: Mapping[Flow, Expectation], *, by_chance: bool = False) -> None:
        self.case.settle(expected, controls=self.controls, with_sentinel=self.with_sentinel, by_chance=by_chance)

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

    def __call__(self, *subject: Port | Flow, sentinel: bool = False, controls: Mapping[Flow, Flow] | None = None) -> Promise:
        """What the promise is about: ports for a matrix, flows for the rest. See `world.sentinel` for what a sentinel is."""
        return Promise(self.case, self.world, subject, sentinel, controls)

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


def _ndots(options: Sequence[str]) -> int:
    """How many dots a name needs to be tried as it stands first; 1 where nothing is said (resolv.conf(5))."""
    return next((int(option.removeprefix("ndots:")) for option in options if option.startswith("ndots:")), 1)


def _search(name: str, search: Sequence[str], ndots: int) -> tuple[str, ...]:
    """The names that a stub resolver asks for, in its order (resolv.conf(5), `search` and `ndots`)."""
    if name.endswith("."):
        return (name,)
    through = [f"{name}.{suffix.rstrip('.')}." for suffix in search]
    return (f"{name}.", *through) if name.count(".") >= ndots else (*through, f"{name}.")
