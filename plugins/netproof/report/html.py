"""The report as one page that needs nothing else: no script, no font, no picture from anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from netproof.model.verdict import Verdict
from netproof.report.strip import strip
from netproof.report.terminal import convergence, incompleteness, labelled, meaning, tone
from netproof.report.text import plain, seconds
from netproof.report.timings import bars, timing_table, timings
from netproof.report.writers import write_text

Json = dict[str, Any]


def write_html(document: Mapping[str, Any], path: Path) -> None:
    """Write the page in one step. All text of the run is escaped, and its links are links only where they are http(s)."""
    write_text(page(document), path)


def page(document: Mapping[str, Any]) -> str:
    """The document as HTML."""
    style = resources.files("netproof.report").joinpath("page.css").read_text(encoding="utf-8")
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>Netproof: {_text(_title(document))}</title>\n<style>\n{style}</style>\n</head>\n<body>",
        _answer(document),
        *_notices(document),
        _section("Suites", _suites(document)),
        _section("What is broken, unreliable or unknown", "\n".join(_articles(document))),
        _section("Time to converge", _convergence(document)),
        _section("Time to enforce", _timings(document)),
        _section("What was tested", _header(document)),
        _results(document),
        f"<footer>Netproof {_text(document['netproof'])}, {_text(document['started'])} to {_text(document['finished'])}</footer>",
        "</body>\n</html>\n",
    ]
    return "\n".join(part for part in parts if part)


def _title(document: Mapping[str, Any]) -> str:
    """Cluster and CNI: `kind-netproof, cilium 1.18.3`."""
    header = document["header"]
    cni = header["implementation"].get("cni", {"name": "", "version": ""})
    return ", ".join(part for part in (header["cluster"], f"{cni['name']} {cni['version']}".strip()) if part) or "report"


def _answer(document: Mapping[str, Any]) -> str:
    words = meaning(document)
    counts = ", ".join(f"{number} {verdict}" for verdict, number in document["counts"].items() if number) or "no case ran"
    small = f"{counts} &middot; exit code {document['exit_code']}"
    headline = _text(words[:1].upper() + words[1:])
    return f'<h1>{_text(_title(document))}</h1>\n<p class="answer {tone(document)}">{headline}.<small>{small}</small></p>'


def _notices(document: Mapping[str, Any]) -> Iterator[str]:
    """What must not be overlooked, below the answer."""
    told = [("Mind", text) for label, text in labelled(document["header"]) if label == "mind"]
    if document["incomplete"]:
        told.append(("Incomplete", incompleteness(document["incomplete"])))
    for key, label in (("stale_deviations", "No longer true"), ("leftovers", "Left behind"), ("notes", "Note")):
        told += [(label, text) for text in document[key]]
    yield from (f'<p class="notice"><b>{label}:</b> {_text(text)}</p>' for label, text in told)


def _section(title: str, body: str) -> str:
    return f"<h2>{title}</h2>\n{body}" if body else ""


def _suites(document: Mapping[str, Any]) -> str:
    seen = [verdict.value for verdict in Verdict if document["counts"][verdict]]
    head = "".join(f'<th class="{verdict}">{verdict}</th>' for verdict in seen)
    lines = [*document["suites"].items(), ("total", document["counts"])]
    rows = "\n".join(f"<tr><td>{_text(suite)}</td>{_numbers(counts, seen)}</tr>" for suite, counts in lines)
    return f'<div class="scroll"><table class="figures">\n<tr><th>suite</th>{head}<th>cases</th></tr>\n{rows}\n</table></div>'


def _numbers(counts: Mapping[str, int], verdicts: Sequence[str]) -> str:
    cells = (f'<td class="{verdict if counts[verdict] else "none"}">{counts[verdict] or "&ndash;"}</td>' for verdict in verdicts)
    return "".join(cells) + f"<td>{sum(counts.values())}</td>"


def _articles(document: Mapping[str, Any]) -> Iterator[str]:
    """The failing results, the worst first."""
    failing = [run for run in [*document["results"], *document["further"]] if Verdict(run["verdict"]).failing]
    for run in sorted(failing, key=lambda run: -Verdict(run["verdict"]).rank):
        yield _article(run, document["behaviours"].get(run["behaviour"], {}))


def _article(run: Json, behaviour: Mapping[str, str]) -> str:
    source = f"{_text(behaviour.get('level', ''))}: {_link(behaviour['url'])}" if behaviour.get("url") else ""
    lines = [
        _text(behaviour.get("sentence", "")),
        f'<span class="dim">{source}</span>' if source else "",
        f"<b>{_text(run['reason'])}</b>" if run["reason"] else "",
        f"Left behind by <code>{_text(run['caused_by'])}</code>" if run.get("caused_by") else "",
        _text(run.get("excludes", "")),
        f"Evidence: {_evidence(run)}" if run.get("evidence") else "",
    ]
    shown = "".join(f"<pre>{_text(run[key])}</pre>" for key in ("counterexample", "matrix") if run.get(key))
    title = f"<h3>{_word(run['verdict'])} <code>{_text(run['case'])}</code></h3>"
    return f"<article>{title}{''.join(f'<p>{line}</p>' for line in lines if line)}{shown}</article>"


def _convergence(document: Mapping[str, Any]) -> str:
    """Every case that converged as a dot on one line of time, with the percentiles."""
    if not document["converged"]:
        return ""
    points = [(run["converged"], run["case"]) for run in document["results"] if run["converged"] is not None]
    figures = {name: document["converged"][name] for name in ("p50", "p90", "max")}
    return f'<p class="dim">{_text(convergence(document))}</p>\n{strip(points, figures)}'


def _timings(document: Mapping[str, Any]) -> str:
    """What was timed, as bars and as figures."""
    found = timings(document)
    if not found:
        return ""
    told = "Nothing of this is promised. Dark: half of the flows had followed the change for good; lighter: nine in ten; lightest: all."
    return f'<p class="dim">{told}</p>\n{bars(found)}\n{timing_table(found)}'


def _header(document: Mapping[str, Any]) -> str:
    entries = [entry for entry in labelled(document["header"]) if entry[0] != "mind"]
    entries += [("command", document["header"]["command"])] if document["header"]["command"] else []
    return "<dl>\n" + "\n".join(f"<dt>{_text(label)}</dt><dd>{_text(text)}</dd>" for label, text in entries) + "\n</dl>" if entries else ""


def _results(document: Mapping[str, Any]) -> str:
    tables = [("All results", document["results"]), ("Earlier runs of cases that ran again", document["superseded"])]
    return "\n".join(f"<h2>{title}</h2>\n{_table(runs)}" for title, runs in tables if runs)


def _table(runs: Iterable[Json]) -> str:
    """The results by suite, each suite to be unfolded."""
    suites: dict[str, list[Json]] = {}
    for run in runs:
        suites.setdefault(run["suite"], []).append(run)
    head = '<tr><th>verdict</th><th>case</th><th class="number">converged</th><th class="number">took</th><th>reason</th></tr>'
    return "\n".join(
        f'<details><summary>{_text(suite)} <span class="dim">{len(own)}</span></summary>\n'
        f'<div class="scroll"><table class="results">\n{head}\n' + "\n".join(map(_row, own)) + "\n</table></div></details>"
        for suite, own in suites.items()
    )


def _row(run: Json) -> str:
    converged = "&ndash;" if run["converged"] is None else seconds(run["converged"])
    more = [run["reason"], run.get("coverage", ""), " ".join(f"{name} {value:g}" for name, value in run.get("figures", {}).items())]
    told = "; ".join(_text(text) for text in more if text)
    links = [_link(run["deviation"])] if run.get("deviation") else []
    links += [_evidence(run)] if run.get("evidence") else []
    return (
        f"<tr><td>{_word(run['verdict'])}</td><td><code>{_text(run['case'])}</code></td>"
        f'<td class="number">{converged}</td><td class="number">{seconds(run["seconds"])}</td><td>{" ".join([told, *links])}</td></tr>'
    )


def _word(verdict: str) -> str:
    return f'<span class="word {_text(verdict)}">{_text(verdict)}</span>'


def _evidence(run: Json) -> str:
    """A link into the report's own folder; an absolute path or a scheme is shown, not linked."""
    place = run["evidence"]
    inside = not place.startswith("/") and ":" not in place and ".." not in place.split("/")
    return f'<a href="{_text(place)}/README.txt">{_text(place)}</a>' if inside else f"<code>{_text(place)}</code>"


def _link(url: str) -> str:
    return f'<a href="{_text(url)}">{_text(url)}</a>' if url.startswith(("https://", "http://")) else _text(url)


def _text(text: str) -> str:
    return escape(plain(text))
