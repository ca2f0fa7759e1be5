"""What a run will apply: read, checked and fetched before anything is made, so that whatever is wrong with it is said at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from netproof.cluster import catalogue, source
from netproof.cluster.catalogue import Entry
from netproof.cluster.features import require_claims
from netproof.cluster.images import supply
from netproof.cluster.manifest import Object
from netproof.cluster.progress import Progress
from netproof.cluster.settings import Settings
from netproof.problem import Problem


@dataclass(frozen=True, slots=True)
class Part:
    """An entry and its objects."""

    entry: Entry
    objects: tuple[Object, ...]
    replacement: str = ""  # the file that stands for its source

    @property
    def note(self) -> str:
        """What the header shall say of where the objects are from, "" where that is as it should be."""
        if self.replacement:
            return f"{self.entry.name}: {self.replacement} stands for its {self.entry.source.kind}"
        return "" if self.entry.source.pinned else f"{self.entry.name}: the {self.entry.source.kind} is not pinned by a digest"


@dataclass(frozen=True, slots=True)
class Plan:
    """The parts, and the images to load for them."""

    cni: Part | None
    load_balancer: Part | None
    images: tuple[str, ...]
    archives: tuple[Path, ...]
    swaps: tuple[str, ...]  # which images stand for others, in words

    @property
    def parts(self) -> list[Part]:
        return [part for part in (self.cni, self.load_balancer) if part]

    @property
    def notes(self) -> tuple[str, ...]:
        """What the header shall say."""
        return (*(part.note for part in self.parts if part.note), *self.swaps)


def plan(settings: Settings, progress: Progress) -> Plan:
    """Raises Problem for all that can be known to be wrong."""
    require_claims(settings.claims, where="--netproof-claim")
    cni = catalogue.load(settings.cni, "cni") if settings.cni else None
    balancer = catalogue.load(settings.load_balancer, "loadbalancer") if settings.load_balancer else None
    entries = [entry for entry in (cni, balancer) if entry]
    _require_known(settings.manifests, entries)
    objects = {entry.name: source.objects(entry, settings.manifests.get(entry.name, ""), progress=progress) for entry in entries}
    settled = supply([item for entry in entries for item in objects[entry.name]], settings.images)
    split = len(objects[cni.name]) if cni else 0
    return Plan(
        Part(cni, settled.objects[:split], settings.manifests.get(cni.name, "")) if cni else None,
        Part(balancer, settled.objects[split:], settings.manifests.get(balancer.name, "")) if balancer else None,
        settled.local,
        settled.archives,
        settled.notes,
    )


def _require_known(manifests: Mapping[str, str], entries: list[Entry]) -> None:
    """A manifest for nobody is a slip of the pen; one for an entry that is not used now may stand in a site file."""
    known = {entry.name for entry in entries}.union(*(catalogue.names(kind) for kind in catalogue.KINDS))
    for name in manifests:
        if name not in known:
            raise Problem(f"--netproof-manifest {name}: no entry is called that; there are {', '.join(sorted(known))}")
