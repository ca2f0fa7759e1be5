"""The suite tested by breaking the network: every fault of the lab against the cases that claim to notice it, and some that must not.

    python plugins/bench/kill_matrix.py                      all faults, several labs at once; writes reports/kill-matrix.{md,json}
    python plugins/bench/kill_matrix.py --fault N2 --fault P6  these alone, and nothing is written

A kill counts only if the verdict is fail, every wrong cell is one that the fault predicts, and the cases that it spares still pass: of
these each fault meets a few, in turn, so that all of them together meet all.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from netproof.lab.faults import CATALOGUE, Fault, Turn, chosen
from netproof.model.history import Decision
from netproof.model.verdict import Verdict
from netproof.report.evidence import load_bundle

ROOT = Path(__file__).resolve().parents[2]
REPORT = ROOT / "reports" / "kill-matrix.json"
LABS = 8  # at once, each with one process of pytest: they wait most of the time
SPARES = 2  # cases that must not mind, for each fault
CAP = 3.0  # seconds; the unbroken lab agrees within two
LIMIT = 60.0, 30.0  # seconds for a run, and for each of its cases
SOAK = 0.02  # seconds more for each of its cases, and for each attempt on a flow in a longer burst
_TWIN = "/ipv6/"  # in the id of a case's IPv6 twin

# Why no fault kills a case, where that is so.
UNKILLED: Mapping[str, str] = {
    "NPR-08?/sctp/*": "the lab has no SCTP, so these cases are unsupported there",
    "NPC-07*": "the lab has no agent to restart: it brings rules to its nodes itself",
    "NPC-10*": "what the API server keeps and refuses is the control plane's; the tests of Netproof itself see these promises broken",
    "NPT-03/*": "a pod reaches itself on its own loopback interface, which no rule of a node sees",
    "NPT-08c/*": "the lab has no agent to restart: it brings rules to its nodes itself",
    "LBR-01/*": "addresses are given by the lab's control plane, and every fault is one of the data plane, of DNS or of links",
}


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one case under one fault. `wrong`: the flows that differed; `good`: it is as the fault predicts."""

    fault: str
    case: str
    must: str  # "fail" or "pass"; "observe": see what the fault says
    verdict: str
    reason: str
    wrong: tuple[str, ...]
    strangers: tuple[str, ...]  # wrong flows that the fault does not predict
    good: bool


@dataclass(frozen=True, slots=True)
class Found:
    """All about one fault. `trouble`: why its run gave no report."""

    fault: Fault
    rows: tuple[Row, ...]
    seconds: float
    trouble: str = ""

    @property
    def killed(self) -> bool:
        """Every case that claims to notice it does, where it must, and what it spares passes."""
        return bool(self.rows) and all(row.good for row in self.rows)

    @property
    def undecided(self) -> bool:
        """It was not killed, and that is for want of evidence: of a report, or for some case."""
        lacking = (row for row in self.rows if not row.good and row.verdict not in (Verdict.PASS, Verdict.FAIL))
        return not self.killed and (bool(self.trouble) or any(lacking))


def main() -> int:
    said = _arguments()
    with tempfile.TemporaryDirectory(prefix="netproof-kill-") as folder:  # hundreds of processes: what one has compiled serves all
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = folder
        return _matrix(said)


def _matrix(said: argparse.Namespace) -> int:
    faults = chosen(said.fault) if said.fault else CATALOGUE
    cases = collected()
    free = sample(cases)
    began = time.monotonic()
    with ThreadPoolExecutor(said.labs) as pool:
        longest = sorted(faults, key=lambda fault: -len(turned(fault, cases)))  # first, or the others wait for it at the end
        runs = {fault.id: pool.submit(attempt, fault, cases, free[fault.id]) for fault in longest}
        found = []
        for fault in faults:
            found.append(runs[fault.id].result())
            print(line(found[-1]), flush=True)
    for place, result in enumerate(found):
        if result.undecided:  # a machine that several labs keep busy owes evidence: that fault once more, with the machine to itself
            found[place] = attempt(result.fault, cases, free[result.fault.id])
            print(f"alone: {line(found[place])}", flush=True)
    seconds = time.monotonic() - began
    missed = [result.fault.id for result in found if not result.killed]
    if said.update:
        found, seconds = _merged(found, seconds)
    whole = said.update or not said.fault
    alive = unkilled(found, cases) if whole else []
    if whole:
        write(found, alive, [case for case in cases if _TWIN not in case], seconds)
    print(
        f"{len(found) - len(missed)} of {len(found)} faults killed in {seconds:.0f} s" + (f"; not: {', '.join(missed)}" if missed else "")
    )
    unexplained = [case for case in alive if not explanation(case)]
    if unexplained:
        print(f"cases that no fault kills, and nobody explains: {', '.join(unexplained)}")
    return 1 if missed or unexplained else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="every fault of the lab against the cases that claim to notice it")
    parser.add_argument("--fault", action="append", metavar="ID", help="this fault only; may be given more than once")
    parser.add_argument("--update", action="store_true", help="put what --fault finds into the reports that are there")
    parser.add_argument("--labs", type=int, default=LABS, help=f"labs at once (default: {LABS})")
    return parser.parse_args()


def _merged(fresh: Sequence[Found], seconds: float) -> tuple[list[Found], float]:
    """All that the report holds, with these in the place of what it said of the same faults; and how long all of it took."""
    data = json.loads(REPORT.read_text())
    known = {one["id"]: one for one in data["faults"]}
    again = {one.fault.id: one for one in fresh}
    found = [again.get(fault.id) or _known(fault, known[fault.id]) for fault in CATALOGUE if fault.id in again or fault.id in known]
    return found, data["seconds"] + seconds


def _known(fault: Fault, told: Mapping[str, Any]) -> Found:
    rows = tuple(Row(fault.id, **row | {"wrong": tuple(row["wrong"]), "strangers": tuple(row["strangers"])}) for row in told["rows"])
    return Found(fault, rows, told["seconds"], told["trouble"])


def collected() -> dict[str, str]:
    """The suites' cases in both address families: id -> what pytest calls it."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "--netproof-family=both", "suites"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = [text for text in done.stdout.splitlines() if text.endswith("]") and "::" in text]
    return {text.partition("[")[2].rstrip("]"): text for text in lines}


def turned(fault: Fault, cases: Iterable[str]) -> dict[str, Turn]:
    """The cases that the fault must turn, each with what must become of it. IPv6 twins only where a turn names the family."""
    return {case: turn for turn in reversed(fault.turns) for case in cases if _meant(case, turn.cases)}


def _meant(case: str, pattern: str) -> bool:
    return fnmatch.fnmatch(case, pattern) and (_TWIN not in case or _TWIN in pattern)


def spared(fault: Fault, cases: Iterable[str]) -> list[str]:
    """The cases that must go on to pass."""
    must = turned(fault, cases)
    return [case for case in cases if case not in must and any(_meant(case, pattern) for pattern in fault.spares)]


def sample(cases: Iterable[str]) -> dict[str, list[str]]:
    """For each fault those of the cases that it spares which the faults before it have met the least, and few others can meet."""
    free = {fault.id: spared(fault, cases) for fault in CATALOGUE}
    offered = Counter(case for found in free.values() for case in found)
    met: Counter[str] = Counter()
    for id_, found in free.items():
        free[id_] = sorted(found, key=lambda case: (met[case], offered[case]))[:SPARES]
        met.update(free[id_])
    return free


def attempt(fault: Fault, cases: Mapping[str, str], free: Sequence[str]) -> Found:
    """Run a broken lab with the cases that the fault must turn, and with `free`, which must pass."""
    must = turned(fault, cases)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="netproof-kill-") as folder:
        said = _run(fault, [cases[case] for case in (*must, *free)], folder)
        report = Path(folder) / "report.json"
        seconds = time.monotonic() - began
        if not report.is_file():
            return Found(fault, (), seconds, said.strip().splitlines()[-1] if said.strip() else "no report")
        results = {result["case"]: result for result in json.loads(report.read_text())["results"]}
        rows = [_turned(fault, case, turn, results, Path(folder)) for case, turn in must.items()]
        rows += [_spared(fault, case, results) for case in free]
    return Found(fault, tuple(rows), seconds)


def _run(fault: Fault, nodes: Sequence[str], folder: str) -> str:
    options = ["--cluster=lab", f"--netproof-fault={fault.id}", f"--netproof-cap={CAP}", f"--netproof-report={folder}"]
    options += [f"--netproof-burst={fault.burst}"] if fault.burst else []
    options += ["--netproof-family=both"] if any(_TWIN in node for node in nodes) else []
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, *nodes]
    limit = LIMIT[0] + (LIMIT[1] + SOAK * (fault.burst or 0)) * len(nodes)
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=limit)
    except subprocess.TimeoutExpired:
        return f"not done in {limit:.0f} s"
    return done.stdout + done.stderr


def _turned(fault: Fault, case: str, turn: Turn, results: Mapping[str, dict[str, str]], folder: Path) -> Row:
    result = results.get(case, {})
    verdict, reason = result.get("verdict", "not run"), result.get("reason", "")
    if turn.sees:
        return Row(fault.id, case, "observe", verdict, reason, (), (), verdict == Verdict.OBSERVED and fnmatch.fnmatch(reason, turn.sees))
    wrong = _wrong(folder / result["evidence"]) if result.get("evidence") else ()
    strangers = tuple(flow for flow in wrong if not any(fnmatch.fnmatch(flow, pattern) for pattern in turn.cells))
    good = verdict == Verdict.FAIL and bool(wrong or not turn.cells) and not strangers
    return Row(fault.id, case, "fail", verdict, reason, wrong, strangers, good)


def _spared(fault: Fault, case: str, results: Mapping[str, dict[str, str]]) -> Row:
    result = results.get(case, {})
    verdict = result.get("verdict", "not run")
    return Row(fault.id, case, "pass", verdict, result.get("reason", ""), (), (), verdict == Verdict.PASS)


def _wrong(bundle: Path) -> tuple[str, ...]:
    """The flows that decided: those of failing judgements that are not as expected; where no single one is so, those that lost some."""
    judgements = [one for one in load_bundle(bundle).judgements if one.verdict is Verdict.FAIL]
    cells = [cell for one in judgements for cell in one.cells]
    decided = [cell for cell in cells if cell.verdict is Verdict.FAIL]
    lossy = [cell for cell in cells if cell.expected.decision is Decision.ALLOW and cell.connected < cell.attempts]
    return tuple(dict.fromkeys(str(cell.flow) for cell in decided or lossy))


def unkilled(found: Iterable[Found], cases: Iterable[str]) -> list[str]:
    """The cases that no fault has turned as it predicts; an IPv6 twin is the same test, and goes with its IPv4 one."""
    killed = {row.case for result in found for row in result.rows if row.must != "pass" and row.good}
    return [case for case in cases if case not in killed and _TWIN not in case]


def explanation(case: str) -> str:
    """Why no fault kills it; empty where nobody has said."""
    return next((why for pattern, why in UNKILLED.items() if fnmatch.fnmatch(case, pattern)), "")


def line(found: Found) -> str:
    """One fault in one line, with what went against the prediction."""
    bad = [f"{row.case}: {row.verdict}, must {row.must}" + _strange(row) for row in found.rows if not row.good]
    state = "killed" if found.killed else "NOT KILLED"
    return f"{found.fault.id:<6} {state:<10} {found.seconds:5.1f} s  {found.fault.breaks}" + "".join(
        f"\n         {text}" for text in bad or ([found.trouble] if found.trouble else [])
    )


def _strange(row: Row) -> str:
    if row.strangers:
        return f"; wrong too: {', '.join(row.strangers[:4])}"
    return f" ({row.reason[:160]})" if row.reason else ""


def write(found: Sequence[Found], alive: Sequence[str], cases: Sequence[str], seconds: float) -> None:
    """The two reports."""
    data = {
        "conformance": False,
        "cases": len(cases),
        "seconds": round(seconds),
        "faults": [
            {
                "id": one.fault.id,
                "breaks": one.fault.breaks,
                "seen": one.fault.seen,
                "killed": one.killed,
                "seconds": round(one.seconds, 1),
                "trouble": one.trouble,
                "rows": [{key: value for key, value in asdict(row).items() if key != "fault"} for row in one.rows],
            }
            for one in found
        ],
        "unkilled": {case: explanation(case) for case in alive},
    }
    REPORT.write_text(json.dumps(data, indent=1) + "\n")
    REPORT.with_suffix(".md").write_text(page(found, alive, cases, seconds))


def page(found: Sequence[Found], alive: Sequence[str], cases: Sequence[str], seconds: float) -> str:
    """For people."""
    killed = [one for one in found if one.killed]
    rows = []
    for one in found:
        by = [row.case for row in one.rows if row.must != "pass" and row.good]
        spared_ = sum(row.must == "pass" and row.good for row in one.rows)
        state = "killed" if one.killed else "**not killed**"
        rows.append(f"| [{one.fault.id}]({one.fault.seen}) | {one.fault.breaks} | {state} | {_shown(by)} | {spared_} | {one.seconds:.0f} |")
    missed = [line(one) for one in found if not one.killed]
    return "\n".join(
        [
            "# The kill matrix",
            "",
            "Made by `make kill-matrix`: every fault of the embedded lab against the cases that claim to notice it, and some that must not",
            "mind. A fault is killed only if each of those cases fails, in no other cells than predicted, while the spared ones pass.",
            "It says how good the suites are, and nothing of anybody's network.",
            "",
            f"{len(killed)} of {len(found)} faults killed; {len(cases) - len(alive)} of {len(cases)} cases kill one; "
            f"{seconds / 60:.1f} minutes.",
            "",
            "| fault | what it breaks | | cases that fail, in the predicted cells | spared | s |",
            "| --- | --- | --- | --- | --- | --- |",
            *rows,
            "",
            "## Faults that were not killed",
            "",
            *(["None."] if not missed else ["```", *missed, "```"]),
            "",
            "## Cases that no fault kills",
            "",
            *(["None."] if not alive else [f"- `{case}`: {explanation(case) or 'not explained'}" for case in alive]),
            "",
        ]
    )


def _shown(cases: Sequence[str]) -> str:
    shown = ", ".join(f"`{case}`" for case in cases[:4])
    return shown + (f" and {len(cases) - 4} more" if len(cases) > 4 else "")


if __name__ == "__main__":
    sys.exit(main())
