"""Several policies and several rules on the same pods: they add up, in whatever order they are said, and both ends of a flow must agree.

Most cases come twice. They are drawn for ingress: rows send to columns. For egress the same holds with columns sending to rows.
"""

from __future__ import annotations

from netproof.cases import TCP, Decision, behaviour

from .policies import allowing, block, match, namespace, one_way, other, peer, pod, policy

BOTH = ("ingress", "egress")
Y, Z = peer(namespaces=namespace("y")), peer(namespaces=namespace("z"))
NOBODY = peer(pods=match(pod="nobody"))


def ordered(given, order):
    """As given, or the other way round."""
    return given if order == "forward" else given[::-1]


def decided_by_port(world, direction, opened):
    """Between pods a and b of x and those of y and z on both ports: open where `opened` names the far namespace with the port."""
    decided = {}
    for near, far in ((near, f"{letter}/{name}") for near in ("x/a", "x/b") for letter in "yz" for name in "ab"):
        source, destination = (far, near) if direction == "ingress" else (near, far)
        for port in (TCP(8080), TCP(8081)):
            flow = world.pod(source).to(world.pod(destination).on(port))
            decided[flow] = Decision.ALLOW if (far[0], port) in opened else Decision.DENY
    return decided


@behaviour("NPC-01c", protocol=[TCP], via=["pod-ip"], direction=BOTH)
def test_allow_all_for_some_pods(apply, expect, protocol, direction):
    """A default deny for all of x, an allow-all for its pod a: a is open to everybody, the others are closed."""
    apply(one_way(direction, "deny", "x"), one_way(direction, "open", "x", allowing(direction), pods=pod("a")))

    expect(protocol(8080)).matrix(
        """
             x/a  x/b  x/c
        y/a   .    X    X
        y/b   .    X    X
        z/a   .    X    X
    """,
        turned=direction == "egress",
    )


@behaviour("NPC-01d", protocol=[TCP], via=["pod-ip"], direction=BOTH)
def test_default_deny_for_some_pods(apply, expect, protocol, direction):
    """An allow-all for all of x, a policy without rules for its pod a: no policy denies what another allows, so all stays open."""
    apply(one_way(direction, "open", "x", allowing(direction)), one_way(direction, "deny", "x", pods=pod("a")))

    expect(protocol(8080), sentinel=True).matrix(
        """
             x/a  x/b
        y/a   .    .
        y/b   .    .
        x/c   .    .
    """,
        turned=direction == "egress",
    )


@behaviour("NPC-01e", protocol=[TCP], via=["pod-ip"], direction=BOTH)
def test_default_deny_beside_an_allow(apply, expect, protocol, direction):
    """A default deny beside a policy that allows y, on the same pods: y is allowed, z is not."""
    apply(one_way(direction, "deny", "x"), one_way(direction, "some", "x", allowing(direction, Y)))

    expect(protocol(8080)).matrix(
        """
             x/a  x/b
        y/a   .    .
        y/b   .    .
        z/a   X    X
        z/b   X    X
    """,
        turned=direction == "egress",
    )


@behaviour("NPC-01f", protocol=[TCP], via=["pod-ip"], direction=BOTH)
def test_rule_for_nobody_beside_a_rule_for_all(apply, expect, protocol, direction):
    """In one policy a rule whose peer matches nobody and a rule for everybody: everybody is allowed."""
    apply(one_way(direction, "both", "x", allowing(direction, NOBODY), allowing(direction)))

    expect(protocol(8080), sentinel=True).matrix(
        """
             x/a  x/b
        y/a   .    .
        y/b   .    .
        x/c   .    .
    """,
        turned=direction == "egress",
    )


@behaviour("NPC-01g", protocol=[TCP], via=["pod-ip"], direction=BOTH)
def test_peers_and_ports_of_two_rules_do_not_mix(apply, expect, world, direction):
    """One policy with two rules, y on 8080 and z on 8081: neither gets the port of the other."""
    rules = [allowing(direction, Y, ports=[TCP(8080)]), allowing(direction, Z, ports=[TCP(8081)])]
    apply(one_way(direction, "pairs", "x", *rules))

    expect().decided(decided_by_port(world, direction, {("y", TCP(8080)), ("z", TCP(8081))}))


@behaviour("NPC-01h", protocol=[TCP], via=["pod-ip"], direction=BOTH)
def test_peers_and_ports_of_two_policies_do_not_mix(apply, expect, world, direction):
    """Two policies on the same pods, y on 8080 and z on 8081: neither gets the port of the other."""
    rules = {"first": allowing(direction, Y, ports=[TCP(8080)]), "second": allowing(direction, Z, ports=[TCP(8081)])}
    apply(*(one_way(direction, name, "x", rule) for name, rule in rules.items()))

    expect().decided(decided_by_port(world, direction, {("y", TCP(8080)), ("z", TCP(8081))}))


@behaviour("NPC-01i", protocol=[TCP], via=["pod-ip"], direction=BOTH)
def test_policies_of_both_directions_do_not_mix(apply, expect, protocol, direction):
    """An allow-all for one direction and a default deny for the other, on the same pods: the one is open, the other closed."""
    apply(one_way(direction, "open", "x", allowing(direction)), one_way(other(direction), "deny", "x"))

    expect(protocol(8080)).matrix(
        """
             x/a  x/b  y/a
        x/a   -    X    X
        x/b   X    -    X
        y/a   .    .    -
        y/b   .    .    .
    """,
        turned=direction == "egress",
    )


@behaviour("NPC-01j", protocol=[TCP], via=["pod-ip"], direction=BOTH)
def test_policies_on_different_pods_do_not_mix(apply, expect, protocol, direction):
    """Two policies of one namespace on different pods: what the one allows to a does nothing for b, and c is free."""
    apply(
        one_way(direction, "first", "x", allowing(direction, Y), pods=pod("a")),
        one_way(direction, "second", "x", allowing(direction, Z), pods=pod("b")),
    )

    expect(protocol(8080)).matrix(
        """
             x/a  x/b  x/c
        y/a   .    X    .
        y/b   .    X    .
        z/a   X    .    .
        z/b   X    .    .
    """,
        turned=direction == "egress",
    )


@behaviour("NPC-01k", protocol=[TCP], via=["pod-ip"])
def test_egress_policies_add_up(apply, expect, protocol):
    """Two egress policies on overlapping pods: x may send to y, its pod a to z as well."""
    apply(one_way("egress", "all", "x", allowing("egress", Y)), one_way("egress", "some", "x", allowing("egress", Z), pods=pod("a")))

    expect(protocol(8080)).matrix("""
             x/c  y/a  y/b  z/a  z/b
        x/a   X    .    .    .    .
        x/b   X    .    .    X    X
    """)


@behaviour("NPC-01l", protocol=[TCP], via=["pod-ip"])
def test_removing_one_egress_policy_leaves_the_other(apply, remove, expect, protocol):
    """Of two egress policies one is deleted: what the other allows stays allowed, and the pods stay isolated."""
    first = one_way("egress", "first", "x", allowing("egress", Y))
    second = one_way("egress", "second", "x", allowing("egress", Y), allowing("egress", Z))
    apply(first, second)
    expect(protocol(8080)).matrix("""
             x/c  y/a  y/b  z/a
        x/a   X    .    .    .
        x/b   X    .    .    .
    """)

    remove(second)
    expect(protocol(8080)).matrix("""
             x/c  y/a  y/b  z/a
        x/a   X    .    .    X
        x/b   X    .    .    X
    """)


@behaviour("NPC-02a", protocol=[TCP], via=["pod-ip"], direction=BOTH, order=["forward", "backward"])
def test_policies_in_any_order(apply, expect, protocol, direction, order):
    """A default deny, an allow of y, and an allow of z for pod a alone: created in either order they mean the same."""
    given = [
        one_way(direction, "deny", "x"),
        one_way(direction, "some", "x", allowing(direction, Y)),
        one_way(direction, "more", "x", allowing(direction, Z), pods=pod("a")),
    ]
    apply(*ordered(given, order))

    expect(protocol(8080)).matrix(
        """
             x/a  x/b
        x/c   X    X
        y/a   .    .
        y/b   .    .
        z/a   .    X
        z/b   .    X
    """,
        turned=direction == "egress",
    )


@behaviour("NPC-02b", protocol=[TCP], via=["pod-ip"], direction=BOTH, order=["forward", "backward"])
def test_rules_in_any_order(apply, expect, protocol, direction, order):
    """Three rules of one policy (y, pod c of x itself, and z on another port): listed in either order they mean the same."""
    rules = [allowing(direction, Y), allowing(direction, peer(pods=pod("c"))), allowing(direction, Z, ports=[protocol(8081)])]
    apply(one_way(direction, "rules", "x", *ordered(rules, order)))

    expect(protocol(8080)).matrix(
        """
             x/a  x/b
        x/b   X    -
        x/c   .    .
        y/a   .    .
        y/b   .    .
        z/a   X    X
    """,
        turned=direction == "egress",
    )


@behaviour("NPC-02c", protocol=[TCP], via=["outside"], order=["forward", "backward"], needs=["Outsider", "NetworkPolicyIPBlock"])
def test_exception_and_allow_in_any_order(apply, expect, world, protocol, order):
    """One policy excepts outside/b from its block, another allows it: created in either order they allow it, and outside/a stays closed."""
    a, b = (world.outside(name).address for name in ("a", "b"))
    everywhere = block("::/0" if ":" in a else "0.0.0.0/0", *(f"{address}/{128 if ':' in a else 32}" for address in (a, b)))
    single = block(f"{b}/{128 if ':' in b else 32}")
    given = [policy("excepting", "x", types=["Egress"], egress=[allowing("egress", everywhere)])]
    given.append(policy("allowing", "x", types=["Egress"], egress=[allowing("egress", single)]))
    apply(*ordered(given, order))

    flows = [(world.pod(client).to(world.outside(name).on(protocol(8080))), name) for client in ("x/a", "x/b") for name in ("a", "b")]
    expect().decided({flow: Decision.ALLOW if name == "b" else Decision.DENY for flow, name in flows})


@behaviour("NPC-03b", protocol=[TCP], via=["pod-ip"], direction=BOTH)
def test_an_allow_at_one_end_is_none_at_the_other(apply, expect, protocol, direction):
    """x allows y and z in one direction, y allows nothing in the other: nothing passes between x and y, all between x and z.

    For ingress: x lets y in, and y may not send. For egress: x may send to y, and y lets nobody in.
    """
    apply(one_way(direction, "some", "x", allowing(direction, Y, Z)), one_way(other(direction), "deny", "y"))

    expect(protocol(8080)).matrix(
        """
             x/a  x/b
        x/c   X    X
        y/a   X    X
        y/b   X    X
        z/a   .    .
        z/b   .    .
    """,
        turned=direction == "egress",
    )
