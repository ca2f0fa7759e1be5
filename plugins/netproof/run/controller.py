"""The half of a run that answers for it: it starts the run, watches its signals, cleans up, writes the reports and gives the exit code."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import pytest

from netproof import options
from netproof.cases import CONTROLLER
from netproof.cluster import catalogue, cleanup, registry
from netproof.cluster.docker import require_engine
from netproof.cluster.features import require_claims
from netproof.cluster.provider import provider_for
from netproof.cluster.state import ClusterState
from netproof.cluster.teardown import remove_namespaces
from netproof.kube import lease
from netproof.kube.client import connect
from netproof.model.event import RunFinished, RunStarted
from netproof.model.flow import Family
from netproof.model.verdict import Verdict
from netproof.options import wants_smoke
from netproof.problem import Problem
from netproof.report import journal, terminal, writers
from netproof.report.document import document
from netproof.report.html import write_html
from netproof.report.journal import Journal
from netproof.run import ground
from netproof.run.assignment import KEY, Assignment
from netproof.run.collection import behaviours
from netproof.run.findings import in_force
from netproof.run.header import header_of
from netproof.run.lane import TELL_EVERY
from netproof.run.rights import require_rights
from netproof.run.ticker import Ticker
from netproof.run.worker import Worker
from netproof.verdict import deviation as deviations

CLEANUP_LIMIT = 90.0
_PYTESTS_OWN = range(pytest.ExitCode.INTERRUPTED, pytest.ExitCode.NO_TESTS_COLLECTED + 1)


class Controller:
    """Registered as a plugin in the process that the user started."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.report = Path(options.said(config).text("report", "netproof-report")).resolve()
        run = _run_id()
        self.assignment = Assignment(
            run=run,
            token=secrets.token_hex(16),
            folder=str(self.report / f"run-{run}"),
            report=str(self.report),
            workers=_workers(config),
            controller=os.getpid(),
            smoke=False,
        )
        self.settings = self.assignment.settings(config)
        self.folder = Path(self.assignment.folder)
        self.document: dict[str, Any] = {}
        self.stopped = ""  # a problem that ended the run
        self.code = 0
        self.signal = ""
        self._ticker: Ticker | None = None
        self._said = ("", 0.0)  # of what a word was said last, and when
        self._finished = False

    @classmethod
    def start(cls, config: pytest.Config) -> None:
        """Begin a run, or refuse to: every Problem that can be seen now becomes a usage error before anything is made."""
        try:
            controller = cls(config)
            controller._start()
        except Problem as problem:
            raise pytest.UsageError(str(problem)) from None
        config.pluginmanager.register(controller, CONTROLLER)
        config.pluginmanager.register(Shield(controller))
        if config.getoption("dist", "no") == "no" and not config.getoption("tx", None):
            Worker.join(config, controller.assignment)

    # pytest's hooks

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput[KEY] = self.assignment.tell()

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        """In place of `load`, which -n means by itself: idle workers take over from busy ones, as some cases last ten times as long."""
        if config.getoption("dist") != "load" or config.getoption("maxschedchunk"):
            return None
        from xdist.scheduler import WorkStealingScheduling

        return WorkStealingScheduling(config, log)

    def pytest_report_header(self) -> list[str]:
        state = ClusterState.read(self.folder)
        lines = (
            terminal.header_lines(header_of(state)) if state else [f"netproof: cluster {self.settings.cluster}, made when a case needs it"]
        )
        return [*lines, f"run:         {self.assignment.run}, report in {self.report}"]

    def pytest_sessionstart(self) -> None:
        self._ticker = Ticker(self.folder, self.config)
        self._ticker.start()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: Any) -> None:
        problem = getattr(report, "netproof", {}).get("problem")
        if problem and not self.stopped:
            self.stopped, self.code = problem, report.netproof["code"]
            session = self.config.pluginmanager.getplugin("dsession") or self.config.pluginmanager.getplugin("session")
            if session:
                session.shouldstop = problem

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        self.finish(session, exitstatus)

    def finish(self, session: pytest.Session, exitstatus: int) -> None:
        """Clean up and write the reports; a second call does nothing."""
        if self._finished:
            return
        self._finished = True
        if self._ticker:
            self._ticker.stop()
        notes, leftovers = self._clean_up()
        session.exitstatus = self._write_reports(int(exitstatus), notes, leftovers)

    def hold(self) -> None:
        """From now on a signal no longer breaks off what is being done, which is to end; a second one leaves at once."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, self._leave)
        sys.stderr.write(f"\n{signal.Signals(number).name}: cleaning up; once more leaves at once\n")
        sys.stderr.flush()

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.document:
            width = min(120, terminalreporter._tw.fullwidth)
            color = bool(terminalreporter._tw.hasmarkup)
            terminalreporter.section("netproof", sep="=")
            report = str(self.report / "report.html")
            for line in terminal.summary_lines(self.document, width=width, color=color, report=report):
                terminalreporter.write_line(line)
        if self.stopped:
            terminalreporter.write_line(f"ERROR: {self.stopped}", red=True)

    # start

    def _start(self) -> None:
        """Nothing is left of a run that could not begin."""
        try:
            self._prepare()
        except BaseException:
            registry.forget(self.assignment.run)
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def _prepare(self) -> None:
        if wants_smoke(self.config, self.settings):
            self.config.option.markexpr = "smoke"
        if self.config.option.markexpr == "smoke":
            self.assignment = replace(self.assignment, smoke=True)
        for name in ("cap", "budget", "burst", "repeat"):
            options.said(self.config).number(name)
        options.said(self.config).families()
        self._check_names()
        self._renew_folder()
        if self.settings.provider_name == "kind":
            require_engine()
        self.journal = Journal(self.folder, "controller")
        self.provider = provider_for(self.settings)
        if self.settings.provider_name == "kind":
            self._choose_families((Family.IPV4.value,))  # it is made later, of manifests/cluster/ipv4.yaml
        else:
            self._look()
        command = " ".join(["pytest", *map(str, self.config.invocation_params.args)])
        self.journal(RunStarted(time.time(), {"run": self.assignment.run, "command": command}))
        signal.signal(signal.SIGTERM, self._terminate)

    def _look(self) -> None:
        """What is there already, or there at once, is looked at before pytest begins; a kind cluster waits until a case needs it."""
        if self.settings.provider_name == "context":
            registry.register(self.settings)
        state = self.provider.up(self.settings, lambda *_: None)
        self._choose_families(state.families)
        try:
            require_rights(connect(Path(state.kubeconfig) if state.kubeconfig else None, state.context))
            in_force(self.config, state)
        except BaseException:
            self.provider.down(state, lambda *_: None)
            raise
        state.write(self.folder)
        self.journal(RunStarted(time.time(), header_of(state)))

    def _choose_families(self, has: Sequence[str]) -> None:
        asked = options.said(self.config).families()
        self.assignment = replace(self.assignment, families=ground.families(asked, has, smoke=self.assignment.smoke))

    def _check_names(self) -> None:
        """What can be known to be wrong without a cluster is said before anything is made."""
        require_claims(self.settings.claims, where="--netproof-claim")
        for name, kind in ((self.settings.cni, "cni"), (self.settings.load_balancer, "loadbalancer")):
            if name:
                catalogue.load(name, kind)

    def _renew_folder(self) -> None:
        """Make the run's folder; evidence of an earlier run must not stand beside this one's report."""
        try:
            self.folder.mkdir(parents=True)
            shutil.rmtree(self.report / "evidence", ignore_errors=True)
            for name in ("report.json", "report.html", "junit.xml"):
                (self.report / name).unlink(missing_ok=True)
        except OSError as error:
            raise Problem(f"--netproof-report={self.report}: the folder cannot be written ({error.strerror})") from None

    def _terminate(self, _number: int, _frame: FrameType | None) -> NoReturn:
        """SIGTERM ends a run as Ctrl-C does: pytest knows no other way to let everybody clean up."""
        signal.signal(signal.SIGTERM, self._leave)
        self.signal = "SIGTERM"
        raise KeyboardInterrupt

    def _leave(self, _number: int, _frame: FrameType | None) -> NoReturn:
        sys.stderr.write(f"\ninterrupted again: what is left is removed by `netproof cleanup --run {self.assignment.run}`\n")
        sys.stderr.flush()
        os._exit(pytest.ExitCode.INTERRUPTED)

    # end

    def _clean_up(self) -> tuple[list[str], list[str]]:
        """Remove all that this run made; returns notes and what is left."""
        state = ClusterState.read(self.folder)
        entry = registry.find(self.assignment.run)
        if state is None and entry is None:
            return [], []
        try:
            return self._remove(state)
        except Exception as error:
            hint = f"`netproof cleanup --run {self.assignment.run}` tries again"
            return [], [f"the clean-up failed ({type(error).__name__}: {error}); {hint}"]

    def _remove(self, state: ClusterState | None) -> tuple[list[str], list[str]]:
        leftovers: list[str] = []
        if state and (not state.made or state.keep):
            api = connect(Path(state.kubeconfig) if state.kubeconfig else None, state.context, patience=20.0)
            leftovers = remove_namespaces(api, self.assignment.run, CLEANUP_LIMIT, self._say)
            lease.give_back(api, *lease.DISRUPTION, holder=self.assignment.run)  # a worker that was killed has not
        if state:
            self.provider.down(state, self._say)
        elif entry := registry.find(self.assignment.run):
            said, complete = cleanup.remove(entry, named=True, progress=self._say)
            leftovers += [] if complete else said
        if not leftovers:
            registry.forget(self.assignment.run)
        notes = list(state.notes) if state else []
        if state and state.keep:
            notes.append(f"the cluster {state.name} was kept: KUBECONFIG={state.kubeconfig}")
        return notes, leftovers

    def _say(self, what: str, waited: float, limit: float) -> None:
        """A word about a wait: at once where it is another one, else now and then."""
        subject, now = what.partition(":")[0], time.monotonic()
        if self._ticker and (subject != self._said[0] or now - self._said[1] >= TELL_EVERY):
            self._said = (subject, now)
            self._ticker.say(f"{what}, {waited:.0f} s of at most {limit:.0f} s")

    def _write_reports(self, status: int, notes: list[str], leftovers: list[str]) -> int:
        incomplete = ""
        if status == pytest.ExitCode.INTERRUPTED and not self.stopped:
            incomplete = f"interrupted by {self.signal or 'Ctrl-C'}"
        elif self.stopped:
            incomplete = self.stopped
        events = journal.read(self.folder)
        verdicts = {e["case"]: Verdict(e["verdict"]) for e in events if e["event"] == "CaseFinished" and not e["caused_by"]}
        stale = self._stale(verdicts)
        code = self._exit_code(status, events, stale)
        self.journal(RunFinished(time.time(), code, incomplete, tuple(leftovers), tuple(stale), tuple(notes)))
        self.journal.close()
        if verdicts or incomplete:
            self.document = document(journal.read(self.folder), behaviours=behaviours())
            writers.write_json(self.document, self.report / "report.json")
            writers.write_junit(self.document, self.report / "junit.xml")
            write_html(self.document, self.report / "report.html")
            code = int(self.document["exit_code"])
        self._tidy(leftovers)
        return code

    def _exit_code(self, status: int, events: list[dict[str, Any]], stale: list[str]) -> int:
        """0 leaves it to the document's own rule; pytest's own codes and a problem's come first."""
        if self.stopped:
            return self.code
        if status in _PYTESTS_OWN:
            return status
        return 0

    def _stale(self, verdicts: dict[str, Verdict]) -> list[str]:
        state = ClusterState.read(self.folder)
        if state is None:
            return []
        try:
            found = deviations.stale(in_force(self.config, state), verdicts)
        except Problem as problem:
            return [str(problem)]
        return [f"{', '.join(entry.ids)} ({entry.reason}, {entry.link}) passed: remove the deviation" for entry in found]

    def _tidy(self, leftovers: list[str]) -> None:
        """The run's folder has done its duty, unless a kept cluster's kubeconfig lies in it or something is left."""
        if not leftovers and not self.settings.keep:
            shutil.rmtree(self.folder, ignore_errors=True)


class Shield:
    """The outermost of the hooks that end a session: a signal that comes while others end it must not keep us from cleaning up."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> Iterator[None]:
        self._controller.hold()
        try:
            yield
        finally:
            self._controller.finish(session, exitstatus)


def _run_id() -> str:
    """Five letters and digits that cannot be misread."""
    return "".join(secrets.choice("abcdefghjkmnpqrstuvwxyz23456789") for _ in range(5))


def _workers(config: pytest.Config) -> int:
    if config.getoption("dist", "no") == "no":
        return 1
    return max(1, len(config.getoption("tx", None) or []))
