"""Truth tables, read and drawn."""

from __future__ import annotations

import pytest
from netproof.model.history import Decision
from netproof.model.matrix import MARK, Matrix, MatrixError, draw

TEXT = """
         x/a  x/b  y/a
    x/a   -    X    .
    y/a   ?    .    -
"""


def test_what_is_read() -> None:
    matrix = Matrix.parse(TEXT)
    assert matrix.sources == ("x/a", "y/a")
    assert matrix.destinations == ("x/a", "x/b", "y/a")
    assert matrix.cells == {
        ("x/a", "x/b"): Decision.DENY,
        ("x/a", "y/a"): Decision.ALLOW,
        ("y/a", "x/a"): Decision.OBSERVE,
        ("y/a", "x/b"): Decision.ALLOW,
    }


def test_blank_lines_are_skipped() -> None:
    assert Matrix.parse(TEXT.replace("\n", "\n\n")) == Matrix.parse(TEXT)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x/a x/b\nx/a - X .", r"row x/a has 3 marks for 2 columns \(x/a x/b\)"),
        ("x/a x/b\nx/a - X\nx/b .", r"row x/b has 1 marks for 2 columns"),
        ("x/a x/b\nx/a - o", r"x/a -> x/b is marked 'o': one of . X \? - is expected"),
        ("x/a\nx/a x", r"x/a -> x/a is marked 'x'"),
    ],
)
def test_what_cannot_be_read_is_said(text: str, message: str) -> None:
    with pytest.raises(MatrixError, match=message):
        Matrix.parse(text)


def test_what_is_drawn_is_read_again() -> None:
    matrix = Matrix.parse(TEXT)
    drawn = draw(matrix.sources, matrix.destinations, lambda a, b: MARK[matrix.cells[a, b]] if (a, b) in matrix.cells else "-")
    assert Matrix.parse(drawn) == matrix
    assert drawn == "     x/a  x/b  y/a\nx/a  -    X    .\ny/a  ?    .    -"


def test_columns_are_as_wide_as_what_stands_in_them() -> None:
    assert draw(["longer/a"], ["b", "c/c"], lambda a, b: f"{b}!") == "          b   c/c\nlonger/a  b!  c/c!"


def test_each_decision_has_a_mark() -> None:
    assert {decision: MARK[decision] for decision in Decision} == {
        Decision.ALLOW: ".",
        Decision.DENY: "X",
        Decision.REFUSE: "R",
        Decision.OBSERVE: "?",
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "at least one row"),
        ("x/a x/b", "at least one row"),
        (" a b\na . .\na . .", "a stands twice"),
        (" a a\nb . .", "a stands twice"),
    ],
)
def test_a_drawing_without_sense_is_refused(text: str, said: str) -> None:
    with pytest.raises(MatrixError, match=said):
        Matrix.parse(text)
