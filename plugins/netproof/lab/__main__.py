"""The lab as a program: one line of JSON in (what is wanted), one line out (how it is reached); it ends with its standard input."""

from __future__ import annotations

import contextlib
import json
import os
import sys

from netproof.lab.doors import doors
from netproof.lab.launch import Impossible, launch


def main() -> int:
    """Run a lab until whoever wanted it closes our standard input, or ends; the exit code."""
    line = sys.stdin.readline()
    if not line:
        return 0
    order, opened = json.loads(line), doors()

    def inside(control: object) -> None:
        from netproof.lab.cluster import run

        run(control, opened, order)  # type: ignore[arg-type]

    with contextlib.suppress(OSError):  # as root: a busy machine makes packets late that no fault has touched
        os.nice(-5)
    try:
        return launch(inside, lifeline=0)
    except Impossible as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
