"""What denied means for the traffic itself."""

from __future__ import annotations

from netproof.cases import TCP, UDP, behaviour

from .policies import default_deny


@behaviour("NPT-11", protocol=[UDP, TCP], via=["pod-ip"])
def test_denied_traffic_never_arrives(apply, expect, protocol):
    """Nothing of a denied flow reaches the server: the receiver's own log of nonces is the witness, silence at the sender is not enough.

    Egress stays open, so it is the server's isolation alone that stops the packets.
    """
    apply(default_deny("y", "Ingress"))

    expect(protocol(8080), protocol(8081)).matrix("""
             y/a  y/b  y/c
        x/a   X    X    X
        x/b   X    X    X
        z/a   X    X    X
    """)
