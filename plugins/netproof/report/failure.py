"""What a failure says: the promise, what was seen instead, by which rule, and how to see it again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from netproof.model.behaviour import Behaviour
from netproof.model.history import Cell, Judgement
from netproof.model.verdict import worst
from netproof.report.matrix import differs, flow_name, matrix_text
from netproof.report.text import count, indented, line, plain, seconds

_SHOWN = 8  # flows of one kind


def failure_text(
    *, case_id: str, behaviour: Behaviour, judgements: Sequence[Judgement], evidence: str, repeat: str, smallest: str = ""
) -> str:
    """A failed case for people. Steps that went well are passed over; without judgements the promise and the way back remain.

    `smallest` is what is told of a smaller case that fails too.
    """
    verdict = worst(*(judgement.verdict for judgement in judgements))
    told = [(i, judgement) for i, judgement in enumerate(judgements, 1) if judgement.verdict.failing]
    blocks = [
        f"{case_id}: {verdict}" if told else case_id,
        f"{plain(behaviour.sentence)}\n{behaviour.level}: {behaviour.url}",
        plain(smallest),
        *(_step(judgement, f"step {i} of {len(judgements)}: " if len(judgements) > 1 else "") for i, judgement in told),
        "\n".join([*([f"repeat:    {repeat}"] if repeat else []), *([f"evidence:  {evidence}"] if evidence else [])]),
    ]
    return "\n\n".join(block for block in blocks if block)


def differences(judgement: Judgement) -> str:
    """The flows that are not as promised, those of one rule and one outcome together, with that rule."""
    kinds: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in judgement.cells:
        if differs(cell) or cell.verdict.failing:
            kinds.setdefault((cell.expected.decision, line(cell.seen), line(cell.expected.why)), []).append(cell)
    return "\n".join(text for kind, cells in kinds.items() for text in _kind(*kind, cells))


def _step(judgement: Judgement, title: str) -> str:
    blocks = [
        title + plain(judgement.reason),
        indented(matrix_text(judgement)) if len(judgement.cells) > 1 else "",
        differences(judgement),
        "\n".join(_circumstances(judgement)),
    ]
    return "\n\n".join(block for block in blocks if block)


def _kind(decision: str, seen: str, why: str, cells: Sequence[Cell]) -> Iterator[str]:
    yield f"{decision} expected, seen: {seen}"
    yield from _flows(cells)
    if why:
        yield f"    rule: {why}"


def _flows(cells: Sequence[Cell]) -> Iterable[str]:
    yield from (f"    {flow_name(cell)}" for cell in cells[:_SHOWN])
    if len(cells) > _SHOWN:
        yield f"    and {count(len(cells) - _SHOWN, 'more flow')}, all in the evidence"


def _circumstances(judgement: Judgement) -> Iterator[str]:
    if judgement.converged is not None:
        relapses = f", after {count(judgement.relapses, 'relapse')}" if judgement.relapses else ""
        yield f"as expected from {seconds(judgement.converged)} after the change on{relapses}"
    if judgement.excludes:
        yield f"shown: {plain(judgement.excludes)}"
