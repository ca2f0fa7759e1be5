"""One run of a case against a world: what it applies, what it expects, and how the world is put back afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from netproof.kube.client import NotFound
from netproof.kube.objects import path, path_of
from netproof.model.flow import Flow, Port
from netproof.model.history import Decision, Expectation, History, Incident, Judgement, Limits
from netproof.model.outcome import Outcome, Phase, Round
from netproof.model.verdict import Verdict, worst
from netproof.oracle import Ruling
from netproof.probe.fleet import GLANCE, ROUND
from netproof.verdict.cell import evaluate
from netproof.verdict.control import Side, refuse_unchanged
from netproof.verdict.course import settle_rounds
from netproof.verdict.first import missed
from netproof.verdict.judge import judge
from netproof.verdict.reading import overloaded
from netproof.world import restart, sentinel
from netproof.world.foretold import agreed, behind, contradicts, rulings
from netproof.world.newcomers import Newcomer, bear
from netproof.world.pace import hold_longer
from netproof.world.pods import Pod
from netproof.world.runner import Runner
from netproof.world.stamp import sides, stamp
from netproof.world.step import GLANCES, Script, carry_on, perform
from netproof.world.timed import ANSWER, INSTRUCTION, Stopwatch, time_change
from netproof.world.verdicts import Misused, Slow, raise_for
from netproof.world.world import World

Object = dict[str, Any]
LOOKS = 3  # at a listener before it is called dead
# How many times the cap a change of labels may take: some implementations first give the pod, or every pod of the namespace, a new
# identity (7 to 35 s were measured on kind clusters), and Kubernetes sets no bound on that.
RELABEL_PATIENCE = 3.0
OVERLOAD_PATIENCE = 3.0  # times the cap to put the world back, on a machine that starves the agents


@dataclass(frozen=True, slots=True)
class Step:
    """What a step left: its history, the verdict on it, and the objects as they were applied."""

    history: History
    judgement: Judgement
    objects: tuple[Object, ...]


@dataclass(frozen=True, slots=True)
class Restored:
    """How it went to put the world back: the flows that still did not connect when time was up, the rounds, and what went wrong."""

    closed: tuple[Flow, ...] = ()
    rounds: tuple[Round, ...] = ()
    seconds: float = 0.0
    trouble: str = ""


@dataclass(slots=True)
class Case:
    """A case at work. `apply` and `remove` only queue; `settle` controls first, changes then, and judges."""

    runner: Runner
    world: World
    id: str
    limits: Limits
    steps: list[Step] = field(default_factory=list)
    applied: dict[str, Object] = field(default_factory=dict)  # path -> the object as the API answered
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    served: tuple[Port, ...] = ()  # by every standing pod, for this case
    promised: bool = False  # something was promised and kept that needed no step (an address was given)
    _queue: list[tuple[str, Object]] = field(default_factory=list)
    _prior: list[Round] = field(default_factory=list)
    _labelled: dict[str, set[str]] = field(default_factory=dict)  # path -> the keys that the case set
    _restarting: bool = False

    def again(self, world: World) -> None:
        """Begin anew in a fresh world: nothing of the first run is kept."""
        self.world = world
        self.served = ()
        for kept in (self.steps, self.applied, self.stopwatch, self._queue, self._prior, self._labelled):
            kept.clear()
        self._restarting = False

    # what a case says

    def apply(self, *objects: Object) -> None:
        """Queue policies to be created, or updated where they stand already. `namespace` is the world's letter: x, y or z."""
        for obj in objects:
            self._queue.append(("apply", self._placed(stamp(obj, self.world.recipe.key))))

    def remove(self, *objects: Object) -> None:
        """Queue policies to be deleted."""
        self._queue += [("remove", self._placed(obj)) for obj in objects]

    def relabel(self, what: str, values: Mapping[str, str | None]) -> None:
        """Queue labels to be set (or, with None, removed) on a standing pod (`x/a`) or a namespace (`x`) of the world."""
        letter, _, name = what.partition("/")
        if letter not in self.world.namespaces or (name and what not in self.world.pods):
            raise Misused(f"{self.id} labels {what!r}, and the world has no such pod or namespace")
        namespace = self.world.namespaces[letter]
        where = path("Pod", name, namespace) if name else path("Namespace", namespace)
        self._queue.append((where, {"metadata": {"labels": dict(values)}}))

    def foretell(self, flows: Sequence[Flow]) -> dict[Flow, Expectation]:
        """What NetworkPolicy's text promises of these flows once all that is queued is done; those of which it promises nothing lack."""
        judged = {flow: ruling for flow, ruling in self.foretold(flows).items() if ruling.judged and not ruling.rests_on_block}
        if not judged:
            raise Misused(f"{self.id} lets its policies be foretold, and nothing can be said of them")
        return {flow: Expectation(ruling.decision, frozenset({flow.destination})) for flow, ruling in judged.items()}

    def restart_agents(self) -> None:
        """Queue a restart of the network's agents on the nodes of the world's pods; what the step changes happens while they are away."""
        self._restarting = True

    def settle(
        self,
        expected: Mapping[Flow, Expectation],
        *,
        controls: Mapping[Flow, Flow] | None = None,
        with_sentinel: bool = False,
        by_chance: bool = False,
        limits: Limits | None = None,
        alone: bool = False,
    ) -> Judgement:
        """Run one step and judge it. Raises Failed, Flaky, Inconclusive; Misused where the case itself is wrong.

        `alone`: these are single flows of a larger case, which need not be seen to change on every node.
        """
        queued, self._queue = self._queue, []
        restarting, self._restarting = self._restarting, False
        policies = [obj for verb, obj in queued if verb in ("apply", "remove")]
        self._refuse_unchanged(expected, policies, sheltered=with_sentinel or alone)
        expected = agreed(self.id, expected, self._foretold(expected, queued), self.world)
        script = Script(
            expected=expected,
            change=lambda: self._change(queued, restarting=restarting),
            afterwards=lambda: self._afterwards(expected),
            controls=controls or {},
            prior=tuple(self._prior),
            open_before=bool(policies) and not self.steps,
            sentinel=(lambda: sentinel.hoist(self.world, {flow.family for flow in expected})) if with_sentinel else None,
            by_chance=by_chance,
            limits=self._patient(limits or self.limits, queued),
        )
        history = perform(self.runner, script, self.runner.progress)
        self._carry_over(history)
        return self._conclude(history)

    def time(self, change: str, expected: Mapping[Flow, Expectation]) -> Judgement:
        """Make the queued change and measure how each flow follows it. Flows that are only observed are those that it does not concern.

        Raises Inconclusive where there is no figure.
        """
        queued, self._queue = self._queue, []
        expected = agreed(self.id, expected, self._foretold(expected, queued), self.world)
        history = time_change(self.runner, expected, lambda: self._carry_out(queued), self._patient(self.limits, queued))
        self.stopwatch.add(change, ANSWER, history)
        return self._conclude(history)

    def settle_new(
        self, pods: Sequence[Newcomer], expected: Mapping[Flow, Expectation], controls: Mapping[Flow, Flow], *, init: bool, last: bool
    ) -> Judgement | None:
        """Make pods, and judge what became of their flows: the denied ones from their first instruction on, the others in the end.

        Each denied flow has a control, a flow of another of these pods. None, and nothing is judged, where a first instant was missed
        and this is not the last try. Raises what `settle` does.
        """
        mark = len(self.runner.fleet.incidents)
        born = bear(self.world, pods, expected, controls, init=init)
        promised = agreed(self.id, born.expected, self._foretold(born.expected, ()), self.world)
        began = min((round_.began for round_ in born.rounds), default=self.runner.clock())
        limits = replace(
            self.limits,
            cap=self._patient(self.limits, ()).cap + self.runner.clock() - began,
            stable_factor=0.0,  # the time that a pod takes to start says nothing of the network
            burst_denied=0,  # the first instant was one
            burst_allowed=0,
        )
        script = Script(promised, lambda: None, lambda: self._afterwards(promised), born.controls, limits=limits)
        history = History(promised, began, (born.control_round(), *born.rounds), born.controls, limits=limits)
        if not last and missed(history):
            return None
        return self._conclude(carry_on(self.runner, script, history, self.runner.progress, mark=mark))

    def time_new(
        self, change: str, pods: Sequence[Newcomer], expected: Mapping[Flow, Expectation], controls: Mapping[Flow, Flow], *, timed: str
    ) -> None:
        """Make pods, and measure the first seconds of those whose name begins with `timed`; then remove them.

        Raises Inconclusive where there is no figure.
        """
        mark = len(self.runner.fleet.incidents)
        born = bear(self.world, pods, expected, controls, init=False)
        promised = agreed(self.id, born.expected, self._foretold(born.expected, ()), self.world)
        incidents = tuple(self.runner.fleet.incidents[mark:])
        for pod in (pod.name for pod in pods if pod.name.startswith(timed)):
            flows, rounds = born.watched(pod)
            named = {flow: control for flow, control in born.controls.items() if flow in flows}
            history = History({f: promised[f] for f in flows}, rounds[-1].began, rounds, named, incidents, self.limits, checked=True)
            self.stopwatch.add(change, INSTRUCTION, history)
            self._conclude(history)
        self.world.remove_pods([pod.name for pod in pods])

    def _conclude(self, history: History) -> Judgement:
        judgement = judge(history)
        self.steps.append(Step(history, judgement, tuple(self.applied.values())))
        raise_for(judgement)
        return judgement

    def foretold(self, flows: Iterable[Flow]) -> dict[Flow, Ruling]:
        """What the oracle says of flows once all that is queued is carried out; nothing where it cannot read the policies."""
        return self._foretold(dict.fromkeys(flows, Expectation(Decision.OBSERVE)), self._queue)

    def carry_out(self) -> None:
        """Change what is queued, at once and without a step."""
        queued, self._queue = self._queue, []
        self._carry_out(queued)

    def _foretold(self, expected: Mapping[Flow, Expectation], queued: Sequence[tuple[str, Object]]) -> dict[Flow, Ruling]:
        """The oracle's rulings on the policies and labels as they will be."""
        policies: dict[str, Object] = dict(self.applied)
        labels: dict[str, dict[str, str | None]] = {}
        for verb, obj in queued:
            if verb == "apply":
                policies[path_of(obj)] = obj
            elif verb == "remove":
                policies.pop(path_of(obj), None)
            else:
                labels.setdefault(verb, {}).update(obj["metadata"]["labels"])
        return rulings(self.world, expected, list(policies.values()), labels, behind(self.world, expected))

    def _patient(self, limits: Limits, queued: Sequence[tuple[str, Object]]) -> Limits:
        """A longer cap where labels change, and until those of a case before have surely gone: till then a pod may get no new policy."""
        relabels = any(verb not in ("apply", "remove") for verb, _ in queued)
        cap = limits.cap * RELABEL_PATIENCE if relabels else limits.cap
        return replace(limits, cap=max(cap, self.world.unsettled_until - self.runner.clock()))

    # what the plugin asks

    @property
    def verdict(self) -> Verdict:
        """The worst of its steps so far."""
        return worst(*(step.judgement.verdict for step in self.steps))

    def raise_slow(self) -> None:
        """Raise Slow where a step was right but over the budget."""
        for step in self.steps:
            if step.judgement.verdict is Verdict.SLOW:
                raise Slow(step.judgement.reason, step.judgement)

    def restore(self) -> Restored:
        """Delete what the case applied and wait until the flows that it closed are open again, up to the cap.

        Never raises for the network; ApiUnavailable where the API is gone.
        """
        touched = bool(self.applied)
        began = self.runner.clock()
        for where, obj in self.applied.items():
            self.runner.api.delete(where, uid=obj["metadata"]["uid"])
        self.applied.clear()
        self._unlabel()
        sentinel.lower(self.world)
        self.runner.fleet.release()
        rounds = self._reopen() if touched else ()
        self.world.clear()
        self._stop_serving()
        closed = self._still_closed(_closed(rounds[-1], self.limits.late)) if rounds else ()
        return Restored(closed, rounds, self.runner.clock() - began)

    def _stop_serving(self) -> None:
        served, self.served = self.served, ()
        for name in self.world.pods if served else ():
            for port in served:
                self.runner.fleet.unlisten(name, port)

    # steps

    def _reopen(self) -> tuple[Round, ...]:
        flows = [flow for flow in dict.fromkeys(self._flows_to_reopen()) if self.world.stands(flow)]
        began, cap = self.runner.clock(), self._patient(self.limits, ()).cap
        rounds: list[Round] = []
        shut = flows
        while flows:
            # What opens soon is waited for by glances at what is still shut; at the end, and from time to time, silence is told from a
            # slow answer, and a round on all flows shows that all are open at once.
            over = self.runner.clock() + ROUND.lasts(0) > began + cap * (OVERLOAD_PATIENCE if overloaded(rounds) else 1.0)
            whole = over or not shut or len(rounds) % GLANCES == GLANCES - 1
            rounds.append(self.runner.fleet.round(flows if whole else shut, Phase.RESTORE, plan=ROUND if whole else GLANCE))
            self.runner.progress("the world to be put back", self.runner.clock() - began, cap * OVERLOAD_PATIENCE)
            opened = _connected(rounds[-1:])
            shut = [flow for flow in (flows if whole else shut) if flow not in opened]
            if over or (whole and not shut):
                break
            if shut:
                hold_longer(self.runner, rounds[-1].began, began)
        return tuple(rounds)

    def _still_closed(self, flows: tuple[Flow, ...]) -> tuple[Flow, ...]:
        """Those that no dead listener and no pod that is gone can explain: only they are charged to the network."""
        if not flows:
            return ()
        self.world.learn_pods()
        gone = {*self._dead(flows), *self._changed_pods()}
        innocent = [
            flow for flow in flows if flow.source in gone or flow.destination in gone or (gone and flow.destination not in self.world.pods)
        ]
        return tuple(flow for flow in flows if flow not in innocent)

    def _flows_to_reopen(self) -> Iterator[Flow]:
        """Those that connected before the first change, and the sentinel's. A connection that broke never comes back."""
        for step in self.steps[:1]:
            before = _connected([r for r in step.history.rounds if r.phase is Phase.CONTROL])
            yield from (flow for flow in step.history.expected if flow in before and not flow.held)
            yield from (p.flow for r in step.history.rounds if r.phase is Phase.SENTINEL for p in r.probes)

    def _carry_over(self, history: History) -> None:
        """What connected in this step is a control for the next: its control rounds and the last one before the burst."""
        controls = [r for r in history.rounds if r.phase is Phase.CONTROL and r not in self._prior]
        self._prior += controls + [replace(r, phase=Phase.CONTROL) for r in settle_rounds(history)[-1:]]

    def _change(self, queued: Sequence[tuple[str, Object]], *, restarting: bool) -> None:
        if not restarting:
            self._carry_out(queued)
            return
        with self.runner.alone() as let_in_the_next:
            agents = restart.begin(self.runner, sorted({pod.node for pod in self.world.pods.values()}))
            self._carry_out(queued)
            let_in_the_next()
            restart.complete(self.runner, agents)

    def _carry_out(self, queued: Sequence[tuple[str, Object]]) -> None:
        for verb, obj in queued:
            if verb not in ("apply", "remove"):
                self._label(verb, obj["metadata"]["labels"])
                continue
            where = path_of(obj)
            if verb == "remove":
                self.runner.api.delete(where, uid=self.applied.pop(where)["metadata"]["uid"])
            elif where in self.applied:
                update = [{"op": "replace", "path": "/spec", "value": obj["spec"]}]
                self.applied[where] = self.runner.api.patch(where, update, kind="json")
            else:
                self.applied[where] = self.runner.api.create(obj)

    def _label(self, where: str, values: Mapping[str, str | None]) -> None:
        self.world.forget_pods()
        self.runner.api.patch(where, {"metadata": {"labels": dict(values)}})
        if self.world.outlasts_cases(where):  # else they go with the case
            self._labelled.setdefault(where, set()).update(values)

    def _unlabel(self) -> None:
        """Take off what the case put on. The world's own labels are not a case's to change, so nothing else was there before."""
        for where, keys in self._labelled.items():
            self.world.forget_pods()
            self.runner.api.patch(where, {"metadata": {"labels": dict.fromkeys(keys)}})
            self.world.unsettled_until = self.runner.clock() + self.limits.cap * RELABEL_PATIENCE
        self._labelled.clear()

    def _placed(self, obj: Object) -> Object:
        """The object in the real namespace of the letter that it names, with the run's labels."""
        letter = obj["metadata"]["namespace"]
        if letter not in self.world.namespaces:
            raise Misused(
                f"{self.id} puts {obj['metadata']['name']} into namespace {letter!r}; a world has {', '.join(self.world.namespaces)}"
            )
        metadata = obj["metadata"] | {"namespace": self.world.namespaces[letter], "labels": self.world.recipe.labels}
        return obj | {"metadata": metadata}

    def _refuse_unchanged(self, expected: Mapping[Flow, Expectation], policies: Sequence[Object], *, sheltered: bool) -> None:
        """A case in which no cell changes on some node is refused before it runs, unless a sentinel stands behind it."""
        if not policies or sheltered or self.steps:
            return
        ends = {flow: self._ends(flow, e) for flow, e in expected.items()}
        denied = {flow: self._enforced(ends[flow], policies) for flow, e in expected.items() if e.decision is Decision.DENY}
        subjects = {policy["metadata"]["namespace"] for policy in policies}
        pods = [pod for pair in ends.values() for pod in pair if pod and pod.namespace in subjects]
        placement = {flow: (a.node if a else "", b.node if b else "") for flow, (a, b) in ends.items()}
        missing = refuse_unchanged(placement, denied, {pod.node for pod in pods})
        if missing:
            raise Misused(
                f"{self.id} changes no cell on {', '.join(missing)}: nothing would show that the policy has been looked at there; "
                "draw a denied cell on that node, or declare sentinel=True"
            )

    def _ends(self, flow: Flow, expectation: Expectation) -> tuple[Pod | None, Pod | None]:
        """The pods at both ends; behind a Service it is the one responder, if there is one only."""
        behind = next(iter(expectation.responders)) if len(expectation.responders) == 1 else ""
        pods = self.world.pods
        return pods.get(flow.source), pods.get(flow.destination) or pods.get(behind)

    def _enforced(self, ends: tuple[Pod | None, Pod | None], policies: Sequence[Object]) -> set[Side]:
        """At which ends of a flow these policies are enforced: ingress where the destination's namespace is theirs, egress the source's."""
        found = set()
        for policy in policies:
            for side, pod in zip(Side, ends, strict=True):
                if pod and pod.namespace == policy["metadata"]["namespace"] and side in sides(policy):
                    found.add(side)
        return found

    def _afterwards(self, expected: Mapping[Flow, Expectation]) -> list[Incident]:
        """What forbids a verdict after the rounds: a dead listener, an object that is not the one applied, a pod that is not the same."""
        now = self.runner.clock()
        found = [f"the agent in {name} no longer answers on its own {', '.join(ports)}" for name, ports in self._dead(expected).items()]
        tampered = [Incident(now, what, voids=True) for what in [*self._changed_objects(), *self._changed_labels(expected)]]
        return tampered + [Incident(now, what) for what in [*found, *self._changed_pods().values()]]

    def _dead(self, flows: Iterable[Flow]) -> dict[str, list[str]]:
        """Listeners that do not answer on their pod's loopback, and did not when asked again: a starved agent answers late.

        Of flows by pod IP their ports are looked at; where a flow leads elsewhere, all are, as nobody says here to which it leads.
        """
        flows = tuple(flows)
        ports = {flow.port for flow in flows} if all(self._is_direct(flow) for flow in flows) else None
        suspects = list(self.world.pods)
        dead: dict[str, list[str]] = {}
        for _ in range(LOOKS):
            dead = {name: found for name, found in self.runner.fleet.own(suspects, ports).items() if found}
            suspects = list(dead)
            if not suspects:
                break
        return dead

    def _is_direct(self, flow: Flow) -> bool:
        pod = self.world.pods.get(flow.destination)
        return pod is not None and flow.address in pod.addresses.values()

    def _changed_objects(self) -> Iterator[str]:
        for where, obj in self.applied.items():
            try:
                now = self.runner.api.get(where)
            except NotFound:
                yield f"{obj['kind']} {obj['metadata']['name']} was deleted by somebody while the case ran"
                continue
            if now["metadata"]["uid"] != obj["metadata"]["uid"] or now["spec"] != obj["spec"]:
                yield f"{obj['kind']} {obj['metadata']['name']} was changed by somebody while the case ran"

    def _changed_labels(self, expected: Mapping[Flow, Expectation]) -> Iterator[str]:
        """Labels of pods that somebody changed so that the policies say another thing of these flows than when the step began."""
        if not self.world.learn_pods():
            return
        now = self._foretold(expected, ())
        if other := [flow for flow, ruling in now.items() if contradicts(ruling, expected[flow])]:
            yield f"labels of pods were changed by somebody while the case ran: the policies now say another thing of {other[0]}"

    def _changed_pods(self) -> dict[str, str]:
        """The pods that are no longer those that were probed, and how."""
        found, there = {}, self.world.known_pods()
        for pod in self.world.pods.values():
            now = there.get(pod.name)
            if now is None:
                found[pod.name] = f"pod {pod.name} was deleted by somebody while the case ran"
            elif now["metadata"]["uid"] != pod.uid or now["status"].get("phase") != "Running":
                found[pod.name] = f"pod {pod.name} is no longer the one that was probed ({now['status'].get('phase')})"
        return found


def _closed(round_: Round, late: float) -> tuple[Flow, ...]:
    """The flows that decidedly did not connect: silence at a starved agent says nothing."""
    anybody = Expectation(Decision.ALLOW)
    return tuple(probe.flow for probe in round_.probes if evaluate(probe, anybody, late).wrong)


def _connected(rounds: Sequence[Round]) -> set[Flow]:
    return {p.flow for r in rounds for p in r.probes if any(a.outcome is Outcome.CONNECTED for a in p.attempts)}
