"""The pytest plugin: options, marks, ids, and the two halves of a run. It holds no logic; importing it costs no cluster library."""

from __future__ import annotations

from typing import Any

import pytest

from netproof.cases import WORKER, is_drawn, marked

_DRAWS: pytest.StashKey[tuple[str, ...]] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    from netproof import options

    options.add(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "behaviour(marked): the behaviour that a case proves; use netproof.cases.behaviour")
    config.addinivalue_line("markers", "smoke: belongs to the minute that a cluster admin waits for")
    config.addinivalue_line("markers", "early: begins before the others, as it takes several times as long")
    config.addinivalue_line("markers", "slow: takes over 20 seconds on many a real cluster, by the nature of what it tests")
    config.addinivalue_line("markers", "disruptive: restarts or breaks something that others in the cluster use")
    config.addinivalue_line("markers", "timing: measures latencies: selected only where it is named, and never run beside other workers")
    if any(config.getoption(f"netproof_{name}", None) for name in ("policies", "seed", "cluster")):
        _draws(config)  # what is wrong with it is told before anything begins
    if config.option.help or config.option.collectonly:
        return
    if hasattr(config, "workerinput"):
        from netproof.run.worker import Worker

        Worker.join(config)
    elif config.getoption("netproof_cluster", None):
        from netproof.run.controller import Controller

        Controller.start(config)
    elif config.getoption("dist", "no") != "no":
        from netproof.run.guard import Guard

        config.pluginmanager.register(Guard(config))


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Collector, obj: object) -> list[pytest.Item] | None:
    """There is no case where nothing is to be drawn."""
    return [] if is_drawn(obj) and not _draws(collector.config) else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One case for each combination of a behaviour's axes; the parametrize id is the case's id."""
    mark = marked(metafunc.definition)
    if mark and "case" in metafunc.fixturenames:
        from netproof.run.collection import families

        cases = list(mark.cases(families(metafunc.config), _draws(metafunc.config) if mark.drawn else ()))
        metafunc.parametrize("case", cases, ids=[case.id for case in cases], indirect=True)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Every behaviour must be in the catalogue; without a cluster no case is run. Cases that take time are left out unless named."""
    found = [item for item in items if marked(item)]
    if not found:
        return
    from netproof.run import collection

    collection.require_known(found)
    left_out = collection.unnamed_timings(config, found)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    if config.pluginmanager.has_plugin(WORKER):
        worker: Any = config.pluginmanager.get_plugin(WORKER)
        items[:] = collection.order(items, worker.assignment.workers, worker.is_long)
        worker.selected([item for item in found if item not in left_out], left_out)
    elif not config.option.collectonly:
        from netproof.run import guard

        guard.refuse(config, items)


def pytest_report_teststatus(report: pytest.TestReport | pytest.CollectReport) -> tuple[str, str, str] | None:
    """The verdict's own word and letter. Failing verdicts count as failed, so that -x, --lf and JUnit mean what they say."""
    said = getattr(report, "netproof", None)
    if not said or getattr(report, "when", "") != "call":
        return None
    from netproof.model.verdict import Verdict

    verdict = Verdict(said["verdict"])
    category = "passed" if verdict is Verdict.PASS else "failed" if verdict.failing else str(verdict)
    return category, verdict.letter, str(verdict).upper()


def _draws(config: pytest.Config) -> tuple[str, ...]:
    if _DRAWS not in config.stash:
        from netproof import options
        from netproof.problem import Problem

        try:
            config.stash[_DRAWS] = options.draws(config)
        except Problem as problem:
            raise pytest.UsageError(str(problem)) from None
    return config.stash[_DRAWS]
