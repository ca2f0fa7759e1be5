"""What the burst of a step proves of all allowed flows together, and what it excludes on the denied ones."""

from __future__ import annotations

import math
from collections.abc import Sequence

from netproof.model.history import Decision, Limits
from netproof.verdict.account import Account, count
from netproof.verdict.binomial import excluded_rate, half_the_error
from netproof.verdict.cell import Grade
from netproof.verdict.loss import Tally

EXCLUDES_CONFIDENCE = 0.95


def loss(accounts: Sequence[Account]) -> Tally:
    """What became of the attempts on all allowed flows together."""
    return sum((account.tally for account in accounts), Tally())


def proven_loss(accounts: Sequence[Account], limits: Limits) -> str:
    """A sentence where the loss over all allowed flows is proven to be above the limit, else empty."""
    found = loss(accounts)
    if not found.proven(limits):
        return ""
    rule = f"more than {_percent(limits.loss)} with {_percent(limits.confidence)} confidence"
    return f"{found.lost} of {found.counted} allowed attempts were lost, {rule}"


def confidence_of_one(accounts: Sequence[Account], limits: Limits) -> float:
    """What a loss on one flow must be proven with, for the confidence to hold over all tests of the step (Bonferroni).

    Half of the permitted error goes to the test over all flows, half is shared among the flows: else every hundredth step with many
    flows at just the permitted loss would fail by chance on one of them.
    """
    return 1 - (1 - half_the_error(limits.confidence)) / max(1, len(_of(Decision.ALLOW, accounts)))


def excludes(accounts: Sequence[Account]) -> str:
    """The leak that is excluded on every denied flow: that with the fewest clean attempts decides. Empty where there is none."""
    clean = min((count(account.unchosen, Grade.GOOD) for account in _of(Decision.DENY, accounts)), default=0)
    if not clean:
        return ""
    return f"no leak above {_percent(_rounded_up(excluded_rate(clean, EXCLUDES_CONFIDENCE)))} a flow at {_percent(EXCLUDES_CONFIDENCE)}"


def _of(decision: Decision, accounts: Sequence[Account]) -> list[Account]:
    return [account for account in accounts if account.promised.decision is decision]


def _rounded_up(rate: float) -> float:
    """To whole percents, below one to tenths: rounding down would claim more than was shown."""
    grain = 100 if rate > 0.01 else 1000
    return math.ceil(rate * grain) / grain


def _percent(share: float) -> str:
    return f"{share * 100:.4g} %"
