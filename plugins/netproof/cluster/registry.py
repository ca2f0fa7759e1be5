"""The runs that have made something: one file a run, written before the first thing is made and removed after the last is gone.

They lie in `${XDG_STATE_HOME:-~/.local/state}/netproof/runs`, so that `netproof cleanup` finds what a killed run left.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from netproof.cluster.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run: who drives it, and where its things are."""

    run: str
    pid: int  # of the controller
    started: str  # when that process began, so that a recycled id is no sign of life
    host: str
    at: float
    provider: str
    cluster: str  # kind's name for it, or ""
    made: bool  # the cluster is this run's own
    keep: bool
    kubeconfig: str
    context: str
    folder: str
    pool: str = ""  # addresses of its load balancer
    creator: int = 0  # process id of its `kind create`, and when that began
    creator_started: str = ""


_FIELDS = {field.name for field in fields(Run)}


def folder() -> Path:
    """Where the files are."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "netproof" / "runs"


def register(settings: Settings, **known: Any) -> Run:
    """Say that this run is about to make something. A second call only adds the fields of `Run` that are known by then."""
    entry = replace(find(settings.run) or _new(settings), **known)
    _write(entry)
    return entry


def reserve_pool(settings: Settings, choose: Callable[[list[str]], str]) -> str:
    """A pool of addresses that no other run of this machine holds: `choose` is given theirs."""
    folder().mkdir(parents=True, exist_ok=True)
    with FileLock(folder() / "pool.lock"):
        others = [entry.pool for entry in runs() if entry.run != settings.run and entry.cluster != settings.kind_cluster and entry.pool]
        return register(settings, pool=choose(others)).pool


def forget(run: str) -> None:
    """Nothing of this run is left."""
    _file(run).unlink(missing_ok=True)


def find(run: str) -> Run | None:
    """The entry of a run; None where it has none, or one that cannot be read."""
    try:
        known = json.loads(_file(run).read_text(encoding="utf-8"))
        return Run(**{name: value for name, value in known.items() if name in _FIELDS})  # another version may have written it
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def runs() -> list[Run]:
    """All entries, the oldest first."""
    found = [find(file.stem) for file in folder().glob("*.json")]
    return sorted((entry for entry in found if entry), key=lambda entry: entry.at)


def alive(run: Run, *, started: Callable[[int], str] | None = None) -> bool:
    """Whether its controller still runs. One on another machine is taken to do so."""
    return run.host != socket.gethostname() or (started or process_start)(run.pid) == run.started


def process_start(pid: int) -> str:
    """When a process began, in words that only that process has on this machine since it booted; "" where there is none."""
    if sys.platform == "linux":
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        state, *rest = stat.rpartition(")")[2].split()  # the name before it may hold anything
        return "" if state in {"Z", "X"} else f"{_boot()} {rest[18]}"
    done = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _new(settings: Settings) -> Run:
    is_kind = settings.provider_name == "kind"
    pid = settings.controller or os.getpid()
    return Run(
        run=settings.run,
        pid=pid,
        started=process_start(pid),
        host=socket.gethostname(),
        at=time.time(),
        provider=settings.provider_name,
        cluster=settings.kind_cluster if is_kind else "",
        made=is_kind and settings.cluster_name is None,
        keep=settings.keep,
        kubeconfig=str(settings.folder / "kubeconfig") if is_kind else _kubeconfig(settings),
        context="" if is_kind else settings.cluster,
        folder=str(settings.folder),
    )


def _kubeconfig(settings: Settings) -> str:
    """The file to read again later, in another shell perhaps; "" where that is the default one, or a list of files."""
    said = str(settings.kubeconfig or os.environ.get("KUBECONFIG", ""))
    return "" if os.pathsep in said else said and str(Path(said).expanduser().absolute())


def _write(run: Run) -> None:
    target = _file(run.run)
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.with_suffix(f".{os.getpid()}")
    new.write_text(json.dumps(asdict(run), indent=1), encoding="utf-8")
    new.replace(target)


def _file(run: str) -> Path:
    return folder() / f"{run}.json"
