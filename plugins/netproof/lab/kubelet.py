"""The kubelets of all nodes: every bound pod gets a life of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from netproof.lab.facts import Pool, key
from netproof.lab.life import Ground, Life, Programmed, at_once
from netproof.lab.seams import NODES, Runtime

if TYPE_CHECKING:
    from netproof.lab.store import Store


class Kubelet:
    """The kubelets of all nodes in one. `run` ends only by cancellation, or by the error of a pod's life that nobody foresaw.

    `programmed` returns once the data plane has in force what a version of the store says. A pod's addresses are published first and its
    process starts then, so a policy older than the pod holds from its first instruction on.
    """

    def __init__(self, store: Store, runtime: Runtime, *, programmed: Programmed = at_once) -> None:
        pools = {node: Pool(range(2, 255)) for node in NODES}
        self._ground = Ground(store, runtime, pools, programmed)
        self._lives: dict[str, Life] = {}  # by uid

    async def run(self) -> None:
        """Follow the store."""
        store = self._ground.store
        async with asyncio.TaskGroup() as group:
            while True:
                seen = store.version
                self._look(group)
                await store.newer(seen)

    def _look(self, group: asyncio.TaskGroup) -> None:
        bound = [pod for pod in self._ground.store.list("Pod") if pod["spec"].get("nodeName") in NODES]
        pods = {pod["metadata"]["uid"]: pod for pod in bound}
        for uid, life in self._lives.items():
            life.see(pods.get(uid))
        for uid in pods.keys() - self._lives.keys():
            namesakes = [life.over for life in self._lives.values() if life.key == key(pods[uid])]
            self._lives[uid] = life = Life(self._ground, group, pods[uid])
            group.create_task(self._live(uid, life, namesakes))

    async def _live(self, uid: str, life: Life, namesakes: list[asyncio.Event]) -> None:
        for former in namesakes:
            await former.wait()
        try:
            await life.run()
        finally:
            life.over.set()
            del self._lives[uid]
