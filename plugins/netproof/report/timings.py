"""How fast the network followed changes, as a table for a terminal and a page, and as bars."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from netproof.report.strip import round_up
from netproof.report.text import columns, plain, seconds

Json = dict[str, Any]

FIGURES = ("p50", "p90", "max")
_WIDTH, _LABEL, _EDGE, _ROW, _BAR, _FOOT = 960, 250, 60, 26, 14, 26


def timings(document: Mapping[str, Any]) -> list[Json]:
    """All timings of a report, in the order of its results."""
    return [timing for run in document["results"] for timing in run.get("timings", ())]


def name(timing: Mapping[str, Any]) -> str:
    """`policy created (closes)`."""
    return f"{plain(timing['change'])} ({timing['effect']})"


def timing_lines(found: Sequence[Mapping[str, Any]], width: int) -> list[str]:
    """The table for a terminal; empty where nothing was timed. A narrow one has no room for the last wrong attempts."""
    if not found:
        return []
    head = ["seconds until", "right p50", "p90", "max", "wrong p50", "p90", "max", "lost"]
    rows = [[name(one), *_figures(one["right_from"]), *_figures(one["last_wrong"]), _share(one)] for one in found]
    lines = columns([head, *rows], right=True)
    return lines if max(map(len, lines)) <= width else columns([[*row[:4], row[-1]] for row in [head, *rows]], right=True)


def timing_table(found: Sequence[Mapping[str, Any]]) -> str:
    """The same for a page, with when the first attempt was right, and from when the seconds count."""
    heads = ("first right", "right from then on", "last wrong")
    top = "".join(f'<th colspan="3">{head}</th>' for head in heads)
    below = "".join(f"<th>{figure}</th>" for _ in heads for figure in FIGURES)
    rows = "\n".join(_row(one) for one in found)
    return (
        '<div class="scroll"><table class="figures timings">\n'
        f'<tr><th rowspan="2">change</th>{top}<th rowspan="2">samples</th><th rowspan="2">others lost</th></tr>\n<tr>{below}</tr>\n'
        f"{rows}\n</table></div>"
    )


def bars(found: Sequence[Mapping[str, Any]]) -> str:
    """A bar for each change: to p50, to p90 and to the slowest flow, on one line of time."""
    end = round_up(max(one["right_from"]["max"] for one in found))
    height = _ROW * len(found) + _FOOT
    parts = [*_axis(end, height), *(part for i, one in enumerate(found) for part in _bar(one, i, end))]
    title = f"Time to enforce of {len(found)} kinds of change, from 0 to {seconds(end)}"
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{title}">\n' + "\n".join(parts) + "\n</svg>"


def _figures(values: Mapping[str, float]) -> list[str]:
    return [f"{values[figure]:.2f}" for figure in FIGURES]


def _share(one: Mapping[str, Any]) -> str:
    """`2/536`: of the attempts on flows that the change does not concern."""
    return f"{one['others_lost']}/{one['others']}" if one["others"] else "-"


def _row(one: Mapping[str, Any]) -> str:
    cells = [text for key in ("first_right", "right_from", "last_wrong") for text in _figures(one[key])]
    cells += [str(len(one["samples"]["right_from"])), _share(one)]
    label = f'{escape(name(one))}<div class="dim">since {escape(plain(one["since"]))}</div>'
    return f"<tr><td>{label}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _axis(end: float, height: int) -> Iterator[str]:
    floor = height - _FOOT
    for quarter in range(5):
        x = _place(end * quarter / 4, end)
        yield f'<line x1="{x}" y1="0" x2="{x}" y2="{floor + 4}"/>'
        yield f'<text x="{x}" y="{floor + 20}" text-anchor="middle">{end * quarter / 4:g} s</text>'


def _bar(one: Mapping[str, Any], index: int, end: float) -> Iterator[str]:
    top, values = index * _ROW + (_ROW - _BAR) // 2, one["right_from"]
    base, told = _place(0.0, end), ", ".join(f"{figure} {seconds(values[figure])}" for figure in FIGURES)
    yield f'<text x="{_LABEL - 10}" y="{top + 12}" text-anchor="end">{escape(name(one))}</text>'
    for figure in reversed(FIGURES):
        width = round(max(1.0, _place(values[figure], end) - base), 1)
        yield (
            f'<rect class="{figure}" x="{base}" y="{top}" width="{width}" height="{_BAR}"><title>{escape(name(one))}: {told}</title></rect>'
        )


def _place(value: float, end: float) -> float:
    return round(_LABEL + value / end * (_WIDTH - _LABEL - _EDGE), 1)
