"""The sentinel: a further policy, applied after the one under test, that shows on every node that the plane has got past it.

Where a policy changes no cell on some node, "still open" proves nothing there: the plane may not have looked yet. The sentinel
isolates the pods of namespace z, one on each node, from each other; it is awaited before the rounds of the case begin.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from netproof.kube.objects import path
from netproof.model.flow import TCP, Family
from netproof.model.history import Incident
from netproof.model.outcome import Outcome, Phase, Probe, Round
from netproof.world.pace import hold
from netproof.world.world import World

LETTER = "z"
_PAIRS = (("z/c", "z/a"), ("z/c", "z/b"), ("z/b", "z/a"))


def policy(world: World) -> dict[str, Any]:
    """Isolate every pod of namespace z, in both directions."""
    metadata = {"name": "netproof-sentinel", "namespace": world.namespaces[LETTER], "labels": world.recipe.labels}
    spec = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def hoist(world: World, families: Collection[Family]) -> tuple[Sequence[Round], Sequence[Incident]]:
    """Apply the sentinel and wait until it denies in these address families.

    Returns what was seen, and an incident where it never did within the cap.
    """
    runner = world.runner
    flows = [world.flow(a, b, TCP(8080), family) for family in sorted(families) for a, b in _PAIRS]
    rounds = [runner.fleet.round(flows, Phase.SENTINEL)]
    if not all(_connected(probe) for probe in rounds[0].probes):
        return rounds, [Incident(runner.clock(), "the sentinel's flows in namespace z did not connect before it was applied")]
    runner.api.create(policy(world))
    deadline = runner.clock() + runner.limits.cap
    while runner.clock() < deadline:
        rounds.append(runner.fleet.round(flows, Phase.SENTINEL))
        if all(_denied(probe) for probe in rounds[-1].probes):
            return rounds, []
        hold(runner, rounds[-1].began)
    still = ", ".join(str(probe.flow) for probe in rounds[-1].probes if not _denied(probe))
    text = f"the sentinel, a default deny in namespace z, was not enforced within {runner.limits.cap:.0f} s ({still}): nothing shows "
    return rounds, [Incident(runner.clock(), text + "that the plane has looked at the policy under test")]


def lower(world: World) -> None:
    """Remove the sentinel."""
    world.runner.api.delete(path("NetworkPolicy", "netproof-sentinel", world.namespaces[LETTER]))


def _connected(probe: Probe) -> bool:
    return any(attempt.outcome is Outcome.CONNECTED for attempt in probe.attempts)


def _denied(probe: Probe) -> bool:
    judged = (Outcome.TIMED_OUT, Outcome.REFUSED, Outcome.RESET, Outcome.UNREACHABLE)
    return all(attempt.outcome in judged and not attempt.starved and not attempt.received for attempt in probe.attempts)
