"""An existing cluster, by a context of the kubeconfig: nothing is created by the provider, and nothing removed."""

from __future__ import annotations

from netproof.cluster import catalogue, loadbalancer, registry, versions
from netproof.cluster.cni import implementation
from netproof.cluster.features import require_claims
from netproof.cluster.nodes import describe, families
from netproof.cluster.progress import Progress
from netproof.cluster.settings import Settings
from netproof.cluster.state import ClusterState, Implementation, LoadBalancer
from netproof.cluster.survey import lacking, recognised, unrecognised
from netproof.kube.client import Api, Forbidden, connect
from netproof.kube.objects import path
from netproof.problem import Problem

_MISSING = {
    "Outsider": "on an existing cluster Netproof has no machine outside the cluster",
    "NodeAccess": "on an existing cluster Netproof does not enter the nodes",
    "AgentRestart": "on an existing cluster Netproof restarts nothing",
}
_NO_HOSTS = {"HostNetwork": "on an existing cluster there are no pods on the nodes' network unless --netproof-host-network asks for them"}


class ContextProvider:
    """Looks, and touches nothing; only image tags are read, as no program of somebody else's pods is run."""

    def up(self, settings: Settings, progress: Progress) -> ClusterState:
        require_claims(settings.claims, where="--netproof-claim")
        if settings.images:
            raise Problem("--netproof-image is for clusters that Netproof makes: on a context the images are what they are")
        progress(f"looking at {settings.cluster}", 0.0, 60.0)
        api = connect(settings.kubeconfig, settings.cluster)
        state = _state(settings, api)
        registry.register(settings)
        state.write()
        return state

    def down(self, state: ClusterState, progress: Progress) -> None:
        """Only the entry in the list of runs goes: the namespaces are the run's to remove, before this."""
        registry.forget(state.run)


def _state(settings: Settings, api: Api) -> ClusterState:
    try:
        nodes = api.list(path("Node"))
    except Forbidden as error:
        raise Problem(f"the credentials of context {api.context} may not list nodes, which placement needs: {error.message}") from error
    described, has = describe(nodes), families(nodes)
    found, balancer = _implementation(settings, api), _load_balancer(settings, api)
    missing = _MISSING | ({} if settings.host_network else _NO_HOSTS)
    return ClusterState(
        provider="context",
        name=settings.cluster,
        run=settings.run,
        folder=str(settings.folder),
        kubeconfig=str(settings.kubeconfig) if settings.kubeconfig else None,
        context=settings.cluster,
        implementation=found,
        load_balancer=balancer,
        outsiders=(),
        unsupported=lacking(found, balancer, described, has, missing),
        versions=versions.collect(api, described, execute=False),
        nodes=described,
        families=has,
        testbed=settings.testbed,
    )


def _implementation(settings: Settings, api: Api) -> Implementation:
    entry = catalogue.load(settings.cni, "cni") if settings.cni else recognised(api, catalogue.entries("cni"))
    return implementation(api, entry, claims=settings.claims, execute=False) if entry else unrecognised(settings.claims)


def _load_balancer(settings: Settings, api: Api) -> LoadBalancer | None:
    said = settings.load_balancer
    entry = catalogue.load(said, "loadbalancer") if said else recognised(api, catalogue.entries("loadbalancer"))
    return loadbalancer.describe(api, entry) if entry else None
