"""All agents of a run: rounds over them, bursts, watches, and what they know of themselves. Nothing here raises for what a network does."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import tenacity

from netproof.model.flow import Flow, Port
from netproof.model.history import Incident
from netproof.model.outcome import Attempt, Outcome, Phase, Probe, Round
from netproof.probe.stream import AgentLost, AgentRefused, AgentUnreachable, Dial, Identity, Setting, Stream, hopeless
from netproof.probe.wire import ANYBODY, GLANCE, REFUSAL, ROUND, Faces, Meant, Plan, Reader, Sight, broken, by_source, specification

__all__ = [
    "GLANCE",
    "REFUSAL",
    "ROUND",
    "AgentLost",
    "AgentRefused",
    "AgentUnreachable",
    "Fleet",
    "Identity",
    "Memory",
    "Plan",
    "Resolver",
    "Watched",
]

T = TypeVar("T")
Settle = Callable[[Mapping[Flow, list[Attempt]]], bool]  # whether what was seen so far is enough

_GRACE = 5.0  # seconds beyond what a job takes by its plan
_MOST_IN_FLIGHT = 1024  # sockets of a burst, in each agent
_LAST_ATTEMPT = 16384  # what agents keep of one flow's nonces
_WATCH_LIMIT = 600.0  # a watch ends by itself after this, should its runner be gone


@dataclass(frozen=True, slots=True)
class Resolver:
    """What a pod's /etc/resolv.conf says."""

    nameservers: tuple[str, ...]
    search: tuple[str, ...]
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Memory:
    """An agent's memory in KiB; 0 where its kernel does not say."""

    pss: int
    rss: int


@dataclass(frozen=True, slots=True)
class Watched(Generic[T]):
    """What was seen on each flow around a change, every attempt in the order of their start.

    `value` is what the change returned, `called` and `changed` when it was called and had returned; `settled`: whether `settle`
    was content before the limit.
    """

    value: T
    called: float
    changed: float
    settled: bool
    attempts: Mapping[Flow, tuple[Attempt, ...]]


class Fleet:
    """The agents by name. One thread may use it; a heartbeat of its own keeps idle agents from ending themselves.

    `alive` says whether the API server answers: while it does not, a silent stream is waited for instead of dialled again, for
    `patience` seconds in all. Whatever went wrong with an agent is in `incidents`.
    """

    def __init__(
        self,
        token: str,
        run: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        alive: Callable[[], bool] = lambda: True,
        patience: float = 60.0,
    ) -> None:
        self.incidents: list[Incident] = []
        self._setting = Setting(token, run, os.urandom(8).hex(), clock, alive, patience)
        self._clock = clock
        self._streams: dict[str, Stream] = {}
        self._faces = Faces()
        self._spilt: dict[str, int | None] = {}  # by agent, what its queues had no room for when it last told
        self._holding: set[str] = set()  # agents with connections that attempts share
        self._lock = threading.Lock()  # agents are added by several threads
        self._closed = threading.Event()
        self._heart: threading.Thread | None = None

    @property
    def clock(self) -> Callable[[], float]:
        """The clock of all its times."""
        return self._clock

    @property
    def identities(self) -> dict[str, Identity]:
        """Who the agents are, by name."""
        return {name: stream.identity for name, stream in self._streams.items() if stream.identity}

    def add(self, name: str, dial: Dial, *, limit: float) -> Identity:
        """Dial until the agent answers. Raises AgentUnreachable after `limit` seconds, at once where another try is of no use."""
        stream = Stream(name, dial, self._setting)
        began = self._clock()
        try:
            identity = _patiently(stream.open, limit)
        except Exception as error:
            stream.close()
            waited = self._clock() - began
            raise AgentUnreachable(f"the agent {name} did not answer within {waited:.1f} s; at last: {error}") from error
        with self._lock:
            self.drop(name)
            self._streams[name] = stream
            self._faces.add(name, identity)
            self._start_heart()
        return identity

    def add_many(self, dials: Mapping[str, Dial], *, limit: float) -> dict[str, Identity]:
        """Add them all at once. Raises AgentUnreachable naming every agent that is missing; the others are in the fleet then."""
        failures: dict[str, AgentUnreachable] = {}

        def one(name: str, dial: Dial) -> None:
            try:
                self.add(name, dial, limit=limit)
            except AgentUnreachable as error:
                failures[name] = error

        threads = [threading.Thread(target=one, args=item, daemon=True) for item in dials.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            reasons = "; ".join(str(failures[name]) for name in dials if name in failures)
            raise AgentUnreachable(f"{len(failures)} of {len(dials)} agents are missing: {reasons}")
        return {name: self.identities[name] for name in dials}

    def drop(self, name: str) -> None:
        """Forget an agent whose pod is gone or going; nothing happens where there is none."""
        stream = self._streams.pop(name, None)
        if stream:
            self._spilt.pop(name, None)
            self._faces.drop(name)
            stream.close()

    def close(self) -> None:
        """End all streams; the agents end themselves."""
        self._closed.set()
        for name in list(self._streams):
            self.drop(name)

    def round(self, flows: Sequence[Flow], phase: Phase, *, plan: Plan = ROUND, meant: Meant = ANYBODY) -> Round:
        """One probe on every flow, all at once. A flow whose agent cannot be asked has one BROKEN attempt, and there is an incident.

        `meant` says which agents may answer on flows to a Service: only theirs and the source's lags make an attempt starved.
        """
        job = Job(self, flows, meant)
        for source, indices in by_source(flows).items():
            specifications = self._specifications(flows, indices, plan.spacing)
            job.post(source, "round", flows=specifications, offsets=plan.offsets, timeout=plan.timeout)
        answers = job.collect(plan.lasts(len(flows)) + _GRACE)
        ended = self._clock()
        if any(entry[4] != Outcome.CONNECTED for answer in answers.values() for entry in answer["attempts"]):
            job.look()
        found: dict[Flow, list[Attempt]] = {}
        for source, answer in answers.items():
            found |= job.reader(source).attempts(answer["attempts"], answer["who"])
        return job.round(phase, ended, found)

    def burst(self, counts: Mapping[Flow, int], *, rate: float, meant: Meant = ANYBODY) -> Round:
        """So many attempts on each flow, evenly spread, `rate` a second over all agents. Attempts that ended alike share one object.

        `meant` as for `round`.
        """
        flows = [flow for flow, count in counts.items() if count > 0]
        if any(counts[flow] > _LAST_ATTEMPT for flow in flows):
            raise ValueError(f"a burst has at most {_LAST_ATTEMPT} attempts a flow, not {max(counts.values())}")
        job, total = Job(self, flows, meant), sum(counts[flow] for flow in flows)
        for source, indices in by_source(flows).items():
            own = [counts[flows[i]] for i in indices]
            specifications = self._specifications(flows, indices)
            job.post(source, "burst", flows=specifications, counts=own, rate=rate * sum(own) / total, most=_MOST_IN_FLIGHT)
        answers = job.collect(max(total / rate, total * ROUND.timeout / _MOST_IN_FLIGHT) + ROUND.timeout + 2 * _GRACE)
        ended = self._clock()
        if any(group[0] != Outcome.CONNECTED for answer in answers.values() for told in answer["flows"] for group in told[2]):
            job.look()
        found: dict[Flow, list[Attempt]] = {}
        for source, answer in answers.items():
            reader = job.reader(source)
            found |= {flows[told[0]]: list(reader.burst(told, answer["who"], answer["began"])) for told in answer["flows"]}
        return job.round(Phase.BURST, ended, found)

    def watch(self, flows: Sequence[Flow], change: Callable[[], T], *, settle: Settle, limit: float, every: float = 0.05) -> Watched[T]:
        """Overlapping attempts on every flow, one each `every` seconds, before, while and after `change` is called.

        `settle` sees what has ended so far and says when it is enough; `limit` counts in seconds from the change. What the change
        raises is raised, after the watch has been stopped.
        """
        job = Job(self, flows)
        for source, indices in by_source(flows).items():
            specifications = [specification(i, flows[i]) for i in indices]
            job.post(source, "watch", flows=specifications, every=every, limit=_WATCH_LIMIT, timeout=ROUND.timeout)
        time.sleep(4 * every)  # so that the state before the change is on record
        called = self._clock()
        try:
            value = change()
            changed = self._clock()
            settled = job.follow(settle, changed + limit)
        finally:
            job.stop()
            answers = job.collect(ROUND.timeout + every + _GRACE)
        job.look()
        found: dict[Flow, list[Attempt]] = {}
        for source, answer in answers.items():
            found |= job.reader(source).attempts(answer["attempts"], answer["who"])
        return Watched(value, called, changed, settled, {flow: tuple(found.get(flow, ())) for flow in flows})

    def job(self, flows: Sequence[Flow]) -> Job:
        """A job of one's own making on these flows, under a nonce of its own."""
        return Job(self, flows)

    def release(self) -> None:
        """End all connections that attempts share. An agent that is lost has ended its own."""
        holding, self._holding = self._holding, set()
        for name in holding & set(self._streams):
            try:
                self._streams[name].ask("release", held=self._setting.session)
            except (AgentLost, AgentRefused) as error:
                self.note(f"{name} still holds its connections: {error}")

    def own(self, names: Iterable[str], ports: Collection[Port] | None = None) -> dict[str, list[str]]:
        """The listeners of these agents that do not answer on the pod's own loopback, in words; an agent that cannot be asked is one.

        `ports`: only on those.
        """
        which = {} if ports is None else {"ports": sorted(map(str, ports))}
        asked = {name: self._streams[name].post("own", **which) for name in names if name in self._streams}
        dead: dict[str, list[str]] = {name: [f"there is no agent {name}"] for name in names if name not in asked}
        for name, number in asked.items():
            try:
                dead[name] = [str(listener) for listener in self._streams[name].collect(number)["dead"]]
            except (AgentLost, AgentRefused) as error:
                self.note(str(error))
                dead[name] = [str(error)]
        return dead

    def resolver(self, name: str) -> Resolver:
        """The pod's resolver configuration. Raises AgentLost, AgentRefused where there is none."""
        answer = self._stream(name).ask("resolver")
        return Resolver(*(tuple(answer[key]) for key in ("nameservers", "search", "options")))

    def listen(self, name: str, port: Port) -> None:
        """Have the agent serve a further port. Raises AgentLost, AgentRefused where the port cannot be had."""
        self._stream(name).ask("listen", port=str(port))

    def unlisten(self, name: str, port: Port) -> None:
        """Have the agent close a port. Raises AgentLost."""
        self._stream(name).ask("unlisten", port=str(port))

    def memory(self, name: str) -> Memory:
        """How much memory the agent has. Raises AgentLost."""
        answer = self._stream(name).ask("memory")
        return Memory(answer.get("pss", 0), answer.get("rss", 0))

    def _stream(self, name: str) -> Stream:
        if name not in self._streams:
            raise AgentLost(f"there is no agent {name} in the fleet")
        return self._streams[name]

    def _specifications(self, flows: Sequence[Flow], indices: Iterable[int], spacing: float = 0.0) -> list[list[Any]]:
        """The flows as agents take them."""
        self._holding |= {flows[i].source for i in indices if flows[i].held}
        return [specification(i, flows[i], i * spacing, session=self._setting.session) for i in indices]

    def note(self, what: str) -> None:
        """Put something that forbids a verdict among the incidents."""
        self.incidents.append(Incident(self._clock(), what))

    def _start_heart(self) -> None:
        if not self._heart:
            self._heart = threading.Thread(target=self._beat, name="netproof-heartbeat", daemon=True)
            self._heart.start()

    def _beat(self) -> None:
        while not self._closed.wait(1.0):
            for stream in list(self._streams.values()):
                stream.beat()


class Job:
    """One job over several agents: sent to all first, then collected; those that fail are noted and go without an answer."""

    def __init__(self, fleet: Fleet, flows: Sequence[Flow], meant: Meant = ANYBODY) -> None:
        self._fleet = fleet
        self._flows = flows
        self._nonce = os.urandom(8).hex()
        self._numbers: dict[str, int] = {}
        self._failed: dict[str, str] = {}
        self._sight = Sight({flow: names for flow, names in meant.items() if set(names) <= set(fleet._streams)})
        self.began = fleet._clock()

    def post(self, source: str, op: str, **fields: Any) -> None:
        if source in self._fleet._streams:
            self._numbers[source] = self._fleet._streams[source].post(op, nonce=self._nonce, **fields)
        else:
            self.fail(source, f"there is no agent {source} in the fleet")

    @property
    def nonce(self) -> str:
        """The token of its attempts' nonces."""
        return self._nonce

    def ask(self, source: str, op: str) -> dict[str, Any]:
        """What an agent answers at once; empty where it does not, which is noted."""
        try:
            return self._fleet._stream(source).ask(op)
        except (AgentLost, AgentRefused) as error:
            self.fail(source, str(error))
            return {}

    def take(self, source: str, told: Mapping[str, Any]) -> None:
        """What an agent tells of a part of the job that nobody posted: as which it ran, when it lagged, and what it received."""
        self._fleet._faces.add_former(source, told["boot"])
        self._sight.add_lags(source, told["lags"], self._fleet._streams[source].offset)
        self._sight.add_seen(source, told["seen"])

    def collect(self, within: float) -> dict[str, dict[str, Any]]:
        """The answers by agent, without those that failed."""
        answers = {}
        for source, number in self._numbers.items():
            try:
                answers[source] = self._fleet._streams[source].collect(number, within)
            except (AgentLost, AgentRefused) as error:
                self.fail(source, str(error))
            else:
                self._hear(source, answers[source])
        return answers

    def look(self) -> None:
        """Ask who received what; the agents that the flows lead to, or all, where some flow leads to no agent in particular."""
        streams = self._fleet._streams
        meant = {flow.destination for flow in self._flows if not flow.question}
        names = meant if meant <= set(streams) else set(streams)
        asked = {name: streams[name] for name in sorted(names - set(self._failed))}
        numbers = {name: stream.post("seen", nonce=self._nonce, since=self.began - stream.offset) for name, stream in asked.items()}
        for name, stream in asked.items():
            try:
                answer = stream.collect(numbers[name])
            except (AgentLost, AgentRefused) as error:
                self._fleet.note(f"what {name} received is not known: {error}")
            else:
                self._sight.add_seen(name, answer["flows"])
                self._hear(name, answer)

    def _hear(self, agent: str, answer: Mapping[str, Any]) -> None:
        """What an agent tells of itself, whatever it was asked."""
        before, self._fleet._spilt[agent] = self._fleet._spilt.get(agent), answer["spilt"]
        self._sight.add_spill(agent, before, answer["spilt"])
        self._sight.add_lags(agent, answer["lags"], self._fleet._streams[agent].offset)

    def follow(self, settle: Settle, until: float) -> bool:
        """Look at a running watch until `settle` is content. False where it never was."""
        entries: dict[str, list[Any]] = {source: [] for source in self._numbers}
        while True:
            found: dict[Flow, list[Attempt]] = {flow: [] for flow in self._flows}
            for source, told in entries.items():
                found |= self._peek(source, told)
            if settle(found):
                return True
            if self._fleet._clock() >= until:
                return False
            time.sleep(0.05)

    def _peek(self, source: str, told: list[Any]) -> dict[Flow, list[Attempt]]:
        if source in self._failed:
            return {}
        try:
            answer = self._fleet._streams[source].ask("peek", job=self._numbers[source], **{"from": len(told)})
        except (AgentLost, AgentRefused) as error:
            self.fail(source, str(error))
            return {}
        told += answer["attempts"]
        return self.reader(source).attempts(told, answer["who"])

    def stop(self) -> None:
        for source, number in self._numbers.items():
            if source not in self._failed:
                try:
                    self._fleet._streams[source].ask("stop", job=number)
                except (AgentLost, AgentRefused) as error:
                    self.fail(source, str(error))
        self._numbers = {source: number for source, number in self._numbers.items() if source not in self._failed}

    def reader(self, source: str) -> Reader:
        return Reader(self._flows, self._fleet._faces, self._sight, self._fleet._streams[source].offset, self.began)

    def round(self, phase: Phase, ended: float, found: Mapping[Flow, list[Attempt]]) -> Round:
        probes = [Probe(flow, tuple(found.get(flow) or [self._broken(flow, ended)])) for flow in self._flows]
        return Round(phase, self.began, ended, tuple(probes))

    def _broken(self, flow: Flow, ended: float) -> Attempt:
        return broken(self.began, ended, self._failed.get(flow.source, "the agent told nothing of this flow"))

    def fail(self, source: str, why: str) -> None:
        """Note that an agent is lost to the job."""
        if source not in self._failed:
            self._failed[source] = why
            self._fleet.note(why)


def _patiently(action: Callable[[], T], limit: float) -> T:
    """Try until it succeeds, `limit` seconds long; the last error is raised."""
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda error: isinstance(error, Exception) and not hopeless(error)),
        wait=tenacity.wait_exponential(multiplier=0.05, max=0.5),
        stop=tenacity.stop_after_delay(limit),
        reraise=True,
    )
    return retrying(action)
