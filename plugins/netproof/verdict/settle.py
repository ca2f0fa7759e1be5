"""What comes next in a step: asked by the runner after every round, and by the judge, who believes no step that did not end.

    while control_step(history) is Step.CONTROL: a round on the controls; then, if they connected, the change
    while (step := next_step(history)) is not Step.DONE: what it says

Both look at the history alone: a bundle that is read again says the same, and a runner that slept looks once more before anything
is concluded.
"""

from __future__ import annotations

import enum

from netproof.model.history import Decision, Expectation, History
from netproof.model.outcome import Phase, Round
from netproof.verdict.control import attempts_at_control
from netproof.verdict.course import Course, State, barren, burst_rounds, read
from netproof.verdict.loss import thin

AGREEING = 1
"""Right rounds that must follow the first right one, however long they take, where the burst is no further look at every flow."""

BURSTS = 3
"""How often a burst is tried that decides nothing on some flow."""

DOUBTED = 0.5
"""Of the cap: for so long after it an undecided round is repeated, where nothing was right yet."""

CONTROL_ROUNDS = 3
"""Rounds in which a control may fail to connect before the case is given up."""


class Step(enum.StrEnum):
    """What the runner does next."""

    CONTROL = "control"  # a round on the control flows
    CANDIDATE = "candidate"  # a round on every expected flow: what was seen last was not right
    STABILITY = "stability"  # the same: all was right, and shall stay so
    BURST = "burst"  # many attempts on each allowed and each denied flow, as `Limits` say; may be recorded as several rounds
    AFTERWARDS = "afterwards"  # look after listeners, objects, pods and agents: add incidents, set `checked`
    DONE = "done"

    @property
    def phase(self) -> Phase | None:
        """The phase that the rounds of this step carry, None where it makes none."""
        return None if self in (Step.AFTERWARDS, Step.DONE) else Phase(self.value)


def control_step(history: History) -> Step:
    """CONTROL while a control is missing that was tried fewer than `CONTROL_ROUNDS` times, else DONE. Asked before the change.

    If `control.uncontrolled` still names flows then, nothing is changed and `judge` says inconclusive (`changed` is not read). Who
    can show them connecting only afterwards does not ask here, and adds those rounds, of phase CONTROL, before `judge`.
    """
    tried = attempts_at_control(history)
    return Step.CONTROL if any(rounds < CONTROL_ROUNDS for rounds in tried.values()) else Step.DONE


def next_step(history: History, known: Course | None = None) -> Step:
    """The step after the change. CANDIDATE, STABILITY and BURST ask for at least one round more, AFTERWARDS for `checked`.

    `known` is what `course.read` said of this history earlier; it only saves time.
    """
    course = read(history, known)
    right = settled(history, course)
    if not right and not given_up(history, course):
        return Step.STABILITY if course.agreeing else Step.CANDIDATE
    if right and _bursts(history) and _wants_burst(history):
        return Step.BURST
    return Step.DONE if history.checked else Step.AFTERWARDS


def settled(history: History, course: Course) -> bool:
    """Whether all was right and stayed so: for as long as `stability` says, and seen again, in the burst or in `AGREEING` more rounds."""
    further = 0 if _seen_again(history) else AGREEING
    return course.agreeing > further and course.right_until - course.right_began >= stability(history, course)


def stability(history: History, course: Course) -> float:
    """How long all must stay right, in seconds from the begin of the first right round: a multiple of the convergence, within bounds.

    Behind a sentinel the convergence is its own: what was waited for after it was only our look at it.
    """
    limits = history.limits
    converged = min([course.right_since, *(round_.began for round_ in _sentinels(history)[-1:])]) - history.changed
    return max(limits.stable_least, min(limits.stable_most, limits.stable_factor * converged))


def _sentinels(history: History) -> list[Round]:
    return [round_ for round_ in history.rounds if round_.phase is Phase.SENTINEL]


def given_up(history: History, course: Course) -> bool:
    """Whether settling ended without success; by what was seen, not by what a clock says.

    A wrong round ends it that began at the cap or later: one that began before says nothing of the cap, however long a busy machine
    took for it. An undecided one may hide either, so it is repeated past the cap: where nothing was right yet for half of it (`DOUBTED`),
    in stability until twice its time is over. A right one goes on to stability, however late.
    """
    end = history.changed + history.limits.cap
    if course.state is State.WRONG:
        return course.began >= end
    if course.state is not State.UNDECIDED:
        return False
    after_right = course.right_ended + 2 * stability(history, course)
    return course.ended >= (max(end, after_right) if course.agreeing else end + _doubted(history))


def _doubted(history: History) -> float:
    """For how many seconds after the cap an undecided round is repeated: a machine that is busy for seconds shall not cost the verdict."""
    return max(history.limits.stable_least, DOUBTED * history.limits.cap)


def _wants_burst(history: History) -> bool:
    """Whether the burst is still to be done, or was made by starved agents and leaves a flow, or a loss, open: then it is repeated."""
    bursts = [round_ for round_ in burst_rounds(history) if round_.phase is Phase.BURST]
    return not bursts or (len(bursts) < BURSTS and (barren(history) or thin(history)))


def _bursts(history: History) -> bool:
    """Whether a burst is wanted. Flows to be refused get none (ICMP errors are rate-limited), nor do observed ones."""
    return any(_attempts(promised, history) for promised in history.expected.values())


def _seen_again(history: History) -> bool:
    """Whether the burst will look at every flow of which something is promised."""
    promised = [promise for promise in history.expected.values() if promise.decision is not Decision.OBSERVE]
    return bool(promised) and all(_attempts(promise, history) for promise in promised)


def _attempts(promised: Expectation, history: History) -> int:
    """How many attempts on such a flow the burst makes."""
    return {Decision.DENY: history.limits.burst_denied, Decision.ALLOW: history.limits.burst_allowed}.get(promised.decision, 0)
