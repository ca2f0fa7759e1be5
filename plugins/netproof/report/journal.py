"""Where events go while a run lasts: one file a worker, one line an event, so that a killed worker loses nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from netproof.model.event import Event, as_json


class Journal:
    """A sink that appends each event to `folder/events-<worker>.jsonl`, on disk (in the kernel's hands) when the call returns.

    It never raises for want of disk: what could not be written is counted in `lost`.
    """

    def __init__(self, folder: Path, worker: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"events-{worker}.jsonl"
        self.lost = 0
        torn = _is_torn(self.path)
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        if torn:
            os.write(self._file, b"\n")

    def __call__(self, event: Event) -> None:
        line = json.dumps(as_json(event), default=str).encode("ascii") + b"\n"
        try:
            whole = os.write(self._file, line) == len(line)
        except OSError:
            whole = False
        self.lost += not whole

    def close(self) -> None:
        """Give the file back; a second call does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def read(folder: Path) -> list[dict[str, Any]]:
    """The events of all workers by time. What a killed worker left half written is passed over."""
    events = [event for path in sorted(folder.glob("events-*.jsonl")) for event in _events(path)]
    return sorted(events, key=lambda event: float(event["at"]))


def _events(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text(encoding="ascii", errors="replace").splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and isinstance(event.get("event"), str) and isinstance(event.get("at"), int | float):
            yield event


def _is_torn(path: Path) -> bool:
    """Whether the file's last line has no end: a former worker of that name was killed while it wrote."""
    try:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:  # absent or empty
        return False
