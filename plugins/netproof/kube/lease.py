"""A Lease on the cluster: one holder at a time, whichever machine it is on.

No clock is compared with another machine's: a Lease that nobody renewed for as long as it says, seen by our own clock, is nobody's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from netproof.kube.client import Api, Conflict, NotFound
from netproof.kube.errors import ApiError
from netproof.kube.objects import path
from netproof.kube.wait import NotYet, until

DURATION = 600  # seconds after which a Lease is nobody's; a holder that lives gives it back long before
LIMIT = 2 * DURATION
DISRUPTION = ("kube-system", "netproof-disruption")  # whose holder may disrupt what all of the cluster use
_SHARED: dict[str, Any] = {}  # stands for a Lease that another part of the holder gives back


@contextmanager
def hold(
    api: Api,
    namespace: str,
    name: str,
    *,
    holder: str,
    run: str,
    limit: float = LIMIT,
    progress: Callable[[str, float, float], None] | None = None,
) -> Iterator[None]:
    """Hold the Lease while the block runs; beside another part of `holder`, if that has it. Raises Late.

    That is where somebody else keeps it for longer than `limit` seconds.
    """
    spec = {"holderIdentity": holder, "leaseDurationSeconds": DURATION}
    metadata = {"name": name, "namespace": namespace, "labels": {"netproof.dev/run": run}}
    wanted = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
    others: dict[str, float] = {}  # uid -> when it was first seen

    def taken() -> dict[str, Any] | None:
        try:
            return api.create(wanted)
        except Conflict:
            return _ours(api, path("Lease", name, namespace), holder, others)

    made = until(taken, what=f"the Lease {namespace}/{name}", limit=limit, every=1.0, progress=progress)
    try:
        yield
    finally:
        if made is not _SHARED:
            api.delete(path("Lease", name, namespace), uid=made["metadata"]["uid"])


def _ours(api: Api, where: str, holder: str, others: dict[str, float]) -> dict[str, Any] | None:
    """_SHARED where the holder has it already. Somebody else's that has run out is deleted; raises NotYet where it has not."""
    try:
        there = api.get(where)
    except NotFound:
        return None
    if there["spec"].get("holderIdentity") == holder:
        return _SHARED
    uid, spec = there["metadata"]["uid"], there["spec"]
    since = others.setdefault(uid, time.monotonic())
    if time.monotonic() - since < float(spec.get("leaseDurationSeconds") or 0):
        raise NotYet(f"{spec.get('holderIdentity')} holds it")
    api.delete(where, uid=uid)
    return None


def give_back(api: Api, namespace: str, name: str, *, holder: str) -> bool:
    """Delete the Lease where a holder that is dead has it still; whether it had. Where it can't be seen, nobody of ours had it."""
    try:
        there = api.get(path("Lease", name, namespace))
    except ApiError:
        return False
    if there["spec"].get("holderIdentity") != holder:
        return False
    return api.delete(path("Lease", name, namespace), uid=there["metadata"]["uid"])
