"""An evidence bundle judged again, offline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from netproof.model.history import History, Judgement
from netproof.model.verdict import worst
from netproof.report.evidence import Bundle, load_bundle
from netproof.report.failure import differences
from netproof.report.matrix import matrix_text
from netproof.report.text import indented, plain

Judge = Callable[[History], Judgement]


@dataclass(frozen=True, slots=True)
class Replay:
    """`same`: every step has the verdict that the bundle says it had."""

    text: str
    same: bool


def replay(path: Path, *, judge: Judge | None = None) -> Replay:
    """Judge a bundle's histories again, by this Netproof's rule unless another is given. Raises Problem for a bad bundle."""
    bundle = load_bundle(path)
    rule = judge or _todays_rule()
    now = [rule(history) for history in bundle.histories]
    pairs = list(zip(bundle.judgements, now, strict=True))
    same = all(then.verdict is today.verdict for then, today in pairs)
    total = worst(*(judgement.verdict for judgement in now))
    blocks = [
        f"{bundle.case}, judged by Netproof {bundle.netproof}\n{plain(bundle.behaviour.sentence)}\n{bundle.behaviour.url}",
        *(_step(number, then, today) for number, (then, today) in enumerate(pairs, 1)),
        f"then: {bundle.verdict}\nnow:  {total}\n" + ("The verdict is the same." if same else "The verdict is NOT the same."),
    ]
    return Replay("\n\n".join(blocks), same)


def _step(number: int, then: Judgement, now: Judgement) -> str:
    verdicts = f"step {number}\n  then: {then.verdict}: {plain(then.reason)}\n  now:  {now.verdict}: {plain(now.reason)}"
    matrices = [matrix_text(now)] if matrix_text(then) == matrix_text(now) else [f"then\n{matrix_text(then)}", f"now\n{matrix_text(now)}"]
    return "\n\n".join([verdicts, *(indented(text) for text in [*matrices, differences(now)] if text)])


def _todays_rule() -> Judge:
    from netproof.verdict.judge import judge  # a report needs no rule, so only a replay loads it

    return judge


__all__ = ["Bundle", "Replay", "replay"]
