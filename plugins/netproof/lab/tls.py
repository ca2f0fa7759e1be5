"""The API server's certificate, made anew for each lab, and the kubeconfig that leads to it."""

from __future__ import annotations

import ipaddress
import ssl
import tempfile
from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

CONTEXT = "lab"


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM texts: a certificate that is its own authority, and its key."""

    authority: str
    key: str

    def server(self) -> ssl.SSLContext:
        """For a server at 127.0.0.1 or localhost."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile("w", prefix="netproof-lab-") as file:  # ssl reads keys from files alone; this one is 0600
            file.write(self.key + self.authority)
            file.flush()
            context.load_cert_chain(file.name)
        return context


def certificates() -> Certificates:
    """A certificate for this machine's loopback that nobody but itself vouches for: who reaches the lab trusts just this one."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "netproof-lab")])
    born = datetime.now(UTC) - timedelta(minutes=5)  # clocks differ
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), born, born + timedelta(days=30))
    made = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Certificates(made.public_bytes(Encoding.PEM).decode(), private.decode())


def kubeconfig(server: str, authority: str, token: str) -> str:
    """The text of a kubeconfig with the one context `lab`. `server` is the URL, `authority` the PEM text of its certificate."""
    parts = {
        "cluster": {"server": server, "certificate-authority-data": b64encode(authority.encode()).decode()},
        "user": {"token": token},
        "context": {"cluster": CONTEXT, "user": CONTEXT},
    }
    listed = {f"{part}s": [{"name": CONTEXT, part: settings}] for part, settings in parts.items()}
    return yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "current-context": CONTEXT} | listed, sort_keys=False)
