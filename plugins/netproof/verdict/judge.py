"""The verdict on a step.

What proves a failure comes first, whatever else went wrong: a leak, a network that broke our streams. Then what is missing: a control,
an agent, the end of the step. Only a step without gaps is judged by the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from netproof.model.history import Cell, Decision, History, Judgement
from netproof.model.verdict import Verdict, worst
from netproof.verdict.account import Account, cell
from netproof.verdict.burst import confidence_of_one, excludes, loss, proven_loss
from netproof.verdict.first import allowed_from, is_first, shown
from netproof.verdict.reading import Reading
from netproof.verdict.settle import Step
from netproof.verdict.watch import is_watch, judge_watch

_NAMED = 3  # cells that a reason names; the others are counted

_UNFINISHED = {
    Step.CANDIDATE: "the step ended before all was as expected and before the cap",
    Step.STABILITY: "the step ended before all had stayed as expected",
    Step.BURST: "the step ended without its burst",
    Step.AFTERWARDS: "listeners, objects and agents were not looked after afterwards",
}


@dataclass(frozen=True, slots=True)
class _Ground:
    verdict: Verdict
    text: str


def judge(history: History) -> Judgement:
    """The verdict on a step, with what it rests on; the same for the same history, whenever it is asked.

    A history that `next_step` does not call done is inconclusive, unless a leak is proven already. `converged` is the time from the
    change to the begin of the first of the rounds that stayed right, or of the glance that led to it and saw what had been wrong no
    longer so: no later, as far as probes saw, was the network right. `slow`
    rests on the opposite bound: a wrong attempt that began after the budget was over. A step that was timed is judged by `watch`.
    """
    if is_watch(history):
        return judge_watch(history)
    reading = Reading.of(history)
    accounts = [Account.of(flow, reading) for flow in history.expected]
    lossy = proven_loss(accounts, history.limits) if reading.settled else ""
    cells = _cells(reading, accounts, lossy)
    proofs, gaps, rest = _proofs(reading, cells), _gaps(reading), _rest(reading, accounts, cells, lossy)
    deciding = proofs or gaps or rest
    return Judgement(
        verdict=worst(*(ground.verdict for ground in deciding)) if deciding else _best(reading),
        reason="; ".join(ground.text for ground in proofs + gaps + rest) or _well(reading, accounts, cells),
        cells=cells,
        converged=_converged(reading, accounts),
        relapses=len(reading.relapses),
        excludes=_excludes(accounts) if reading.settled and not any(cell.leak for cell in cells) else "",
    )


def _cells(reading: Reading, accounts: Sequence[Account], lossy: str) -> tuple[Cell, ...]:
    confidence = confidence_of_one(accounts, reading.history.limits)
    cells = [cell(account, reading, confidence) for account in accounts]
    if not lossy:
        return tuple(cells)
    # The step as a whole loses too much: the flows that lost anything share in it.
    shares = [account.tally.lost > 0 and one.verdict is Verdict.PASS for account, one in zip(accounts, cells, strict=True)]
    return tuple(replace(one, verdict=Verdict.FLAKY) if share else one for share, one in zip(shares, cells, strict=True))


def _proofs(reading: Reading, cells: Sequence[Cell]) -> list[_Ground]:
    void = any(incident.voids for incident in reading.history.incidents)
    leaking = [cell for cell in cells if cell.leak and not void]
    texts = [_names(leaking)] if leaking else []
    texts += [incident.what for incident in reading.history.incidents if incident.implementation]
    return [_Ground(Verdict.FAIL, text) for text in texts]


def _gaps(reading: Reading) -> list[_Ground]:
    texts = [incident.what for incident in reading.history.incidents if not incident.implementation]
    if not reading.history.expected:
        texts.append("nothing was expected of any flow")
    if reading.uncontrolled:
        named = [f"{flow} ({seen})" for flow, seen in reading.uncontrolled.items()]
        texts.append(f"no control shows that it could connect: {_few(named)}")
    # Without a control nothing is changed, and nothing more is to be expected of the history.
    if reading.step is not Step.DONE and not (reading.uncontrolled and not reading.sightings):
        texts.append(_UNFINISHED[reading.step])
    return [_Ground(Verdict.INCONCLUSIVE, text) for text in texts]


def _rest(reading: Reading, accounts: Sequence[Account], cells: Sequence[Cell], lossy: str) -> list[_Ground]:
    grounds = _wrong(reading, cells) + ([_Ground(Verdict.FAIL, lossy)] if lossy else [])
    return grounds + _undecided(reading, cells) + _thin(reading, accounts, grounds) + _relapsed(reading) + _slow(reading)


def _wrong(reading: Reading, cells: Sequence[Cell]) -> list[_Ground]:
    failing = [cell for cell in cells if cell.verdict is Verdict.FAIL and not cell.leak]
    if not failing:
        return []
    cap = f"{len(failing)} of {len(reading.promised)} not as expected at the cap of {reading.history.limits.cap:g} s: "
    return [_Ground(Verdict.FAIL, (cap if reading.given_up else "") + _names(failing))]


def _undecided(reading: Reading, cells: Sequence[Cell]) -> list[_Ground]:
    """The cells that were undecided to the end; those of an unfinished step and those without a control are told as gaps."""
    ended = reading.settled or reading.given_up
    found = [cell for cell in cells if ended and cell.verdict is Verdict.INCONCLUSIVE and cell.flow not in reading.uncontrolled]
    return [_Ground(Verdict.INCONCLUSIVE, f"undecided{_causes(reading)}: {_names(found)}")] if found else []


def _thin(reading: Reading, accounts: Sequence[Account], wrong: Sequence[_Ground]) -> list[_Ground]:
    """A loss that is neither proven nor excluded, as most agents of the bursts were starved."""
    found = loss(accounts)
    if wrong or not reading.settled or not found.thin(reading.history.limits):
        return []
    told = f"{found.doubtful} allowed attempts in the burst timed out while an agent was starved"
    return [_Ground(Verdict.INCONCLUSIVE, f"too much may be lost: {told}, {found.counted} count; use fewer workers")]


def _causes(reading: Reading) -> str:
    """The causes in the last round of a step that was given up, counted."""
    last = reading.sightings[-1].findings.values() if reading.given_up else ()
    causes = Counter(finding.cause for finding in last if finding.cause)
    told = [f"{number} {cause}" for cause, number in causes.most_common()]
    if reading.given_up and reading.overloaded:
        told.append("more than a fifth of all attempts starved: use fewer workers, or a higher --netproof-cap")
    return f" ({', '.join(told)})" if told else ""


def _relapsed(reading: Reading) -> list[_Ground]:
    if not reading.relapses:
        return []
    times, first = len(reading.relapses), reading.relapses[0]
    named = [f"{flow}: {finding.seen}" for flow, finding in first.findings.items() if finding.wrong]
    when = f"first {first.round.began - reading.history.changed:.1f} s after the change"
    return [_Ground(Verdict.FLAKY, f"wrong again after it was right, {_times(times)}, {when}: {_few(named)}")]


def _slow(reading: Reading) -> list[_Ground]:
    budget, until = reading.history.limits.budget, reading.wrong_until
    if not reading.settled or budget is None or until is None or until - reading.history.changed <= budget:
        return []
    wrong_for = until - reading.history.changed
    return [_Ground(Verdict.SLOW, f"still wrong {wrong_for:.1f} s after the change, the budget is {budget:g} s")]


def _best(reading: Reading) -> Verdict:
    return Verdict.PASS if reading.promised else Verdict.OBSERVED


def _well(reading: Reading, accounts: Sequence[Account], cells: Sequence[Cell]) -> str:
    """What is said of a step without complaint: what was promised of it, and what was only observed."""
    converged, burst = _converged(reading, accounts), loss(accounts)
    said = []
    if converged is not None and is_first(reading.history):
        said.append(f"isolated from the first instant on, and what is allowed connected {converged:.2f} s later")
    elif converged is not None:
        said.append(f"as expected {converged:.1f} s after the change")
        said[0] += f", {burst.lost} of {burst.counted} allowed attempts were lost" if burst.lost else ""
    if observed := _observed(cells):
        said.append(f"observed: {observed}")
    return "; ".join(said) or "observed"


def _observed(cells: Sequence[Cell]) -> str:
    """What was seen of the flows of which nothing is promised: each sight once, with the flows in brackets."""
    sights: dict[str, list[str]] = {}
    for one in cells:
        if one.expected.decision is Decision.OBSERVE:
            promised = one.expected.responders
            right = next(iter(promised)) if len(promised) == 1 else one.flow.destination
            sights.setdefault(one.seen.removesuffix(f" by {right}"), []).append(str(one.flow))
    return "; ".join(f"{seen} ({_few(flows)})" for seen, flows in sights.items())


def _excludes(accounts: Sequence[Account]) -> str:
    instants = [account.instant for account in accounts if account.instant]
    return "; ".join(filter(None, [shown(instants), excludes(accounts)]))


def _converged(reading: Reading, accounts: Sequence[Account]) -> float | None:
    if not reading.settled or not reading.promised:
        return None
    if is_first(reading.history) and (first := allowed_from(reading.history)) is not None:
        return max([first, *(account.instant.open_until or 0.0 for account in accounts if account.instant)])
    return max(0.0, reading.course.right_since - reading.history.changed)


def _names(cells: Sequence[Cell]) -> str:
    return _few([f"{cell.flow}: {cell.seen}" for cell in cells])


def _few(texts: Sequence[str]) -> str:
    more = f", and {len(texts) - _NAMED} more" if len(texts) > _NAMED else ""
    return ", ".join(texts[:_NAMED]) + more


def _times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")
