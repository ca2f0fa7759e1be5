"""Where Netproof's own files lie: inside the installed package, or beside `plugins/` in a checkout."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def manifests() -> Path:
    """The folder `manifests/`."""
    return _folder("manifests")


def suites() -> Path:
    """The folder `suites/`."""
    return _folder("suites")


def _folder(name: str) -> Path:
    installed = _PACKAGE / name
    return installed if installed.is_dir() else _PACKAGE.parents[1] / name
