"""The kubelets of all nodes: every bound pod gets addresses, a process, probes, restarts, and an end in grace."""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from netproof.lab.facts import condition, is_deleted, key, stamp
from netproof.lab.plumbing import connect, either
from netproof.lab.podspec import Wanting, launch
from netproof.lab.seams import NODES, Launch, Object, Runtime, node_addresses, pod_networks

if TYPE_CHECKING:
    from netproof.lab.store import Store


class Kubelet:
    """The kubelets of all nodes in one. `run` ends only by cancellation, or by the error of a pod's life that nobody foresaw.

    `programmed` returns once the data plane has in force what a version of the store says. A pod's addresses are published first and its
    process starts then, so a policy older than the pod holds from its first instruction on.
    """

    def __init__(self, store: Store, runtime: Runtime, *, programmed: Callable[[int], Awaitable[None]]) -> None:
        self.store, self.runtime, self.programmed = store, runtime, programmed
        self.pools = {node: deque(range(2, 255)) for node in NODES}  # what has been free for the longest comes first
        self._lives: dict[str, Life] = {}

    async def run(self) -> None:
        """Follow the store."""
        async with asyncio.TaskGroup() as group:
            while True:
                seen, bound = self.store.version, self._bound()
                for name, life in self._lives.items():
                    life.see(bound.get(name))
                for name in bound.keys() - self._lives.keys():
                    self._lives[name] = Life(self, bound[name])
                    group.create_task(self._live(name))
                await self.store.newer(seen)

    def _bound(self) -> dict[str, Object]:
        return {key(pod): pod for pod in self.store.list("Pod") if pod["spec"].get("nodeName") in NODES}

    async def _live(self, name: str) -> None:
        """The pods of a name, one after the other."""
        while life := self._lives.get(name):
            await life.run()
            del self._lives[name]
            if pod := self._bound().get(name):
                self._lives[name] = Life(self, pod)


class Life:
    """One pod from its binding to its removal."""

    def __init__(self, kubelet: Kubelet, pod: Object) -> None:
        self._kubelet, self._store, self._runtime = kubelet, kubelet.store, kubelet.runtime
        self._pod, self._key, self._spec = pod, key(pod), pod["spec"]
        self._main: Object = self._spec["containers"][0]
        self._number = 0  # the last part of its addresses
        self._deleted, self._hurry = asyncio.Event(), asyncio.Event()
        self._states: dict[str, Object] = {}  # of its containers, by name
        self._ready, self._restarts = False, 0
        self.see(pod)

    def see(self, pod: Object | None) -> None:
        """What there is under its name now."""
        there = pod is not None and pod["metadata"]["uid"] == self._pod["metadata"]["uid"]
        if pod is not None and there:
            self._pod = pod
        if not there or is_deleted(self._pod):
            self._deleted.set()
            if not there or not self._grace():
                self._hurry.set()

    async def run(self) -> None:
        """All of it."""
        await self._work()
        await self._deleted.wait()
        await self._runtime.stop(self._key, 0)
        self._runtime.discard(self._key)
        if current := self._current():
            self._store.remove("Pod", current["metadata"]["name"], current["metadata"]["namespace"])
        if self._number:
            self._kubelet.pools[self._spec["nodeName"]].append(self._number)

    async def _work(self) -> None:
        """From addresses to a process that has ended for good."""
        launches, code = await self._launches(), 0
        await either(self._deleted.wait(), self._kubelet.programmed(self._store.version))
        for container, launched in launches:
            if not code and not self._deleted.is_set():
                code = await self._run(container, launched)
        if not self._deleted.is_set():
            self._say(phase="Failed" if code else "Succeeded")

    async def _launches(self) -> list[tuple[Object, Launch]]:
        """The init containers and the container, as soon as all is there that they refer to; none where the pod ends before."""
        while not self._deleted.is_set():
            try:
                addresses = self._addresses()
                containers = [*(self._spec.get("initContainers") or []), self._main]
                made = [(one, launch(self._pod, one, addresses, self._store)) for one in containers]
            except Wanting as wanting:
                self._tell(self._main, "waiting", reason="CreateContainerConfigError", message=str(wanting))
                await either(self._deleted.wait(), self._store.newer(self._store.version))
            else:
                self._states.clear()
                own, host = ([{"ip": address} for address in pair] for pair in (addresses, node_addresses(self._spec["nodeName"])))
                self._say(podIP=addresses[0], podIPs=own, hostIP=host[0]["ip"], hostIPs=host, startTime=stamp())
                return made
        return []

    def _addresses(self) -> tuple[str, ...]:
        node = self._spec["nodeName"]
        if self._spec.get("hostNetwork"):
            return node_addresses(node)
        if not self._number and not self._kubelet.pools[node]:
            raise Wanting(f"all addresses of node {node} are in use")
        self._number = self._number or self._kubelet.pools[node].popleft()
        return tuple(str(ipaddress.ip_network(network)[self._number]) for network in pod_networks(node))

    async def _run(self, container: Object, launched: Launch) -> int:
        """Run a container until it has ended for good: its exit code."""
        policy = self._spec.get("restartPolicy", "Always")
        for self._restarts in itertools.count():
            code = await self._once(container, launched)
            if self._deleted.is_set() or policy == "Never" or (code == 0 and (policy == "OnFailure" or container is not self._main)):
                break
            if self._restarts:
                self._tell(container, "waiting", reason="CrashLoopBackOff", message=f"back-off after exit code {code}")
                await either(self._deleted.wait(), asyncio.sleep(min(5.0 * 2**self._restarts, 300.0)))
        return code

    async def _once(self, container: Object, launched: Launch) -> int:
        """Its exit code. It is ended with the pod, and when its liveness probe fails."""
        await self._runtime.stop(self._key, 0)  # what ended before, and its network
        try:
            await self._runtime.start(launched)
        except OSError as error:
            self._tell(container, "terminated", exitCode=128, reason="StartError", message=str(error))
            return 128
        self._tell(container, "running", startedAt=stamp())
        ended = asyncio.ensure_future(self._runtime.wait(self._key))
        readiness = asyncio.ensure_future(self._follow(container))
        try:
            await either(self._deleted.wait(), asyncio.shield(ended), asyncio.shield(readiness), self._unhealthy(container))
            if not ended.done():
                await either(self._hurry.wait(), self._runtime.stop(self._key, self._grace()))
                await self._runtime.stop(self._key, 0)
            code = await ended
        finally:
            readiness.cancel()
        message = self._last_words() if code else ""
        self._tell(container, "terminated", exitCode=code, reason="Error" if code else "Completed", message=message, finishedAt=stamp())
        return code

    async def _follow(self, container: Object) -> None:
        """Goes on while the pod ends: an endpoint that still serves then is of use to somebody."""
        async for passed in _verdicts(container.get("readinessProbe"), self._pod, self._runtime):
            self._ready = passed
            self._say()

    async def _unhealthy(self, container: Object) -> None:
        async for passed in _verdicts(container.get("livenessProbe"), self._pod, self._runtime):
            if not passed:
                return

    def _grace(self) -> float:
        """How long it may take to end: what the deletion says, else what the pod says."""
        said = self._spec.get("terminationGracePeriodSeconds", 30)
        return float(self._pod["metadata"].get("deletionGracePeriodSeconds", said))

    def _last_words(self) -> str:
        with suppress(KeyError):  # it was ended, and its log with it
            return self._runtime.log(self._key).decode(errors="replace").rstrip().rpartition("\n")[2]
        return ""

    def _tell(self, container: Object, state: str, **said: Any) -> None:
        """Write what has become of a container."""
        self._states[container["name"]] = {state: said}
        runs = state == "running" and container is self._main
        self._ready = runs and "readinessProbe" not in container
        self._say(**({"phase": "Running"} if runs else {}))

    def _say(self, **changes: Any) -> None:
        """Write the pod's status."""
        if current := self._current():
            status = current.get("status") or {}
            holds = {"PodScheduled": True, "Ready": self._ready}
            changes["conditions"] = [condition(status.get("conditions") or [], name, holds=held) for name, held in holds.items()]
            for part in ("initContainers", "containers"):
                changes[f"{part[:-1]}Statuses"] = [self._container(one) for one in self._spec.get(part) or []]
            self._pod = self._store.update(current | {"status": status | changes})

    def _container(self, container: Object) -> Object:
        state = self._states.get(container["name"], {"waiting": {"reason": "PodInitializing"}})
        said = {"ready": self._ready, "restartCount": self._restarts, "state": state}
        return {"name": container["name"], "image": container.get("image", ""), "imageID": ""} | said

    def _current(self) -> Object | None:
        """The pod in the store, if it is still this one."""
        metadata = self._pod["metadata"]
        found = self._store.get("Pod", metadata["name"], metadata["namespace"])
        return found if found and found["metadata"]["uid"] == metadata["uid"] else None


async def _verdicts(probe: Object | None, pod: Object, runtime: Runtime) -> AsyncIterator[bool]:
    """Attempts, the first at once, then one a period; yields when a row of equal results has reached its threshold. No probe: none."""
    if not probe:
        await asyncio.Event().wait()
        return
    await asyncio.sleep(probe.get("initialDelaySeconds") or 0)
    thresholds = {True: probe.get("successThreshold") or 1, False: probe.get("failureThreshold") or 3}
    last, row = False, 0
    while True:
        began = time.monotonic()
        passed = await _passes(probe, pod, runtime)
        last, row = passed, row + 1 if passed is last else 1
        if row == thresholds[passed]:
            yield passed
        await asyncio.sleep(max(0.0, began + (probe.get("periodSeconds") or 10) - time.monotonic()))


async def _passes(probe: Object, pod: Object, runtime: Runtime) -> bool:
    """One attempt, within its time-out. Whatever keeps it from succeeding is a failure."""
    with suppress(OSError, KeyError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        async with asyncio.timeout(probe.get("timeoutSeconds") or 1):
            if "exec" in probe:
                process = await runtime.execute(key(pod), probe["exec"]["command"], stdin=False)
                try:
                    return await process.wait() == 0
                finally:
                    with suppress(ProcessLookupError):  # it has ended
                        process.kill()
            action = probe.get("tcpSocket") or probe["httpGet"]
            ports = {entry.get("name"): entry["containerPort"] for entry in pod["spec"]["containers"][0].get("ports") or []}
            address = pod["status"]["podIP"], ports.get(action["port"], action["port"])
            reader, writer = await connect(runtime, pod["spec"]["nodeName"], address)
            try:
                return "tcpSocket" in probe or await _is_served(action.get("path", "/"), reader, writer)
            finally:
                writer.close()
    return False


async def _is_served(path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Whether the answer's status is one of success or of redirection."""
    writer.write(f"GET {path} HTTP/1.1\r\nHost: lab\r\nUser-Agent: kube-probe/lab\r\nConnection: close\r\n\r\n".encode())
    words = (await reader.readuntil(b"\n")).split()
    return len(words) > 1 and words[1].isdigit() and 200 <= int(words[1]) < 400
