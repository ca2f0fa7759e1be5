"""A world on the test cluster, in this process: for tests that interfere with it from inside."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from netproof.cluster.teardown import remove_namespaces
from netproof.kube.client import Api
from netproof.kube.objects import path
from netproof.kube.stream import forward
from netproof.model.history import Limits
from netproof.probe.fleet import Fleet
from netproof.world import world as worlds
from netproof.world.placement import schedulable
from netproof.world.runner import Runner

if TYPE_CHECKING:
    from realcluster import Kind


@contextmanager
def a_world(kind: Kind, api: Api) -> Iterator[worlds.World]:
    """A world of its own, gone afterwards."""
    token, run = secrets.token_hex(16), f"w{secrets.token_hex(2)}"
    nodes = api.list(path("Node"))
    runner = Runner(
        api=api,
        fleet=Fleet(token, run, alive=api.alive),
        run=run,
        worker="t",
        token=token,
        image=kind.image,
        nodes=schedulable(nodes),
        every_node=nodes,
        dial=lambda namespace, pod, port: lambda: forward(api, namespace, pod, port),
        progress=lambda *_: None,
        limits=Limits(cap=20),
    )
    world = worlds.make(runner, 1)
    try:
        yield world
    finally:
        world.discard()
        runner.fleet.close()
        assert remove_namespaces(api, run, 120, lambda *_: None) == []
