"""Truth tables as people write them: rows are sources, columns destinations; `.` allowed, `X` denied, `-` and `?` not judged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from netproof.model.history import Decision

_MARKS = {".": Decision.ALLOW, "X": Decision.DENY, "?": Decision.OBSERVE}
MARK = {decision: mark for mark, decision in _MARKS.items()} | {Decision.REFUSE: "R"}


class MatrixError(ValueError):
    """A drawn matrix that cannot be read; the text says what is wrong in which row."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """An expectation for each ordered pair of pods; pairs marked `-` are absent."""

    sources: tuple[str, ...]
    destinations: tuple[str, ...]
    cells: Mapping[tuple[str, str], Decision]

    @staticmethod
    def parse(text: str) -> Matrix:
        """Read a drawing: a header of destinations, then one row a source. Raises MatrixError."""
        header, *rows = [line.split() for line in text.strip().splitlines() if line.strip()] or [[]]
        if not header or not rows:
            raise MatrixError("a header of destinations and at least one row are expected")
        for names in (header, [row[0] for row in rows]):
            if len(set(names)) < len(names):
                raise MatrixError(f"{next(name for name in names if names.count(name) > 1)} stands twice")
        cells = {}
        for name, *marks in rows:
            if len(marks) != len(header):
                raise MatrixError(f"row {name} has {len(marks)} marks for {len(header)} columns ({' '.join(header)})")
            for column, mark in zip(header, marks, strict=True):
                if mark != "-":
                    cells[name, column] = _decision(name, column, mark)
        return Matrix(tuple(row[0] for row in rows), tuple(header), cells)


def _decision(row: str, column: str, mark: str) -> Decision:
    if mark not in _MARKS:
        raise MatrixError(f"{row} -> {column} is marked {mark!r}: one of . X ? - is expected")
    return _MARKS[mark]


def draw(sources: Iterable[str], destinations: Iterable[str], mark: Callable[[str, str], str]) -> str:
    """A matrix as text, in the form that `Matrix.parse` reads; `mark` gives the sign of a pair."""
    columns = list(destinations)
    rows = [["", *columns]] + [[row, *(mark(row, column) for column in columns)] for row in sources]
    widths = [max(len(row[i]) for row in rows) for i in range(len(columns) + 1)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
