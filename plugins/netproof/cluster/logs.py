"""The implementation's own logs of a window of time, for evidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from netproof.cluster.state import Implementation, LoadBalancer, LogSource
from netproof.kube.client import Api, ApiError, ApiUnavailable
from netproof.kube.objects import path

LIMIT = 200_000  # bytes of one container


def collect(api: Api, implementation: Implementation | LoadBalancer, since: datetime) -> Mapping[str, str]:
    """Log by `namespace/pod/container`. Never raises for what cannot be read: the text then says so."""
    return dict(log for source in implementation.logs for log in _of_source(api, source, since))


def _of_source(api: Api, source: LogSource, since: datetime) -> Iterator[tuple[str, str]]:
    try:
        pods = api.list(path("Pod", namespace=source.namespace), labels=source.selector)
    except (ApiError, ApiUnavailable) as error:
        yield f"{source.namespace or '*'}/{source.selector}", f"pods with {source.selector} cannot be listed: {error}\n"
        return
    for pod in pods:
        metadata = pod["metadata"]
        for container in _containers(pod, source.container):
            name = f"{metadata['namespace']}/{metadata['name']}/{container}"
            yield name, _log(api, metadata["namespace"], metadata["name"], container, since)


def _containers(pod: Mapping[str, Any], wanted: str) -> Sequence[str]:
    return [wanted] if wanted else [pod["spec"]["containers"][0]["name"]]


def _log(api: Api, namespace: str, pod: str, container: str, since: datetime) -> str:
    start = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    query = {"container": container, "sinceTime": start, "limitBytes": str(LIMIT), "timestamps": "true"}
    try:
        text = api.text(f"{path('Pod', pod, namespace)}/log", **query)
    except (ApiError, ApiUnavailable) as error:
        return f"the log cannot be read: {error}\n"
    return text if len(text) < LIMIT else f"{text}\n(cut after {LIMIT} bytes)\n"
