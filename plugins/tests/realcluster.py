"""A real cluster as the tests marked `kind` use it: Netproof is run on it as a user would, and its nodes can be entered."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netproof.kube.client import connect
from netproof.kube.objects import path
from netproof.world.placement import schedulable

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Ended:
    """How a run of pytest ended, and what its report says."""

    code: int
    out: str
    report: Mapping[str, Any] = field(default_factory=dict)

    @property
    def verdicts(self) -> dict[str, str]:
        return {result["case"]: result["verdict"] for result in self.report.get("results", ())}

    def reason(self, case: str) -> str:
        return next(str(result["reason"]) for result in self.report["results"] if result["case"] == case)


@dataclass(frozen=True)
class Kind:
    """The cluster, and how to run Netproof on it as a user would."""

    kubeconfig: Path
    context: str
    nodes: tuple[str, ...]  # those that take pods
    control_plane: str
    image: str

    def arguments(self, folder: Path, *words: str, kubeconfig: Path | None = None, image: str = "") -> list[str]:
        options = [
            f"--cluster=context/{self.context}",
            f"--netproof-kubeconfig={kubeconfig or self.kubeconfig}",
            f"--netproof-probe-image={image or self.image}",
            f"--netproof-report={folder}",
            "--netproof-cap=20",
        ]
        return [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, *words]

    def start(self, folder: Path, *words: str, **said: Any) -> subprocess.Popen[str]:
        command = self.arguments(folder, *words, **said)
        environment = os.environ | {"XDG_STATE_HOME": str(folder.parent / "state")}
        # A shell starts what runs in its background with SIGINT ignored, and children inherit that.
        return subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, folder: Path, *words: str, limit: float = 300, **said: Any) -> Ended:
        return ended(self.start(folder, *words, **said), folder, limit=limit)

    def node(self, name: str, *argv: str) -> str:
        """What a command on a node prints."""
        done = subprocess.run(["docker", "exec", name, *argv], capture_output=True, text=True, check=True)
        return done.stdout


def ended(process: subprocess.Popen[str], folder: Path, *, limit: float = 300) -> Ended:
    """Wait for a run and read its report."""
    out, _ = process.communicate(timeout=limit)
    file = folder / "report.json"
    return Ended(process.returncode, out, json.loads(file.read_text()) if file.is_file() else {})


def cluster_of(kubeconfig: Path, image: str) -> Kind:
    api = connect(kubeconfig, None)
    nodes = api.list(path("Node"))
    workers = tuple(node.name for node in schedulable(nodes))
    control_plane = next(node["metadata"]["name"] for node in nodes if node["metadata"]["name"] not in workers)
    return Kind(kubeconfig, api.context, workers, control_plane, image)
