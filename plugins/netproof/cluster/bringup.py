"""From nothing to a kind cluster that is ready for cases: the stages, in order, side by side where that saves time."""

from __future__ import annotations

import time
from concurrent.futures import Future, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from netproof import files
from netproof.cluster import catalogue, loadbalancer, outsider, registry, versions
from netproof.cluster.background import Background, background
from netproof.cluster.catalogue import Reference
from netproof.cluster.cni import implementation
from netproof.cluster.docker import docker
from netproof.cluster.images import absent, known_to
from netproof.cluster.install import apply, awaited
from netproof.cluster.node import conntrack_max, has_sctp
from netproof.cluster.nodes import describe, families
from netproof.cluster.plan import Part, Plan
from netproof.cluster.progress import Progress, Stopwatch
from netproof.cluster.readiness import wait_ready
from netproof.cluster.settings import Settings
from netproof.cluster.state import ClusterState, Implementation, LoadBalancer, Outsider
from netproof.cluster.survey import lacking, recognised, unrecognised
from netproof.kube.client import Api, connect
from netproof.kube.objects import path
from netproof.problem import Problem

if TYPE_CHECKING:
    from netproof.cluster.kind import Kind

T = TypeVar("T")
LOAD_LIMIT = 600.0
_CONFIGURATION = files.manifests() / "cluster" / "ipv4.yaml"
_COREDNS = Reference(kind="Deployment", namespace="kube-system", name="coredns")


class Bringup:
    """One cluster's way up. Raises Problem; cleaning up after it is the provider's."""

    def __init__(self, settings: Settings, kind: Kind, plan: Plan, progress: Progress, *, existed: bool, engine: str) -> None:
        self.settings, self.kind, self.plan, self.progress = settings, kind, plan, progress
        self.existed, self.engine = existed, engine
        self.watch = Stopwatch()
        self.pool = ""

    def state(self) -> ClusterState:
        """The cluster, ready."""
        with background() as threads:
            api = self._cluster(threads)
            self._require_same_cni(api)
            outside = threads.start(self._outsiders)
            for part in self.plan.parts:
                self._apply(api, part)
            self._wait(api)
            outsiders = self._await(outside, "outsiders")
        return self._survey(api, outsiders)

    def _outsiders(self) -> tuple[Outsider, ...]:
        with self.watch.stage("outsiders"):
            return outsider.start(self.settings)

    def _cluster(self, threads: Background) -> Api:
        """A cluster whose nodes have the images. They are loaded while Kubernetes starts on the nodes: most of that is waiting."""
        loading = threads.start(lambda: self._load(threads))
        with self.watch.stage("kind create"):
            if self.existed:
                self.kind.export_kubeconfig()
            else:
                self.kind.create(self._configuration(), self.progress)
        with self.watch.stage("images after create"):
            self._await(loading, "loading images")
        return connect(self.kind.kubeconfig_path, None)

    def _configuration(self) -> Path:
        """The kind configuration, with the pod network that the CNI's manifest is written for."""
        configuration = _configuration()
        cidr = self.plan.cni.entry.pod_cidr if self.plan.cni else ""
        if not cidr or configuration["networking"]["podSubnet"] == cidr:
            return _CONFIGURATION
        configuration["networking"]["podSubnet"] = cidr
        target = self.settings.folder / "kind.yaml"
        target.write_text(yaml.safe_dump(configuration), encoding="utf-8")
        return target

    def _load(self, threads: Background) -> None:
        image = self.settings.probe_image
        count = len(_configuration()["nodes"])
        while not self._running(count):
            threads.pause(0.3)
        with self.watch.stage("images"):
            nodes = self.kind.nodes()
            images = absent(self.plan.images, nodes) + ([] if known_to(image, nodes) else [image])
            self.kind.load(images, self.plan.archives, stop=threads.stop)

    def _running(self, count: int) -> bool:
        """Whether the nodes are there and their containerd answers."""
        nodes = self.kind.nodes()
        enough = bool(nodes) if self.existed else len(nodes) == count
        return enough and all(docker("exec", node, "ctr", "version").code == 0 for node in nodes)

    def _await(self, future: Future[T], what: str) -> T:
        began = time.monotonic()
        while not future.done():
            self.progress(what, time.monotonic() - began, LOAD_LIMIT)
            wait([future], timeout=0.5)
        return future.result()

    def _require_same_cni(self, api: Api) -> None:
        """A second CNI on top of another makes a cluster that is neither."""
        there = recognised(api, catalogue.entries("cni")) if self.existed else None
        wanted = self.plan.cni.entry.name if self.plan.cni else ""
        if there and wanted and there.name != wanted:
            raise Problem(
                f"the cluster {self.kind.name} has {there.name} already, and --cni={wanted} was said: take another --cluster-name"
            )

    def _apply(self, api: Api, part: Part) -> None:
        with self.watch.stage(f"apply {part.entry.name}"):
            namespace = part.entry.source.namespace
            apply(api, part.objects, namespace=namespace, what=f"applying {part.entry.name}", progress=self.progress)

    def _wait(self, api: Api) -> None:
        cni, balancer = self.plan.cni, self.plan.load_balancer
        with self.watch.stage("nodes and CNI"):
            wanted = awaited(cni.entry, cni.objects) if cni else []
            wait_ready(api, wanted, what="nodes and CNI", progress=self.progress, nodes=True)
        with self.watch.stage("CoreDNS"):
            wait_ready(api, [_COREDNS], what="CoreDNS", progress=self.progress)
        if balancer:
            with self.watch.stage(balancer.entry.name):
                wait_ready(api, awaited(balancer.entry, balancer.objects), what=balancer.entry.name, progress=self.progress)
                self._hand_pool(api, balancer)

    def _hand_pool(self, api: Api, balancer: Part) -> None:
        name = self.settings.kind_cluster
        self.pool = registry.reserve_pool(self.settings, lambda others: loadbalancer.choose_pool(name, others))
        objects = loadbalancer.pool_objects(balancer.entry, self.pool)
        apply(api, objects, namespace=balancer.entry.source.namespace, what="the pool of addresses", progress=self.progress)

    def _survey(self, api: Api, outsiders: tuple[Outsider, ...]) -> ClusterState:
        nodes = api.list(path("Node"))
        described, has = describe(nodes), families(nodes)
        found, balancer = self._implementation(api, described[0].name), self._load_balancer(api)
        missing = {} if has_sctp(described[0].name) else {"SCTP": "the nodes' kernel has no SCTP"}
        missing |= {} if found.agent else {"AgentRestart": f"the catalogue's entry of {found.name} names no agent"}
        settings = self.settings
        return ClusterState(
            provider="kind",
            name=self.kind.name,
            run=settings.run,
            folder=str(settings.folder),
            kubeconfig=str(self.kind.kubeconfig_path),
            context=api.context,
            implementation=found,
            load_balancer=balancer,
            outsiders=outsiders,
            unsupported=lacking(found, balancer, described, has, missing),
            versions=versions.collect(api, described, execute=True) | {"docker": self.engine, "kind": self.kind.version()},
            nodes=described,
            families=has,
            notes=self.plan.notes,
            seconds=self.watch.total(),
            made=not self.existed,
            keep=settings.keep,
            testbed=settings.testbed,
        )

    def _implementation(self, api: Api, node: str) -> Implementation:
        cni, claims = self.plan.cni, self.settings.claims
        entry = cni.entry if cni else recognised(api, catalogue.entries("cni"))
        if entry is None:
            return unrecognised(claims)
        objects = cni.objects if cni else ()
        return implementation(api, entry, claims=claims, objects=objects, execute=True, kernel=conntrack_max(node))

    def _load_balancer(self, api: Api) -> LoadBalancer | None:
        part = self.plan.load_balancer
        return loadbalancer.describe(api, part.entry, pool=self.pool, objects=part.objects, execute=True) if part else None


def _configuration() -> dict[str, Any]:
    configuration: dict[str, Any] = yaml.safe_load(_CONFIGURATION.read_text(encoding="utf-8"))
    return configuration
