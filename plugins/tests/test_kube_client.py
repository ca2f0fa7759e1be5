"""Calls to an API server that is slow, away, overloaded or simply says no."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakeapi import Drop, FakeApi, Hang, Status, kubeconfig
from netproof.kube.client import Api, ApiError, ApiUnavailable, Conflict, Forbidden, Invalid, NotFound
from netproof.kube.objects import UnknownKind, path

POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "x", "labels": {"netproof.dev/run": "r1"}}}
PODS, POD_A = "/api/v1/namespaces/x/pods", "/api/v1/namespaces/x/pods/a"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    monkeypatch.setattr("netproof.kube.retry._backoff", lambda state: 0.02 * state.attempt_number)
    with FakeApi().serve() as fake:
        yield fake


@pytest.fixture
def api(server: FakeApi, tmp_path: Path) -> Api:
    return Api(kubeconfig(tmp_path / "kubeconfig", server.url), None, patience=1.0)


def labelled(run: str) -> dict[str, Any]:
    return {**POD, "metadata": {**POD["metadata"], "labels": {"netproof.dev/run": run}}}  # type: ignore[dict-item]


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_what_passes_is_tried_again(api: Api, server: FakeApi, code: int) -> None:
    server.script(f"POST {PODS}", Status(code), Status(code, "not now"))
    assert api.create(POD)["metadata"]["uid"]
    assert len(server.calls("POST")) == 3


def test_dropped_and_hanging_connections_are_tried_again(api: Api, server: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netproof.kube.retry.REQUEST", 0.2)
    server.objects[POD_A] = POD
    server.script(f"GET {POD_A}", Drop(), Hang(0.4), Drop())
    assert api.get(POD_A) == POD


@pytest.mark.parametrize(
    ("code", "error"),
    [(400, Invalid), (401, Forbidden), (403, Forbidden), (404, NotFound), (405, ApiError), (409, Conflict), (422, Invalid)],
)
def test_what_does_not_pass_is_said_at_once(api: Api, server: FakeApi, code: int, error: type[ApiError]) -> None:
    server.script(f"GET {POD_A}", Status(code, "the reason", "Word"))
    with pytest.raises(error) as caught:
        api.get(POD_A)
    assert type(caught.value) is error
    assert (caught.value.status, caught.value.reason, caught.value.message) == (code, "Word", "the reason")
    assert str(caught.value) == f"the reason (HTTP {code} Word)"
    assert len(server.asked) == 1


@pytest.mark.parametrize("answer", [Status(503, "overloaded"), Drop(), Hang(2.0)])
def test_patience_ends(server: FakeApi, tmp_path: Path, answer: Any) -> None:
    api = Api(kubeconfig(tmp_path / "kubeconfig", server.url), None, patience=0.2)
    server.script("GET /api/v1/nodes", *[answer] * 30)
    start = time.monotonic()
    with pytest.raises(ApiUnavailable, match=r"^GET /api/v1/nodes: .+ \(0\.\d s, \d+ attempts?\)$"):
        api.get("/api/v1/nodes")
    assert time.monotonic() - start < 1.5


def test_a_server_that_says_500_to_the_end_is_quoted(server: FakeApi, tmp_path: Path) -> None:
    api = Api(kubeconfig(tmp_path / "kubeconfig", server.url), None, patience=0.5)
    server.script(f"POST {PODS}", *[Status(500, "failed calling webhook")] * 99)
    with pytest.raises(ApiError, match="failed calling webhook"):
        api.create(POD)


def test_retry_after_is_honoured(api: Api, server: FakeApi, tmp_path: Path) -> None:
    patient = Api(tmp_path / "kubeconfig", None, patience=3.0)
    server.objects[POD_A] = POD
    server.script(f"GET {POD_A}", Status(429, "too many", retry_after="1"))
    start = time.monotonic()
    assert patient.get(POD_A) == POD
    assert time.monotonic() - start >= 1.0
    server.script(f"GET {POD_A}", Status(429, "too many", retry_after="30"))
    with pytest.raises(ApiUnavailable, match="too many"):
        api.get(POD_A)


def test_create_asks_once_if_all_is_well(api: Api, server: FakeApi) -> None:
    api.create(POD)
    assert [request.path for request in server.asked] == [PODS]
    assert server.asked[0].body == POD


def test_a_taken_name_is_a_conflict(api: Api, server: FakeApi) -> None:
    api.create(POD)
    with pytest.raises(Conflict, match="already exists"):
        api.create(POD)


def test_a_lost_answer_does_not_make_a_conflict(api: Api, server: FakeApi) -> None:
    server.script(f"POST {PODS}", Drop(done=True))
    made = api.create(POD)
    assert made == server.objects[POD_A]


def test_a_lost_answer_and_somebody_elses_object(api: Api, server: FakeApi) -> None:
    server.objects[POD_A] = labelled("r2")
    server.script(f"POST {PODS}", Drop())
    with pytest.raises(Conflict):
        api.create(POD)


def test_a_lost_answer_and_objects_without_a_run(api: Api, server: FakeApi) -> None:
    bare = {**POD, "metadata": {"name": "a", "namespace": "x"}}
    server.objects[POD_A] = bare
    server.script(f"POST {PODS}", Drop())
    with pytest.raises(Conflict):
        api.create(bare)


def test_a_quota_being_counted_is_tried_again(api: Api, server: FakeApi) -> None:
    server.script(f"POST {PODS}", Status(409, "the object has been modified", "Conflict"))
    assert api.create(POD)["metadata"]["uid"]


def test_a_namespace_too_young_for_its_service_account(api: Api, server: FakeApi) -> None:
    text = 'pods "a" is forbidden: error looking up service account x/default: serviceaccount "default" not found'
    server.script(f"POST {PODS}", Status(403, text, "Forbidden"), Status(403, text, "Forbidden"))
    assert api.create(POD)["metadata"]["uid"]


DENIED = Status(403, 'pods "a" is forbidden: User "u" cannot get resource "pods"', "Forbidden")


def test_a_restarting_server_that_has_not_read_the_roles_yet(api: Api, server: FakeApi) -> None:
    server.objects[POD_A] = POD
    server.script(f"GET {POD_A}", DENIED, DENIED, DENIED)
    server.script("GET /readyz", Status(500, "not ready"), Status(500, "not ready"), Status(200))
    assert api.get(POD_A) == POD


@pytest.mark.parametrize("readiness", [Status(200), Status(404)])
def test_a_denial_of_a_ready_server_is_final(api: Api, server: FakeApi, readiness: Status) -> None:
    server.script(f"GET {POD_A}", *[DENIED] * 99)
    server.script("GET /readyz", readiness)
    with pytest.raises(Forbidden, match="cannot get"):
        api.get(POD_A)
    assert [request.path for request in server.asked] == [POD_A, "/readyz", POD_A]


@pytest.mark.parametrize("text", ["exceeded quota: netproof", "namespace x is being terminated"])
def test_other_refusals_are_final(api: Api, server: FakeApi, text: str) -> None:
    server.script(f"POST {PODS}", Status(403, text, "Forbidden"))
    with pytest.raises(Forbidden, match=text):
        api.create(POD)
    assert len(server.asked) == 1


def test_dry_run(api: Api, server: FakeApi) -> None:
    api.create(POD, dry_run=True)
    assert server.asked[0].query == {"dryRun": "All"}
    assert not server.objects


def test_delete(api: Api, server: FakeApi) -> None:
    made = api.create(POD)
    assert api.delete(POD_A, uid=made["metadata"]["uid"], grace=0, propagation="Background")
    body = server.calls("DELETE")[0].body
    assert (body["preconditions"], body["gracePeriodSeconds"], body["propagationPolicy"]) == (
        {"uid": made["metadata"]["uid"]},
        0,
        "Background",
    )
    assert not api.delete(POD_A)


def test_what_is_ended_only_deletes(api: Api, server: FakeApi) -> None:
    api.create(POD)
    api.end()
    for call in (lambda: api.create(POD), lambda: api.get(POD_A), lambda: api.patch(POD_A, {})):
        with pytest.raises(ApiUnavailable, match="the run is over"):
            call()
    assert api.delete(POD_A)
    assert POD_A not in server.objects


def test_delete_spares_another_object_of_that_name(api: Api, server: FakeApi) -> None:
    api.create(POD)
    assert not api.delete(POD_A, uid="another")
    assert POD_A in server.objects


def test_delete_in_the_words_used_for_pods(api: Api, server: FakeApi) -> None:
    server.script(f"DELETE {POD_A}", Status(409, "the UID in the precondition (a) does not match the UID in record (b)", "Conflict"))
    assert not api.delete(POD_A, uid="a")


def test_delete_of_what_is_being_deleted(api: Api, server: FakeApi) -> None:
    server.script(
        "DELETE /api/v1/namespaces/x", Status(409, "The system is ensuring all content is removed from this namespace.", "Conflict")
    )
    assert api.delete(path("Namespace", "x"))


def test_delete_whose_answer_was_lost(api: Api, server: FakeApi) -> None:
    api.create(POD)
    server.script(f"DELETE {POD_A}", Drop(done=True))
    assert api.delete(POD_A)


def test_delete_with_another_conflict(api: Api, server: FakeApi) -> None:
    server.script(f"DELETE {POD_A}", Status(409, "something else", "Conflict"))
    with pytest.raises(Conflict):
        api.delete(POD_A)


def test_a_list_is_followed_to_its_end(api: Api, server: FakeApi) -> None:
    server.page = 2
    server.objects |= {f"{PODS}/{name}": {"kind": "Pod", "metadata": {"name": name}} for name in "abcde"}
    assert [item["metadata"]["name"] for item in api.list(PODS, labels="l=1", fields="f=2")] == list("abcde")
    assert [request.query.get("continue") for request in server.asked] == [None, "2", "4"]
    assert all(request.query["labelSelector"] == "l=1" and request.query["fieldSelector"] == "f=2" for request in server.asked)


def test_list_items_say_what_they_are(api: Api, server: FakeApi) -> None:
    server.script(f"GET {PODS}", Status(200, body='{"kind": "PodList", "apiVersion": "v1", "items": [{"metadata": {}}]}'))
    assert api.list(PODS) == [{"apiVersion": "v1", "kind": "Pod", "metadata": {}}]


def test_a_list_that_expired_is_read_anew(api: Api, server: FakeApi) -> None:
    server.objects[POD_A] = POD
    server.script(f"GET {PODS}", Status(410, "too old", "Expired"))
    assert api.list(PODS) == [POD]
    assert "limit" not in server.asked[1].query


def test_patches(api: Api, server: FakeApi) -> None:
    server.objects[POD_A] = POD
    for kind in ("merge", "strategic", "json"):
        api.patch(POD_A, [{"op": "remove", "path": "/a"}] if kind == "json" else {"a": None}, kind=kind)
    kinds = [request.headers["Content-Type"] for request in server.asked]
    assert kinds == [f"application/{name}+json" for name in ("merge-patch", "strategic-merge-patch", "json-patch")]


def test_apply(api: Api, server: FakeApi) -> None:
    api.apply(POD)
    assert (server.asked[0].method, server.asked[0].path) == ("PATCH", POD_A)
    assert server.asked[0].query == {"fieldManager": "netproof", "force": "true"}


def test_logs(api: Api, server: FakeApi) -> None:
    assert api.text(f"{POD_A}/log", tailLines="10") == "a line\n"
    assert server.asked[0].query == {"tailLines": "10"}


def test_unknown_kinds_are_discovered_once(api: Api, server: FakeApi) -> None:
    resources = [
        {"name": "widgets", "kind": "Widget", "namespaced": True},
        {"name": "widgets/status", "kind": "Widget", "namespaced": True},
    ]
    server.objects["/apis/example.org/v1"] = {"resources": resources}
    widget = {"apiVersion": "example.org/v1", "kind": "Widget", "metadata": {"name": "w", "namespace": "x"}}
    api.create(widget)
    assert api.path_of(widget) == "/apis/example.org/v1/namespaces/x/widgets/w"
    assert len(server.calls("GET")) == 1
    for version in ("example.org/v1", "example.org/v2"):
        with pytest.raises(UnknownKind, match=f"does not serve the kind 'Gadget' of '{version}'"):
            api.path_of({"apiVersion": version, "kind": "Gadget"})


@pytest.mark.parametrize("answers", [[], [Status(403)], [Drop()]])
def test_alive(api: Api, server: FakeApi, answers: list[Any]) -> None:
    server.script("GET /version", *answers)
    assert api.alive()


@pytest.mark.parametrize("answers", [[Status(503)] * 99, [Drop()] * 99, [Hang(0.4)] * 9])
def test_not_alive(api: Api, server: FakeApi, monkeypatch: pytest.MonkeyPatch, answers: list[Any]) -> None:
    monkeypatch.setattr("netproof.kube.client._PULSE", 0.15)
    server.script("GET /version", *answers)
    start = time.monotonic()
    assert not api.alive()
    assert time.monotonic() - start < 1.5
