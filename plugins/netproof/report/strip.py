"""A strip plot as inline SVG: one dot a case on a line of time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape

from netproof.report.text import plain, seconds

_WIDTH, _HEIGHT, _EDGE = 960, 120, 40
_AXIS, _LOWEST, _LANE, _LANES = 92, 80, 9, 5  # dots that would overlap move up a lane


def strip(points: Sequence[tuple[float, str]], figures: Mapping[str, float]) -> str:
    """Dots of (seconds, name), with a mark for each figure; a dot's name and time are its tooltip."""
    end = round_up(max(value for value, _ in points))
    parts = [*_axis(end), *(_mark(name, value, end, i) for i, (name, value) in enumerate(figures.items())), *_dots(sorted(points), end)]
    title = f"Time to converge of {len(points)} cases, from 0 to {seconds(end)}"
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">\n' + "\n".join(parts) + "\n</svg>"


def round_up(value: float) -> float:
    """The end of the axis: the next of 1, 2, 5, 10, ... that holds the value."""
    power = 10.0 ** math.floor(math.log10(max(value, 0.01)))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value or step == 10)


def _place(value: float, end: float) -> float:
    return round(_EDGE + value / end * (_WIDTH - 2 * _EDGE), 1)


def _axis(end: float) -> Iterator[str]:
    yield f'<line x1="{_EDGE}" y1="{_AXIS}" x2="{_WIDTH - _EDGE}" y2="{_AXIS}"/>'
    for quarter in range(5):
        x = _place(end * quarter / 4, end)
        yield f'<line x1="{x}" y1="{_AXIS}" x2="{x}" y2="{_AXIS + 5}"/>'
        yield f'<text x="{x}" y="{_AXIS + 20}" text-anchor="middle">{end * quarter / 4:g} s</text>'


def _mark(name: str, value: float, end: float, index: int) -> str:
    """A figure's line, its name above it; names step down so that near ones stay legible."""
    x, y = _place(value, end), 12 + 12 * index
    side, gap = ("end", -5) if x > _WIDTH / 2 else ("start", 5)
    label = f'<text x="{x + gap}" y="{y}" text-anchor="{side}">{escape(name)} {seconds(value)}</text>'
    return f'<line class="mark" x1="{x}" y1="{y - 9}" x2="{x}" y2="{_AXIS}"/>{label}'


def _dots(points: Sequence[tuple[float, str]], end: float) -> Iterator[str]:
    taken = [-math.inf] * _LANES
    for value, name in points:
        x = _place(value, end)
        lane = next((i for i, last in enumerate(taken) if x - last >= _LANE), taken.index(min(taken)))
        taken[lane] = x
        yield f'<circle cx="{x}" cy="{_LOWEST - lane * _LANE}" r="4"><title>{escape(plain(name))}: {seconds(value)}</title></circle>'
