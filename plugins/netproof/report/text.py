"""What the writers share: text that is safe to print, figures for people, aligned tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
# What XML 1.0 has no place for, and what a terminal would obey: controls, surrogates, non-characters.
_UNPRINTABLE = re.compile("[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def plain(text: str) -> str:
    """The text without what a terminal would obey and what XML cannot hold; line breaks and tabs stay."""
    return _UNPRINTABLE.sub("", _ESCAPES.sub("", text))


def line(text: str) -> str:
    """The plain text as one line."""
    return " ".join(plain(text).split())


def seconds(value: float) -> str:
    """A duration for people: `0.83 s`, `42 s`, `3 min 20 s`."""
    if value < 10:
        return f"{value:.2f} s"
    if value < 120:
        return f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"


def count(number: int, noun: str, plural: str = "") -> str:
    """`1 case`, `2 cases`."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def columns(rows: Sequence[Sequence[str]], *, right: bool = False) -> list[str]:
    """The rows as aligned lines; with `right`, all columns but the first stand at their right edge."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [_aligned(row, widths, str.rjust if right else str.ljust).rstrip() for row in rows]


def _aligned(row: Iterable[str], widths: Sequence[int], adjust: Callable[[str, int], str]) -> str:
    first, *rest = zip(row, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(adjust(cell, width) for cell, width in rest)])


def beside(left: str, right: str, *, gap: int = 4) -> str:
    """Two blocks of text next to each other."""
    ours, theirs = left.splitlines(), right.splitlines()
    height, width = max(len(ours), len(theirs)), max(map(len, ours), default=0)
    ours += [""] * (height - len(ours))
    theirs += [""] * (height - len(theirs))
    return "\n".join(f"{a.ljust(width + gap)}{b}".rstrip() for a, b in zip(ours, theirs, strict=True))


def indented(text: str, by: str = "  ") -> str:
    """Every line of the text moved to the right; empty lines stay empty."""
    return "\n".join(f"{by}{line}".rstrip() for line in text.splitlines())
