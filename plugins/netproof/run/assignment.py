"""What the controller of a run tells its workers: JSON values only, as xdist carries no others."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from netproof import options
from netproof.cluster.settings import Settings
from netproof.model.flow import Family

KEY = "netproof"


@dataclass(frozen=True, slots=True)
class Assignment:
    """`folder` is the run's own (events, state, kubeconfig), `report` the one that the user looks into."""

    run: str
    token: str
    folder: str
    report: str
    workers: int
    controller: int  # its process id
    smoke: bool
    families: tuple[str, ...] = (Family.IPV4.value,)  # in which the cases are run

    @staticmethod
    def of(config: pytest.Config) -> Assignment | None:
        """What a worker was told; None in one of a run without a cluster."""
        told: dict[str, Any] | None = getattr(config, "workerinput", {}).get(KEY)
        return Assignment(**told) if told else None

    def tell(self) -> dict[str, Any]:
        """As it is put into a worker's input."""
        return asdict(self)

    def settings(self, config: pytest.Config) -> Settings:
        """The run's settings, the same in every process. Raises Problem."""
        found = options.settings(
            config,
            run=self.run,
            folder=Path(self.folder),
            token_sha256=hashlib.sha256(self.token.encode()).hexdigest(),
            controller=self.controller,
        )
        if found is None:
            raise ValueError("an assignment without a cluster")
        return found
