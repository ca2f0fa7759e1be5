"""Sets of policies that nobody wrote: drawn from a seed, and made smaller where a network disagrees with them. Pure: no I/O, no clock.

    drawn = draw(stage, seed=1, number=17)
    smaller = smallest(drawn.policies, promising=…, shows=…)

`dice` is chance that is the same everywhere, `stage` the world that a set is drawn for, `selectors` and `rules` the parts of a policy,
`draw` puts them together and throws away what would say nothing, `reduce` and `shrink` take a set apart.
"""

from __future__ import annotations

from netproof.drawing.draw import FEATURES, INGREDIENTS, Drawn, draw
from netproof.drawing.shrink import Shrunk, smallest
from netproof.drawing.stage import Stage, Way

__all__ = ["FEATURES", "INGREDIENTS", "Drawn", "Shrunk", "Stage", "Way", "draw", "smallest"]
