"""The labels that mark what is ours. Nothing without the run's label is ever changed or deleted."""

from __future__ import annotations

RUN = "netproof.dev/run"  # every object of a run
WORLD = "netproof.dev/world"  # every object of one world: run, worker and a number; stands in each non-empty selector of its policies
SELECTED = "netproof.dev/selected-by."  # + a Service's name: the further pods that it selects
SET = "netproof.dev/set-"  # + names of standing pods (ab): on each of them from the start, so that a Service can select just these
