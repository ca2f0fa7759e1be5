"""Providers: what supplies a cluster."""

from __future__ import annotations

from typing import Protocol

from netproof.cluster.progress import Progress
from netproof.cluster.settings import Settings
from netproof.cluster.state import ClusterState
from netproof.problem import Problem


class Provider(Protocol):
    """Makes a cluster ready for cases, or finds it so."""

    def up(self, settings: Settings, progress: Progress) -> ClusterState:
        """The cluster, ready; its state is in the run folder by then. Raises Problem, and then nothing that it made is left."""
        ...

    def down(self, state: ClusterState, progress: Progress) -> None:
        """Remove what `up` made, unless it shall be kept. Raises Problem where that fails; `netproof cleanup` can then do it later."""
        ...


def provider_for(settings: Settings) -> Provider:
    """The provider that the settings ask for. Raises Problem where it is not installed."""
    match settings.provider_name:
        case "kind":
            return _kind()
        case "lab":
            from netproof.cluster.lab import LabProvider

            return LabProvider()
        case _:
            from netproof.cluster.context import ContextProvider

            return ContextProvider()


def _kind() -> Provider:
    try:
        from netproof.cluster.kind import KindProvider
    except ModuleNotFoundError as error:
        if error.name not in {"pytest_kind", "pykube", "requests"}:
            raise
        raise Problem("--cluster=kind needs the package pytest-kind: pip install 'netproof[kind]'") from error
    return KindProvider()
