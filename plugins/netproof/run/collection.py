"""The cases that were collected: are they of the catalogue, and how much of it do they cover?"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from netproof import files, options
from netproof.cases import WORKER, marked
from netproof.model.behaviour import Behaviour, BehaviourError, catalogue
from netproof.model.flow import Family
from netproof.problem import Problem

_RANKS = {"disruptive": 0, "slow": 2, "early": 3}
_SHORT = 4
PASSES = 4  # over the short cases, so that no file keeps all workers busy with the same at once
BESIDE = 10  # cases of each worker that begin before the long ones where disruptive ones wait to have the cluster to themselves


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


def order(items: Sequence[pytest.Item], workers: int, is_long: Callable[[pytest.Item], bool]) -> list[pytest.Item]:
    """The items so that no worker has a long one left when the others are done, and none waits long for another.

    Those marked `disruptive` come first, beside a few that are soon over, as they need all others to be. Then long ones, each followed by
    some short ones, which another lane does meanwhile: those otherwise known to be long, those marked `slow`, those marked `early`. Then
    the rest. They are dealt to the workers in turn, as xdist gives each of them a stretch of the list to begin with. Each worker begins
    with other long ones: one kind waits most of the time, another keeps the machine busy, and so they are at it at different times. For
    the same reason the short ones of one file, which are alike, are spread where there are several workers.
    """
    ranks: dict[int, list[pytest.Item]] = {rank: [] for rank in range(_SHORT + 1)}
    for item in items:
        ranks[_rank(item, is_long)].append(item)
    beside = BESIDE * workers if ranks[0] else 0
    first, short = [*ranks[0], *ranks[_SHORT][:beside]], _spread(ranks[_SHORT][beside:], PASSES if workers > 1 else 1)
    long = [item for rank in range(1, _SHORT) for item in ranks[rank]]
    return [item for worker in reversed(range(workers)) for item in _stretch(_deal([first, long, short], worker, workers), worker, workers)]


def _stretch(dealt: Sequence[Sequence[pytest.Item]], worker: int, workers: int) -> list[pytest.Item]:
    """What one worker begins with, of what was dealt to it."""
    first, long, short = dealt
    start = len(long) * worker // workers
    return [*first, *_woven([*long[start:], *long[:start]], short)]


def _deal(piles: Sequence[Sequence[pytest.Item]], worker: int, workers: int) -> list[list[pytest.Item]]:
    """The part of one worker in each pile, as if they lay on one another."""
    dealt, passed = [], 0
    for pile in piles:
        dealt.append(list(pile[(worker - passed) % workers :: workers]))
        passed += len(pile)
    return dealt


def _spread(items: Sequence[pytest.Item], passes: int) -> list[pytest.Item]:
    """In several passes over the items: what stood together comes far from one another."""
    return [item for start in range(passes) for item in items[start::passes]]


def _woven(long: Sequence[pytest.Item], short: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Each long one with as many short ones after it that, in all, a quarter of these is left for the end."""
    share = 3 * len(short) // 4 // len(long) if long else 0
    woven = [item for place, one in enumerate(long) for item in (one, *short[place * share : (place + 1) * share])]
    return [*woven, *short[len(long) * share :]]


def _rank(item: pytest.Item, is_long: Callable[[pytest.Item], bool]) -> int:
    marks = _RANKS if marked(item) else {}
    found = next((rank for mark, rank in marks.items() if item.get_closest_marker(mark)), _SHORT)
    return min(found, 1) if is_long(item) else found


def unnamed_timings(config: pytest.Config, items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """The cases that measure latencies, unless a path leads into their folder, -m speaks of `timing` or -k of one in particular.

    They take minutes, and want to be alone: whoever asks for the suites as a whole does not ask for them.
    """
    if "timing" in config.option.markexpr:
        return []
    paths = [(config.invocation_params.dir / argument.partition("::")[0]).resolve() for argument in config.args]
    words = [word for word in re.findall(r"[^\s()]+", config.option.keyword.lower()) if word not in ("and", "or", "not")]
    return [item for item in items if item.get_closest_marker("timing") and not _is_named(item, paths, words)]


def _is_named(item: pytest.Item, paths: Sequence[Path], words: Sequence[str]) -> bool:
    """A word of -k that the case has in its name was meant for it: after a `not`, -k would have taken it out."""
    mark, folder = marked(item), item.path.parent
    names = " ".join([mark.id if mark else "", item.name.partition("[")[0], item.path.stem]).lower()
    return any(word in names for word in words) or any(path == folder or folder in path.parents for path in paths)


def told(left_out: Sequence[pytest.Item]) -> str:
    """Why these cases are not among the selected, for the header; empty where there are none."""
    if not left_out:
        return ""
    suites = sorted({item.path.parent.name for item in left_out})
    return f"{len(left_out)} cases of {', '.join(suites)}: latencies are measured alone, in a run that names them and has no -n"


def coverage(items: Sequence[pytest.Item]) -> tuple[int, int, int]:
    """How many behaviours the items prove, how many there are, and how many cases that makes.

    A behaviour with cases on request alone counts where somebody has asked for them.
    """
    selected = {mark.id for item in items if (mark := marked(item))}
    there = [known for known in behaviours().values() if not known.removed and (known.id in selected or not known.on_request)]
    return len(selected), len(there), len(items)
