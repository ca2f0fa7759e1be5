"""Cross products: every form that a peer or a port may take, each in the policy of a pod of its own.

What is expected comes from the policies by the oracle's reading of the API's text: a drawing of 288 cells would say no more. Which
variant is wrong the failing cells tell, as each pod stands for one.
"""

from __future__ import annotations

import itertools

from netproof.cases import SCTP, TCP, UDP, behaviour

from .policies import allowing, entry, expression, match, namespace, one_each, peer, pod

BOTH = ["ingress", "egress"]
ALL = (TCP(8080), UDP(8080), TCP(8081), UDP(8081))

# A peer's two selectors: absent, empty, or with a label. Both absent would be an ipBlock.
SHAPES = [
    peer(pods=pods, namespaces=namespaces)
    for namespaces, pods in itertools.product((None, {}, namespace("x")), (None, {}, pod("b")))
    if (pods, namespaces) != (None, None)
]


@behaviour("NPP-03c", direction=BOTH, protocol=[TCP], via=["pod-ip"])
def test_every_shape_of_a_peer(apply, expect, direction, protocol):
    """Each selector of a peer absent, empty or given: eight pods have a shape each, on one port."""
    apply(*one_each(direction, [[allowing(direction, shape, ports=[protocol(8080)])] for shape in SHAPES]))

    expect(protocol(8080), UDP(8080)).foretold()


@behaviour("NPP-04g", direction=BOTH, protocol=[TCP], via=["pod-ip"])
def test_every_operator_on_namespaces(apply, expect, direction, protocol):
    """In, NotIn, Exists and DoesNotExist on namespaces' labels: y's `stage` is test, z's is empty, x has none."""
    operators = [
        expression("ns", "In", "x", "z"),
        expression("ns", "NotIn", "x", "z"),
        expression("stage", "NotIn", "test"),
        expression("stage", "Exists"),
        expression("stage", "DoesNotExist"),
        expression("stage", "In", "test"),
    ]
    apply(*one_each(direction, [[allowing(direction, peer(namespaces=operator))] for operator in operators]))

    expect(protocol(8080)).foretold()


@behaviour("NPP-06", direction=BOTH, via=["pod-ip"])
def test_every_pair_of_peers(apply, expect, direction):
    """Each of the eight shapes beside each other one in a rule, and beside one of its own with another label, four on every pod."""
    alike = [
        (peer(pods=pod("b")), peer(pods=pod("c"))),
        (peer(namespaces=namespace("y")), peer(namespaces=namespace("z"))),
        (peer(pods=pod("b"), namespaces=namespace("x")), peer(pods=pod("c"), namespaces=namespace("y"))),
    ]
    pairs = [*itertools.combinations(SHAPES, 2), *alike]
    rules = [
        [allowing(direction, *pair, ports=[port]) for pair, port in zip(pairs[first:], ALL, strict=False)]
        for first in range(0, len(pairs), len(ALL))
    ]
    apply(*one_each(direction, rules))

    expect(*ALL).foretold()


@behaviour("NPR-01e", direction=BOTH, via=["pod-ip"])
def test_every_kind_of_port_entry(apply, expect, direction):
    """A protocol or none, with a number or without: nine pods have an entry each."""
    kinds = [entry(protocol, port) for protocol in (None, TCP, UDP) for port in (None, 8080, 8081)]
    apply(*one_each(direction, [[allowing(direction, ports=[kind])] for kind in kinds]))

    expect(*ALL).foretold()


@behaviour("NPR-01f", direction=BOTH, via=["pod-ip"])
def test_pairs_of_port_entries(apply, expect, direction):
    """Two entries in a rule, which overlap, share a number or a protocol, or share nothing: either suffices."""
    pairs = [
        [entry(TCP), entry(TCP, 8080)],
        [entry(TCP), entry(TCP, "web")],
        [entry(TCP), entry(UDP)],
        [entry(TCP, 8080), entry(TCP, 8081)],
        [entry(TCP, 8080), entry(TCP, "other")],
        [entry(TCP, 8080), entry(UDP, "other-udp")],
        [entry(UDP, 8080), entry(UDP, "other-udp")],
    ]
    apply(*one_each(direction, [[allowing(direction, ports=pair)] for pair in pairs]))

    expect(*ALL).foretold()


@behaviour("NPR-02d", direction=BOTH, via=["pod-ip"])
def test_every_kind_of_named_port(apply, expect, direction):
    """Each name with its protocol, and one without a protocol, open to pods of the label `rank` in all namespaces."""
    named = [entry(TCP, "web"), entry(TCP, "other"), entry(UDP, "web-udp"), entry(UDP, "other-udp"), entry(None, "web")]
    ranked = peer(pods=expression("rank", "Exists"), namespaces={})
    apply(*one_each(direction, [[allowing(direction, ranked, ports=[one])] for one in named]))

    expect(*ALL).foretold()


@behaviour("NPR-04b", direction=BOTH, via=["pod-ip"])
def test_entries_that_fit_no_port(apply, expect, direction):
    """Names that belong to another protocol, a name that no pod has, a number that nobody serves: none opens anything else."""
    nothing = [entry(TCP, "web-udp"), entry(UDP, "web"), entry(SCTP, "web"), entry(TCP, "no-such-port"), entry(TCP, 7981)]
    apply(*one_each(direction, [[allowing(direction, ports=[one])] for one in nothing]))

    expect(*ALL).foretold()


@behaviour("NPR-06b", direction=BOTH, protocol=[TCP, UDP], via=["pod-ip"], needs=["NetworkPolicyEndPort"])
def test_bounds_of_a_range(apply, expect, direction, protocol):
    """A range begins or ends at 8080 or 8081, ends below one or begins above it, holds both inside, or neither; one is of SCTP."""
    bounds = [(8080, 8081), (8079, 8080), (8081, 8082), (8080, 8080), (8000, 8999), (8082, 8999)]
    ranges = [*(entry(protocol, first, last) for first, last in bounds), entry(SCTP, 8000, 8999)]
    apply(*one_each(direction, [[allowing(direction, ports=[one])] for one in ranges]))

    expect(*ALL).foretold()


@behaviour("NPP-07h", protocol=[TCP], via=["pod-ip"])
def test_every_operator_in_egress_rules(apply, expect, protocol):
    """The operators on pods' labels in egress rules: `rank` is high on a, empty on b, absent on c."""
    operators = [
        expression("pod", "In", "a", "b"),
        expression("tier", "NotIn", "front"),
        expression("rank", "Exists"),
        expression("spare", "DoesNotExist"),
        match(rank=""),
    ]
    apply(*one_each("egress", [[allowing("egress", peer(pods=operator, namespaces={}))] for operator in operators]))

    expect(protocol(8080)).foretold()
