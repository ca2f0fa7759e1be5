"""A run without a cluster in which a case was collected: it ends with exit code 4 and says how to name a cluster.

A CI job that lost its option must not pass, and must not pass on something smaller either.
"""

from __future__ import annotations

from typing import Any

import pytest

from netproof.options import NO_CLUSTER


def refuse(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Raise UsageError. A worker of xdist can't end a run: it runs nothing and lets the controller's Guard know."""
    if hasattr(config, "workerinput"):
        items.clear()
        config.workeroutput["netproof_refused"] = True  # type: ignore[attr-defined]
    else:
        raise pytest.UsageError(NO_CLUSTER)


class Guard:
    """In xdist's controller: hears of refusals when the workers end."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._refused = False

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self._refused |= bool(getattr(node, "workeroutput", {}).get("netproof_refused"))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._refused:
            session.exitstatus = pytest.ExitCode.USAGE_ERROR

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self._refused:
            terminalreporter.write_line(f"ERROR: {NO_CLUSTER}", red=True)
