"""The labels that mark what is ours. Nothing without the run's label is ever changed or deleted."""

from __future__ import annotations

RUN = "netproof.dev/run"  # every object of a run
WORLD = "netproof.dev/world"  # every object of one world: the worker and a number
CASE = "netproof.dev/case"  # unique to a case: stands in each non-empty selector of its policies, so that leftovers of another can't match
SELECTED = "netproof.dev/selected-by."  # + a Service's name: the pods that it selects
