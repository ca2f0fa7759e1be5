"""Progress of long waits on the terminal: a thread follows the workers' journals and says what they wait for."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from netproof.model.event import Waiting
from netproof.report import terminal

_EVERY = 1.0  # seconds between two looks
_FROM = 5.0  # seconds from which on a wait is long


class Ticker:
    """Writes to the terminal that pytest was started on, past its capture of a running test's output."""

    def __init__(self, folder: Path, config: pytest.Config) -> None:
        self._folder = folder
        self._read: dict[Path, int] = {}
        self._headed = False
        self._said = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="netproof-ticker", daemon=True)
        self._file = _terminal(config)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """End; `say` goes on working."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_EVERY * 2)

    def say(self, text: str) -> None:
        """One line on the terminal; nothing where there is none."""
        if self._file is not None:
            os.write(self._file, f"\n  … {text}\n".encode())

    def _run(self) -> None:
        while not self._stop.wait(_EVERY):
            for event in self._new():
                self._show(event)

    def _show(self, event: dict[str, Any]) -> None:
        if event["event"] == "Waiting" and event["waited"] >= _FROM and time.monotonic() - self._said >= _FROM:
            self._said = time.monotonic()
            self.say(terminal.progress_line(Waiting(**{key: event[key] for key in ("at", "case", "what", "waited", "limit")})))
        elif event["event"] == "RunStarted" and event["header"].get("nodes") and not self._headed:
            self._headed = True
            for line in terminal.header_lines(event["header"]):
                self.say(line)

    def _new(self) -> list[dict[str, Any]]:
        found = []
        for path in sorted(self._folder.glob("events-*.jsonl")):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                for line in file:
                    if line.endswith(b"\n"):
                        self._read[path] = self._read.get(path, 0) + len(line)
                        found.append(json.loads(line))
        return found


def _terminal(config: pytest.Config) -> int | None:
    """A descriptor of its own for pytest's terminal: capture replaces the usual one while a test runs."""
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or config.option.verbose < 0:
        return None
    try:
        return os.dup(reporter._tw._file.fileno())
    except (AttributeError, OSError, ValueError):
        return None
