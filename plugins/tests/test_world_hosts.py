"""Agents on their nodes' network share that network's ports with those of all other worlds."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from netproof.world.hosts import served_port
from netproof.world.pods import Recipe


def port(run: str, world: str) -> int:
    made: Any = SimpleNamespace(recipe=Recipe(run, world, "token", "image"))
    return served_port(made)


def test_worlds_of_a_run_have_ports_of_their_own() -> None:
    """Whatever the number of workers; each world has two neighbouring ones, below the NodePorts (30000)."""
    ports = [port("k7x2m", f"gw{worker}-{number}") for worker in range(64) for number in range(1, 9)]
    assert len(set(ports)) == len(ports)
    assert all(served % 2 and 18100 < served < 30000 for served in ports)


def test_runs_begin_apart() -> None:
    runs = [port(f"run{number}", "gw0-1") for number in range(20)]
    assert len(set(runs)) > 18
