"""Waiting for what a run under way says in its journal."""

from __future__ import annotations

import time
from pathlib import Path


def await_file(folder: Path, *texts: str, limit: float = 90) -> None:
    """Wait until the journals of the run whose report goes to `folder` say all of these. Raises AssertionError."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        said = "".join(file.read_text() for file in folder.glob("run-*/events-*.jsonl"))
        if all(text in said for text in texts):
            return
        time.sleep(0.1)
    raise AssertionError(f"the run did not say {texts} within {limit:.0f} s")
