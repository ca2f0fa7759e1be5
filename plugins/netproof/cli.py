"""The command `netproof`: what pytest does, from any folder, and what needs no pytest."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from netproof import __version__, files
from netproof.problem import Problem

_RUN = "run"


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command line; returns the exit code. A Problem is one line on standard error and its own exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if words[:1] == [_RUN]:
            return run(words[1:])
        parsed = _parser().parse_args(words)
        command: Callable[[argparse.Namespace], int] = parsed.command
        return command(parsed)
    except Problem as problem:
        print(f"netproof: {problem}", file=sys.stderr)
        return problem.code
    except BrokenPipeError:
        return 0


def run(words: Sequence[str]) -> int:
    """`pytest` on the suites that come with this package, with whatever options pytest takes; paths name cases of one's own."""
    import pytest

    own = [word for word in words if not word.startswith("-") and Path(word.partition("::")[0]).exists()]
    suites = files.suites()
    paths = [] if own else [str(suites), "--netproof-own-suites"]
    configuration = ["-c", str(suites / "run.toml"), f"--rootdir={Path.cwd()}", "-p", "netproof.plugin"]
    return int(pytest.main([*configuration, *words, *paths]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="netproof", description="Does a Kubernetes cluster's network do what Kubernetes promises?")
    parser.add_argument("--version", action="version", version=f"netproof {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser(_RUN, help="run the suites: netproof run --cluster=kind --cni=cilium -n 4 (takes pytest's options)", add_help=False)

    report = commands.add_parser("report", help="render a report.json again, or say whether it is a valid one")
    report.add_argument("file", type=Path, metavar="REPORT.JSON")
    report.add_argument("--html", type=Path, metavar="FILE", help="write it as a page of HTML")
    report.add_argument("--junit", type=Path, metavar="FILE", help="write it as JUnit XML")
    report.set_defaults(command=_report)

    replay = commands.add_parser("replay", help="judge an evidence bundle again, offline")
    replay.add_argument("bundle", type=Path, metavar="BUNDLE", help="a folder below evidence/")
    replay.set_defaults(command=_replay)

    cleanup = commands.add_parser("cleanup", help="remove what runs that ended badly have left: clusters, containers, namespaces")
    cleanup.add_argument("--cluster", metavar="CONTEXT", help="look into this kubeconfig context too, whoever ran there")
    cleanup.add_argument("--netproof-kubeconfig", "--kubeconfig", dest="kubeconfig", type=Path, metavar="FILE")
    cleanup.add_argument("--run", metavar="ID", help="this run only, even if it may still be going on")
    cleanup.add_argument("--older-than", type=float, metavar="SECONDS", help="runs that began longer ago than this only")
    cleanup.set_defaults(command=_cleanup)

    cni = commands.add_parser("cni", help="the catalogue of CNIs").add_subparsers(required=True, metavar="COMMAND")
    cni.add_parser("list", help="the names that --cni takes, their versions and what they claim").set_defaults(command=_cni_list)

    faults = commands.add_parser("faults", help="ways to break the lab on purpose").add_subparsers(required=True, metavar="COMMAND")
    faults.add_parser("list", help="the ids that --netproof-fault takes, and what they break").set_defaults(command=_faults_list)

    lab = commands.add_parser("lab", help="an embedded lab to look into with kubectl, until Ctrl-C")
    lab.add_argument("--fault", action="append", default=[], metavar="ID", help="break it: an id of `netproof faults list`")
    lab.set_defaults(command=_lab)
    return parser


def _report(said: argparse.Namespace) -> int:
    from netproof.report.html import write_html
    from netproof.report.terminal import header_lines, summary_lines
    from netproof.report.writers import write_junit

    try:
        document = json.loads(said.file.read_text(encoding="utf-8"))
        lines = [*header_lines(document["header"]), "", *summary_lines(document, width=100, color=sys.stdout.isatty())]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Problem(f"{said.file} is no report that this Netproof can read: {type(error).__name__}: {error}") from None
    if said.html:
        write_html(document, said.html)
    if said.junit:
        write_junit(document, said.junit)
    print("\n".join(lines))
    return 0


def _replay(said: argparse.Namespace) -> int:
    from netproof.report.replay import replay

    found = replay(said.bundle)
    print(found.text)
    return 0 if found.same else 1


def _cleanup(said: argparse.Namespace) -> int:
    from netproof.cluster.cleanup import sweep

    def progress(what: str, waited: float, limit: float) -> None:
        print(f"  … {what}, {waited:.0f} s of at most {limit:.0f} s", file=sys.stderr)

    context = said.cluster.removeprefix("context/") if said.cluster else None
    removed = sweep(cluster=context, kubeconfig=said.kubeconfig, run=said.run, older_than=said.older_than, progress=progress)
    print("\n".join(removed) if removed else "nothing of Netproof's was found")
    return 0


def _cni_list(_said: argparse.Namespace) -> int:
    from netproof.cluster.catalogue import entries

    for entry in entries("cni"):
        print(f"{entry.name:<12} {entry.version:<10} claims {', '.join(entry.claims) or 'nothing beyond the network model'}")
    return 0


def _faults_list(_said: argparse.Namespace) -> int:
    from netproof.lab.faults import CATALOGUE

    for fault in CATALOGUE:
        print(f"{fault.id:<5} {fault.breaks}\n      seen: {fault.seen}\n      turns: {', '.join(turn.cases for turn in fault.turns)}")
    return 0


def _lab(said: argparse.Namespace) -> int:
    import tempfile

    from netproof.cluster.lab import stand

    with tempfile.TemporaryDirectory(prefix="netproof-lab-") as folder, stand(Path(folder), said.fault) as kubeconfig:
        print(f"the lab is up; it is not Kubernetes, and goes with this command (Ctrl-C)\nexport KUBECONFIG={kubeconfig}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
    return 0


if __name__ == "__main__":
    os._exit(main())
