"""Commands on the nodes of a kind cluster, for tests that break the network and for what only a node knows."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence


class NodeAccess:
    """`docker exec` into a node's container, as root in the node's own network."""

    def run(self, node: str, argv: Sequence[str], input: bytes | None = None, *, limit: float = 60) -> subprocess.CompletedProcess[bytes]:  # noqa: A002
        """Run it to its end and give back its exit code and output. Raises subprocess.TimeoutExpired, and OSError without Docker."""
        interactive = ["--interactive"] if input is not None else []
        argv = ["docker", "exec", *interactive, node, *argv]
        return subprocess.run(argv, input=input or b"", capture_output=True, timeout=limit, check=False)

    def pause(self, node: str) -> None:
        """Freeze a node: nothing in it runs, its addresses stay. Raises subprocess.CalledProcessError."""
        subprocess.run(["docker", "pause", node], capture_output=True, check=True)

    def resume(self, node: str) -> None:
        """End of `pause`."""
        subprocess.run(["docker", "unpause", node], capture_output=True, check=True)


def conntrack_max(node: str) -> int:
    """How many entries the kernel's connection table may hold, 0 where that cannot be read."""
    done = NodeAccess().run(node, ["cat", "/proc/sys/net/netfilter/nf_conntrack_max"])
    return int(done.stdout) if done.returncode == 0 and done.stdout.strip().isdigit() else 0


def has_sctp(node: str) -> bool:
    """Whether the node's kernel speaks SCTP, or can load that it does."""
    return NodeAccess().run(node, ["sh", "-c", "grep -q ^SCTP /proc/net/protocols || modprobe -q sctp"]).returncode == 0
