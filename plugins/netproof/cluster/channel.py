"""A byte channel over the pipes of a program, as the probe layer wants it."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
from collections.abc import Sequence
from typing import IO, cast

_CHUNK = 65536


class PipeChannel:
    """Bytes to a program's standard input and from its standard output. One thread may send while another receives."""

    def __init__(self, argv: Sequence[str]) -> None:
        """Starts the program, in a session of its own: a Ctrl-C is not for it. Raises OSError."""
        self._process = subprocess.Popen(
            list(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, start_new_session=True
        )
        self._input = cast("IO[bytes]", self._process.stdin)
        self._output = cast("IO[bytes]", self._process.stdout)
        self._errors = cast("IO[bytes]", self._process.stderr)
        self._name = " ".join(argv[:4])

    def send(self, data: bytes) -> None:
        """All of it. Raises ConnectionError."""
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._input.fileno(), rest) :]
        except (OSError, ValueError) as error:
            raise ConnectionError(self._ended()) from error

    def receive(self, timeout: float) -> bytes:
        """What is there, b"" where nothing came within `timeout` seconds. Raises ConnectionError when the far end has closed."""
        try:
            ready = _readable(self._output, timeout)
            data = os.read(self._output.fileno(), _CHUNK) if ready else b""
        except (OSError, ValueError) as error:
            raise ConnectionError(self._ended()) from error
        if ready and not data:
            raise ConnectionError(self._ended())
        return data

    def close(self) -> None:
        """Ends the program: its input first, which a relay takes as the end, then by force. A second call does nothing."""
        with contextlib.suppress(OSError):
            self._input.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.5)
        self._process.kill()
        self._process.wait()
        self._output.close()
        self._errors.close()

    def _ended(self) -> str:
        """Why it ended, as far as it can still be learnt."""
        with contextlib.suppress(OSError, ValueError, subprocess.TimeoutExpired):
            self._process.wait(0.5)
            said = os.read(self._errors.fileno(), _CHUNK).decode(errors="replace").strip() if _readable(self._errors, 0) else ""
            return f"{self._name} ended: {said.splitlines()[-1] if said else f'exit code {self._process.returncode}'}"
        return f"{self._name} ended"


def _readable(stream: IO[bytes], timeout: float) -> bool:
    poller = select.poll()  # select() knows no descriptor above 1023
    poller.register(stream, select.POLLIN)
    return bool(poller.poll(max(0.0, timeout) * 1000))
