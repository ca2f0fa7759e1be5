"""A verdict that ends a case, as an exception: pytest sees a failure, the plugin its own word."""

from __future__ import annotations

from netproof.model.history import Judgement
from netproof.model.verdict import Verdict


class Verdicted(Exception):  # noqa: N818 (a verdict is no error)
    """A case ended with a verdict other than pass. The text is the reason, in a sentence."""

    verdict = Verdict.ERROR

    def __init__(self, reason: str, judgement: Judgement | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.judgement = judgement


class Failed(Verdicted):
    """A promise is broken."""

    verdict = Verdict.FAIL


class Inconclusive(Verdicted):
    """Evidence is missing: the environment, an agent or the control plane, not the network under test."""

    verdict = Verdict.INCONCLUSIVE


class Flaky(Verdicted):
    """Both right and wrong were seen."""

    verdict = Verdict.FLAKY


class Slow(Verdicted):
    """Right, but later than the user's budget."""

    verdict = Verdict.SLOW


class Unsupported(Verdicted):
    """The cluster or its provider lacks what the case needs."""

    verdict = Verdict.UNSUPPORTED


class Misused(Verdicted):
    """The case itself is wrong: nothing would change, a pod that is not there, an unreadable matrix."""

    verdict = Verdict.ERROR


_BY_VERDICT = {kind.verdict: kind for kind in (Failed, Inconclusive, Flaky, Slow, Unsupported)}


def raise_for(judgement: Judgement) -> None:
    """Raise what belongs to a judgement; nothing for pass and observed. `slow` is raised at the end of a case by the plugin."""
    kind = _BY_VERDICT.get(judgement.verdict)
    if kind and kind is not Slow:
        raise kind(judgement.reason, judgement)
