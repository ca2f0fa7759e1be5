"""Where an entry's objects come from: a download checked by its digest, a chart that helm renders, or a file."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from tempfile import NamedTemporaryFile

import urllib3

from netproof.cluster.catalogue import Entry, Source, is_remote
from netproof.cluster.command import run
from netproof.cluster.manifest import Object, overlaid, parse, read
from netproof.cluster.progress import Progress, silent
from netproof.problem import Problem

LIMIT = 120.0


def cache() -> Path:
    """Where downloads are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "netproof"


def objects(entry: Entry, replacement: str = "", *, progress: Progress = silent) -> list[Object]:
    """All objects of an entry, ready to apply. `replacement` (--netproof-manifest) stands for its source. Raises Problem."""
    found = _replaced(replacement) if replacement else _sourced(entry.source, progress)
    return overlaid(found, read(entry.overlay), strict=not replacement) + read(entry.apply)


def _replaced(file: str) -> list[Object]:
    path = Path(file).expanduser()
    try:
        return parse(path.read_text(encoding="utf-8"), where=str(path))
    except OSError as error:
        raise Problem(f"--netproof-manifest: {path} cannot be read: {error.strerror}") from error


def _sourced(source: Source, progress: Progress) -> list[Object]:
    file = download(source.location, source.sha256, progress=progress) if source.remote else Path(source.location)
    if source.kind == "manifest":
        return parse(file.read_text(encoding="utf-8"), where=source.location)
    return parse(render(source, file), where=f"what helm makes of {source.location}")


def render(source: Source, chart: Path) -> str:
    """The chart's objects with the source's values. Raises Problem."""
    if not shutil.which("helm"):
        raise Problem(f"{source.location} is a chart, and no `helm` is on the PATH: install it, or render it and say --netproof-manifest")
    values = [argument for file in source.values for argument in ("--values", str(file))]
    argv = ["helm", "template", source.release, str(chart), "--namespace", source.namespace, "--include-crds", *values]
    return run(argv, what=f"helm template {source.release}").require(f"helm template {source.release}").out


def download(url: str, sha256: str, *, progress: Progress = silent, folder: Path | None = None) -> Path:
    """A file of that content, from the cache where it is there. Raises Problem.

    Without a digest nothing says that a kept file is still the right one, so it is fetched anew.
    """
    assert is_remote(url)
    target = (folder or cache()) / f"{(sha256 or 'unpinned')[:16]}-{url.rsplit('/', 1)[-1]}"
    if sha256 and target.is_file() and _digest(target.read_bytes()) == sha256:
        return target
    progress(f"download {url}", 0.0, LIMIT)
    data = _fetch(url)
    if sha256 and _digest(data) != sha256:
        raise Problem(f"{url} has the digest {_digest(data)}, and the catalogue expects {sha256}: it is not what the entry was written for")
    _keep(target, data)
    return target


def _fetch(url: str) -> bytes:
    try:
        response = urllib3.PoolManager().request(
            "GET", url, timeout=urllib3.Timeout(connect=10, total=LIMIT), retries=urllib3.Retry(3, backoff_factor=0.5)
        )
    except urllib3.exceptions.HTTPError as error:
        raise Problem(
            f"{url} cannot be fetched ({_reason(error)}): --netproof-manifest NAME=FILE takes a local file in its place"
        ) from error
    if response.status != 200:
        raise Problem(f"{url} answers HTTP {response.status}: --netproof-manifest NAME=FILE takes a local file in its place")
    return response.data


def _reason(error: BaseException) -> str:
    """The innermost sentence of urllib3's, without its objects' addresses."""
    inner = getattr(error, "reason", None)
    text = str(inner if isinstance(inner, BaseException) else error)
    return text.rsplit(": ", 1)[-1] if ">: " in text or "): " in text else text


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _keep(target: Path, data: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=target.parent, prefix=".", delete=False) as file:
        file.write(data)
    Path(file.name).replace(target)
