"""Judgements as people read them: expected beside observed, and what became of the cells that differ."""

from __future__ import annotations

from collections.abc import Sequence

from netproof.model.history import Cell, Decision, Judgement
from netproof.model.matrix import MARK, draw
from netproof.model.verdict import Verdict
from netproof.report.text import beside, columns, count, indented, line

LEGEND = ". connected   X denied   ? undecided   - absent   ! differs"
_LISTED = 40  # flows at most, where they form no table
_WIDE = 120  # from here on the tables stand one below the other

Pairs = dict[tuple[str, str], Cell]


def matrix_text(judgement: Judgement) -> str:
    """Expected beside observed: a table for each port where the flows form one, else a list of the flows."""
    tables = _tables(judgement.cells)
    if not tables:
        return flow_list(judgement.cells)
    titled = [(f"{title}\n" if len(tables) > 1 else "") + _side_by_side(pairs) for title, pairs in tables.items()]
    refused = any(cell.expected.decision is Decision.REFUSE for cell in judgement.cells)
    return "\n\n".join([*titled, LEGEND + ("   R refused" if refused else "")])


def flow_list(cells: Sequence[Cell]) -> str:
    """One line a flow: what was expected, what was seen; `!` stands before those that differ, of many only some of them."""
    shown = cells if len(cells) <= _LISTED else [cell for cell in cells if differs(cell)][:_LISTED]
    rows = [(f"{'!' if differs(cell) else ' '} {flow_name(cell)}", str(cell.expected.decision), line(cell.seen)) for cell in shown]
    rest = [f"  and {count(len(cells) - len(shown), 'more flow')}, all in the evidence"] if len(shown) < len(cells) else []
    return "\n".join([*columns([("  flow", "expected", "observed"), *rows]), *rest])


def flow_name(cell: Cell) -> str:
    """The flow for people, its address included where that says more than the destination's name."""
    flow = cell.flow
    return line(f"{flow} ({flow.address})" if flow.address and flow.address != flow.destination else str(flow))


def differs(cell: Cell) -> bool:
    """Whether something else than the promised was seen, at least once."""
    return cell.leak or cell.verdict in (Verdict.FLAKY, Verdict.FAIL)


def _tables(cells: Sequence[Cell]) -> dict[str, Pairs]:
    """The cells by port (and family and question) and then by pair; empty where they do not form tables."""
    families = {cell.flow.family for cell in cells}
    tables: dict[str, Pairs] = {}
    for cell in cells:
        flow = cell.flow
        title = " ".join([str(flow.port), *([flow.family] if len(families) > 1 else []), *([str(flow.question)] if flow.question else [])])
        pairs = tables.setdefault(title, {})
        if (flow.source, flow.destination) in pairs:
            return {}
        pairs[flow.source, flow.destination] = cell
    return tables if all(_is_dense(pairs) for pairs in tables.values()) else {}


def _is_dense(pairs: Pairs) -> bool:
    sources, destinations = _axes(pairs)
    return len(sources) > 1 and len(destinations) > 1 and 2 * len(pairs) >= len(sources) * len(destinations)


def _axes(pairs: Pairs) -> tuple[list[str], list[str]]:
    """Sources and destinations, in one common order, so that a pod's row and column stand alike."""
    names = dict.fromkeys([source for source, _ in pairs] + [destination for _, destination in pairs])
    sources, destinations = {source for source, _ in pairs}, {destination for _, destination in pairs}
    return [name for name in names if name in sources], [name for name in names if name in destinations]


def _side_by_side(pairs: Pairs) -> str:
    sources, destinations = _axes(pairs)

    def expected(source: str, destination: str) -> str:
        cell = pairs.get((source, destination))
        return MARK[cell.expected.decision] if cell else "-"

    def observed(source: str, destination: str) -> str:
        cell = pairs.get((source, destination))
        return _observed(cell) + ("!" if differs(cell) else "") if cell else "-"

    left = "expected\n" + indented(draw(sources, destinations, expected))
    right = "observed\n" + indented(draw(sources, destinations, observed))
    abreast = beside(left, right)
    return abreast if max(map(len, abreast.splitlines())) <= _WIDE else f"{left}\n{right}"


def _observed(cell: Cell) -> str:
    """The mark of what was seen: a denied flow that connected once was open, any other one is open if it mostly was."""
    if cell.leak:
        return "."
    if cell.verdict in (Verdict.INCONCLUSIVE, Verdict.ERROR, Verdict.FLAKY):
        return "?"
    if cell.verdict is not Verdict.FAIL and cell.expected.decision is not Decision.OBSERVE:
        return MARK[cell.expected.decision]
    if cell.expected.decision is Decision.OBSERVE and not cell.attempts:
        return "?"
    enough = 0 if cell.expected.decision is Decision.DENY else cell.attempts / 2
    return "." if cell.connected > enough else "X"
