"""A pod's life on its node: addresses, a process, probes, restarts, and an end in grace."""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from netproof.lab.facts import Pool, is_deleted, key, stamp
from netproof.lab.plumbing import either, within
from netproof.lab.podspec import Wanting, launch, require_supported
from netproof.lab.podstatus import Said, running, status, terminated, waiting
from netproof.lab.probing import passes, verdicts
from netproof.lab.seams import Launch, Object, Runtime, node_addresses, pod_networks

if TYPE_CHECKING:
    from netproof.lab.store import Store

LOOK = 0.2  # seconds between two looks at a process: the runtime tells nobody when one ends
KILLED = 137
NOT_STARTED = 128

Programmed = Callable[[int], Awaitable[None]]


async def at_once(_version: int) -> None:
    """What a kubelet without a data plane waits for."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What all pods live on."""

    store: Store
    runtime: Runtime
    pools: dict[str, Pool]
    programmed: Programmed


class Life:
    """One pod from its binding to its removal; `over` is set after that."""

    def __init__(self, ground: Ground, group: asyncio.TaskGroup, pod: Object) -> None:
        self._store, self._runtime, self._ground, self._group = ground.store, ground.runtime, ground, group
        self.key, self.over = key(pod), asyncio.Event()
        self._pod, self._said = pod, Said(since=stamp())
        self._number: int | None = None
        self._deletion, self._hurry = asyncio.Event(), asyncio.Event()
        self._enough = asyncio.Event()  # deleted, or active for too long
        self._readiness: asyncio.Task[None] | None = None
        self.see(pod)

    def see(self, pod: Object | None) -> None:
        """The pod as it is now; None where it has been removed."""
        if pod is not None:
            self._pod = pod
        if pod is None or is_deleted(pod):
            self._deletion.set()
            self._enough.set()
        if self._deletion.is_set() and (pod is None or self._grace() == 0):
            self._hurry.set()

    async def run(self) -> None:
        """All of it."""
        limit = self._pod["spec"].get("activeDeadlineSeconds")
        alarm = asyncio.get_running_loop().call_later(limit, self._enough.set) if limit else None
        try:
            await self._work()
            if not self._deletion.is_set() and self._enough.is_set():
                await self._expire()
            await self._deletion.wait()
            await self._end()
        finally:
            if alarm:
                alarm.cancel()
            self._stop_probing()

    # what it says

    def _say(self, **changes: Any) -> None:
        self._said = replace(self._said, **changes)
        current = self._current()
        if current is not None:
            self._store.update(current | {"status": status(current, self._said)})

    def _current(self) -> Object | None:
        """The pod in the store, if it is still this one."""
        metadata = self._pod["metadata"]
        found = self._store.get("Pod", metadata["name"], metadata["namespace"])
        return found if found is not None and found["metadata"]["uid"] == metadata["uid"] else None

    # from addresses to a process that has ended for good

    async def _work(self) -> None:
        launches = await self._launches()
        if not launches:
            return
        *inits, main = launches
        await either(self._enough.wait(), self._ground.programmed(self._store.version))
        for launched in inits:
            if await self._run(launched, self._tell_init, self._retries_init) != 0:
                break
            await self._runtime.stop(self.key, 0)
        else:
            self._say(initialized=True)
            await self._run(main, self._tell, self._restarts)
        if not self._enough.is_set():
            self._finish()

    async def _launches(self) -> list[Launch]:
        """The init containers' and the container's, as soon as all is there that they refer to; none where the pod ends before."""
        while not self._enough.is_set():
            try:
                made = self._prepare()
            except Wanting as wanting:
                self._say(state=waiting(wanting.reason, str(wanting)))
            else:
                reason = "PodInitializing" if len(made) > 1 else "ContainerCreating"
                self._say(addresses=made[0].addresses, state=waiting(reason))
                return made
            await either(self._enough.wait(), self._store.newer(self._store.version))
        return []

    def _prepare(self) -> list[Launch]:
        require_supported(self._pod)
        addresses, spec = self._addresses(), self._pod["spec"]
        namespace = self._pod["metadata"]["namespace"]
        containers = [*(spec.get("initContainers") or []), spec["containers"][0]]
        return [launch(self._pod, c, addresses, lambda name: self._store.get("ConfigMap", name, namespace)) for c in containers]

    def _addresses(self) -> tuple[str, ...]:
        node = self._pod["spec"]["nodeName"]
        if self._pod["spec"].get("hostNetwork"):
            return node_addresses(node)
        self._number = self._number or self._ground.pools[node].take()
        if self._number is None:
            raise Wanting("FailedCreatePodSandBox", f"all addresses of node {node} are in use")
        return tuple(str(ipaddress.ip_network(network)[self._number]) for network in pod_networks(node))

    async def _run(self, launched: Launch, tell: Callable[[Object], None], again: Callable[[int], bool]) -> int | None:
        """Run a container until it has ended for good: its exit code, or None where the pod's end came first."""
        for attempt in itertools.count():
            code = await self._once(launched, tell)
            if code is None or not again(code):
                return code
            await self._runtime.stop(self.key, 0)
            if attempt:
                tell(waiting("CrashLoopBackOff", f"back-off after exit code {code}"))
                await within(self._enough, min(5.0 * 2**attempt, 300.0))
            if self._enough.is_set():
                return None
        return None

    async def _once(self, launched: Launch, tell: Callable[[Object], None]) -> int | None:
        try:
            await self._runtime.start(launched)
        except OSError as error:
            tell(terminated(NOT_STARTED, {}, reason="StartError", message=str(error)))
            return NOT_STARTED
        state = running()
        tell(state)
        code = await self._watch()
        if code is not None:
            self._stop_probing()
            tell(terminated(code, state))
        return code

    def _tell(self, state: Object) -> None:
        """What has become of the container."""
        former, container = self._said.state or {}, self._container()
        last = former if "terminated" in former else self._said.last
        if "running" in state:
            ready = not {"startupProbe", "readinessProbe"} & container.keys()
            restarts = self._said.restarts + (last is not None)
            started = "startupProbe" not in container
            self._say(phase="Running", state=state, last=last, restarts=restarts, started=started, ready=ready)
        else:
            self._say(state=state, last=last, started=False, ready=False)

    def _tell_init(self, state: Object) -> None:
        """What has become of the init container that was last heard of, or of the next where that one is done."""
        inits = self._said.inits
        done = not inits or inits[-1].get("terminated", {}).get("exitCode") == 0
        self._say(inits=(*(inits if done else inits[:-1]), state))

    def _restarts(self, code: int) -> bool:
        policy = self._pod["spec"].get("restartPolicy", "Always")
        return policy == "Always" or (policy == "OnFailure" and code != 0)

    def _retries_init(self, code: int) -> bool:
        return code != 0 and self._pod["spec"].get("restartPolicy", "Always") != "Never"

    def _container(self) -> Object:
        container: Object = self._pod["spec"]["containers"][0]
        return container

    # while it runs

    async def _watch(self) -> int | None:
        """The exit code once the process has ended or been killed by its liveness probe; None at the pod's end."""
        ended = asyncio.ensure_future(self._ended())
        failed = asyncio.ensure_future(self._fail())
        try:
            await either(self._enough.wait(), asyncio.shield(ended), asyncio.shield(failed))
            if ended.done():
                return ended.result()
            if not failed.done():
                return None
            failed.result()
        finally:
            ended.cancel()
            failed.cancel()
        await self._runtime.stop(self.key, self._grace())
        return KILLED

    async def _ended(self) -> int:
        while (code := self._runtime.exit_code(self.key)) is None:
            await asyncio.sleep(LOOK)
        return code

    async def _fail(self) -> None:
        """Returns when the startup or the liveness probe says that the container is to be killed; never for an init container."""
        container = self._container() if self._said.initialized else {}
        if not await self._passes_first(container.get("startupProbe")):
            return
        if "readinessProbe" in container:
            self._readiness = self._group.create_task(self._follow_readiness(container["readinessProbe"]))
        if probe := container.get("livenessProbe"):
            async for passed in verdicts(probe, lambda: self._passes(probe)):
                if not passed:
                    return
        await asyncio.Event().wait()

    async def _passes_first(self, probe: Object | None) -> bool:
        """Whether the container starts up; without a startup probe it has."""
        if not probe:
            return True
        async for passed in verdicts(probe, lambda: self._passes(probe)):
            if passed:
                self._say(started=True, ready="readinessProbe" not in self._container())
            return passed
        return False

    async def _follow_readiness(self, probe: Object) -> None:
        """Goes on while the pod ends: an endpoint that still serves then is of use to somebody."""
        async for passed in verdicts(probe, lambda: self._passes(probe)):
            self._say(ready=passed)

    async def _passes(self, probe: Object) -> bool:
        return await passes(probe, self._pod, self._said.addresses[0], self._runtime)

    def _stop_probing(self) -> None:
        if self._readiness:
            self._readiness.cancel()
            self._readiness = None

    # its end

    def _finish(self) -> None:
        """It has ended by itself. Its network stays until it is deleted, as its log does."""
        codes = [state["terminated"]["exitCode"] for state in (*self._said.inits, self._said.state or {}) if "terminated" in state]
        self._say(phase="Failed" if any(codes) else "Succeeded", ready=False)

    async def _expire(self) -> None:
        await self._runtime.stop(self.key, self._grace())
        self._stop_probing()
        message = "the pod was active for longer than its activeDeadlineSeconds"
        state = terminated(KILLED, self._said.state or {})
        self._say(phase="Failed", reason="DeadlineExceeded", message=message, state=state, ready=False, started=False)

    def _grace(self) -> float:
        """How long it may take to end: what the deletion says, else what the pod says."""
        said = self._pod["spec"].get("terminationGracePeriodSeconds", 30)
        return float(self._pod["metadata"].get("deletionGracePeriodSeconds", said))

    async def _end(self) -> None:
        """In grace, unless its removal is forced, before or meanwhile."""
        deadline = time.monotonic() + self._grace()
        if self._said.phase == "Running":
            await either(within(self._hurry, deadline - time.monotonic()), self._pre_stop())
        left = 0.0 if self._hurry.is_set() else max(0.0, deadline - time.monotonic())
        stop = asyncio.ensure_future(self._runtime.stop(self.key, left))
        if left:
            await either(self._hurry.wait(), asyncio.shield(stop))
        if left and not stop.done():
            await self._runtime.stop(self.key, 0)
        await stop
        self._stop_probing()
        self._runtime.discard(self._pod["metadata"]["uid"])
        await self._remove()
        if self._number is not None:
            self._ground.pools[self._pod["spec"]["nodeName"]].give(self._number)

    async def _pre_stop(self) -> None:
        hook = (self._container().get("lifecycle") or {}).get("preStop") or {}
        if "sleep" in hook:
            await asyncio.sleep(hook["sleep"].get("seconds", 0))
        if "exec" in hook:
            with suppress(OSError, KeyError):
                process = await self._runtime.execute(self.key, hook["exec"].get("command") or [], stdin=False)
                await process.wait()

    async def _remove(self) -> None:
        while (current := self._current()) and current["metadata"].get("finalizers"):
            await self._store.newer(self._store.version)
        if current:
            self._store.remove("Pod", current["metadata"]["name"], current["metadata"]["namespace"])
