"""`make bench-policy`: the same 20 policy cases with Cyclonus and with Netproof, on one kind cluster with Cilium, one after the other.

    python plugins/bench/policy.py                      all 20; ends with 1 where Cyclonus does not take 20 times as long
    python plugins/bench/policy.py --cases 2            a quick look at the first two: that it works, not a measure, and nothing is judged
    python plugins/bench/policy.py --cyclonus=--job-timeout-seconds=2      with another option of Cyclonus than its default

Both are measured from the start of the command, with no pod there, to its end; also from the moment at which the last of its pods was
Ready. The images are on the nodes beforehand. A later call of Cyclonus counts from its first case on, as if one call had run them all.

What the two do for a case is not the same. Cyclonus waits 5 s after a change, then probes each of 9 x 9 pods on two ports of TCP and UDP,
once, by one exec each, of 10 s at most, and once more if something is not as it expects: these are its defaults. Netproof probes the
flows that its case draws, on the protocol of its id, in every step of the verdict rule (control, candidate, stability, burst, afterwards,
restore), in four workers.

What Cyclonus says of the network is counted and not judged. Its version and its checksum are in .ci/testbed/go/cyclonus/; it is built into
the testbed's cache folder, which needs Go. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import cyclonus
import place
from netproof.cluster.kind import Kind
from netproof.kube.client import Api
from netproof.kube.objects import path
from netproof.kube.wait import until

LEAST = 20.0  # times as long
WORKERS = 4
PODS_OF_A_WORLD = 9
JUDGED = {"pass", "fail", "flaky", "deviates"}
LOOK_EVERY = 0.5  # seconds
REPORT = place.ROOT / "netproof-report" / "bench-policy"


@dataclass(frozen=True, slots=True)
class Measured:
    """One of the two: seconds in all, seconds until its pods were Ready, seconds of each case, and what it found, for people."""

    wall: float
    ready: float
    seconds: Mapping[str, float]  # by the id of our case
    found: str
    complete: bool  # every case was run and judged

    @property
    def cases(self) -> float:
        """Seconds without the set-up."""
        return self.wall - self.ready


def main() -> int:
    said = arguments()
    pairs = cyclonus.PAIRS[: said.cases]
    program = build()
    shutil.rmtree(REPORT, ignore_errors=True)
    REPORT.mkdir(parents=True)
    with place.cluster(name=said.cluster_name) as made:
        load(made)
        print(f"load of the machine beforehand: {os.getloadavg()[0]:.1f}", flush=True)
        ours = netproof(made, pairs)
        print(f"Netproof: {ours.wall:.0f} s, {ours.found}", flush=True)
        theirs = rival(made, [str(program), "generate", *said.cyclonus], pairs)
    print(*table(pairs, theirs, ours), sep="\n")
    return verdict(theirs, ours, whole=len(pairs) == len(cyclonus.PAIRS))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Netproof beside Cyclonus, on the same cases")
    parser.add_argument("--cases", type=int, default=len(cyclonus.PAIRS), metavar="N", help="the first N alone: a quick look, not judged")
    parser.add_argument("--cluster-name", default="", metavar="NAME", help="a kind cluster; left there if it is there already")
    parser.add_argument("--cyclonus", action="append", default=[], metavar="OPTION", help="a further option of `cyclonus generate`")
    said = parser.parse_args()
    if not 1 <= said.cases <= len(cyclonus.PAIRS):
        parser.error(f"--cases wants a number from 1 to {len(cyclonus.PAIRS)}")
    return said


def build() -> Path:
    """Cyclonus; in the engine the image of its pods."""
    testbed = bool(place.site().get("testbed"))
    command = [str(place.ROOT / ".ci" / "testbed" / "parts" / "cyclonus"), *(["agnhost"] if testbed else [])]
    program = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    if not testbed:
        subprocess.run(["docker", "pull", "--quiet", cyclonus.IMAGE], check=True)
    return Path(program)


def load(made: place.Place) -> None:
    """Both images onto the nodes, and no namespace there that Cyclonus would take for its own."""
    Kind(made.settings).load([cyclonus.IMAGE, made.settings.probe_image], [], place.tell)
    if found := taken(made.api()):
        raise SystemExit(f"the cluster has namespaces {', '.join(found)}, and Cyclonus would delete the policies in them")


def netproof(made: place.Place, pairs: Sequence[cyclonus.Pair]) -> Measured:
    workers = min(WORKERS, len(pairs))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", str(workers), f"--netproof-report={REPORT}"]
    command += [*made.options(), str(place.ROOT / "suites" / "policy"), "-k", " or ".join(pair.ours for pair in pairs)]
    with (REPORT / "netproof.log").open("w") as log, watched(made.api(), workers * PODS_OF_A_WORLD) as ready:
        began = time.monotonic()
        subprocess.run(command, cwd=place.ROOT, stdout=log, stderr=subprocess.STDOUT, check=False)
        wall = time.monotonic() - began
    report = REPORT / "report.json"
    if not report.is_file():
        raise SystemExit(f"Netproof gave no report: see {log.name}")
    results = {result["case"]: result for result in json.loads(report.read_text(encoding="utf-8"))["results"]}
    verdicts = Counter(result["verdict"] for result in results.values())
    complete = set(results) == {pair.ours for pair in pairs} and set(verdicts) <= JUDGED
    found = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common())
    return Measured(wall, since(ready, began), {case: result["seconds"] for case, result in results.items()}, found, complete)


def rival(made: place.Place, command: Sequence[str], pairs: Sequence[cyclonus.Pair]) -> Measured:
    wall = 0.0
    outputs: list[cyclonus.Output] = []
    with (REPORT / "cyclonus.log").open("w") as log, watched(made.api(), cyclonus.PODS) as ready, emptied(made.api()):
        began = time.monotonic()
        for call, number in cyclonus.calls(len(pairs)):
            output = cyclonus.Output(call)
            cleanup = ["--cleanup-namespaces"] if call is cyclonus.CALLS[-1] else []
            run([*command, *call.arguments(), *cleanup], output, number, log, kubeconfig=made.state.kubeconfig)
            wall += time.monotonic() - (output.started[0] if outputs else began)
            outputs.append(output)
    seconds = [second for output in outputs for second in output.seconds]
    differing = sum(output.differing for output in outputs)
    found = f"{len(seconds) - differing} as it expects, {differing} not; {sum(o.rounds for o in outputs)} rounds of probes"
    by_case = dict(zip((pair.ours for pair in pairs), seconds, strict=True))
    return Measured(wall, since(ready, began), by_case, found, complete=True)


def run(command: Sequence[str], output: cyclonus.Output, number: int, log: TextIO, *, kubeconfig: str | None) -> None:
    """One call of Cyclonus, ended early where fewer cases are wanted than it has. Raises SystemExit where it fails."""
    environment = os.environ | ({"KUBECONFIG": kubeconfig} if kubeconfig else {})
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout
        try:
            for line in process.stdout:
                log.write(line)
                ended = len(output.finished)
                output.hear(line, time.monotonic())
                if len(output.finished) > ended:
                    print(f"  … Cyclonus: {ended + 1} of {number} cases of this call", file=sys.stderr, flush=True)
                if len(output.finished) == number < len(output.call.pairs):
                    break
        finally:
            process.terminate()
    if len(output.finished) != number:
        raise SystemExit(f"Cyclonus ended with {process.returncode} after {len(output.finished)} of {number} cases: see {log.name}")


@contextmanager
def watched(api: Api, number: int) -> Iterator[list[float]]:
    """Looks from outside for the moment at which so many pods of new namespaces are Ready: the list then holds it, and the looking ends."""
    known, over = namespaces(api), threading.Event()
    found: list[float] = []

    def look() -> None:
        while not (found or over.wait(LOOK_EVERY)):
            pods = api.list(path("Pod"))
            if sum(1 for pod in pods if pod["metadata"]["namespace"] not in known and is_ready(pod)) >= number:
                found.append(time.monotonic())

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()


@contextmanager
def emptied(api: Api) -> Iterator[None]:
    """Removes the namespaces of Cyclonus afterwards, whatever happens."""
    try:
        yield
    finally:
        for name in cyclonus.NAMESPACES:
            api.delete(path("Namespace", name))
        until(lambda: None if taken(api) else True, what="removing the namespaces of Cyclonus", limit=120, every=1.0)


def is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def namespaces(api: Api) -> set[str]:
    return {space["metadata"]["name"] for space in api.list(path("Namespace"))}


def taken(api: Api) -> list[str]:
    return sorted(namespaces(api) & set(cyclonus.NAMESPACES))


def since(ready: Sequence[float], began: float) -> float:
    """Seconds from the beginning until the pods were Ready. Raises SystemExit where that was not seen."""
    if not ready:
        raise SystemExit(f"the pods were never seen Ready; the logs are in {REPORT}")
    return ready[0] - began


def table(pairs: Sequence[cyclonus.Pair], theirs: Measured, ours: Measured) -> Iterator[str]:
    yield f"{'seconds of each case':<72} {'Cyclonus':>9} {'Netproof':>9}"
    for pair in pairs:
        yield f"  {pair.ours:<26} {pair.theirs[:42]:<43} {theirs.seconds[pair.ours]:9.1f} {ours.seconds.get(pair.ours, 0):9.1f}"
    yield f"{'':<72} {'Cyclonus':>9} {'Netproof':>9} {'ratio':>7}"
    for name, a, b in (("wall time, s", theirs.wall, ours.wall), ("from its pods' readiness on, s", theirs.cases, ours.cases)):
        yield f"{name:<72} {a:9.1f} {b:9.1f} {a / b:7.1f}"
    yield f"Cyclonus {cyclonus.VERSION} found {theirs.found}"
    yield f"Netproof found {ours.found}"


def verdict(theirs: Measured, ours: Measured, *, whole: bool) -> int:
    """The exit code: 1 where the ratio is too small, or where a case is missing."""
    if not ours.complete:
        print(f"not every case was judged, so there is nothing to compare: see {REPORT}")
        return 1
    if not whole:
        print("a quick look: the ratio of the whole is not to be had from a part")
        return 0
    ratio = theirs.wall / ours.wall
    print(f"Cyclonus takes {ratio:.1f} times as long; required: {LEAST:g}")
    return 0 if ratio >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
