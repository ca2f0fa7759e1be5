"""The lab's control plane: scheduling, endpoints, balancers, pods' lives and DNS, on a real store and a runtime that only keeps book."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

import pytest
from netproof.lab import podspec
from netproof.lab.controllers import Controllers
from netproof.lab.dns import Answer, Names, Question, Record, answer
from netproof.lab.dns import names as names_of
from netproof.lab.endpoints import slices
from netproof.lab.kubelet import Kubelet
from netproof.lab.machine import Machine
from netproof.lab.nameserver import DnsServers, reply
from netproof.lab.nodes import first_objects
from netproof.lab.resources import completed
from netproof.lab.seams import NODES, Launch, Object
from netproof.lab.store import Store
from netproof.probe import agent
from netproof.world import pods
from netproof.world.placement import Node
from test_lab_machine import in_lab, needs_lab

# --- what the control plane works on -----------------------------------------------------------------------------------------


class Local(socket.socket):
    """Stands for a socket in some namespace: it binds and connects on the loopback instead, to ports of its own."""

    taken: dict[tuple[str, int, int], int]
    place: str

    def bind(self, address: Any) -> None:
        super().bind(("::1", 0))
        self.taken[self.place, address[1], self.type] = self.getsockname()[1]

    def connect(self, address: Any) -> None:
        super().connect(("127.0.0.1", address[1]))


class Book:
    """A runtime that starts nothing."""

    def __init__(self) -> None:
        self.started: list[Launch] = []
        self.running: dict[str, Launch] = {}
        self.stopped: list[tuple[str, float]] = []
        self.codes: dict[str, int] = {}
        self.discarded: list[str] = []
        self.announced: list[tuple[str, str]] = []
        self.taken: dict[tuple[str, int, int], int] = {}
        self.broken = ""
        self.stopping = asyncio.Event()  # a process ends when it is asked to
        self.stopping.set()

    async def start(self, launch: Launch) -> None:
        if self.broken:
            raise OSError(2, self.broken)
        assert launch.key not in self.running
        self.started.append(launch)
        self.running[launch.key] = launch
        self.codes.pop(launch.key, None)

    async def stop(self, key: str, grace: float) -> None:
        if key not in self.running:
            return
        self.stopped.append((key, grace))
        if grace and key not in self.codes:
            await self.stopping.wait()
        self.running.pop(key, None)
        self.codes.setdefault(key, 143)

    def discard(self, key: str) -> None:
        self.discarded.append(key)

    async def wait(self, key: str) -> int:
        return int(await true(lambda: str(self.codes.get(key, ""))))

    def log(self, key: str) -> bytes:
        return b"one\nmy last words\n"

    def socket_in(self, key: str, family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket:
        made = Local(family, kind)
        made.taken, made.place = self.taken, key
        return made

    def announce(self, address: str, node: str) -> None:
        self.announced.append((address, node))


def worked(story: Callable[[Store, Book], Awaitable[None]], *workers: Callable[[Store, Any], Coroutine[Any, Any, None]]) -> None:
    """Let a story happen beside these workers, on a store with the lab's nodes and namespaces."""

    async def told() -> None:
        store, book = Store(), Book()
        for obj in first_objects():
            if obj["kind"] != "Pod":
                store.create(obj)
        tasks = [asyncio.create_task(worker(store, book)) for worker in workers]
        tale = asyncio.ensure_future(story(store, book))
        done, _ = await asyncio.wait({tale, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()

    asyncio.run(asyncio.wait_for(told(), 8))


def controllers(store: Store, book: Any) -> Coroutine[Any, Any, None]:
    return Controllers(store, book).run()


async def at_once(_version: int) -> None:
    """What a kubelet without a data plane waits for."""


def kubelet(store: Store, book: Any) -> Coroutine[Any, Any, None]:
    return Kubelet(store, book, programmed=at_once).run()


async def true(holds: Callable[[], Any]) -> Any:
    """Wait until it holds."""
    while not (found := holds()):
        await asyncio.sleep(0.005)
    return found


def pod(name: str = "p", **spec: Any) -> Object:
    container = {"name": "agent", "image": "python", "command": ["python3", "/netproof/agent.py"]} | spec.pop("container", {})
    labels = spec.pop("labels", {"app": "web"})
    base = {"containers": [container], "restartPolicy": "Never", "terminationGracePeriodSeconds": 5}
    metadata = {"name": name, "namespace": "default", "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": base | spec, "status": {"phase": "Pending"}}


def serving(name: str, node: str = "lab-1", address: str = "10.244.1.7", *, ready: str = "True", **spec: Any) -> Object:
    """A pod as it stands when it runs."""
    made = pod(name, nodeName=node, **spec)
    made["metadata"]["uid"] = f"uid-{name}"
    six = f"fd00:244:0:1::{address.rpartition('.')[2]}"
    made["status"] = {"phase": "Running", "podIPs": [{"ip": address}, {"ip": six}], "conditions": [{"type": "Ready", "status": ready}]}
    return made


def service(name: str = "web", **spec: Any) -> Object:
    base = {
        "type": "ClusterIP",
        "clusterIP": "10.96.3.4",
        "clusterIPs": ["10.96.3.4"],
        "ipFamilies": ["IPv4"],
        "selector": {"app": "web"},
        "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}],
    }
    metadata = {"name": name, "namespace": "default", "uid": f"uid-{name}"}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": base | spec}


def balanced(name: str = "web", **spec: Any) -> Object:
    return service(name, type="LoadBalancer", ipFamilies=["IPv4", "IPv6"], **spec)


def changed(store: Store, obj: Object, part: str, **fields: Any) -> Object:
    """Write fields of `metadata`, `spec` or `status` as somebody else would."""
    now = store.get(obj["kind"], obj["metadata"]["name"], obj["metadata"]["namespace"])
    assert now is not None
    return store.update(now | {part: now[part] | fields})


def deleted(store: Store, obj: Object, *, grace: int = 5) -> Object:
    return changed(store, obj, "metadata", deletionTimestamp="2026-01-01T00:00:00Z", deletionGracePeriodSeconds=grace)


# --- controllers -------------------------------------------------------------------------------------------------------------


def reconciled(*objects: Object) -> Store:
    store = Store()
    for obj in (*first_objects(), *objects):
        store.create(obj)
    Controllers(store, Book()).reconcile()  # type: ignore[arg-type]
    return store


def placed(store: Store, name: str = "p") -> tuple[str, str]:
    """A pod's node, and the message of the condition that says why it has none."""
    found = store.get("Pod", name, "default")
    assert found is not None
    said = next(c for c in found["status"]["conditions"] if c["type"] == "PodScheduled")
    return found["spec"].get("nodeName", ""), said.get("message", "")


def test_pods_go_where_there_are_the_fewest() -> None:
    store = reconciled(*(pod(f"p{number}") for number in range(4)))

    assert [placed(store, f"p{number}")[0] for number in range(4)] == ["lab-3", "lab-1", "lab-2", "lab-3"]  # coredns is on 1 and 2


def test_a_node_selector_is_obeyed() -> None:
    assert placed(reconciled(pod(nodeSelector={"kubernetes.io/hostname": "lab-2"})))[0] == "lab-2"


def test_a_pod_that_fits_nowhere_says_why() -> None:
    node, message = placed(reconciled(pod(nodeSelector={"kubernetes.io/hostname": "lab-4"})))

    assert not node
    assert message == "0/3 nodes are available: none of them matches the pod's nodeSelector."


def ends(made: Sequence[Object]) -> list[tuple[str, bool, bool, bool]]:
    found = [(end["addresses"][0], end["conditions"]) for slice_ in made for end in slice_["endpoints"]]
    return [(address, said["ready"], said["serving"], said["terminating"]) for address, said in found]


def test_endpoints_are_the_pods_behind_a_service() -> None:
    leaving = serving("leaving", address="10.244.1.8")
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    finished = serving("finished", address="10.244.1.9")
    finished["status"]["phase"] = "Succeeded"
    pods = [serving("a"), serving("b", ready="False", address="10.244.1.6"), leaving, finished, serving("c", labels={})]

    (made,) = slices(service(), pods)

    assert ends([made]) == [
        ("10.244.1.7", True, True, False),
        ("10.244.1.6", False, False, False),
        ("10.244.1.8", False, True, True),
    ]
    assert made["metadata"]["labels"]["kubernetes.io/service-name"] == "web"
    assert made["ports"] == [{"name": "http", "protocol": "TCP", "port": 8080}]
    assert made["endpoints"][0]["targetRef"]["uid"] == "uid-a"


def test_not_ready_addresses_can_be_published() -> None:
    made = slices(service(publishNotReadyAddresses=True), [serving("a", ready="False")])

    assert ends(made) == [("10.244.1.7", True, False, False)]


def test_a_named_port_has_a_slice_for_each_of_its_numbers() -> None:
    def named(name: str, number: int) -> Object:
        return serving(name, container={"ports": [{"name": "http", "containerPort": number}]})

    target = [{"name": "http", "port": 80, "targetPort": "http"}]
    made = slices(service(ports=target), [named("a", 8080), named("b", 9090), named("c", 8080)])

    assert [(slice_["ports"][0]["port"], len(slice_["endpoints"])) for slice_ in made] == [(8080, 2), (9090, 1)]


def test_each_family_has_its_slice_and_subdomains_give_host_names() -> None:
    made = slices(service(ipFamilies=["IPv6", "IPv4"]), [serving("a", hostname="first", subdomain="web")])

    assert {slice_["addressType"] for slice_ in made} == {"IPv4", "IPv6"}
    assert [slice_["endpoints"][0]["hostname"] for slice_ in made] == ["first", "first"]


def test_slices_follow_their_services() -> None:
    async def story(store: Store, _book: Book) -> None:
        store.create(service())
        client = store.create(serving("a"))
        await true(lambda: ends(store.list("EndpointSlice", "default")) == [("10.244.1.7", True, True, False)])
        changed(store, client, "status", conditions=[{"type": "Ready", "status": "False"}])
        await true(lambda: ends(store.list("EndpointSlice", "default")) == [("10.244.1.7", False, False, False)])
        store.remove("Service", "web", "default")
        await true(lambda: not store.list("EndpointSlice", "default"))

    worked(story, controllers)


def given(store: Store, name: str = "web") -> list[str]:
    found = store.get("Service", name, "default") or {}
    return [entry["ip"] for entry in found.get("status", {}).get("loadBalancer", {}).get("ingress", [])]


def test_load_balancers_get_addresses() -> None:
    async def story(store: Store, book: Book) -> None:
        store.create(balanced())
        assert await true(lambda: given(store)) == ["172.31.0.1", "fd00:31::1"]
        store.create(balanced("other"))
        store.create(balanced("foreign", loadBalancerClass="example.com/other"))
        assert await true(lambda: given(store, "other")) == ["172.31.0.2", "fd00:31::2"]
        assert not given(store, "foreign")
        assert {address for address, node in book.announced if node in NODES} == {*given(store), *given(store, "other")}
        changed(store, balanced(), "spec", type="ClusterIP")
        await true(lambda: not given(store))
        assert ("172.31.0.1", "") in book.announced

    worked(story, controllers)


def test_local_balancers_lead_to_a_node_with_an_endpoint() -> None:
    async def story(store: Store, book: Book) -> None:
        store.create(balanced(externalTrafficPolicy="Local", healthCheckNodePort=32000))
        store.create(serving("a", "lab-2"))
        await true(lambda: ("172.31.0.1", "lab-2") in book.announced)
        await true(lambda: len(book.taken) == 3)
        assert [await asked(book, node) for node in NODES] == [(503, 0), (200, 1), (503, 0)]
        store.create(serving("b", "lab-3", "10.244.3.9"))
        store.remove("Pod", "a", "default")
        await true(lambda: ("172.31.0.1", "lab-3") in book.announced)
        assert await asked(book, "lab-2") == (503, 0)
        store.remove("Service", "web", "default")
        await true(lambda: book.announced[-1] == ("fd00:31::1", ""))

    worked(story, controllers)


async def asked(book: Book, node: str) -> tuple[int, int]:
    """Status and `localEndpoints` of a health-check port."""
    reader, writer = await asyncio.open_connection("::1", book.taken[node, 32000, socket.SOCK_STREAM])
    writer.write(b"GET / HTTP/1.0\r\nHost: lab\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    return int(text.split()[1]), int(text.partition('"localEndpoints": ')[2].partition(",")[0])


def test_a_deleted_namespace_is_emptied_and_goes() -> None:
    async def story(store: Store, book: Book) -> None:
        store.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns"}, "status": {"phase": "Active"}})
        for obj in (pod(), service()):
            store.create(obj | {"metadata": obj["metadata"] | {"namespace": "ns"}})
        await true(lambda: "ns/p" in book.running)
        namespace = store.get("Namespace", "ns")
        assert namespace
        store.update(namespace | {"metadata": namespace["metadata"] | {"deletionTimestamp": "2026-01-01T00:00:00Z"}})
        await true(lambda: store.get("Namespace", "ns") is None)
        assert not [obj for objects in store.snapshot().values() for obj in objects if obj["metadata"].get("namespace") == "ns"]
        assert book.stopped == [("ns/p", pytest.approx(5, abs=0.5))]

    worked(story, controllers, kubelet)


# --- a pod's life ------------------------------------------------------------------------------------------------------------


def bound(name: str = "p", **spec: Any) -> Object:
    return pod(name, nodeName="lab-1", **spec)


def seen(store: Store, name: str = "p") -> Object:
    return store.get("Pod", name, "default") or {"status": {}}


def state(store: Store, name: str = "p") -> Object:
    found: Object = seen(store, name)["status"].get("containerStatuses", [{"state": {}}])[0]
    return found


def ready(store: Store) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in seen(store)["status"].get("conditions", []))


def test_a_pod_runs_with_addresses_of_its_node() -> None:
    async def story(store: Store, book: Book) -> None:
        store.create(bound())
        await true(lambda: seen(store)["status"].get("phase") == "Running")
        status = seen(store)["status"]
        assert status["podIPs"] == [{"ip": "10.244.1.2"}, {"ip": "fd00:244:0:1::2"}]
        assert (status["hostIP"], ready(store)) == ("172.30.0.11", True)
        assert book.started[0].addresses == ("10.244.1.2", "fd00:244:0:1::2")
        assert book.started[0].command == ("python3", "/netproof/agent.py")

    worked(story, kubelet)


def test_addresses_are_in_force_before_the_process_starts() -> None:
    steps: list[str] = []

    async def story(store: Store, book: Book) -> None:
        async def programmed(version: int) -> None:
            steps.append(f"{seen(store)['status']['podIP']} {version == store.version} {len(book.started)}")

        running = asyncio.create_task(Kubelet(store, book, programmed=programmed).run())  # type: ignore[arg-type]
        store.create(bound())
        await true(lambda: book.started)
        running.cancel()

    worked(story)
    assert steps == ["10.244.1.2 True 0"]


def test_environment_and_files_come_from_the_objects() -> None:
    environment = [
        {"name": "UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "BOTH", "value": "$(NODE)-$$(NODE)-$(NONE)"},
    ]
    mounts = [{"name": "program", "mountPath": "/netproof"}]
    volumes = [{"name": "program", "configMap": {"name": "config"}}]
    container = {"env": environment, "volumeMounts": mounts, "args": ["--node=$(NODE)"]}

    async def story(store: Store, book: Book) -> None:
        made = store.create(bound(container=container, volumes=volumes))
        await true(lambda: state(store)["state"].get("waiting", {}).get("reason") == "CreateContainerConfigError")
        assert 'configmap "config" not found' in state(store)["state"]["waiting"]["message"]
        metadata = {"name": "config", "namespace": "default"}
        store.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"level": "high"}})
        (launch,) = await true(lambda: book.started)
        assert launch.environment.items() >= {
            "UID": made["metadata"]["uid"], "NODE": "lab-1", "IP": "10.244.1.2", "BOTH": "lab-1-$(NODE)-$(NONE)"
        }.items()  # fmt: skip
        assert launch.command[-1] == "--node=lab-1"
        assert launch.files == {"/netproof": {"level": "high"}}

    worked(story, kubelet)


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({}, "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n"),
        ({"hostNetwork": True}, "# node lab-1 has no resolver\n"),
        (
            {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"},
            "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n",
        ),
        ({"dnsPolicy": "Default"}, "# node lab-1 has no resolver\n"),
    ],
)
def test_resolv_conf(spec: Object, text: str) -> None:
    assert podspec.resolv_conf(bound(**spec)) == text


def test_hosts_has_the_pods_own_names() -> None:
    text = podspec.hosts(bound(hostname="first", subdomain="web"), ["10.244.1.2", "fd00::2"])

    assert "127.0.0.1\tlocalhost\n" in text
    assert text.endswith("10.244.1.2\tfirst.web.default.svc.cluster.local\tfirst\nfd00::2\tfirst.web.default.svc.cluster.local\tfirst\n")


def test_a_deleted_pod_ends_in_grace_and_its_address_rests() -> None:
    async def story(store: Store, book: Book) -> None:
        made = store.create(bound())
        await true(lambda: ready(store))
        book.stopping.clear()
        deleted(store, made)
        await true(lambda: book.stopped == [("default/p", pytest.approx(5, abs=0.5))])
        assert ready(store)
        book.stopping.set()
        assert not book.discarded
        await true(lambda: store.get("Pod", "p", "default") is None)
        assert book.discarded == ["default/p"]
        store.create(bound())
        await true(lambda: seen(store)["status"].get("podIP") == "10.244.1.3")

    worked(story, kubelet)


def test_a_forced_deletion_cuts_the_grace_short() -> None:
    async def story(store: Store, book: Book) -> None:
        made = store.create(bound())
        await true(lambda: ready(store))
        book.stopping.clear()
        deleted(store, made)
        await true(lambda: book.stopped == [("default/p", 5)])
        deleted(store, made, grace=0)
        await true(lambda: store.get("Pod", "p", "default") is None)
        assert book.stopped[1:] == [("default/p", 0)]

    worked(story, kubelet)


def test_a_pod_that_has_no_node_goes_when_it_is_deleted() -> None:
    async def story(store: Store, _book: Book) -> None:
        made = store.create(pod(nodeSelector={"no": "node"}) | {"metadata": pod()["metadata"] | {"finalizers": ["a/b"]}})
        await true(lambda: "none of them matches" in placed(store)[1] if seen(store)["status"].get("conditions") else "")
        deleted(store, made)
        await asyncio.sleep(0.01)
        changed(store, made, "metadata", finalizers=[])
        await true(lambda: store.get("Pod", "p", "default") is None)

    worked(story, controllers, kubelet)


def test_a_namesake_waits_until_the_former_is_gone() -> None:
    async def story(store: Store, book: Book) -> None:
        store.create(bound())
        await true(lambda: ready(store))
        book.stopping.clear()
        deleted(store, bound())
        await true(lambda: book.stopped)
        store.remove("Pod", "p", "default")
        second = store.create(bound())
        book.stopping.set()
        await true(lambda: ready(store))
        assert seen(store)["metadata"]["uid"] == second["metadata"]["uid"]
        assert len(book.started) == 2

    worked(story, kubelet)


@pytest.mark.parametrize(("code", "phase"), [(0, "Succeeded"), (3, "Failed")])
def test_a_pod_that_is_never_restarted_ends_in_a_phase(code: int, phase: str) -> None:
    async def story(store: Store, book: Book) -> None:
        store.create(bound())
        await true(lambda: ready(store))
        book.codes["default/p"] = code
        await true(lambda: seen(store)["status"]["phase"] == phase)
        ended = state(store)["state"]["terminated"]
        assert (ended["exitCode"], ended["message"]) == (code, "my last words" if code else "")
        assert not ready(store)

    worked(story, kubelet)


def test_a_pod_is_restarted_at_once_and_then_held_back() -> None:
    async def story(store: Store, book: Book) -> None:
        store.create(bound(restartPolicy="OnFailure"))
        await true(lambda: ready(store))
        book.codes["default/p"] = 1
        await true(lambda: state(store)["restartCount"] == 1)
        book.codes["default/p"] = 1
        await true(lambda: state(store)["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff")
        assert seen(store)["status"]["phase"] == "Running"
        deleted(store, bound())
        await true(lambda: store.get("Pod", "p", "default") is None)

    worked(story, kubelet)


def test_what_cannot_be_started_says_why() -> None:
    async def story(store: Store, book: Book) -> None:
        book.broken = "no such folder"
        store.create(bound())
        store.create(bound("image", container={"command": []}))
        await true(lambda: seen(store)["status"].get("phase") == "Failed")
        assert "no such folder" in state(store)["state"]["terminated"]["message"]
        assert "needs a command" in state(store, "image")["state"]["waiting"]["message"]
        deleted(store, bound("image"))
        await true(lambda: store.get("Pod", "image", "default") is None)

    worked(story, kubelet)


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"container": {"lifecycle": {}, "envFrom": []}, "hostAliases": []}, "envFrom, hostAliases, lifecycle"),
        ({"container": {"startupProbe": {"tcpSocket": {"port": 1}}}}, "startupProbe"),
        ({"container": {"readinessProbe": {"httpGet": {"port": 1, "scheme": "HTTPS"}}}}, "scheme"),
        ({"container": {"livenessProbe": {"grpc": {"port": 1}}}}, "grpc"),
        ({"volumes": [{"name": "scratch", "emptyDir": {"medium": "Memory"}}]}, "medium"),
        ({"initContainers": [{"name": "proxy", "command": ["proxy"], "restartPolicy": "Always"}]}, "sidecars"),
        ({"containers": [{"name": name, "command": [name]} for name in "ab"]}, "several containers"),
    ],
)
def test_what_the_lab_does_not_run_is_refused(spec: Object, why: str) -> None:
    async def story(store: Store, _book: Book) -> None:
        store.create(bound(**spec))
        waiting = await true(lambda: state(store)["state"].get("waiting"))
        assert waiting["message"] == f"the lab does not run pods with {why}"

    worked(story, kubelet)


def test_the_probe_pods_of_a_world_are_run() -> None:
    recipe = pods.Recipe("run", "world", "token", "image")
    made = pods.pod("a", "default", Node("lab-1", "lab-1", ()), recipe, readiness=True)

    async def story(store: Store, book: Book) -> None:
        store.create(pods.program("default", recipe))
        store.create(completed(made | {"spec": made["spec"] | {"nodeName": "lab-1"}}))
        (launch,) = await true(lambda: book.started)
        assert launch.command == ("python3", "-I", "/netproof/agent.py", "serve")

    worked(story, kubelet)


def test_init_containers_run_one_after_the_other() -> None:
    inits = [{"name": name, "command": [name]} for name in ("first", "second")]

    async def story(store: Store, book: Book) -> None:
        store.create(bound(initContainers=inits))
        for number, name in enumerate(("first", "second")):
            await true(lambda count=number: len(book.started) == count + 1)
            assert book.started[-1].command == (name,)
            assert seen(store)["status"]["phase"] == "Pending"
            assert not ready(store)
            book.codes["default/p"] = 0
        await true(lambda: ready(store))
        assert book.started[-1].command == ("python3", "/netproof/agent.py")
        assert [entry["ready"] for entry in seen(store)["status"]["initContainerStatuses"]] == [True, True]

    worked(story, kubelet)


def test_a_pod_is_ready_while_its_probe_succeeds() -> None:
    async def story(store: Store, _book: Book) -> None:
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        probe = {"tcpSocket": {"port": port}, "periodSeconds": 1, "failureThreshold": 1}
        store.create(bound(container={"readinessProbe": probe}))
        await true(lambda: ready(store))
        server.close()
        await true(lambda: not ready(store))
        assert seen(store)["status"]["phase"] == "Running"

    worked(story, kubelet)


@pytest.mark.parametrize("status", ["200 OK", "500 Broken"])
def test_a_liveness_probe_restarts_a_container(status: str) -> None:
    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status}\r\n\r\n".encode())
        writer.close()

    async def story(store: Store, book: Book) -> None:
        server = await asyncio.start_server(served, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        probe = {"httpGet": {"port": "web"}, "periodSeconds": 1, "failureThreshold": 1}
        container = {"livenessProbe": probe, "ports": [{"name": "web", "containerPort": port}]}
        store.create(bound(container=container, restartPolicy="Always"))
        await true(lambda: book.started)
        with suppress(TimeoutError):
            await asyncio.wait_for(true(lambda: state(store)["restartCount"] == 1), 0.5)
        assert state(store)["restartCount"] == (0 if status == "200 OK" else 1)
        assert book.stopped[:1] == ([] if status == "200 OK" else [("default/p", 5)])

    worked(story, kubelet)


# --- DNS ---------------------------------------------------------------------------------------------------------------------

HEADLESS = {"clusterIP": "None", "clusterIPs": ["None"]}


@pytest.fixture(scope="module")
def names() -> Names:
    """A namespace with a Service of each sort."""
    store = Store()
    pods = [
        serving("a", hostname="first", subdomain="peers"),
        serving("b", address="10.244.1.8"),
        serving("c", ready="False", address="10.244.1.9"),
    ]
    services = [
        service(ipFamilies=["IPv4", "IPv6"], clusterIPs=["10.96.3.4", "fd00:96::34"]),
        service("peers", **HEADLESS, ipFamilies=["IPv4", "IPv6"]),
        service("all", **HEADLESS, publishNotReadyAddresses=True),
        service("nobody", **HEADLESS, selector={"app": "none"}),
        service("far", type="ExternalName", externalName="www.example.com", clusterIPs=[]),
        service("near", type="ExternalName", externalName="web.default.svc.cluster.local", clusterIPs=[]),
    ]
    for obj in (*first_objects(), *services, *pods):
        store.create(obj)
    Controllers(store, Book()).reconcile()  # type: ignore[arg-type]
    return names_of(store.snapshot())


@pytest.mark.parametrize(
    ("name", "type_", "expected"),
    [
        ("kubernetes.default.svc.cluster.local.", "A", "0 10.96.0.1"),
        ("kubernetes.default.svc.cluster.local", "AAAA", "0 fd00:96::1"),
        ("WEB.Default.svc.cluster.local", "A", "0 10.96.3.4"),
        ("web.default.svc.cluster.local", "AAAA", "0 fd00:96::34"),
        ("web.default.svc.cluster.local", "TXT", "0"),
        ("none.default.svc.cluster.local", "A", "3"),
        ("web.nowhere.svc.cluster.local", "A", "3"),
        ("web.default", "A", "5"),
        ("www.example.com", "A", "5"),
        ("default.svc.cluster.local", "A", "0"),
        ("nowhere.svc.cluster.local", "A", "3"),
        ("svc.cluster.local", "A", "0"),
        ("_http._tcp.web.default.svc.cluster.local", "SRV", "0 0 100 80 web.default.svc.cluster.local"),
        ("_http._udp.web.default.svc.cluster.local", "SRV", "3"),
        ("_tcp.web.default.svc.cluster.local", "A", "0"),
        ("x.web.default.svc.cluster.local", "A", "3"),
        ("peers.default.svc.cluster.local", "A", "0 10.244.1.7 10.244.1.8"),
        ("peers.default.svc.cluster.local", "AAAA", "0 fd00:244:0:1::7 fd00:244:0:1::8"),
        ("first.peers.default.svc.cluster.local", "A", "0 10.244.1.7"),
        ("10-244-1-8.peers.default.svc.cluster.local", "A", "0 10.244.1.8"),
        ("10-244-1-9.peers.default.svc.cluster.local", "A", "3"),
        ("all.default.svc.cluster.local", "A", "0 10.244.1.7 10.244.1.8 10.244.1.9"),
        ("nobody.default.svc.cluster.local", "A", "3"),
        ("far.default.svc.cluster.local", "A", "0 www.example.com"),
        ("far.default.svc.cluster.local", "CNAME", "0 www.example.com"),
        ("near.default.svc.cluster.local", "A", "0 web.default.svc.cluster.local 10.96.3.4"),
        ("4.3.96.10.in-addr.arpa", "PTR", "0 web.default.svc.cluster.local"),
        ("7.1.244.10.in-addr.arpa", "PTR", "0 10-244-1-7.all.default.svc.cluster.local first.peers.default.svc.cluster.local"),
        ("5.3.96.10.in-addr.arpa", "PTR", "3"),
    ],
)
def test_answers(names: Names, name: str, type_: str, expected: str) -> None:
    given = answer(Question(name, type_), names)

    assert " ".join([str(given.code), *(record.data for record in given.records)]) == expected


def test_reverse_names_of_ipv6(names: Names) -> None:
    nibbles = "fd000096000000000000000000000034"[::-1]

    given = answer(Question(".".join(nibbles) + ".ip6.arpa", "PTR"), names)

    assert [record.data for record in given.records] == ["web.default.svc.cluster.local"]


def test_what_is_not_there_comes_with_the_zones_soa(names: Names) -> None:
    missing = answer(Question("no.default.svc.cluster.local", "A"), names)
    empty = answer(Question("web.default.svc.cluster.local", "TXT"), names)

    assert [record.type for record in (*missing.authority, *empty.authority)] == ["SOA", "SOA"]


def test_ports_of_a_headless_service_lead_to_its_hosts(names: Names) -> None:
    given = answer(Question("_http._tcp.peers.default.svc.cluster.local", "SRV"), names)

    hosts = ["first", "10-244-1-8", "fd00-244-0-1--8"]  # without a name of its own an endpoint is called by each of its addresses
    assert [record.data for record in given.records] == [f"0 33 8080 {host}.peers.default.svc.cluster.local" for host in hosts]
    assert {record.data for record in given.additional} >= {"10.244.1.7", "10.244.1.8"}


def asks(name: str, type_: str, *, size: int = 0) -> bytes:
    message = agent.query(7, name, type_)
    if not size:
        return message
    return message[:10] + b"\0\1" + message[12:] + struct.pack("!BHHIH", 0, 41, size, 0, 0)


def written(message: bytes, given: Answer, *, over: str = "udp") -> bytes:
    """The message that carries this answer."""
    wire = reply(message, over, "", lambda _: given)
    assert wire
    return wire


@pytest.mark.parametrize(
    ("type_", "data", "text"),
    [
        ("A", "10.0.0.1", "10.0.0.1"),
        ("AAAA", "fd00::1", "fd00::1"),
        ("SRV", "0 100 80 web.a.b", "0 100 80 web.a.b"),
        ("CNAME", "other.a.b.", "other.a.b"),
        ("PTR", "web.a.b", "web.a.b"),
    ],
)
def test_records_on_the_wire(type_: str, data: str, text: str) -> None:
    soa = Record("a.b", "SOA", "ns.a.b hostmaster.a.b 1 2 3 4 5")

    wire = written(asks("Web.a.b", type_), Answer(records=(Record("web.a.b", type_, data),) * 2, authority=(soa,)))

    assert agent.records(wire, type_) == [text, text]
    assert agent.name_at(wire, 12)[0] == "web.a.b"
    assert wire[12:20] == b"\3Web\1a\1b"


@pytest.mark.parametrize(("size", "room", "fits"), [(0, 512, 29), (1232, 1232, 73), (100, 512, 28), (4096, 4096, 100)])
def test_what_a_datagram_has_no_room_for_is_left_out_and_said(size: int, room: int, fits: int) -> None:
    records = tuple(Record("web.a.b", "A", f"10.0.0.{number}") for number in range(100))
    message = asks("web.a.b", "A", size=size)

    wire, hidden = written(message, Answer(records=records)), written(message, Answer(records=records, truncated=False))

    assert len(wire) <= room
    assert len(agent.records(wire, "A")) in (fits, fits + 1)
    assert bool(wire[2] & 2) is (fits < 100)
    assert not hidden[2] & 2
    assert len(agent.records(written(message, Answer(records=records), over="tcp"), "A")) == 100


@pytest.mark.parametrize(
    ("message", "code"),
    [(b"\0\7\1\0\0\1" + bytes(6), 1), (b"\0\7\x28\0\0\1" + bytes(11), 4), (asks("a.b", "A")[:-1] + b"\3", 5)],
    ids=["no question", "another opcode", "another class"],
)
def test_what_is_not_understood_is_answered_by_a_code(message: bytes, code: int) -> None:
    assert written(message, Answer())[3] & 15 == code


@pytest.mark.parametrize("message", [b"", b"short", asks("a.b", "A")[:2] + b"\x80" + asks("a.b", "A")[3:]])
def test_no_answer_is_owed_to_what_is_no_query(message: bytes) -> None:
    assert reply(message, "udp", "", lambda _: Answer()) is None


async def over_udp(port: int, message: bytes, *, to: str = "::1", by: socket.socket | None = None) -> bytes:
    loop = asyncio.get_running_loop()
    with by or socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0)
        await loop.sock_connect(sock, (to, port))
        await loop.sock_sendall(sock, message)
        return await asyncio.wait_for(loop.sock_recv(sock, 4096), 0.5)


async def over_tcp(port: int, *messages: bytes) -> list[bytes]:
    reader, writer = await asyncio.open_connection("::1", port)
    for message in messages:
        writer.write(struct.pack("!H", len(message)) + message)
    answers = [await reader.readexactly(struct.unpack("!H", await reader.readexactly(2))[0]) for _ in messages]
    writer.close()
    return answers


def test_servers_answer_in_the_dns_pods() -> None:
    def edit(question: Question, given: Answer) -> Answer | None:
        return None if (question.over, question.server) == ("udp", "kube-system/coredns-1") else given

    async def story(store: Store, book: Book) -> None:
        for obj in first_objects():
            if obj["kind"] == "Pod":
                store.create(obj)
        servers = asyncio.create_task(DnsServers(store, book, edit=edit).run())  # type: ignore[arg-type]
        await true(lambda: len(book.taken) == 4)
        ports = {(pod[-1], kind): port for (pod, _, kind), port in book.taken.items()}
        message = asks("kubernetes.default.svc.cluster.local", "A")
        assert agent.records(await over_udp(ports["0", socket.SOCK_DGRAM], message), "A") == ["10.96.0.1"]
        with pytest.raises(TimeoutError):
            await over_udp(ports["1", socket.SOCK_DGRAM], message)
        for answered in await over_tcp(ports["1", socket.SOCK_STREAM], message, message):
            assert agent.records(answered, "A") == ["10.96.0.1"]
        deleted(store, store.list("Pod", "kube-system")[0], grace=0)
        await true(lambda: not store.get("Pod", "coredns-0", "kube-system"))
        await asyncio.sleep(0.01)
        with pytest.raises(OSError):
            await over_tcp(ports["0", socket.SOCK_STREAM], message)
        servers.cancel()

    worked(story, kubelet)


# --- on the real machine -----------------------------------------------------------------------------------------------------

SERVER = """
import http.server, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
http.server.HTTPServer(("", 8000), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


@needs_lab
def test_pods_are_probed_named_and_ended_on_the_real_machine() -> None:
    probes = [{"httpGet": {"port": 8000}}, {"tcpSocket": {"port": 8000}}, {"exec": {"command": ["test", "-f", "/program/server.py"]}}]

    def server(name: str, probe: Object) -> Object:
        mount = {"name": "program", "mountPath": "/program"}
        container = {
            "command": ["python3", "-I", "/program/server.py"],
            "volumeMounts": [mount],
            "readinessProbe": probe | {"periodSeconds": 1},
        }
        init = {"name": "first", "command": ["test", "-f", "/program/server.py"], "volumeMounts": [mount]}
        return pod(name, container=container, initContainers=[init], volumes=[{"name": "program", "configMap": {"name": "program"}}])

    async def check(machine: Machine) -> None:
        store = Store()
        for obj in first_objects():
            store.create(obj)
        async with asyncio.TaskGroup() as group:
            parts = (Kubelet(store, machine, programmed=at_once), Controllers(store, machine), DnsServers(store, machine))
            tasks = [group.create_task(part.run()) for part in parts]
            await told(store, machine)
            for task in tasks:
                task.cancel()

    async def told(store: Store, machine: Machine) -> None:
        metadata = {"name": "program", "namespace": "default"}
        store.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"server.py": SERVER}})
        store.create(balanced(externalTrafficPolicy="Local", healthCheckNodePort=32000))
        for name, probe in zip("abc", probes, strict=True):
            store.create(server(name, probe))
        await true(lambda: len([end for end in ends(store.list("EndpointSlice", "default")) if end[1]]) == 6)
        dns = store.list("Pod", "kube-system")[1]["status"]["podIPs"][1]["ip"]
        for place in ("kube-system/coredns-0", "default/a"):
            with machine.socket_in(place, socket.AF_INET6, socket.SOCK_DGRAM) as sock:
                answered = await over_udp(53, asks("web.default.svc.cluster.local", "A"), to=dns, by=sock)
            assert agent.records(answered, "A") == ["10.96.3.4"]
        ended = asyncio.ensure_future(machine.wait("default/a"))
        await asyncio.sleep(0)
        deleted(store, store.list("Pod", "default")[0])
        await true(lambda: not store.get("Pod", "a", "default"))
        assert await ended == 0

    in_lab(check)
