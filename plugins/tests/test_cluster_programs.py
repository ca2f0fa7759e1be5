"""Other programs and the network: what is said where they are missing, fail or hang. No Docker, no kind, no cluster."""

from __future__ import annotations

import builtins
import hashlib
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from netproof.cluster import command, docker, kind, readiness, source
from netproof.cluster.background import background
from netproof.cluster.catalogue import Reference, Source
from netproof.cluster.channel import PipeChannel
from netproof.cluster.cni import image_tag
from netproof.cluster.provider import provider_for
from netproof.cluster.settings import Settings
from netproof.kube.client import NotFound
from netproof.problem import Problem

QUIET = lambda *_: None  # noqa: E731


def _settings(tmp_path: Path, **changes: Any) -> Settings:
    return Settings(**{"cluster": "kind", "run": "r1", "folder": tmp_path, "probe_image": "p", "cni": "flannel", **changes})


def _program(folder: Path, name: str, script: str) -> Path:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return file


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing but what a test puts there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return folder


def test_no_docker(path, tmp_path):
    with pytest.raises(Problem, match=r"kind needs Docker, and no `docker` is on the PATH") as raised:
        provider_for(_settings(tmp_path)).up(_settings(tmp_path), QUIET)
    assert raised.value.code == 4
    assert not (tmp_path / "state").exists()


def test_no_engine_behind_docker(path, tmp_path):
    _program(path, "docker", 'echo "Cannot connect to the Docker daemon at unix:///var/run/docker.sock." >&2; exit 1')
    with pytest.raises(Problem, match=r"kind needs a Docker engine, and none answers: Cannot connect to the Docker daemon"):
        provider_for(_settings(tmp_path)).up(_settings(tmp_path), QUIET)


def test_no_kind(path, tmp_path):
    _program(path, "docker", "echo 29.0")
    with pytest.raises(Problem, match=r"needs `kind`, and none is on the PATH: install it, or say --kind-bin=FILE"):
        provider_for(_settings(tmp_path)).up(_settings(tmp_path), QUIET)


def test_a_kind_that_is_no_file(tmp_path):
    with pytest.raises(Problem, match=r"--kind-bin=/nowhere/kind is no file"):
        kind.binary("kind", Path("/nowhere/kind"), "--kind-bin")


def test_kind_without_a_cni(path, tmp_path):
    _program(path, "docker", 'test "$1" = version && echo 29.0; exit 0')
    _program(path, "kind", "exit 0")
    with pytest.raises(Problem, match=r"makes a cluster without a CNI: say --cni=NAME or a folder; there are cilium, flannel"):
        provider_for(_settings(tmp_path)).up(_settings(tmp_path, cni=""), QUIET)


def test_a_create_that_fails_leaves_nothing_and_nobody_listed(path, tmp_path):
    deleted = tmp_path / "deleted"
    _program(path, "docker", 'case "$1" in version) echo 29.0;; inspect) echo "[]";; image|pull) ;; esac')
    script = 'case "$1" in create) echo "ERROR: failed to create cluster: no space left" >&2; exit 1;; delete) : >' + f" {deleted};; esac"
    _program(path, "kind", script)
    (tmp_path / "flannel.yaml").write_text("{apiVersion: v1, kind: Namespace, metadata: {name: kube-flannel}}")
    settings = _settings(tmp_path, manifests={"flannel": str(tmp_path / "flannel.yaml")})
    with pytest.raises(Problem, match=r"kind could not create the cluster netproof-r1: no space left \(all of it: .*kind-create\.log\)"):
        provider_for(settings).up(settings, QUIET)
    assert deleted.exists()
    assert list((tmp_path / "state" / "netproof" / "runs").iterdir()) == []
    assert not (Path.cwd() / ".pytest-kind").exists()


def test_a_probe_image_that_is_nowhere(path, tmp_path):
    script = 'case "$1" in version) echo 29.0;; inspect) echo "[]";; pull) echo "pull access denied for p" >&2; exit 1;; esac'
    _program(path, "docker", script)
    _program(path, "kind", "exit 0")
    (tmp_path / "flannel.yaml").write_text("{apiVersion: v1, kind: Namespace, metadata: {name: kube-flannel}}")
    settings = _settings(tmp_path, manifests={"flannel": str(tmp_path / "flannel.yaml")})
    with pytest.raises(Problem, match=r"the image p is not in the Docker engine and cannot be pulled: pull access denied for p"):
        provider_for(settings).up(settings, QUIET)
    assert not (tmp_path / "state").exists()


def test_the_extra_that_is_not_installed(tmp_path, monkeypatch):
    original = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "pytest_kind":
            raise ModuleNotFoundError("No module named 'pytest_kind'", name="pytest_kind")
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.delitem(sys.modules, "netproof.cluster.kind", raising=False)
    with pytest.raises(Problem, match=r"needs the package pytest-kind: pip install 'netproof\[kind\]'"):
        provider_for(_settings(tmp_path))


def test_the_lab_takes_no_cni(tmp_path):
    with pytest.raises(Problem, match="--cni is for real clusters"):
        provider_for(_settings(tmp_path, cluster="lab", cni="cilium")).up(_settings(tmp_path, cluster="lab", cni="cilium"), QUIET)


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ("Creating...\nERROR: failed to create cluster: node(s) already exist\n", "node(s) already exist"),
        (
            'ERROR: failed to create cluster: failed to pull image "x:1"\nCommand Output: Error: pull access denied\n\nStack Trace:\n',
            'failed to pull image "x:1"; Error: pull access denied',
        ),
        ("", "exit code 1"),
    ],
)
def test_why_kind_failed(said, cause):
    assert kind.cause(command.Done(("kind",), 1, "", said)) == cause


def test_a_program_that_hangs(tmp_path):
    said: list[str] = []
    with pytest.raises(Problem, match=r"the wait did not end within 1 s"):
        command.run(["sleep", "60"], what="the wait", limit=0.6, progress=lambda what, *_: said.append(what))
    assert said


def test_a_program_that_is_stopped():
    with background() as threads:
        waiting = threads.start(lambda: command.run(["sleep", "60"], stop=threads.stop))
    with pytest.raises(Problem, match="stopped"):
        waiting.result(timeout=0)


def test_an_interrupt_takes_the_program_and_its_children_along(tmp_path):
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    file = tmp_path / "alive"
    with pytest.raises(KeyboardInterrupt):
        command.run(["sh", "-c", f"(sleep 1.2; : > {file}) & wait"], progress=interrupt)
    time.sleep(1.0)
    assert not file.exists()


def test_children_that_may_end_by_themselves(tmp_path):
    def interrupt(what: str, *_: Any) -> None:
        if what == "sh":
            raise KeyboardInterrupt

    file, said = tmp_path / "done", []  # type: Path, list[bool]
    with pytest.raises(KeyboardInterrupt):
        command.run(["sh", "-c", f"(sleep 1; : > {file}) & wait"], progress=interrupt, farewell=lambda: said.append(file.exists()))
    assert file.exists()
    assert said[0] is False


def test_a_log_and_input(tmp_path):
    done = command.run(["sh", "-c", "cat; echo oops >&2; exit 3"], data=b"in\n", log=tmp_path / "log")
    assert (done.code, done.err) == (3, "in\noops\n")
    assert done.cause == "oops"


def test_a_channel_over_pipes():
    channel = PipeChannel(["cat"])
    assert channel.receive(0.05) == b""
    channel.send(b"hello\n")
    assert channel.receive(5) == b"hello\n"
    channel.close()
    channel.close()
    with pytest.raises(ConnectionError):
        channel.send(b"x")


def test_a_channel_whose_far_end_says_why_it_closed():
    channel = PipeChannel(["sh", "-c", "echo no such container >&2; exit 1"])
    with pytest.raises(ConnectionError, match="ended: no such container"):
        channel.receive(5)
    channel.close()


def test_tags_as_the_engine_lists_them():
    assert docker.tagged("docker.io/library/python:3.12") == "python:3.12"
    assert docker.tagged("localhost:5000/agent") == "localhost:5000/agent:latest"


def test_a_removal_that_somebody_else_began_is_no_failure(path):
    _program(path, "docker", 'echo a; echo "Error: removal of container b is already in progress" >&2; exit 1')
    assert docker.remove(["a", "b"]) == ["a"]
    _program(path, "docker", 'echo "Error response from daemon: device busy" >&2; exit 1')
    with pytest.raises(Problem, match="docker rm a failed: Error response from daemon: device busy"):
        docker.remove(["a"])


def _pod(reason: str, message: str) -> dict[str, Any]:
    waiting = {"image": "quay.io/net/agent:v9", "state": {"waiting": {"reason": reason, "message": message}}}
    return {
        "metadata": {"uid": "1", "name": "agent-x"},
        "spec": {"nodeName": "worker"},
        "status": {"initContainerStatuses": [waiting], "containerStatuses": [{"image": "b", "state": {"running": {}}}]},
    }


class Cluster:
    """A DaemonSet that never gets ready, and its pod."""

    def __init__(self, pod: dict[str, Any], ready: int = 0) -> None:
        self.pod, self.ready = pod, ready

    def get(self, path: str) -> dict[str, Any]:
        if path.endswith("absent"):
            raise NotFound(404, "NotFound", path)
        counts = {"desiredNumberScheduled": 3, "numberReady": self.ready, "updatedNumberScheduled": 3, "observedGeneration": 1}
        return {"metadata": {"generation": 1}, "status": counts, "spec": {}}

    def list(self, path: str, fields: str = "") -> list[dict[str, Any]]:
        times = {"lastTimestamp": "2026-11-24T09:00:00Z"}
        old, new = ({"involvedObject": {"name": name}, "reason": "FailedMount", "message": "no secret"} for name in ("old", "agent-x"))
        return [old, new | times] if path.endswith("/events") else [self.pod]


AGENT = Reference(kind="DaemonSet", namespace="net", name="agent")


def test_an_image_that_is_in_no_registry_ends_the_wait():
    cluster = Cluster(_pod("ErrImagePull", "failed to pull: quay.io/net/agent:v9: not found"))
    with pytest.raises(Problem, match=r"worker cannot pull the image quay.io/net/agent:v9: ErrImagePull: .*not found"):
        readiness.wait_ready(cluster, [AGENT], what="the CNI", progress=QUIET, limit=20)  # type: ignore[arg-type]


def test_what_is_missing_is_named_when_time_is_up():
    cluster = Cluster(_pod("ErrImagePull", "connection reset by peer"), ready=1)
    absent = Reference(kind="Deployment", namespace="net", name="absent")
    with pytest.raises(
        Problem,
        match=r"the CNI: not within .*DaemonSet net/agent: 1 of 3 ready; Deployment net/absent does not exist; .*agent-x: FailedMount",
    ):
        readiness.wait_ready(cluster, [AGENT, absent], what="the CNI", progress=QUIET, limit=0.1)  # type: ignore[arg-type]


def test_a_complete_daemonset_is_waited_for_no_longer():
    readiness.wait_ready(Cluster({}, ready=3), [AGENT], what="the CNI", progress=QUIET, limit=1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("image", "tag"), [("quay.io/a/b:v1@sha256:00", "v1"), ("localhost:5000/b", ""), ("b@sha256:00", "sha256:00"), ("a/b:2", "2")]
)
def test_the_version_in_an_image(image, tag):
    assert image_tag({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}}, "c") == tag


@pytest.fixture
def web() -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200 if "good" in self.path else 404)
            self.end_headers()
            self.wfile.write(b"content")

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    server.server_close()


DIGEST = hashlib.sha256(b"content").hexdigest()


def test_a_download_is_kept_by_its_digest(web, tmp_path):
    url, asked = web
    file = source.download(f"{url}/good.yaml", DIGEST, folder=tmp_path)
    assert source.download(f"{url}/good.yaml", DIGEST, folder=tmp_path).read_bytes() == b"content"
    assert asked == ["/good.yaml"]
    file.write_bytes(b"spoilt")
    assert source.download(f"{url}/good.yaml", DIGEST, folder=tmp_path).read_bytes() == b"content"


def test_a_download_of_another_content(web, tmp_path):
    with pytest.raises(Problem, match=rf"has the digest {DIGEST}, and the catalogue expects 0000"):
        source.download(f"{web[0]}/good.yaml", "0" * 64, folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_download_that_is_not_there(web, tmp_path):
    with pytest.raises(Problem, match=r"answers HTTP 404: --netproof-manifest NAME=FILE takes a local file"):
        source.download(f"{web[0]}/bad.yaml", DIGEST, folder=tmp_path)


def test_a_chart_without_helm(path):
    chart = Source(kind="chart", location="https://example.org/net-1.tgz", release="net")
    with pytest.raises(Problem, match=r"is a chart, and no `helm` is on the PATH"):
        source.render(chart, Path("net-1.tgz"))


def test_what_helm_is_asked_for(path, tmp_path):
    _program(path, "helm", 'echo "args: $*"')
    chart = Source(kind="chart", location="x", release="net", namespace="kube-system", values=(tmp_path / "values.yaml",))
    rendered = source.render(chart, Path("net-1.tgz"))
    assert rendered == f"args: template net net-1.tgz --namespace kube-system --include-crds --values {tmp_path}/values.yaml\n"


@pytest.mark.parametrize("key", ["node.kubernetes.io/not-ready", "node.cilium.io/agent-not-ready"])
def test_a_ready_node_that_still_takes_no_pods_is_waited_for(key):
    node = {
        "metadata": {"name": "worker"},
        "spec": {"taints": [{"key": key, "effect": "NoSchedule"}]},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }
    cluster = Cluster(node, ready=3)
    with pytest.raises(Problem, match="not Ready: worker"):
        readiness.wait_ready(cluster, [AGENT], what="nodes", progress=QUIET, nodes=True, limit=0.1)  # type: ignore[arg-type]
    node["spec"] = {"taints": [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]}
    readiness.wait_ready(cluster, [AGENT], what="nodes", progress=QUIET, nodes=True, limit=1)  # type: ignore[arg-type]
