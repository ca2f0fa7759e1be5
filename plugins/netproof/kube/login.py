"""From a kubeconfig to what it takes to reach one API server: address, TLS, proxy, credentials.

Certificates, tokens, exec plugins and their refresh are the `kubernetes` package's business; it is imported here and only when needed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from urllib3.exceptions import LocationParseError
from urllib3.util import Url, parse_url

from netproof.kube.errors import ApiUnavailable, plain
from netproof.problem import Problem

if TYPE_CHECKING:
    from kubernetes.client import Configuration

_COPIES = 3  # of the environment that may be disturbed
_LOADING = threading.Lock()  # the package remembers the file of a key that it has written once, wherever that was
T = TypeVar("T")

_NAME_IT = "name another one with --netproof-kubeconfig or KUBECONFIG"


@dataclass(frozen=True, slots=True)
class Login:
    """How to reach an API server, and as whom."""

    context: str
    server: Url
    tls: ssl.SSLContext | None
    tls_name: str | None  # the name that the server's certificate must carry, where that is not its host
    proxy: Url | None
    configuration: Configuration = field(repr=False)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def headers(self) -> dict[str, str]:
        """The credentials of this moment: an expired token is replaced by the exec plugin first."""
        try:
            with self.lock:
                token = _undisturbed(lambda: self.configuration.get_api_key_with_prefix("BearerToken", alias="authorization"))
        except Exception as exc:  # whatever an identity provider's client raises
            raise ApiUnavailable(f"the credentials of context {self.context!r} could not be renewed: {plain(exc)}") from exc
        return {"Authorization": token} if token else {}


@dataclass(frozen=True, slots=True)
class Kubeconfig:
    """The kubeconfig files that apply, merged as kubectl does: the first to name something wins."""

    files: str  # separated as in KUBECONFIG
    current: str
    contexts: dict[str, dict[str, Any]]
    clusters: dict[str, dict[str, Any]]
    users: dict[str, dict[str, Any]]


def login(kubeconfig: Path | None, context: str | None) -> Login:
    """The login of a context, or of the current one. Raises `Problem` where the files do not tell."""
    config = read(kubeconfig)
    chosen = _choose(config, context)
    whose = f"context {chosen!r} of {config.files}"
    cluster = _part(whose, config.contexts[chosen], "cluster", config.clusters)
    user = _part(whose, config.contexts[chosen], "user", config.users) if config.contexts[chosen].get("user") else {}
    if user.get("as"):
        raise Problem(f"{whose} acts as another user (as: {user['as']}), which Netproof does not do: use one without")
    server = _server(whose, cluster)
    # Keys given as data pass through files: not for longer than needed.
    with _LOADING, tempfile.TemporaryDirectory(prefix="netproof-") as folder:
        configuration, said = _load(whose, config.files, chosen, folder)
        if user.get("exec") and not configuration.api_key and not configuration.cert_file:
            raise Problem(_plugin(whose, user["exec"], said))
        tls = _tls(whose, configuration) if server.scheme == "https" else None
    proxy = _proxy(whose, configuration, explicit="proxy-url" in cluster)
    configuration.proxy = configuration.proxy  # settled: else the package reads the environment again for every call with a token
    return Login(chosen, server, tls, configuration.tls_server_name, proxy, configuration)


def _undisturbed(task: Callable[[], T]) -> T:
    """What it returns. The package copies the environment, in which pytest, by another thread, writes and deletes the name of a test."""
    for _ in range(_COPIES):
        with contextlib.suppress(KeyError):
            return task()
    return task()


def read(kubeconfig: Path | None) -> Kubeconfig:
    """The named file, or those of KUBECONFIG, or ~/.kube/config."""
    named = [kubeconfig.expanduser()] if kubeconfig else [Path(name).expanduser() for name in _from_environment()]
    documents = {file: document for file in named if (document := _parse(file)) is not None}
    files = os.pathsep.join(map(str, documents or named))
    if not documents:
        raise Problem(f"kubeconfig {files}: no such file; {_NAME_IT}")
    return Kubeconfig(
        files=files,
        current=next((str(document["current-context"]) for document in documents.values() if document.get("current-context")), ""),
        contexts=_merge(documents, "contexts"),
        clusters=_merge(documents, "clusters"),
        users=_merge(documents, "users"),
    )


def _from_environment() -> list[str]:
    return [name for name in os.environ.get("KUBECONFIG", "").split(os.pathsep) if name] or ["~/.kube/config"]


def _parse(file: Path) -> dict[str, Any] | None:
    """The file's document; None where there is no such file, which kubectl overlooks in KUBECONFIG as long as there is another."""
    try:
        document = yaml.safe_load(file.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise Problem(f"kubeconfig {file} cannot be read: {(exc.strerror or str(exc)).lower()}; {_NAME_IT}") from exc
    except (yaml.YAMLError, ValueError) as exc:
        raise Problem(f"kubeconfig {file} is not YAML: {_where(exc)}; correct it, or {_NAME_IT}") from exc
    if not isinstance(document, dict):
        raise Problem(f"kubeconfig {file} holds no clusters, users and contexts; {_NAME_IT}")
    return document


def _where(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    text = " ".join((getattr(error, "problem", None) or str(error)).split())
    return f"{text}, line {mark.line + 1}" if mark else text


def _merge(documents: dict[Path, dict[str, Any]], section: str) -> dict[str, dict[str, Any]]:
    merged: dict[str, dict[str, Any]] = {}
    for file, document in documents.items():
        try:
            entries = {str(entry["name"]): dict(entry.get(section[:-1]) or {}) for entry in document.get(section) or []}
        except (TypeError, KeyError, ValueError, AttributeError) as exc:
            raise Problem(f"kubeconfig {file}: its {section} are not a list of names with settings; correct it, or {_NAME_IT}") from exc
        merged = {**entries, **merged}
    return merged


def _choose(config: Kubeconfig, context: str | None) -> str:
    there_are = f"it has {', '.join(sorted(config.contexts))}" if config.contexts else "it has none"
    if not context and not config.current:
        raise Problem(f"kubeconfig {config.files} names no current context: choose one ({there_are})")
    chosen = context or config.current
    if chosen not in config.contexts:
        raise Problem(f"kubeconfig {config.files} has no context {chosen!r}: {there_are}")
    return chosen


def _part(whose: str, context: dict[str, Any], kind: str, there: dict[str, dict[str, Any]]) -> dict[str, Any]:
    name = str(context.get(kind) or "")
    if name not in there:
        raise Problem(f"{whose} names the {kind} {name!r}, which is not in it: correct the file or choose another context")
    return there[name]


def _server(whose: str, cluster: dict[str, Any]) -> Url:
    text = str(cluster.get("server") or "").rstrip("/")
    try:
        server = parse_url(text)
    except LocationParseError:
        server = Url()
    if server.scheme not in ("http", "https") or not server.host:
        raise Problem(f"the cluster of {whose} has no usable server: expected https://HOST:PORT, found {text!r}")
    return server


def _load(whose: str, files: str, context: str, folder: str) -> tuple[Configuration, list[str]]:
    """What the kubernetes package makes of the context, and what it logged meanwhile."""
    from kubernetes.client import Configuration
    from kubernetes.config import ConfigException, load_kube_config

    configuration = Configuration()
    with _logged() as said:
        try:
            load_kube_config(files, context, configuration, persist_config=False, temp_file_path=folder)  # type: ignore[no-untyped-call]
        except (ConfigException, OSError, ValueError, TypeError, KeyError) as exc:
            raise Problem(f"{whose} cannot be used: {_sentence(exc)}") from exc
    return configuration, said


@contextlib.contextmanager
def _logged() -> Iterator[list[str]]:
    """What is written to the root logger meanwhile: the only place where the kubernetes package says why a plugin failed."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        yield said
    finally:
        logging.getLogger().removeHandler(handler)


def _plugin(whose: str, plugin: dict[str, Any], said: list[str]) -> str:
    command = str(plugin.get("command") or "")
    if any("No such file or directory" in line for line in said) and not shutil.which(command):
        hint = " ".join(str(plugin.get("installHint") or "").split())
        missing = f"{whose} logs in with the program {command!r}, which is not installed: install it or choose another context"
        return f"{missing} ({hint})" if hint else missing
    reason = " ".join(" ".join(said).split()) or "it gave neither a token nor a certificate"
    return f"{whose} logs in with the program {command!r}, which failed: {reason}"


def _sentence(error: Exception) -> str:
    text = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) and error.filename else str(error)
    return " ".join(text.split())


def _tls(whose: str, configuration: Configuration) -> ssl.SSLContext:
    """One context for calls and streams, so that they cannot differ."""
    try:
        tls = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
        if configuration.cert_file:
            tls.load_cert_chain(configuration.cert_file, configuration.key_file, password=_no_password)
    except (OSError, ValueError) as exc:
        raise Problem(f"the certificates of {whose} cannot be used: {plain(exc)}") from exc
    tls.set_alpn_protocols(["http/1.1"])
    tls.verify_flags &= ~ssl.VERIFY_X509_STRICT  # on since Python 3.13; not every cluster's authority satisfies it, nor does kubectl ask
    if not configuration.verify_ssl:
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    return tls


def _no_password() -> str:
    """Instead of OpenSSL asking for one on the terminal in the middle of a test run."""
    raise ValueError("the key is protected by a password")


def _proxy(whose: str, configuration: Configuration, *, explicit: bool) -> Url | None:
    """The proxy that the cluster names, or else that of the environment unless NO_PROXY has the server in it."""
    from kubernetes.client.rest import should_bypass_proxies

    if not configuration.proxy or (not explicit and should_bypass_proxies(configuration.host, configuration.no_proxy or "")):
        return None
    proxy = parse_url(configuration.proxy)
    if proxy.scheme != "http" or not proxy.host:
        raise Problem(f"{whose} goes through the proxy {configuration.proxy!r}: only http://HOST:PORT is supported")
    return proxy
