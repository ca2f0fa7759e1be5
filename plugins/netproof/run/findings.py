"""What becomes of a verdict: a deviation may foresee it, evidence is kept, and what a case left behind is a result of its own."""

from __future__ import annotations

import datetime
import shlex
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from netproof import files, options
from netproof.cluster.logs import collect
from netproof.cluster.settings import Settings
from netproof.cluster.state import ClusterState
from netproof.drawing import INGREDIENTS
from netproof.model.behaviour import Behaviour, Level
from netproof.model.event import CaseFinished
from netproof.model.history import Decision, Judgement
from netproof.model.verdict import Verdict
from netproof.problem import Problem
from netproof.report.counterexample import Counterexample
from netproof.report.evidence import write_bundle
from netproof.report.failure import failure_text
from netproof.report.matrix import matrix_text
from netproof.run.attempt import Attempt
from netproof.run.collection import behaviours
from netproof.run.header import header_of
from netproof.verdict import deviation as deviations
from netproof.verdict.deviation import Deviation, DeviationError
from netproof.world.case import Case

_WEIGHED = (Verdict.PASS, Verdict.FAIL, Verdict.FLAKY, Verdict.SLOW, Verdict.INCONCLUSIVE)  # of a behaviour that MAY be so
_NO_EVIDENCE = (Verdict.PASS, Verdict.OBSERVED, Verdict.UNSUPPORTED)
_DECISIVE = ("cap", "burst")
REMOVED = "NPI-01b"  # the behaviour: a removed policy stops acting


@dataclass(frozen=True, slots=True)
class Findings:
    """What a worker weighs its verdicts by, and where it keeps their evidence."""

    report: Path
    settings: Settings
    state: ClusterState
    known: tuple[Deviation, ...]
    asked: tuple[str, ...] = ()  # options, as they were given, on which what a case does depends
    draws: tuple[str, ...] = ()  # the options that draw the same sets of policies again

    @staticmethod
    def of(config: pytest.Config, settings: Settings, state: ClusterState, report: Path) -> Findings:
        """Raises Problem for a deviations file that cannot be used."""
        said = options.said(config)
        asked = tuple(f"--netproof-{name}={said.text(name)}" for name in _DECISIVE if said.text(name))
        draws = (f"--netproof-policies={said.text('policies', '0')}", f"--netproof-seed={said.text('seed', '1')}")
        return Findings(report, settings, state, in_force(config, state), asked, draws)

    @property
    def not_drawn(self) -> tuple[str, ...]:
        """The ingredients that generated sets of policies go without, as a deviation says that they fail."""
        return tuple(sorted({name for deviation in self.known for name in deviation.not_drawn}))

    def foresees(self, case: str) -> bool:
        """Whether a deviation says that the case fails."""
        return deviations.find(self.known, case) is not None

    def weigh(self, case: str, attempt: Attempt) -> Attempt:
        """The attempt as it counts: foreseen by a deviation, or only observed where nothing is promised."""
        promise = behaviours()[case.partition("/")[0]]
        if promise.level is Level.MAY and attempt.verdict in _WEIGHED:
            lacking = "could not be observed: " if attempt.verdict is Verdict.INCONCLUSIVE else ""
            return replace(attempt, verdict=Verdict.OBSERVED, reason=f"{lacking}{attempt.reason}")
        foreseen = deviations.find(self.known, case) if attempt.verdict is Verdict.FAIL else None
        if foreseen is None:
            return attempt
        reason = f"known deviation ({foreseen.reason}): {attempt.reason}"
        return replace(attempt, verdict=Verdict.DEVIATES, reason=reason, deviation=foreseen.link)

    def keep(self, case: str, behaviour: Behaviour, attempt: Attempt, work: Case, *, since: float) -> str:
        """Write the evidence of a verdict that needs some; the bundle's folder relative to the report's, else an empty text.

        `since`: how many seconds ago the case began. Logs are kept from half a minute before.
        """
        if attempt.verdict in _NO_EVIDENCE and not attempt.left_closed:
            return ""
        first = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=since + 30.0)
        logs = collect(work.runner.api, self.state.implementation, first) if self.state.implementation else {}
        written = write_bundle(
            self.report,
            case=case,
            behaviour=behaviour,
            histories=[step.history for step in attempt.steps],
            judgements=[step.judgement for step in attempt.steps],
            objects=list({o["metadata"]["uid"]: o for step in attempt.steps for o in step.objects}.values()),
            placement={name: pod.node for name, pod in work.world.pods.items()},
            incidents=[incident for step in attempt.steps for incident in step.history.incidents],
            logs=logs,
            header=header_of(self.state),
            repeat=self.repeat(case),
            smallest=attempt.counterexample if isinstance(attempt.counterexample, Counterexample) else None,
        )
        return str(written.relative_to(self.report))

    def describe(self, case: str, behaviour: Behaviour, attempt: Attempt, evidence: str) -> Attempt:
        """The attempt with its text for people."""
        judgements = [step.judgement for step in attempt.steps]
        text = failure_text(
            case_id=case,
            behaviour=behaviour,
            judgements=judgements,
            evidence=str(self.report / evidence) if evidence else "",
            repeat=self.repeat(case),
            smallest=attempt.smallest,
        )
        lead = f"{str(attempt.verdict).upper()}: {attempt.reason}"
        deciding = [judgement for judgement in judgements if _is_shown(judgement)]
        return replace(attempt, text=f"{lead}\n\n{text}", matrix=matrix_text(deciding[-1]) if deciding else "")

    def further(self, case: str, attempt: Attempt, node_id: str, worker: str, evidence: str) -> Iterator[CaseFinished]:
        """The result of its own that a policy which acts on after its removal is worth, naming the case that caused it."""
        if not attempt.left_closed:
            return
        named = ", ".join(str(flow) for flow in attempt.left_closed[:3])
        yield CaseFinished(
            at=time.time(),
            case=f"{REMOVED}/after/{case}",
            behaviour=REMOVED,
            suite="policy",
            node_id=node_id,
            worker=worker,
            verdict=Verdict.FAIL,
            reason=f"still closed {attempt.restored.seconds:.0f} s after the policies of {case} were removed: {named}",
            seconds=attempt.restored.seconds,
            evidence=evidence,
            caused_by=case,
        )

    def repeat(self, case: str) -> str:
        """The command that runs the case again; on the same cluster, if it stays."""
        words = [*self._cluster(), *(f"--netproof-claim={claim}" for claim in self.settings.claims)]
        words += [*(f"--netproof-fault={fault}" for fault in self.settings.faults), *self.asked]
        words += self.draws if behaviours()[case.partition("/")[0]].on_request else ()
        words += [f"--netproof-family={family.lower()}" for family in self.state.families[1:] if family.lower() in case.split("/")]
        return f'pytest {shlex.join(words)} -k "{case}"'

    def _cluster(self) -> Iterator[str]:
        """The options that lead to it, or to one like it."""
        said, state = self.settings, self.state
        yield f"--cluster={f'{said.provider}/' if said.provider else ''}{said.cluster}"
        if state.provider == "kind" and (state.keep or not state.made):
            yield f"--cluster-name={state.name}"
        if said.cni:
            yield f"--cni={said.cni}"
        if said.load_balancer:
            yield f"--loadbalancer={said.load_balancer}"
        yield from (f"--netproof-image={name}={image}" for name, image in said.images.items())
        if said.host_network:
            yield "--netproof-host-network"


def in_force(config: pytest.Config, state: ClusterState) -> tuple[Deviation, ...]:
    """The deviations that hold for this implementation and version today. Raises Problem for a file that cannot be used."""
    if state.implementation is None:
        return ()
    found = _of(config, state.implementation.name)
    today = datetime.datetime.now(datetime.UTC).date()
    return deviations.in_force(found, state.implementation.name, state.implementation.version, today)


def long(config: pytest.Config, cni: str) -> tuple[Deviation, ...]:
    """Those that may hold for a CNI of the catalogue, whatever its version: what fails takes as long as it may take at most.

    Empty where the CNI is not known beforehand, and where the file cannot be used: that is told when the deviations are weighed.
    """
    try:
        return _of(config, cni) if cni else ()
    except Problem:
        return ()


def _of(config: pytest.Config, implementation: str) -> tuple[Deviation, ...]:
    said = options.said(config).text("deviations")
    return known(Path(said) if said else files.suites() / "deviations" / f"{implementation}.toml", required=bool(said))


def known(file: Path, *, required: bool) -> tuple[Deviation, ...]:
    """The deviations of a file; none where it is not there and nobody named it. Raises Problem."""
    try:
        found = deviations.parse(tomllib.loads(file.read_text(encoding="utf-8")), str(file))
        if strange := sorted({name for deviation in found for name in deviation.not_drawn} - set(INGREDIENTS)):
            raise DeviationError(f"{strange[0]!r} is nothing that can be left undrawn: there is {', '.join(INGREDIENTS)}")
        return found
    except FileNotFoundError:
        if required:
            raise Problem(f"--netproof-deviations={file}: there is no such file") from None
        return ()
    except (OSError, DeviationError, ValueError) as error:
        raise Problem(f"the deviations file {file} cannot be used: {error}") from None


def _is_shown(judgement: Judgement) -> bool:
    """Whether a report shows all flows of a step: where it failed, or where it was there to be looked at."""
    looked_at = any(cell.expected.decision is Decision.OBSERVE for cell in judgement.cells)
    return (judgement.verdict.failing or looked_at) and len(judgement.cells) > 1
