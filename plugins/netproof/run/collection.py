"""The cases that were collected: are they of the catalogue, and how much of it do they cover?"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Sequence

import pytest

from netproof import files, options
from netproof.cases import WORKER, marked
from netproof.model.behaviour import Behaviour, BehaviourError, catalogue
from netproof.model.flow import Family
from netproof.problem import Problem


@functools.cache
def behaviours() -> dict[str, Behaviour]:
    """The catalogue of `suites/behaviours.toml` by id. Raises pytest.UsageError where it cannot be read."""
    file = files.suites() / "behaviours.toml"
    try:
        return catalogue(tomllib.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, BehaviourError) as error:
        raise pytest.UsageError(f"{file}: {error}") from error


def families(config: pytest.Config) -> tuple[Family, ...]:
    """The address families of the cases: those of the run; without a cluster those that were asked for, or IPv4. Raises UsageError."""
    worker = config.pluginmanager.get_plugin(WORKER)
    if worker:
        return tuple(map(Family, worker.assignment.families))
    try:
        return options.said(config).families() or (Family.IPV4,)
    except Problem as problem:
        raise pytest.UsageError(str(problem)) from None


def require_known(items: Sequence[pytest.Item]) -> None:
    """Raise UsageError for a case whose behaviour is unknown or withdrawn, and for two cases of one id."""
    ids: dict[str, str] = {}
    for item in items:
        mark = marked(item)
        known = behaviours().get(mark.id) if mark else None
        if mark and (known is None or known.removed):
            why = f"was withdrawn: {known.removed}" if known else "stands not in suites/behaviours.toml"
            raise pytest.UsageError(f"{item.nodeid}: behaviour {mark.id} {why}")
        case = item.callspec.id if hasattr(item, "callspec") else item.nodeid
        if ids.setdefault(case, item.nodeid) != item.nodeid:
            raise pytest.UsageError(f"{item.nodeid} and {ids[case]} have the same id {case}")


def coverage(items: Sequence[pytest.Item]) -> tuple[int, int, int]:
    """How many behaviours the items prove, how many there are, and how many cases that makes.

    A behaviour with cases on request alone counts where somebody has asked for them.
    """
    selected = {mark.id for item in items if (mark := marked(item))}
    there = [known for known in behaviours().values() if not known.removed and (known.id in selected or not known.on_request)]
    return len(selected), len(there), len(items)
