"""From a pod's spec to what is started for it: its command, environment, files and resolver. Pure but for a look at ConfigMaps."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from netproof.lab.seams import DNS_SERVICE, DOMAIN, Launch, Object

if TYPE_CHECKING:
    from netproof.lab.store import Store

_REFERENCE = re.compile(r"\$\$|\$\(([-._a-zA-Z][-._a-zA-Z0-9]*)\)")
_LOCAL_NAMES = ("127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback")
# The fields of pods that the lab does something about, or that change nothing which a packet shows.
_KNOWN = """
    activeDeadlineSeconds apiVersion args automountServiceAccountToken command configMap containerPort containers defaultMode
    dnsPolicy emptyDir enableServiceLinks env exec failureThreshold fieldPath fieldRef hostIP hostNetwork hostPort hostname httpGet image
    imagePullPolicy initContainers initialDelaySeconds livenessProbe mountPath name nodeName nodeSelector path periodSeconds port ports
    protocol readOnly readinessProbe resources restartPolicy schedulerName scheme securityContext serviceAccountName subdomain
    successThreshold tcpSocket terminationGracePeriodSeconds terminationMessagePath terminationMessagePolicy timeoutSeconds tolerations
    value valueFrom volumeMounts volumes
"""
_UNREAD = ("nodeSelector", "resources", "securityContext", "tolerations")  # their own fields, here


class Wanting(Exception):  # noqa: N818
    """A pod can't start as things are; the text is why."""


def launch(pod: Object, container: Object, addresses: Sequence[str], store: Store) -> Launch:
    """What to start for a container of a pod. Raises Wanting where something that it refers to is missing or unknown to the lab."""
    metadata, spec = pod["metadata"], pod["spec"]
    foreign = sorted(set(_foreign(spec)))
    foreign += ["several containers"] if len(spec["containers"]) > 1 else []
    foreign += ["sidecars"] if any("restartPolicy" in one for one in spec.get("initContainers") or []) else []
    if foreign:
        raise Wanting(f"the lab does not run pods with {', '.join(foreign)}")
    environment = _environment(pod | {"status": {"podIP": addresses[0]}}, container)
    command = [_expand(word, environment) for word in (*(container.get("command") or ()), *(container.get("args") or ()))]
    if not command:
        raise Wanting(f"the lab has no images: container {container['name']} needs a command of its own")
    return Launch(
        key=f"{metadata['namespace']}/{metadata['name']}",
        node=spec["nodeName"],
        addresses=tuple(addresses),
        command=tuple(command),
        environment=environment,
        files=_files(pod, container, store),
        resolv_conf=resolv_conf(pod),
        hosts=hosts(pod, addresses),
        hostname=hostname(pod),
        host_network=bool(spec.get("hostNetwork")),
    )


def _foreign(given: Any) -> Iterator[str]:
    """The fields that are not among the known ones."""
    for one in given if isinstance(given, list) else ():
        yield from _foreign(one)
    for name, value in given.items() if isinstance(given, dict) else ():
        if name not in _KNOWN.split() or (name, value) == ("scheme", "HTTPS"):
            yield name
        elif name not in _UNREAD:
            yield from _foreign(value)


def hostname(pod: Object) -> str:
    """What the pod calls itself; on its node's network it has the node's name."""
    spec = pod["spec"]
    return str(spec["nodeName"] if spec.get("hostNetwork") else spec.get("hostname") or pod["metadata"]["name"])[:63].rstrip("-.")


def _environment(pod: Object, container: Object) -> dict[str, str]:
    found = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    for entry in container.get("env") or []:
        path = entry["valueFrom"]["fieldRef"]["fieldPath"] if "valueFrom" in entry else ""
        found[entry["name"]] = _field(pod, path) if path else _expand(entry.get("value", ""), found)
    return found


def _field(pod: Object, path: str) -> str:
    """A field as the downward API gives it: `metadata.uid`, `spec.nodeName`, `status.podIP`."""
    found: Any = pod
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    if not isinstance(found, str):
        raise Wanting(f"the lab knows no field {path}")
    return found


def _expand(text: str, values: Mapping[str, str]) -> str:
    """Put values for `$(NAME)`; `$$` stands for a dollar, and a name without a value stays as it is."""
    return _REFERENCE.sub(lambda found: "$" if found[0] == "$$" else values.get(found[1], found[0]), text)


def _files(pod: Object, container: Object, store: Store) -> dict[str, dict[str, str]]:
    """Of the mounted ConfigMaps; an emptyDir has none."""
    volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes") or []}
    files = {}
    for mount in container.get("volumeMounts") or []:
        volume = volumes.get(mount["name"], {})
        name = volume.get("configMap", {}).get("name", "")
        found = {} if "emptyDir" in volume else store.get("ConfigMap", name, pod["metadata"]["namespace"])
        if found is None:
            raise Wanting(f'configmap "{name}" not found')
        files[mount["mountPath"]] = dict(found.get("data") or {})
    return files


def resolv_conf(pod: Object) -> str:
    """/etc/resolv.conf by dnsPolicy: https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/#pod-s-dns-policy"""
    spec, namespace = pod["spec"], pod["metadata"]["namespace"]
    policy = spec.get("dnsPolicy", "ClusterFirst")
    if policy == "Default" or (policy == "ClusterFirst" and spec.get("hostNetwork")):
        return f"# node {spec['nodeName']} has no resolver\n"
    return f"search {namespace}.svc.{DOMAIN} svc.{DOMAIN} {DOMAIN}\nnameserver {DNS_SERVICE[0]}\noptions ndots:5\n"


def hosts(pod: Object, addresses: Sequence[str]) -> str:
    """/etc/hosts: local names, and the pod's own at each of its addresses."""
    spec, name = pod["spec"], hostname(pod)
    names = [name]
    if spec.get("subdomain") and not spec.get("hostNetwork"):
        names.insert(0, f"{name}.{spec['subdomain']}.{pod['metadata']['namespace']}.svc.{DOMAIN}")
    own = ("\t".join([address, *names]) for address in addresses)
    return "\n".join(["# Kubernetes-managed hosts file.", *_LOCAL_NAMES, *own]) + "\n"
