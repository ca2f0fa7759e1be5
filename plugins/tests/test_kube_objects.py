"""Paths of objects, and rights on them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fakeapi import FakeApi, Request, Status, kubeconfig
from netproof.kube.client import Api
from netproof.kube.objects import UnknownKind, path, path_of
from netproof.kube.rights import Right, missing


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (("Pod", "a", "x"), "/api/v1/namespaces/x/pods/a"),
        (("Pod", "", "x"), "/api/v1/namespaces/x/pods"),
        (("Pod",), "/api/v1/pods"),
        (("Node", "n"), "/api/v1/nodes/n"),
        (("Namespace", "x", "x"), "/api/v1/namespaces/x"),
        (("NetworkPolicy", "p", "x"), "/apis/networking.k8s.io/v1/namespaces/x/networkpolicies/p"),
        (("EndpointSlice", "", "x"), "/apis/discovery.k8s.io/v1/namespaces/x/endpointslices"),
        (("IPAddressPool", "", "m"), "/apis/metallb.io/v1beta1/namespaces/m/ipaddresspools"),
    ],
)
def test_path(asked: tuple[str, ...], expected: str) -> None:
    assert path(*asked) == expected


def test_a_name_without_its_namespace() -> None:
    with pytest.raises(ValueError, match="pods/a lives in a namespace: name it"):
        path("Pod", "a")


def test_path_of() -> None:
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l", "namespace": "x"}}
    assert path_of(lease) == "/apis/coordination.k8s.io/v1/namespaces/x/leases/l"


@pytest.mark.parametrize("version", ["events.k8s.io/v1", "v2"])
def test_another_version_of_a_known_kind_is_another_kind(version: str) -> None:
    with pytest.raises(UnknownKind, match=f"the kind 'Event' of '{version}' is not known here"):
        path_of({"apiVersion": version, "kind": "Event", "metadata": {"name": "e", "namespace": "x"}})


@pytest.mark.parametrize(
    ("right", "text"),
    [
        (Right("create", "pods", subresource="portforward"), "create pods/portforward"),
        (Right("get", "nodes"), "get nodes"),
        (Right("create", "networkpolicies", group="networking.k8s.io", namespace="x"), "create networkpolicies.networking.k8s.io in x"),
    ],
)
def test_a_right_in_words(right: Right, text: str) -> None:
    assert str(right) == text


class Reviewer(FakeApi):
    """Knows who may do what."""

    def _post(self, request: Request) -> tuple[int, dict[str, object]]:
        wanted = request.body["spec"]["resourceAttributes"]
        return 201, {**request.body, "status": {"allowed": wanted["verb"] == "get"}}


@pytest.fixture
def server() -> Iterator[Reviewer]:
    with Reviewer().serve() as fake:
        yield fake  # type: ignore[misc]


def test_missing(server: Reviewer, tmp_path: Path) -> None:
    api = Api(kubeconfig(tmp_path / "kubeconfig", server.url), None, patience=1.0)
    forwarding = Right("create", "pods", subresource="portforward", namespace="x")

    assert missing(api, [Right("get", "nodes"), forwarding]) == [forwarding]
    assert server.asked[1].path == "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    wanted = {"verb": "create", "resource": "pods", "group": "", "subresource": "portforward", "namespace": "x"}
    assert server.asked[1].body["spec"]["resourceAttributes"] == wanted


def test_what_may_not_be_asked_is_unknown(server: Reviewer, tmp_path: Path) -> None:
    api = Api(kubeconfig(tmp_path / "kubeconfig", server.url), None, patience=1.0)
    server.script("POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews", Status(403, "no", "Forbidden"))
    assert missing(api, [Right("create", "pods")]) == []
