"""Many policies, and many changes in quick succession: what counts is how they stand in the end."""

from __future__ import annotations

import pytest
from netproof.cases import TCP, behaviour

from .policies import allowing, match, namespace, one_way, peer, pod

MANY = 200
TURNS = 20
Y, Z = peer(namespaces=namespace("y")), peer(namespaces=namespace("z"))

pytestmark = pytest.mark.early


def nobody(number):
    """A peer that matches no pod, and is no other policy's."""
    return peer(pods=match(pod=f"nobody-{number}"))


@behaviour("NPC-08a", protocol=[TCP], via=["pod-ip"])
def test_hundreds_of_policies(apply, expect, protocol):
    """Among two hundred policies on the pods of x, each for somebody who is not there, the first allows y and the last z, for pod a."""
    fillers = [one_way("ingress", f"filler-{number:03}", "x", allowing("ingress", nobody(number))) for number in range(MANY)]
    first = one_way("ingress", "a-first", "x", allowing("ingress", Y))
    last = one_way("ingress", "z-last", "x", allowing("ingress", Z), pods=pod("a"))
    apply(first, *fillers, last)

    expect(protocol(8080)).matrix("""
             x/a  x/b
        x/c   X    X
        y/a   .    .
        y/b   .    .
        z/a   .    X
        z/b   .    X
    """)


@behaviour("NPC-08b", protocol=[TCP], via=["pod-ip"])
def test_changes_in_quick_succession(apply, remove, expect, protocol):
    """One policy is edited again and again, another made and deleted each time: in the end the one allows z, the other is gone."""
    flicker = one_way("ingress", "flicker", "x", allowing("ingress"))
    for peers in [*map(nobody, range(TURNS)), Z]:
        apply(one_way("ingress", "edited", "x", allowing("ingress", peers)), flicker)
        remove(flicker)

    expect(protocol(8080)).matrix("""
             x/a  x/b
        x/c   X    X
        y/a   X    X
        y/b   X    X
        z/a   .    .
        z/b   .    .
    """)
