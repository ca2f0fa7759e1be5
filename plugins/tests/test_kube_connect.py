"""What connect() makes of good and bad kubeconfigs: one sentence each."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fakeapi import Certificates, FakeApi, Hang, Status, kubeconfig
from netproof.kube.client import Api, ApiUnavailable, connect
from netproof.kube.login import login as log_in
from netproof.problem import Problem
from urllib3.exceptions import InsecureRequestWarning


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with FakeApi().serve() as server:
        yield server


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    if not shutil.which("openssl"):
        pytest.skip("no openssl")
    return Certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def secure(certificates: Certificates) -> Iterator[FakeApi]:
    with FakeApi().serve(certificates.server()) as server:
        yield server


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "kubeconfig"


def refused(file: Path | None, context: str | None = None, patience: float = 0.15) -> str:
    """The sentence."""
    with pytest.raises(Problem) as caught:
        connect(file, context, patience=patience)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def test_a_good_context(api: FakeApi, file: Path) -> None:
    connected = connect(kubeconfig(file, api.url), None)

    assert (connected.context, connected.server) == ("fake", api.url)
    assert connected.version()["gitVersion"] == "v1.37.2"
    assert connected.alive()


def test_no_such_file(file: Path) -> None:
    assert refused(file).startswith(f"kubeconfig {file}: no such file; name another one")


def test_no_file_at_all(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(file))
    assert f"kubeconfig {file}: no such file" in refused(None)
    monkeypatch.delenv("KUBECONFIG")
    monkeypatch.setenv("HOME", str(file.parent))
    assert f"kubeconfig {file.parent}/.kube/config: no such file" in refused(None)


def test_the_environments_files_are_merged_and_the_first_wins(api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = kubeconfig(tmp_path / "first", api.url)
    second = kubeconfig(
        tmp_path / "second", "http://127.0.0.1:1", sections={"contexts": [{"name": "other", "context": {"cluster": "c", "user": "u"}}]}
    )
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join([str(tmp_path / "gone"), str(first), str(second)]))

    assert connect(None, None).context == "fake"
    assert connect(None, "other").server == api.url


def test_an_unreadable_file(tmp_path: Path) -> None:
    assert "cannot be read: is a directory" in refused(tmp_path)


@pytest.mark.parametrize("text", ["a: [", "\tkey: x", "a: b: c"])
def test_malformed_yaml(file: Path, text: str) -> None:
    file.write_text(text)
    assert "is not YAML: " in refused(file)
    assert "line 1" in refused(file)


def test_a_binary_file(file: Path) -> None:
    file.write_bytes(b"\x00\xff\xfe")
    assert "is not YAML: " in refused(file)


@pytest.mark.parametrize("text", ["", "hello", "- a"])
def test_other_yaml(file: Path, text: str) -> None:
    file.write_text(text)
    assert "holds no clusters, users and contexts" in refused(file)


@pytest.mark.parametrize("contexts", ["x", [1], [{"context": {}}], [{"name": "a", "context": "b"}]])
def test_sections_of_the_wrong_shape(file: Path, contexts: Any) -> None:
    assert "its contexts are not a list" in refused(kubeconfig(file, "http://127.0.0.1:1", sections={"contexts": contexts}))


def test_an_unknown_context_lists_those_there_are(file: Path) -> None:
    assert refused(kubeconfig(file, "http://127.0.0.1:1"), "prod") == f"kubeconfig {file} has no context 'prod': it has fake"


def test_no_contexts(file: Path) -> None:
    assert refused(kubeconfig(file, "http://127.0.0.1:1", sections={"contexts": None}), "prod").endswith(
        "has no context 'prod': it has none"
    )


def test_no_current_context(file: Path) -> None:
    assert "names no current context: choose one (it has fake)" in refused(kubeconfig(file, "http://127.0.0.1:1", current=""))


@pytest.mark.parametrize("section", ["cluster", "user"])
def test_a_context_with_loose_ends(file: Path, section: str) -> None:
    text = kubeconfig(file, "http://127.0.0.1:1", sections={f"{section}s": None})
    assert f"names the {section} '{section[0]}', which is not in it" in refused(text)


@pytest.mark.parametrize("server", ["", "10.0.0.1:6443", "ftp://x", "https:"])
def test_no_usable_server(file: Path, server: str) -> None:
    assert f"has no usable server: expected https://HOST:PORT, found '{server}'" in refused(kubeconfig(file, server))


def test_impersonation_is_not_silently_dropped(file: Path) -> None:
    assert "acts as another user (as: bob)" in refused(kubeconfig(file, "http://127.0.0.1:1", user={"as": "bob"}))


def test_nobody_listens(file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    sentence = refused(kubeconfig(file, f"http://127.0.0.1:{port}"))
    assert sentence.startswith(f"the API server of context 'fake', http://127.0.0.1:{port}, does not answer: connection refused (")
    assert sentence.endswith("; is the cluster running, and can this machine reach it?")


def test_a_refusal_does_not_take_the_whole_patience(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netproof.kube.client._HELLO", 0.2)
    assert "does not answer: connection refused (0." in refused(kubeconfig(file, "http://127.0.0.1:1"), patience=20)


def test_no_such_host(file: Path) -> None:
    assert "https://kube.invalid:6443, does not answer: its name cannot be resolved" in refused(
        kubeconfig(file, "https://kube.invalid:6443")
    )


def test_a_server_that_hangs(api: FakeApi, file: Path) -> None:
    api.script("GET /version", Hang(1), Hang(1), Hang(1))
    assert "does not answer: no answer within the time-out" in refused(kubeconfig(file, api.url))


def test_a_server_that_hangs_for_a_while(api: FakeApi, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netproof.kube.client._HELLO", 0.2)
    api.script("GET /version", Hang(0.4))
    assert connect(kubeconfig(file, api.url), None, patience=3).alive()


def test_401(api: FakeApi, file: Path) -> None:
    api.script("GET /version", Status(401, "Unauthorized", "Unauthorized"))
    assert "does not accept the credentials of this context (HTTP 401)" in refused(kubeconfig(file, api.url))


def test_403_is_an_answer(api: FakeApi, file: Path) -> None:
    api.script("GET /version", Status(403, "no", "Forbidden"))
    assert connect(kubeconfig(file, api.url), None).context == "fake"


@pytest.mark.parametrize("answer", [Status(200, body="<html>welcome"), Status(404), Status(302)])
def test_another_kind_of_server(api: FakeApi, file: Path, answer: Status) -> None:
    api.script("GET /version", answer)
    assert "does not answer like a Kubernetes API server: " in refused(kubeconfig(file, api.url))


def test_plain_http_where_tls_is_expected(api: FakeApi, file: Path) -> None:
    assert "TLS failed: wrong version number" in refused(kubeconfig(file, api.url.replace("http:", "https:")))


def test_an_unknown_authority_is_said_at_once(secure: FakeApi, file: Path) -> None:
    sentence = refused(kubeconfig(file, secure.url), patience=60)
    assert "does not answer: its certificate is not accepted: " in sentence


def test_client_certificates(secure: FakeApi, certificates: Certificates, file: Path, tmp_path: Path) -> None:
    user = {"client-certificate-data": certificates.data("client.pem"), "client-key-data": certificates.data("client.key")}
    connect(kubeconfig(file, secure.url, cluster={"certificate-authority-data": certificates.data("ca.pem")}, user=user), None)

    assert secure.clients == ["netproof-test"]


def test_several_threads_connect_at_once(secure: FakeApi, certificates: Certificates, file: Path) -> None:
    """Each has the key that is given as data in a file of its own, for as long as it needs it."""
    user = {"client-certificate-data": certificates.data("client.pem"), "client-key-data": certificates.data("client.key")}
    text = kubeconfig(file, secure.url, cluster={"certificate-authority-data": certificates.data("ca.pem")}, user=user)
    with ThreadPoolExecutor(8) as pool:
        assert {login.context for login in pool.map(lambda _: log_in(text, None), range(40))} == {"fake"}


def test_certificates_in_files_beside_the_kubeconfig(secure: FakeApi, certificates: Certificates) -> None:
    user = {"client-certificate": "client.pem", "client-key": "client.key"}
    file = kubeconfig(certificates.folder / "kubeconfig", secure.url, cluster={"certificate-authority": "ca.pem"}, user=user)
    connect(file, None)

    assert secure.clients == ["netproof-test"]


def test_a_missing_certificate_file(file: Path) -> None:
    text = kubeconfig(file, "https://127.0.0.1:1", cluster={"certificate-authority": "gone.pem"})
    assert "context 'fake' of " in refused(text)
    assert "File does not exist: " in refused(text)


def test_a_worthless_certificate(file: Path) -> None:
    text = kubeconfig(file, "https://127.0.0.1:1", cluster={"certificate-authority-data": "aGVsbG8="})
    assert "the certificates of context 'fake'" in refused(text)


def test_no_verification_if_told_so(secure: FakeApi, file: Path, recwarn: pytest.WarningsRecorder) -> None:
    assert connect(kubeconfig(file, secure.url, cluster={"insecure-skip-tls-verify": True}), None).alive()
    assert not [warning for warning in recwarn if warning.category is InsecureRequestWarning]


def test_the_name_in_the_certificate(secure: FakeApi, certificates: Certificates, file: Path) -> None:
    authority = {"certificate-authority-data": certificates.data("ca.pem")}
    assert connect(kubeconfig(file, secure.url, cluster=authority | {"tls-server-name": "kube.test"}), None).alive()
    sentence = refused(kubeconfig(file, secure.url, cluster=authority | {"tls-server-name": "other.test"}), patience=60)
    assert "its certificate is not accepted: Hostname mismatch" in sentence


def test_a_token(api: FakeApi, file: Path) -> None:
    api.token = "t1"
    api.objects["/api/v1/nodes/n"] = {"kind": "Node", "metadata": {}}
    assert connect(kubeconfig(file, api.url, user={"token": "t1"}), None).get("/api/v1/nodes/n")


def test_a_replaced_token_file_is_read_again(api: FakeApi, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netproof.kube.client._RENEW", 0)
    api.token = "t1"
    api.objects["/api/v1/nodes/n"] = {"kind": "Node", "metadata": {}}
    (tmp_path / "token").write_text("t1")
    connected = connect(kubeconfig(file, api.url, user={"tokenFile": "token"}), None)
    (tmp_path / "token").write_text("t2")
    api.token = "t2"

    assert connected.get("/api/v1/nodes/n")


def test_another_server_in_the_kubeconfig_is_not_followed(api: FakeApi, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netproof.kube.client._RENEW", 0)
    connected = connect(kubeconfig(file, api.url, user={"token": "t1"}), None)
    with FakeApi().serve() as other:
        kubeconfig(file, other.url)
        api.token = "t2"
        with pytest.raises(Exception, match="HTTP 401"):
            connected.get("/api/v1/nodes/n")
        assert not other.asked


PLUGIN = """#!/bin/sh
echo x >> "$(dirname "$0")/runs"
cat "$(dirname "$0")/answer"
"""


def plugin(folder: Path, token: str, expires: timedelta) -> dict[str, Any]:
    """A user whose credentials come from a program beside the kubeconfig."""
    version = "client.authentication.k8s.io/v1"
    moment = (datetime.now(UTC) + expires).strftime("%Y-%m-%dT%H:%M:%SZ")
    answer = {"apiVersion": version, "kind": "ExecCredential", "status": {"token": token, "expirationTimestamp": moment}}
    (folder / "answer").write_text(json.dumps(answer))
    (folder / "plugin").write_text(PLUGIN)
    (folder / "plugin").chmod(0o755)
    return {"exec": {"apiVersion": version, "command": "./plugin", "interactiveMode": "Never", "installHint": "Get it from\nexample.org."}}


def test_an_exec_plugin(api: FakeApi, file: Path, tmp_path: Path) -> None:
    api.token = "t1"
    api.objects["/api/v1/nodes/n"] = {"kind": "Node", "metadata": {}}
    connected = connect(kubeconfig(file, api.url, user=plugin(tmp_path, "t1", timedelta(hours=1))), None)

    assert connected.get("/api/v1/nodes/n")
    assert connected.get("/api/v1/nodes/n")
    assert (tmp_path / "runs").read_text().split() == ["x"]


def test_an_expired_token_is_fetched_again(api: FakeApi, file: Path, tmp_path: Path) -> None:
    api.token = "t2"
    api.objects["/api/v1/nodes/n"] = {"kind": "Node", "metadata": {}}
    text = kubeconfig(file, api.url, user=plugin(tmp_path, "t1", timedelta(minutes=-1)))
    connected = Api(text, None, patience=1)
    plugin(tmp_path, "t2", timedelta(hours=1))

    assert connected.get("/api/v1/nodes/n")
    assert (tmp_path / "runs").read_text().split() == ["x", "x"]


def test_an_identity_provider_that_fails(api: FakeApi, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise ValueError("no refresh token")

    connected = connect(kubeconfig(file, api.url, user={"token": "t"}), None)
    monkeypatch.setattr(connected._transport.login.configuration, "refresh_api_key_hook", refuse)
    with pytest.raises(ApiUnavailable, match="the credentials of context 'fake' could not be renewed: no refresh token"):
        connected.version()
    assert not connected.alive()


def test_a_missing_exec_plugin(file: Path) -> None:
    user = {
        "exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "no-such-program", "installHint": "Get it from\nexample.org."}
    }
    sentence = refused(kubeconfig(file, "http://127.0.0.1:1", user=user))
    assert "logs in with the program 'no-such-program', which is not installed" in sentence
    assert sentence.endswith("(Get it from example.org.)")


def test_a_failing_exec_plugin(file: Path) -> None:
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "args": ["-c", "echo expired >&2; exit 3"]}}
    assert "logs in with the program 'sh', which failed: exec: process returned 3. expired" in refused(
        kubeconfig(file, "http://127.0.0.1:1", user=user)
    )


def test_an_exec_plugin_that_gives_nothing(file: Path) -> None:
    answer = json.dumps({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {}})
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "echo", "args": [answer]}}
    assert "which failed: exec: missing token" in refused(kubeconfig(file, "http://127.0.0.1:1", user=user))


def test_a_proxy_of_another_kind(file: Path) -> None:
    text = kubeconfig(file, "http://127.0.0.1:1", cluster={"proxy-url": "socks5://127.0.0.1:1080"})
    assert "only http://HOST:PORT is supported" in refused(text)


def test_the_kubeconfig_is_left_alone(api: FakeApi, file: Path) -> None:
    before = kubeconfig(file, api.url, user={"token": "t"}).read_bytes()
    connect(file, None)
    assert file.read_bytes() == before
