"""Clusters made by kind. The only module that imports pytest-kind, which is GPL-3.0-or-later and an extra: `netproof[kind]`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from threading import Event

from pytest_kind import KindCluster

from netproof.cluster import outsider, registry
from netproof.cluster.bringup import Bringup
from netproof.cluster.catalogue import names
from netproof.cluster.command import Done, run
from netproof.cluster.docker import containers, require_engine
from netproof.cluster.images import require_local
from netproof.cluster.plan import plan
from netproof.cluster.progress import Progress, silent
from netproof.cluster.settings import Settings
from netproof.cluster.state import ClusterState
from netproof.cluster.teardown import delete_cluster
from netproof.problem import Problem

CREATE_LIMIT = 600.0
DELETE_LIMIT = 180.0
LOAD_LIMIT = 600.0


class Kind(KindCluster):  # type: ignore[misc]
    """pytest-kind's cluster with files of our choice, output that is kept, deadlines, and no downloads.

    Raises Problem where kind fails.
    """

    def __init__(self, settings: Settings) -> None:
        # not super().__init__, which makes a folder .pytest-kind below the user's current one; these are the attributes it sets
        self.settings = settings
        self.name: str = settings.kind_cluster
        self.image: str | None = settings.kind_image
        self.path: Path = settings.folder
        self.kubeconfig_path: Path = settings.folder / "kubeconfig"
        self.kind_path: Path = binary("kind", settings.kind_bin, "--kind-bin")
        self.kubectl_path: Path = settings.kubectl_bin or Path(shutil.which("kubectl") or "kubectl")

    def ensure_kind(self) -> None:
        """Nothing: the constructor found it. pytest-kind would fetch kind v0.17.0 without a checksum."""

    def ensure_kubectl(self) -> None:
        """As `ensure_kind`. Raises Problem."""
        binary("kubectl", self.kubectl_path if self.kubectl_path.exists() else None, "--kind-kubectl-bin")

    def exists(self) -> bool:
        """Whether there is a cluster, or a part of one, of this name."""
        return bool(self.nodes())

    def nodes(self) -> list[str]:
        """Names of the node containers, which are the names of the nodes."""
        return sorted(containers(f"io.x-k8s.kind.cluster={self.name}"))

    def create(self, config_file: Path | str | None = None, progress: Progress = silent) -> None:
        """Make the cluster; kind's words are kept in the run folder. What a failure leaves is the caller's to delete."""
        log = self.path / "kind-create.log"
        argv = ["create", "cluster", *self._named()]
        argv += ["--image", self.image] if self.image else []
        argv += ["--config", str(config_file)] if config_file else []

        def tell(what: str, waited: float, limit: float) -> None:
            progress(f"kind create: {_step(log)}" if what == "kind create" else what, waited, limit)

        def note(pid: int) -> None:
            registry.register(self.settings, creator=pid, creator_started=registry.process_start(pid))

        command = [str(self.kind_path), *argv]
        done = run(command, what="kind create", limit=CREATE_LIMIT, log=log, progress=tell, begun=note, farewell=self.delete)
        if done.code:
            raise Problem(f"kind could not create the cluster {self.name}: {cause(done)} (all of it: {log})")
        self.kubeconfig_path.chmod(0o600)

    def export_kubeconfig(self) -> None:
        """Write the kubeconfig of a cluster that is there."""
        try:
            self._kind("export", "kubeconfig", *self._named())
        except Problem as error:
            remedy = f"`kind delete cluster --name {self.name}` removes it"
            raise Problem(f"there is a cluster {self.name}, but it cannot be used ({error}): {remedy}") from error

    def load(self, images: Sequence[str], archives: Sequence[Path], progress: Progress = silent, stop: Event | None = None) -> None:
        """Load images of the Docker engine, and archives, onto all nodes; a node that has an image already is left alone."""
        name = f"--name={self.name}"
        if images:
            self._kind("load", "docker-image", name, *images, limit=LOAD_LIMIT, progress=progress, stop=stop)
        for archive in archives:
            self._kind("load", "image-archive", name, str(archive), limit=LOAD_LIMIT, progress=progress, stop=stop)

    def delete(self, progress: Progress = silent) -> None:
        """Delete it; what is gone already is no failure."""
        self._kind("delete", "cluster", *self._named(), limit=DELETE_LIMIT, progress=progress)

    def version(self) -> str:
        """kind's own."""
        return self._kind("version", "--quiet").out.strip()

    def _named(self) -> tuple[str, str]:
        return f"--name={self.name}", f"--kubeconfig={self.kubeconfig_path}"

    def _kind(self, *words: str, limit: float = 60, progress: Progress = silent, stop: Event | None = None) -> Done:
        what = f"kind {' '.join(words[:2])}"
        done = run([str(self.kind_path), *words], what=what, limit=limit, progress=progress, stop=stop)
        if done.code:
            raise Problem(f"{what} failed: {cause(done)}")
        return done


def binary(name: str, said: Path | None, option: str) -> Path:
    """The program of that name: the one that was said, else that of the PATH. Raises Problem."""
    if said and not said.is_file():
        raise Problem(f"{option}={said} is no file")
    found = said or shutil.which(name)
    if not found:
        raise Problem(f"--cluster=kind needs `{name}`, and none is on the PATH: install it, or say {option}=FILE")
    return Path(found).absolute()


def _step(log: Path) -> str:
    """What kind does at the moment, in its words."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "starting"
    marked = [line.strip(" •✓.").strip() for line in lines if line.strip().startswith(("•", "✓"))]
    return "".join(c for c in marked[-1] if c.isascii()).strip(" .") if marked else "starting"


_HINTS = {
    "could not find a log line that matches": "the node's init did not start; too few inotify instances are a common cause: "
    "https://kind.sigs.k8s.io/docs/user/known-issues/#pod-errors-due-to-too-many-open-files",
}


def cause(done: Done) -> str:
    """Why kind failed: its ERROR line, with the last line of the command that failed inside."""
    lines = [line.strip() for line in done.err.splitlines() if line.strip()]
    error = next((line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")), done.cause)
    output = next((line.removeprefix("Command Output: ") for line in lines if line.startswith("Command Output: ")), "")
    hint = next((hint for sign, hint in _HINTS.items() if sign in error), "")
    return "; ".join(filter(None, (error.removeprefix("failed to create cluster: "), output, hint)))


class KindProvider:
    """A cluster of this run's own, or with --cluster-name one that may be there already and is then left there."""

    def up(self, settings: Settings, progress: Progress) -> ClusterState:
        engine = require_engine()
        kind = Kind(settings)
        existed = kind.exists()
        chosen = plan(settings, progress)
        if not (chosen.cni or existed):
            raise Problem(f"--cluster=kind makes a cluster without a CNI: say --cni=NAME or a folder; there are {', '.join(names('cni'))}")
        require_local(settings.probe_image)
        registry.register(settings, made=not existed)
        try:
            state = Bringup(settings, kind, chosen, progress, existed=existed, engine=engine).state()
            state.write()
        except BaseException as error:
            _undo(settings.run, None if existed else kind, error, progress)
            raise
        return state

    def down(self, state: ClusterState, progress: Progress) -> None:
        outsider.stop(state.run)
        if state.made and not state.keep:
            delete_cluster(state.name, progress)
        registry.forget(state.run)


def _undo(run: str, made: Kind | None, error: BaseException, progress: Progress) -> None:
    """Leave nothing of a cluster that did not come up; where that fails the run stays registered and the error says so."""
    try:
        outsider.stop(run)
        if made:
            made.delete(progress)
        registry.forget(run)
    except Problem as problem:
        error.add_note(f"{problem}; `netproof cleanup` removes what is left")
