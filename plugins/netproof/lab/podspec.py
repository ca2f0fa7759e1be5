"""From a pod's spec to what is started for it: its command, environment, files and resolver. Pure but for a look at ConfigMaps."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from netproof.lab.seams import API_SERVICE, DNS_SERVICE, DOMAIN, Launch, Object, node_addresses

ConfigMaps = Callable[[str], Object | None]  # by name, in the pod's namespace

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LOCAL_NAMES = (
    "127.0.0.1\tlocalhost",
    "::1\tlocalhost ip6-localhost ip6-loopback",
    "fe00::0\tip6-localnet",
    "ff00::0\tip6-mcastprefix",
    "ff02::1\tip6-allnodes",
    "ff02::2\tip6-allrouters",
)
_REFERENCE = re.compile(r"\$\$|\$\(([-._a-zA-Z][-._a-zA-Z0-9]*)\)")


class Wanting(Exception):  # noqa: N818
    """A pod can't start as things are: the API's word for that state, and why."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def require_supported(pod: Object) -> None:
    """Raise Wanting for what the lab does not do at all."""
    spec = pod["spec"]
    if len(spec["containers"]) > 1:
        raise Wanting("Unsupported", f"the lab runs one container a pod, this one has {len(spec['containers'])}")
    if any(container.get("restartPolicy") == "Always" for container in spec.get("initContainers") or []):
        raise Wanting("Unsupported", "the lab runs no sidecars: an init container here may not have restartPolicy Always")


def launch(pod: Object, container: Object, addresses: Sequence[str], config_maps: ConfigMaps) -> Launch:
    """What to start for a container of a pod. Raises Wanting where something that it refers to is missing or unknown to the lab."""
    metadata, spec = pod["metadata"], pod["spec"]
    environment = _environment(pod, container, addresses, config_maps)
    command = [_expand(word, environment) for word in (*(container.get("command") or ()), *(container.get("args") or ()))]
    if not command:
        raise Wanting("CreateContainerError", f"the lab has no images: container {container['name']} needs a command of its own")
    return Launch(
        key=f"{metadata['namespace']}/{metadata['name']}",
        node=spec["nodeName"],
        addresses=tuple(addresses),
        command=tuple(command),
        environment={"PATH": _PATH, "HOSTNAME": hostname(pod)} | environment,
        files=_files(pod, container, addresses, config_maps),
        resolv_conf=resolv_conf(pod),
        hosts=hosts(pod, addresses),
        hostname=hostname(pod),
        host_network=bool(spec.get("hostNetwork")),
        uid=metadata["uid"],
    )


def hostname(pod: Object) -> str:
    """What the pod calls itself; on its node's network it has the node's name."""
    spec = pod["spec"]
    return str(spec["nodeName"] if spec.get("hostNetwork") else spec.get("hostname") or pod["metadata"]["name"])[:63].rstrip("-.")


# --- environment -------------------------------------------------------------------------------------------------------------


def _environment(pod: Object, container: Object, addresses: Sequence[str], config_maps: ConfigMaps) -> dict[str, str]:
    found = {"KUBERNETES_SERVICE_HOST": API_SERVICE[0], "KUBERNETES_SERVICE_PORT": "443"}
    for source in container.get("envFrom") or []:
        data = _data(source.get("configMapRef") or {}, config_maps, f"envFrom of container {container['name']}")
        found |= {source.get("prefix", "") + name: value for name, value in data.items()}
    for entry in container.get("env") or []:
        value = _value(entry, pod, addresses, config_maps) if "valueFrom" in entry else _expand(entry.get("value", ""), found)
        if value is not None:
            found[entry["name"]] = value
    return found


def _value(entry: Object, pod: Object, addresses: Sequence[str], config_maps: ConfigMaps) -> str | None:
    """A value from elsewhere; None for an optional one that isn't there."""
    source = entry["valueFrom"]
    if "fieldRef" in source:
        return field(source["fieldRef"]["fieldPath"], pod, addresses)
    reference = source.get("configMapKeyRef")
    if reference is None:
        raise Wanting("CreateContainerConfigError", f"the lab can't fill in {entry['name']} from {', '.join(source)}")
    data = _data(reference, config_maps, f"env {entry['name']}")
    if reference["key"] not in data and not reference.get("optional"):
        raise Wanting("CreateContainerConfigError", f"couldn't find key {reference['key']} in ConfigMap {reference['name']}")
    return data.get(reference["key"])


def field(path: str, pod: Object, addresses: Sequence[str]) -> str:
    """A field as the downward API gives it."""
    metadata, spec = pod["metadata"], pod["spec"]
    if keyed := re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path):
        return str((metadata.get(keyed[1]) or {}).get(keyed[2], ""))
    if path in ("metadata.labels", "metadata.annotations"):
        return "\n".join(f'{name}="{value}"' for name, value in sorted((metadata.get(path[9:]) or {}).items()))
    own, host = list(addresses), list(node_addresses(spec["nodeName"]))
    known = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "spec.nodeName": spec["nodeName"],
        "spec.serviceAccountName": spec.get("serviceAccountName", "default"),
        "status.podIP": own[0],
        "status.podIPs": ",".join(own),
        "status.hostIP": host[0],
        "status.hostIPs": ",".join(host),
    }
    if path not in known:
        raise Wanting("CreateContainerConfigError", f"the lab knows no field {path}")
    return str(known[path])


def _data(reference: Object, config_maps: ConfigMaps, what: str) -> dict[str, str]:
    if "name" not in reference:
        raise Wanting("CreateContainerConfigError", f"the lab fills in {what} from ConfigMaps alone")
    found = config_maps(reference["name"])
    if found is None and not reference.get("optional"):
        raise Wanting("CreateContainerConfigError", f'configmap "{reference["name"]}" not found')
    return dict((found or {}).get("data") or {})


def _expand(text: str, values: Mapping[str, str]) -> str:
    """Put values for `$(NAME)`; `$$` stands for a dollar, and a name without a value stays as it is."""
    return _REFERENCE.sub(lambda found: "$" if found[0] == "$$" else values.get(found[1], found[0]), text)


# --- volumes -----------------------------------------------------------------------------------------------------------------


def _files(pod: Object, container: Object, addresses: Sequence[str], config_maps: ConfigMaps) -> dict[str, dict[str, str]]:
    volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes") or []}
    files = {}
    for mount in container.get("volumeMounts") or []:
        if mount.get("subPath"):
            raise Wanting("CreateContainerConfigError", f"the lab mounts whole volumes: {mount['name']} has a subPath")
        files[mount["mountPath"]] = _content(volumes.get(mount["name"], mount), pod, addresses, config_maps)
    return files


def _content(volume: Object, pod: Object, addresses: Sequence[str], config_maps: ConfigMaps) -> dict[str, str]:
    """What is in a volume: file name -> text."""
    if "emptyDir" in volume:
        return {}
    if "configMap" in volume:
        source = volume["configMap"]
        data = _data(source, config_maps, f"volume {volume['name']}")
        items = source.get("items")
        return {item["path"]: data[item["key"]] for item in items if item["key"] in data} if items else data
    if "downwardAPI" in volume:
        items = [(item["path"], item.get("fieldRef") or {}) for item in volume["downwardAPI"].get("items") or []]
        return {name: field(reference.get("fieldPath", ""), pod, addresses) for name, reference in items}
    raise Wanting("CreateContainerConfigError", f"the lab has no volumes of the kind of {volume['name']}")


# --- names -------------------------------------------------------------------------------------------------------------------


def resolv_conf(pod: Object) -> str:
    """/etc/resolv.conf by dnsPolicy and dnsConfig.

    https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/#pod-s-dns-policy
    """
    spec = pod["spec"]
    policy, said = spec.get("dnsPolicy", "ClusterFirst"), spec.get("dnsConfig") or {}
    servers: list[str] = []
    search: list[str] = []
    options: dict[str, Any] = {}
    if policy == "ClusterFirstWithHostNet" or (policy == "ClusterFirst" and not spec.get("hostNetwork")):
        namespace = pod["metadata"]["namespace"]
        servers, search = [DNS_SERVICE[0]], [f"{namespace}.svc.{DOMAIN}", f"svc.{DOMAIN}", DOMAIN]
        options = {"ndots": "5"}
    servers = list(dict.fromkeys([*servers, *(said.get("nameservers") or [])]))
    search = list(dict.fromkeys([*search, *(said.get("searches") or [])]))
    options |= {option["name"]: option.get("value") for option in said.get("options") or []}
    lines = [f"search {' '.join(search)}"] if search else []
    lines += [f"nameserver {server}" for server in servers[:3]]
    lines += [f"options {' '.join(name if value is None else f'{name}:{value}' for name, value in options.items())}"] if options else []
    return "\n".join(lines or [f"# node {spec['nodeName']} has no resolver"]) + "\n"


def hosts(pod: Object, addresses: Sequence[str]) -> str:
    """/etc/hosts: local names, and the pod's own at each of its addresses."""
    spec, name = pod["spec"], hostname(pod)
    names = [name]
    if spec.get("subdomain") and not spec.get("hostNetwork"):
        names.insert(0, f"{name}.{spec['subdomain']}.{pod['metadata']['namespace']}.svc.{DOMAIN}")
    lines = ["# Kubernetes-managed hosts file.", *_LOCAL_NAMES, *("\t".join([address, *names]) for address in addresses)]
    lines += ["\t".join([alias["ip"], *(alias.get("hostnames") or [])]) for alias in spec.get("hostAliases") or []]
    return "\n".join(lines) + "\n"
