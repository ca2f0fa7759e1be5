"""Sets of policies that nobody wrote: --netproof-policies draws them from a seed, and the oracle says what they let through."""

from __future__ import annotations

import pytest
from netproof.cases import behaviour


@pytest.mark.smoke
@behaviour("NPG-01", via=["pod-ip"], drawn=True)
def test_drawn_policies(apply, expect, drawn):
    """All pods to each other on all ports that they serve, and to the outside: open where no policy isolates or some rule allows."""
    apply(*drawn.policies)

    expect(*drawn.flows).as_ruled(pod_blocks=drawn.pod_blocks)
