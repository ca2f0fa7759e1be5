"""Where the machine outside reaches the lab. Bound before the lab has namespaces of its own, and kept in it."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from netproof.lab.seams import OUTSIDERS


@dataclass(frozen=True, slots=True)
class Doors:
    """The API's TCP socket, and for each outsider a unix socket. All listen already."""

    api: socket.socket
    outsiders: Mapping[str, socket.socket]


def doors() -> Doors:
    """Bind them. Raises OSError."""
    return Doors(socket.create_server(("127.0.0.1", 0), backlog=256), {name: _door() for name in OUTSIDERS})


def _door() -> socket.socket:
    """A name that is nobody's file: it goes with the socket, and who does not know it cannot guess it."""
    door = socket.socket(socket.AF_UNIX)
    door.bind(f"\0netproof-{secrets.token_hex(16)}")
    door.listen(64)
    return door
