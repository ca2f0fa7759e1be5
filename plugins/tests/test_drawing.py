"""Generated sets of policies: the same for a seed, all of the API in them, none that says nothing; and how they are made smaller."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from typing import Any

import pytest
from netproof.drawing import FEATURES, INGREDIENTS, Drawn, Shrunk, Stage, Way, draw, smallest
from netproof.drawing.dice import Dice
from netproof.drawing.reduce import reductions, rules, size
from netproof.drawing.rules import Palette, policy
from netproof.drawing.stage import Object, Policies, resolved
from netproof.lab.resources import completed
from netproof.lab.validation import validate
from netproof.model.flow import TCP, UDP, Family, Protocol
from netproof.model.history import Decision
from netproof.oracle.decide import NAME_LABEL
from netproof.world.drawn import relevant, stage

ALL = frozenset(FEATURES)
NO_POD_BLOCKS = frozenset({"NetworkPolicyEndPort", "NetworkPolicyIPBlock", "Outsider", *INGREDIENTS})
CLAIMS = pytest.mark.parametrize("features", [ALL, NO_POD_BLOCKS, frozenset[str]()], ids=["all", "no pod blocks", "none"])
SETS = 30


@cache
def sets(features: frozenset[str], seed: int = 1) -> tuple[Drawn, ...]:
    return tuple(draw(stage(features, Family.IPV4), seed=seed, number=number) for number in range(1, SETS + 1))


@cache
def policies(features: frozenset[str]) -> tuple[Object, ...]:
    palette = Palette.of(stage(features, Family.IPV4))
    return tuple(policy(Dice(str(i)), palette, "p") for i in range(800))


def digest(drawn: Collection[Drawn]) -> str:
    return hashlib.sha256(json.dumps([[one.name, one.policies, [str(way) for way in one.ways]] for one in drawn]).encode()).hexdigest()[:16]


def parts(value: object) -> Iterator[Mapping[str, Any]]:
    """Every object within a policy."""
    if isinstance(value, Mapping):
        yield value
        value = list(value.values())
    for entry in value if isinstance(value, list | tuple) else ():
        yield from parts(entry)


# the same everywhere


def test_a_seed_draws_the_same_sets_for_ever() -> None:
    """Whatever the hash seed and the version of Python. Other digests mean other sets under old names: say so in the changelog."""
    assert digest(sets(ALL)[:20]) == "89755677fbcf9a7c"
    assert digest(sets(NO_POD_BLOCKS)[:20]) == "81b1cd8de5cb16d0"


def test_a_set_depends_on_no_other() -> None:
    assert draw(stage(ALL, Family.IPV4), seed=1, number=7) == sets(ALL)[6]


def test_the_family_changes_nothing() -> None:
    assert draw(stage(ALL, Family.IPV6), seed=1, number=7) == sets(ALL)[6]


def test_seeds_and_numbers_draw_different_sets() -> None:
    drawn = [*sets(ALL), *(draw(stage(ALL, Family.IPV4), seed=2, number=number) for number in range(1, 6))]
    assert len({json.dumps(one.policies) for one in drawn}) == len(drawn)


def test_dice_follow_their_weights() -> None:
    dice = Dice("weights")
    thrown = Counter(dice.weighted({"often": 3.0, "seldom": 1.0, "never": 0.0}) for _ in range(2000))
    assert 0.7 < thrown["often"] / 2000 < 0.8
    assert thrown["never"] == 0
    assert sorted(dice.some("abc", 5)) == ["a", "b", "c"]


# what is drawn


FORMS: dict[str, Callable[[Mapping[str, Any]], object]] = {
    "policyTypes left out": lambda part: "podSelector" in part and "ingress" in part and "policyTypes" not in part,
    "types in both orders": lambda part: part.get("policyTypes") == ["Egress", "Ingress"],
    "rules of a direction that is not its": lambda part: part.get("policyTypes") == ["Ingress"] and part.get("egress"),
    "no subject": lambda part: "policyTypes" in part and "podSelector" not in part,
    "an empty list": lambda part: any(part.get(key) == [] for key in ("ingress", "egress", "from", "to", "ports")),
    "null": lambda part: any(key in part and part[key] is None for key in ("ingress", "egress", "from", "to", "ports")),
    "several rules": lambda part: len(part.get("ingress") or ()) > 1,
    "several peers": lambda part: len(part.get("from") or ()) > 1,
    "several ports": lambda part: len(part.get("ports") or ()) > 1,
    "pods alone": lambda part: set(part) == {"podSelector"},
    "namespaces alone": lambda part: set(part) == {"namespaceSelector"},
    "both selectors": lambda part: set(part) == {"podSelector", "namespaceSelector"},
    "everything": lambda part: part.get("namespaceSelector") == {},
    "matchLabels": lambda part: part.get("matchLabels"),
    "labels and expressions": lambda part: part.get("matchLabels") and part.get("matchExpressions"),
    "an empty value": lambda part: part.get("operator") in ("In", "NotIn") and "" in part["values"],
    "a value that nobody has": lambda part: part.get("operator") == "NotIn" and "nobody" in part["values"],
    "a key that nobody has": lambda part: part.get("key") == "missing",
    "a namespace's name": lambda part: NAME_LABEL in part or part.get("key") == NAME_LABEL,
    "a port by name": lambda part: isinstance(part.get("port"), str),
    "no protocol": lambda part: "port" in part and "protocol" not in part,
    "a protocol alone": lambda part: set(part) == {"protocol"},
    **{name: lambda part, name=name: part.get("operator") == name for name in ("In", "NotIn", "Exists", "DoesNotExist")},  # type: ignore[misc]
    **{name: lambda part, name=name: part.get("protocol") == name and "port" in part for name in ("TCP", "UDP")},  # type: ignore[misc]
}
CLAIMED: dict[str, Callable[[Mapping[str, Any]], object]] = {
    "endPort": lambda part: "endPort" in part,
    "SCTP": lambda part: part.get("protocol") == "SCTP",
    "a block of pods": lambda part: part.get("cidr") in ("pods", "x/a"),
    "a block outside": lambda part: part.get("cidr") == "outside/a",
    "a block with exceptions": lambda part: len(part.get("except") or ()) > 1,
    "everybody but somebody": lambda part: part.get("cidr") == "everywhere" and part.get("except"),
}


@pytest.mark.parametrize("form", [*FORMS, *CLAIMED])
def test_all_of_the_api_is_drawn(form: str) -> None:
    assert any((FORMS | CLAIMED)[form](part) for part in parts(policies(ALL)))


@pytest.mark.parametrize("form", CLAIMED)
def test_what_is_not_claimed_is_not_drawn(form: str) -> None:
    assert not any(CLAIMED[form](part) for part in parts(policies(frozenset())))


def test_blocks_of_pods_need_their_claim() -> None:
    """0.0.0.0/0 holds pods too: it is drawn where nothing else than a flow to the outside is asked about it, in egress rules."""
    blocks = [part for part in parts(policies(NO_POD_BLOCKS)) if "cidr" in part]
    places = {place for block in blocks for place in [block["cidr"], *(block.get("except") or ())]}
    assert places == {"everywhere", "nowhere", "outside", "outside/a", "outside/b"}
    assert not any(
        "ipBlock" in peer for one in policies(NO_POD_BLOCKS) for rule in one["spec"].get("ingress") or () for peer in parts(rule)
    )


def unlisted(policy: Object) -> bool:
    """Whether it has rules of a direction that its policyTypes lack."""
    spec = policy["spec"]
    return any(spec.get(way.lower()) and way not in spec.get("policyTypes", (way,)) for way in ("Ingress", "Egress"))


def test_rules_that_policy_types_do_not_list_are_an_ingredient() -> None:
    """Without it the other policies are the same."""
    plain = ALL - {"UnlistedRules"}
    assert sum(map(unlisted, policies(ALL))) > 20
    assert not any(map(unlisted, policies(plain)))
    assert [one for one in policies(ALL) if not unlisted(one)] == [
        less for less, one in zip(policies(plain), policies(ALL), strict=True) if not unlisted(one)
    ]


def test_features_are_what_a_cluster_does_not_lack() -> None:
    assert relevant(["SCTP", "HostPort"]) == ALL - {"SCTP"}


@CLAIMS
def test_the_api_server_takes_every_policy(features: frozenset[str]) -> None:
    refused: list[object] = []
    for one in resolved(policies(features), stage(features, Family.IPV4).addresses):
        refused += validate(completed(bare(one)), None)
    assert refused == []


def bare(value: Any) -> Any:
    """Without nulls, which the API server takes as left out."""
    if isinstance(value, dict):
        return {key: bare(entry) for key, entry in value.items() if entry is not None}
    return [bare(entry) for entry in value] if isinstance(value, list) else value


@CLAIMS
def test_sets_are_mixed_and_seen_on_both_nodes(features: frozenset[str]) -> None:
    world, shares = stage(features, Family.IPV4), []
    nodes = {pod.key: pod.node for pod in world.pods}
    for drawn in sets(features):
        found = world.rulings(drawn.policies, drawn.ways)
        judged = {way: ruling for way, ruling in found.items() if world.promised(ruling)}
        denied = [ruling for ruling in judged.values() if ruling.decision is Decision.DENY]
        shares.append(len(denied) / len(judged))
        assert {(way.source, way.destination) for way in drawn.ways if way.destination in nodes} == set(itertools.permutations(nodes, 2))
        assert {nodes[key] for ruling in denied for key in alone(ruling.denied_by)} == {"one", "two"}
    assert 1 / 3 <= sum(shares) / len(shares) <= 1 / 2
    assert min(shares) > 0.1
    assert max(shares) < 0.75
    assert sum(rules(drawn.policies) == 0 for drawn in sets(features)) <= SETS * 0.05


def alone(denied_by: Collection[Any]) -> list[str]:
    """The pod at which a flow is denied, if it is denied at one end."""
    return [isolation.pod for isolation in denied_by] if len(denied_by) == 1 else []


def test_a_pair_is_probed_on_every_port_where_the_policies_tell_them_apart() -> None:
    world, names = stage(ALL, Family.IPV4), [pod.key for pod in stage(ALL, Family.IPV4).pods]
    for drawn in sets(ALL)[:10]:
        for a, b in itertools.permutations(names, 2):
            probed = [way.port for way in drawn.ways if (way.source, way.destination) == (a, b)]
            found = world.rulings(drawn.policies, [Way(a, b, make(port)) for make in (TCP, UDP) for port in (8080, 8081)])
            apart = len({ruling.decision for ruling in found.values()}) > 1
            assert len(probed) == 4 or (len(probed) == 2 and not apart)
            assert {port.protocol for port in probed} == {Protocol.TCP, Protocol.UDP}


def test_what_rests_on_a_block_of_pods_is_promised_where_that_is_claimed() -> None:
    out = {"kind": "NetworkPolicy", "metadata": {"name": "p", "namespace": "x"}}
    everybody = (out | {"spec": {"policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": {"cidr": "everywhere"}}]}]}},)
    ways = [Way("x/a", "y/a", TCP(8080)), Way("x/a", "outside/a", TCP(8080))]
    for features, promised in ((ALL, [True, True]), (NO_POD_BLOCKS, [False, True])):
        world = stage(features, Family.IPV4)
        assert [world.promised(ruling) for ruling in world.rulings(everybody, ways).values()] == promised


# in a world


def test_a_world_lends_its_addresses_and_names() -> None:
    block = {"ipBlock": {"cidr": "outside", "except": ["outside/b", "x/a"]}}
    named = {"namespaceSelector": {"matchLabels": {NAME_LABEL: "y"}, "matchExpressions": [{"key": NAME_LABEL, "values": ["x", "nobody"]}]}}
    given = [{"spec": {"egress": [{"to": [block, named, {"ipBlock": {"cidr": "everywhere"}}, {"ipBlock": {"cidr": "pods"}}]}]}}]
    addresses = {"x/a": "10.1.0.4", "x/b": "10.1.0.7", "outside/a": "192.0.2.1", "outside/b": "192.0.2.2"}

    (made,) = resolved(given, addresses, {"x": "run-x", "y": "run-y"})

    peers = made["spec"]["egress"][0]["to"]
    assert peers[0]["ipBlock"] == {"cidr": "192.0.2.0/30", "except": ["192.0.2.2/32", "10.1.0.4/32"]}
    assert peers[1]["namespaceSelector"]["matchLabels"] == {NAME_LABEL: "run-y"}
    assert peers[1]["namespaceSelector"]["matchExpressions"][0]["values"] == ["run-x", "nobody"]
    assert [peer["ipBlock"]["cidr"] for peer in peers[2:]] == ["0.0.0.0/0", "10.1.0.4/30"]
    six = {name: f"2001:db8::{i}" for i, name in enumerate(addresses)}
    assert resolved(given, six)[0]["spec"]["egress"][0]["to"][2]["ipBlock"]["cidr"] == "::/0"


def test_the_labels_that_matter_are_told() -> None:
    peer = {
        "podSelector": {"matchLabels": {"tier": "back"}},
        "namespaceSelector": {"matchExpressions": [{"key": "env", "operator": "Exists"}]},
    }
    given = ({"spec": {"ingress": [{"from": [peer]}]}},)
    told = stage(ALL, Family.IPV4).labels(given, Way("x/b", "z/a", TCP(8080)))
    assert told == ["x/b has tier=back", "z/a has no tier", "namespace x has env=prod", "namespace z has no env"]


# smaller


def without(*keys: str) -> Callable[[Any], Any]:
    """A network that ignores these fields."""

    def seen(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: seen(entry) for key, entry in value.items() if key not in keys}
        return [seen(entry) for entry in value] if isinstance(value, list | tuple) else value

    return seen


def last_peer(value: Any) -> Any:
    """A network that knows only the last peer of a rule."""
    if isinstance(value, dict):
        return {key: last_peer(entry[-1:] if key in ("from", "to") and entry else entry) for key, entry in value.items()}
    return [last_peer(entry) for entry in value] if isinstance(value, list | tuple) else value


def shrunk(world: Stage, drawn: Drawn, bug: Callable[[Any], Any], tries: int = 1000) -> tuple[Way, Shrunk] | None:
    """The smallest set on which that network and the text disagree, None where they agree on the whole set."""

    def right(given: Policies, way: Way) -> Decision:
        return world.rulings(given, [way])[way].decision

    def disagrees(given: Policies, way: Way) -> bool:
        return right(bug(given), way) is not right(given, way)

    text, seen = (world.rulings(given, drawn.ways) for given in (drawn.policies, bug(drawn.policies)))
    way = next((way for way in drawn.ways if text[way].decision is not seen[way].decision), None)
    if way is None:
        return None
    left = iter(range(tries))
    return way, smallest(
        drawn.policies,
        promising=lambda given: right(given, way) is text[way].decision,
        shows=lambda given: disagrees(given, way),
        may_go_on=lambda: next(left, None) is not None,
    )


@pytest.mark.parametrize("bug", [without("except"), without("endPort"), last_peer], ids=["except", "endPort", "last peer"])
def test_a_disagreement_shrinks_to_one_policy_with_one_rule(bug: Callable[[Any], Any]) -> None:
    world = stage(ALL, Family.IPV4)
    found = [one for drawn in sets(ALL) if (one := shrunk(world, drawn, bug))]
    assert len(found) > 3
    for way, left in found:
        assert (left.whole, size(left.policies)[:2]) == (True, (1, 1))
        assert left.tries <= 30
        assert world.rulings(bug(left.policies), [way])[way].decision is not world.rulings(left.policies, [way])[way].decision


def test_what_is_left_is_what_the_disagreement_needs() -> None:
    world = stage(ALL, Family.IPV4)
    _, left = next(one for drawn in sets(ALL) if (one := shrunk(world, drawn, without("except"))))
    (peer,) = [part for part in parts(left.policies) if "ipBlock" in part]
    assert len(peer["ipBlock"]["except"]) == 1
    assert not any(part.get("ports") or part.get("matchLabels") or part.get("matchExpressions") for part in parts(left.policies))


def test_the_search_ends_where_its_means_end() -> None:
    world = stage(ALL, Family.IPV4)
    _, whole = next(one for drawn in sets(ALL) if (one := shrunk(world, drawn, last_peer)) and one[1].tries > 5)
    _, short = next(one for drawn in sets(ALL) if (one := shrunk(world, drawn, last_peer, tries=3)) and not one[1].whole)
    assert (whole.whole, short.whole, short.tries) == (True, False, 3)


def test_what_shows_nothing_smaller_is_left_as_it_is() -> None:
    given = sets(ALL)[0].policies
    left = smallest(given, promising=lambda _: True, shows=lambda _: False, may_go_on=lambda: True)
    assert (left.policies, left.whole) == (given, True)
    assert left.tries == len(list(reductions(given)))


def test_reductions_are_smaller_and_valid_and_none_comes_twice() -> None:
    world = stage(ALL, Family.IPV4)
    for drawn in sets(ALL)[:5]:
        found = list(reductions(drawn.policies))
        assert all(size(fewer) < size(drawn.policies) for fewer in found)
        assert all(found.count(fewer) == 1 for fewer in found)
        assert all(world.rulings(fewer, [Way("x/a", "x/b", TCP(8080))]) for fewer in found)
