"""Chance that is the same for a seed on every machine and in every version of Python."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """Choices that follow from a seed alone.

    Of `random.Random` only the sequence of `random()` is kept from one version of Python to the next
    (https://docs.python.org/3/library/random.html#notes-on-reproducibility), so everything is made of that. A text as a seed is hashed
    by SHA-512, whatever PYTHONHASHSEED says.
    """

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed).random

    def chance(self, share: float) -> bool:
        """True in that share of all throws."""
        return self._random() < share

    def one_of(self, things: Sequence[T]) -> T:
        """Each as often as any other."""
        return things[int(self._random() * len(things))]

    def weighted(self, weights: Mapping[T, float]) -> T:
        """Each as often as its weight says; one of weight 0 never."""
        throw = self._random() * sum(weights.values())
        for thing, weight in weights.items():
            throw -= weight
            if throw < 0:
                return thing
        return [thing for thing, weight in weights.items() if weight][-1]

    def some(self, things: Sequence[T], count: int) -> list[T]:
        """So many different ones, or all there are, in an order of chance."""
        left = list(things)
        return [left.pop(int(self._random() * len(left))) for _ in range(min(count, len(left)))]
