"""Objects: parsed, overlaid, their images swapped."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from netproof.cluster import images, plan, source
from netproof.cluster.catalogue import Entry, Source, load
from netproof.cluster.install import awaited
from netproof.cluster.manifest import Object, filled, overlaid, parse, repository, swap_images, workloads
from netproof.cluster.manifest import images as images_of
from netproof.cluster.settings import Settings
from netproof.problem import Problem

TEXT = """
apiVersion: v1
kind: ConfigMap
metadata: {name: cfg, namespace: net}
data: {a: "1", b: "2"}
---
---
apiVersion: v1
kind: List
items:
- apiVersion: apps/v1
  kind: DaemonSet
  metadata: {name: agent, namespace: net}
  spec:
    template:
      spec:
        initContainers: [{name: install, image: "quay.io/net/agent:v1@sha256:00"}]
        containers: [{name: agent, image: "quay.io/net/agent:v1", imagePullPolicy: Always}, {name: proxy, image: "envoy"}]
- apiVersion: batch/v1
  kind: CronJob
  metadata: {name: sweep, namespace: net}
  spec: {jobTemplate: {spec: {template: {spec: {containers: [{name: sweep, image: "localhost:5000/sweep:2"}]}}}}}
"""


@pytest.fixture
def objects() -> list[Object]:
    return parse(TEXT, where="test")


def test_lists_are_opened_and_empty_documents_left_out(objects):
    assert [item["kind"] for item in objects] == ["ConfigMap", "DaemonSet", "CronJob"]
    assert [item["metadata"]["name"] for item in workloads(objects)] == ["agent"]


@pytest.mark.parametrize("text", ["a: [", "- 1", "kind: Pod\napiVersion: v1\nmetadata: {}"])
def test_what_is_no_object_is_refused(text):
    with pytest.raises(Problem, match=r"file\.yaml"):
        parse(text, where="file.yaml")


def test_images_of_all_templates(objects):
    assert images_of(objects) == ["quay.io/net/agent:v1@sha256:00", "quay.io/net/agent:v1", "envoy", "localhost:5000/sweep:2"]


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("envoy", "envoy"),
        ("docker.io/library/envoy:1", "envoy"),
        ("quay.io/net/agent:v1@sha256:00", "quay.io/net/agent"),
        ("localhost:5000/sweep:2", "localhost:5000/sweep"),
    ],
)
def test_repositories(image, name):
    assert repository(image) == name


def _by_container(objects: list[Object]) -> dict[str, str]:
    spec = objects[1]["spec"]["template"]["spec"]
    return {entry["name"]: entry["image"] for entry in [*spec["initContainers"], *spec["containers"]]}


@pytest.mark.parametrize(
    ("name", "met"),
    [
        ("quay.io/net/agent", {"install", "agent"}),
        ("quay.io/net/agent:v1", {"install", "agent"}),
        ("agent", {"agent"}),
        ("docker.io/envoy", set()),
        ("envoy", {"proxy"}),
    ],
)
def test_a_swap_by_container_or_repository(objects, name, met):
    if not met:
        with pytest.raises(Problem):
            swap_images(objects, {name: "new:1"})
        return
    swapped = _by_container(swap_images(objects, {name: "new:1"}))
    assert {container for container, image in swapped.items() if image == "new:1"} == met
    assert "new:1" not in _by_container(objects).values()


def test_a_swap_that_meets_nothing_lists_what_there_is(objects):
    with pytest.raises(
        Problem, match=r"--netproof-image agnet: .* the containers install, agent, proxy, sweep and the images quay.io/net/agent, envoy"
    ):
        swap_images(objects, {"agnet": "new:1"})


def test_an_overlay_merges_and_removes(objects):
    partial = parse("{apiVersion: v1, kind: ConfigMap, metadata: {name: cfg, namespace: net}, data: {a: '3', b: null}}", where="overlay")
    assert overlaid(objects, partial, strict=True)[0]["data"] == {"a": "3"}
    assert objects[0]["data"] == {"a": "1", "b": "2"}


def test_an_overlay_meets_containers_by_name(objects):
    spec = "{template: {spec: {containers: [{name: agent, args: [-v]}]}}}"
    partial = parse(f"{{apiVersion: apps/v1, kind: DaemonSet, metadata: {{name: agent, namespace: net}}, spec: {spec}}}", where="overlay")
    agent, proxy = overlaid(objects, partial, strict=True)[1]["spec"]["template"]["spec"]["containers"]
    assert (agent["args"], agent["image"]) == (["-v"], "quay.io/net/agent:v1")
    assert proxy == {"name": "proxy", "image": "envoy"}


def test_an_overlay_that_meets_nothing(objects):
    partial = parse("{apiVersion: v1, kind: ConfigMap, metadata: {name: other, namespace: net}}", where="overlay")
    assert overlaid(objects, partial, strict=False) == objects
    with pytest.raises(Problem, match="ConfigMap net other meets no object"):
        overlaid(objects, partial, strict=True)


def test_placeholders_are_filled():
    assert filled('addresses: ["${POOL}"]', {"POOL": "10.0.0.1-10.0.0.2"}) == 'addresses: ["10.0.0.1-10.0.0.2"]'


def test_flannels_overlay_fits_a_manifest_of_its_form(tmp_path):
    file = tmp_path / "flannel.yaml"
    metadata = "{name: kube-flannel-cfg, namespace: kube-flannel}"
    file.write_text(f"{{apiVersion: v1, kind: ConfigMap, metadata: {metadata}, data: {{cni-conf.json: x, net-conf.json: y}}}}")
    data = source.objects(load("flannel"), str(file))[0]["data"]
    assert json.loads(data["cni-conf.json"])["plugins"][0]["delegate"] == {"type": "ptp"}
    assert data["net-conf.json"] == "y"


def test_metallbs_overlay_fits_a_manifest_of_its_form(tmp_path):
    file = tmp_path / "metallb.yaml"
    containers = "[{name: controller, args: [--port=7472], livenessProbe: {httpGet: {port: monitoring}}}]"
    template = f"{{template: {{spec: {{containers: {containers}}}}}}}"
    file.write_text(
        f"{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: controller, namespace: metallb-system}}, spec: {template}}}"
    )
    [container] = source.objects(load("metallb", "loadbalancer"), str(file))[0]["spec"]["template"]["spec"]["containers"]
    assert "--webhook-mode=disabled" in container["args"]
    assert container["livenessProbe"] == {"httpGet": {"port": "monitoring"}}


def test_what_is_awaited(objects):
    entry = Entry(kind="cni", name="n", folder=Path(), version="", homepage="", source=Source(kind="manifest", location=""))
    assert [str(reference) for reference in awaited(entry, objects)] == ["DaemonSet net/agent"]


def _archive(file: Path, members: dict[str, object]) -> Path:
    with tarfile.open(file, "w") as archive:
        for name, content in members.items():
            data = json.dumps(content).encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return file


@pytest.mark.parametrize(
    "members",
    [
        {"manifest.json": [{"RepoTags": ["net/agent:tonight"], "Config": "abc.json"}]},
        {"manifest.json": [{"RepoTags": ["net/agent:tonight"], "Config": "blobs/sha256/abc"}]},
        {"index.json": {"manifests": [{"digest": "abc", "annotations": {"io.containerd.image.name": "net/agent:tonight"}}]}},
    ],
)
def test_an_archive_names_its_image(tmp_path, members):
    assert images.archived(_archive(tmp_path / "agent.tar", members)) == ("net/agent:tonight", "abc")


@pytest.mark.parametrize("members", [{}, {"manifest.json": [{"RepoTags": ["a:1", "b:1"]}]}, {"manifest.json": [{"RepoTags": None}]}])
def test_an_archive_without_one_name_is_refused(tmp_path, members):
    with pytest.raises(Problem, match="must hold one image with a name"):
        images.archived(_archive(tmp_path / "agent.tar", members))


def test_a_file_that_is_no_archive(tmp_path):
    (tmp_path / "agent.tar").write_text("no")
    with pytest.raises(Problem, match="is no image archive"):
        images.archived(tmp_path / "agent.tar")


def test_what_is_here_is_not_pulled(objects, monkeypatch):
    monkeypatch.setattr(images, "local_images", lambda references: dict.fromkeys({"quay.io/net/agent:v1"} & set(references), "sha256:abc"))
    settled = images.supply(objects, {})
    assert settled.local == ("quay.io/net/agent:v1",)
    template = settled.objects[1]["spec"]["template"]
    assert template["spec"]["containers"][0]["imagePullPolicy"] == "IfNotPresent"
    assert template["metadata"]["annotations"] == {"netproof.dev/images": "abc"}  # a new image of that name makes new pods
    assert "template" not in objects[0]
    assert "imagePullPolicy" not in settled.objects[2]["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]


def test_an_archive_in_place_of_an_image(objects, tmp_path, monkeypatch):
    monkeypatch.setattr(images, "local_images", lambda references: {})
    file = _archive(tmp_path / "agent.tar", {"manifest.json": [{"RepoTags": ["net/agent:tonight"], "Config": "abc.json"}]})
    settled = images.supply(objects, {"quay.io/net/agent": str(file)})
    assert (settled.local, settled.archives) == ((), (file,))
    assert settled.notes == (f"image quay.io/net/agent: {file} stands for it (abc)",)
    assert _by_container(list(settled.objects))["agent"] == "net/agent:tonight"


@pytest.mark.parametrize(
    ("image", "listed", "lacks"),
    [
        ("net/agent:1", {"docker.io/net/agent:1": "sha256:m", "sha256:id": "sha256:m"}, False),
        ("net/agent:1", {"docker.io/net/agent:1": "sha256:id"}, False),  # an engine on containerd's store
        ("net/agent:1", {"docker.io/net/agent:1": "sha256:old", "sha256:id": "sha256:m"}, True),
        ("net/agent:1", {"sha256:id": "sha256:m"}, True),
        ("quay.io/net/agent", {"quay.io/net/agent:latest": "sha256:m", "sha256:id": "sha256:m"}, False),
        ("agent:2", {"docker.io/library/agent:2": "sha256:m", "sha256:id": "sha256:m"}, False),
    ],
)
def test_what_a_node_has_is_not_loaded_again(monkeypatch, image, listed, lacks):
    monkeypatch.setattr(images, "local_images", lambda references: dict.fromkeys(references, "sha256:id"))
    monkeypatch.setattr(images, "_on_node", lambda node: listed)
    assert images.absent([image], ["a", "b"]) == ([image] if lacks else [])
    assert images.known_to(image, ["a"]) == (image != "net/agent:1" or "docker.io/net/agent:1" in listed)


def test_a_plan_with_a_local_manifest(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "local_images", lambda references: {})
    (tmp_path / "cni.yaml").write_text(TEXT)
    settings = Settings(
        cluster="kind",
        run="r",
        folder=tmp_path,
        probe_image="p",
        cni="cilium",
        manifests={"cilium": f"{tmp_path}/cni.yaml", "metallb": "unused"},
    )
    chosen = plan.plan(settings, lambda *_: None)
    assert chosen.cni is not None
    assert len(chosen.cni.objects) == 3
    assert chosen.notes == (f"cilium: {tmp_path}/cni.yaml stands for its chart",)


def test_a_manifest_for_nobody(tmp_path):
    settings = Settings(cluster="kind", run="r", folder=tmp_path, probe_image="p", cni="cilium", manifests={"cillium": "x"})
    with pytest.raises(Problem, match=r"--netproof-manifest cillium: no entry is called that; there are cilium, flannel, metallb"):
        plan.plan(settings, lambda *_: None)
