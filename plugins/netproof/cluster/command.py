"""Other programs: run with a deadline, told of, and never left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from netproof.cluster.progress import Progress, silent
from netproof.problem import Problem

_LOOK = 0.5
_FAREWELL = 120.0  # a container of a large image takes its time, on a busy machine most of all


@dataclass(frozen=True, slots=True)
class Done:
    """How a program ended."""

    argv: tuple[str, ...]
    code: int
    out: str
    err: str

    @property
    def cause(self) -> str:
        """What it said last, in one line: for sentences about its failure."""
        lines = [line.strip() for line in (self.err or self.out).splitlines() if line.strip()]
        return lines[-1] if lines else f"exit code {self.code}"

    def require(self, what: str) -> Done:
        """Itself. Raises Problem with the cause where the program failed."""
        if self.code:
            raise Problem(f"{what} failed: {self.cause}")
        return self


def run(
    argv: Sequence[str],
    *,
    what: str = "",
    limit: float = 60,
    data: bytes | None = None,
    log: Path | None = None,
    progress: Progress = silent,
    stop: threading.Event | None = None,
    begun: Callable[[int], object] | None = None,
    farewell: Callable[[], object] | None = None,
) -> Done:
    """Run it to its end. Raises Problem where it cannot be started, does not end within `limit` seconds, or `stop` is set meanwhile.

    With a `log` both its outputs go there, and are `err` in the end. It runs in a session of its own: a Ctrl-C reaches this process
    alone, which then kills it and goes on to clean up. `begun` is told its process id; for `farewell` see `end`.
    """
    what = what or argv[0]
    with log.open("wb") if log else contextlib.nullcontext() as file:
        process = _start(argv, what, subprocess.PIPE if data is not None else subprocess.DEVNULL, file or subprocess.PIPE)
    try:
        if begun:
            begun(process.pid)
        out, err = _wait(process, what, limit, data, progress, stop or threading.Event())
    except BaseException:
        if farewell:
            process.kill()
            process.wait()
            end(process.pid, f"{what}: ending", farewell, progress)
        _kill(process)
        raise
    said = log.read_bytes() if log else err or b""
    return Done(tuple(argv), process.returncode, (out or b"").decode(errors="replace"), said.decode(errors="replace"))


def _start(argv: Sequence[str], what: str, stdin: int, output: int | IO[bytes]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(list(argv), stdin=stdin, stdout=output, stderr=output, start_new_session=True)
    except OSError as error:
        raise Problem(f"{what} failed: {argv[0]} cannot be run: {error.strerror or error}") from error


def _wait(
    process: subprocess.Popen[bytes], what: str, limit: float, data: bytes | None, progress: Progress, stop: threading.Event
) -> tuple[bytes, bytes]:
    began = time.monotonic()
    while (waited := time.monotonic() - began) < limit and not stop.is_set():
        try:
            return process.communicate(data, timeout=min(_LOOK, limit - waited))
        except subprocess.TimeoutExpired:
            data = None  # communicate goes on by itself and refuses to be given it again
            progress(what, time.monotonic() - began, limit)
    raise Problem(f"{what} was stopped" if stop.is_set() else f"{what} did not end within {limit:.0f} s")


def end(session: int, what: str, farewell: Callable[[], object], progress: Progress) -> None:
    """Wait, with a bound, until nobody is left in the session of a program that was killed; meanwhile `farewell` is called repeatedly.

    Its children may end by themselves: a request to the Docker engine that is cut off has its effect all the same, only later.
    """
    began = time.monotonic()
    with contextlib.suppress(ProcessLookupError):
        while (waited := time.monotonic() - began) < _FAREWELL:
            os.killpg(session, 0)
            farewell()
            progress(what, waited, _FAREWELL)
            time.sleep(0.5)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """The whole session: kind and docker have children of their own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            stream.close()
