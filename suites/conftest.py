"""The fixtures of a case. Each is a window on the one `case` that the plugin runs, controls and judges."""

from __future__ import annotations

import pytest
from netproof.cases import CASE
from netproof.model.flow import Family, Protocol


@pytest.fixture(autouse=True)
def case(request):
    """The case at work; its parameter says where it stands on the axes."""
    return request.node.stash[CASE]


@pytest.fixture
def protocol(case):
    """The transport protocol of this case."""
    return Protocol(case.axes.values["protocol"])


@pytest.fixture
def family(case):
    """The IP family of this case."""
    return Family(case.axes.values["family"])


@pytest.fixture
def via(case):
    """By which address the destination is reached."""
    return case.axes.values["via"]


@pytest.fixture
def direction(case):
    """`ingress` or `egress`: which side of its pods a policy of this case is about."""
    return case.axes.values["direction"]


@pytest.fixture
def order(case):
    """`forward` or `backward`: in which order things are said that shall mean the same in any."""
    return case.axes.values["order"]


@pytest.fixture
def world(case):
    """Pods, Services and addresses; what it makes is gone after the case."""
    return case.world


@pytest.fixture
def apply(case):
    """Queue policies: they are applied when `expect` has done its control round."""
    return case.apply


@pytest.fixture
def remove(case):
    """Queue policies for removal."""
    return case.remove


@pytest.fixture
def relabel(case):
    """Queue labels of a pod or a namespace, as policies are queued; they are taken off after the case."""
    return case.relabel


@pytest.fixture
def repeat(case):
    """As often as a change is to be timed."""
    return range(case.case.runner.repeat)


@pytest.fixture
def restart_agents(case):
    """Queue a restart of the network's agents (feature AgentRestart); what the step changes happens while they are away."""
    return case.restart_agents


@pytest.fixture
def expect(case):
    """Say what must hold now; it waits, repeats and judges."""
    return case.expect


@pytest.fixture
def drawn(case):
    """The generated policies of this case, and the flows that show what they do."""
    return case.drawn
