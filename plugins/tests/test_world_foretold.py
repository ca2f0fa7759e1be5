"""The oracle beside a case: it names the rule that decides a flow, and refuses what contradicts the policies."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from netproof.model.flow import TCP, Family, Flow
from netproof.model.history import Decision, Expectation, Limits
from netproof.oracle import Ruling
from netproof.world.case import Case
from netproof.world.foretold import agreed, behind, rulings
from netproof.world.labels import WORLD
from netproof.world.pods import Pod, Recipe
from netproof.world.services import Vip
from netproof.world.verdicts import Misused
from netproof.world.world import World

SPACES = {letter: f"netproof-run-w1-1-{letter}" for letter in "xy"}
ADDRESSES = {"x/a": "10.0.0.1", "x/b": "10.0.0.2", "y/a": "10.0.0.3"}


class Api:
    """Pods and namespaces as the API has them."""

    def list(self, path: str) -> list[dict[str, Any]]:
        space = path.split("/")[4]
        return [self._pod(name) for name in ADDRESSES if SPACES[name[0]] == space]

    def get(self, path: str) -> dict[str, Any]:
        name = path.rsplit("/", 1)[-1]
        return {"metadata": {"name": name, "labels": {"ns": name[-1], WORLD: "run-w1-1"}}}

    def _pod(self, name: str) -> dict[str, Any]:
        letter, _, pod = name.partition("/")
        metadata = {"name": pod, "namespace": SPACES[letter], "labels": {"pod": pod}}
        status = {"phase": "Running", "podIPs": [{"ip": ADDRESSES[name]}]}
        return {"metadata": metadata, "spec": {"nodeName": f"node-{pod}", "containers": []}, "status": status}


def world() -> Any:
    pods = {n: Pod(n, SPACES[n[0]], n[2:], n, f"node-{n[2:]}", {Family.IPV4: a}) for n, a in ADDRESSES.items()}
    runner: Any = SimpleNamespace(api=Api())
    return World(runner, Recipe("run", "w1-1", "", ""), dict(SPACES), pods=pods)


def policy(**spec: Any) -> dict[str, Any]:
    metadata = {"name": "peers", "namespace": SPACES["x"]}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": {"podSelector": {}, **spec}}


FROM_Y = policy(ingress=[{"from": [{"namespaceSelector": {"matchLabels": {"ns": "y"}}}]}])
IN, OUT = Flow("y/a", "x/b", "10.0.0.2", TCP(80)), Flow("x/a", "x/b", "10.0.0.2", TCP(80))


def test_each_flow_has_the_rule_that_decides_it() -> None:
    expected = {IN: Expectation(Decision.ALLOW), OUT: Expectation(Decision.DENY)}
    made = agreed("NPP-02a/x", expected, rulings(world(), expected, [FROM_Y], {}), world())
    assert made[IN].why == "allowed by x/peers ingress[0] (from all pods of namespaces ns=y on any port)"
    assert made[OUT].why.startswith("x/b is isolated for ingress by x/peers")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("pods app=web,netproof.dev/world=run-w1-1 of y", "pods app=web of y"),
        ("pods netproof.dev/world=run-w1-1,tier notin (front) of y", "pods tier notin (front) of y"),
        ("pods app=web,netproof.dev/world=run-w1-1,!env of y", "pods app=web,!env of y"),
    ],
)
def test_the_label_that_every_selector_carries_is_not_told(said: str, told: str) -> None:
    made = agreed("x", {IN: Expectation(Decision.ALLOW)}, {IN: Ruling(Decision.ALLOW, said)}, world())
    assert made[IN].why == told


def test_what_the_policies_contradict_is_refused() -> None:
    expected = {OUT: Expectation(Decision.ALLOW)}
    with pytest.raises(
        Misused, match=r"NPP-02a/x expects x/a -> x/b TCP/80 to be allowed, and its policies say otherwise: x/b is isolated"
    ):
        agreed("NPP-02a/x", expected, rulings(world(), expected, [FROM_Y], {}), world())


def test_labels_that_are_about_to_change_count() -> None:
    changed = {f"/api/v1/namespaces/{SPACES['y']}": {"ns": None}}
    assert rulings(world(), [IN], [FROM_Y], {})[IN].decision is Decision.ALLOW
    assert rulings(world(), [IN], [FROM_Y], changed)[IN].decision is Decision.DENY


def test_nothing_is_said_of_services_and_where_there_is_no_policy() -> None:
    service = Flow("y/a", "web (ClusterIP)", "10.96.0.7", TCP(80))
    assert rulings(world(), [service], [FROM_Y], {}) == {}
    assert rulings(world(), [IN], [], {}) == {}
    assert rulings(world(), [IN], [policy(ingress="nonsense")], {}) == {}


def test_a_service_with_one_endpoint_is_that_pods_port() -> None:
    """80 of the Service is 8080 of the pod: the rule for the pod's port allows it, one for the Service's would not."""
    known = world()
    known.vips["web"] = Vip("web", SPACES["x"], "uid", {Family.IPV4: "10.96.0.7"}, (TCP(80),), {}, {TCP(80): 8080})
    flow = Flow("y/a", "web (ClusterIP)", "10.96.0.7", TCP(80))
    leads = behind(known, {flow: Expectation(Decision.ALLOW, frozenset({"x/b"}))})
    assert leads == {flow: ("x/b", TCP(8080))}
    for number, decision in ((8080, Decision.ALLOW), (80, Decision.DENY)):
        found = rulings(known, [flow], [policy(ingress=[{"ports": [{"port": number}]}])], {}, leads)
        assert found[flow].decision is decision


def test_who_answers_behind_a_service_of_several_is_not_known() -> None:
    known = world()
    known.vips["web"] = Vip("web", SPACES["x"], "uid", {Family.IPV4: "10.96.0.7"}, (TCP(80),), {}, {TCP(80): 8080})
    flow = Flow("y/a", "web (ClusterIP)", "10.96.0.7", TCP(80))
    assert behind(known, {flow: Expectation(Decision.ALLOW, frozenset({"x/a", "x/b"}))}) == {}


def test_a_case_lets_its_policies_be_foretold() -> None:
    case = Case(SimpleNamespace(), world(), "NPP-06/x", Limits())  # type: ignore[arg-type]
    with pytest.raises(Misused, match="NPP-06/x lets its policies be foretold, and nothing can be said of them"):
        case.foretell([IN, OUT])
    case.apply({**FROM_Y, "metadata": {"name": "peers", "namespace": "x"}})
    found = case.foretell([IN, OUT])
    assert {flow: promised.decision for flow, promised in found.items()} == {IN: Decision.ALLOW, OUT: Decision.DENY}
    assert found[IN].responders == {"x/b"}


def test_what_a_block_on_pods_decides_is_not_foretold() -> None:
    case = Case(SimpleNamespace(), world(), "NPP-06/x", Limits())  # type: ignore[arg-type]
    block = policy(ingress=[{"from": [{"ipBlock": {"cidr": "10.0.0.3/32"}}]}])
    case.apply({**block, "metadata": {"name": "block", "namespace": "x"}})
    assert list(case.foretell([IN, OUT])) == [OUT]
