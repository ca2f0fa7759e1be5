from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from netproof.model.behaviour import Behaviour, Level
from netproof.model.event import CaseFinished, Event, RunFinished, RunStarted, as_json
from netproof.model.timing import Timing
from netproof.model.verdict import Verdict
from netproof.report.document import document
from netproof.report.html import page, write_html
from netproof.report.strip import strip

_VOID = {"meta"}


class _Page(HTMLParser):
    """Keeps elements, attributes and text, and whether every element is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open += [] if tag in _VOID else [tag]
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def _end(case: str, verdict: Verdict = Verdict.PASS, **more: Any) -> CaseFinished:
    values: dict[str, Any] = {"suite": "policy", "reason": f"because {verdict}", "seconds": 1.5} | more
    return CaseFinished(103.0, case, case.split("/")[0], node_id="n", worker="gw0", verdict=verdict, **values)


def _html(*cases: CaseFinished, end: RunFinished | None = None, url: str = "https://k8s.io/policy", **header: Any) -> str:
    events: list[Event] = [RunStarted(100.0, {"cluster": "prod", "provider": "context"} | header), *cases, end or RunFinished(110.0, 0)]
    known = {"NPI-02a": Behaviour("NPI-02a", "Nothing reaches a selected pod.", url, Level.MUST)}
    return page(document((as_json(event) for event in events), behaviours=known))


def test_every_element_is_closed() -> None:
    read = _Page(_html(_end("NPI-02a/tcp", Verdict.FAIL, converged=0.4, matrix="x", evidence="evidence/x"), _end("POD-01")))

    assert read.open == []
    assert read.tags.count("article") == 1


def test_a_failing_result_shows_promise_reason_matrix_and_evidence() -> None:
    read = _Page(
        _html(_end("NPI-02a/tcp", Verdict.FAIL, matrix="x/a  .!", evidence="evidence/NPI-02a__tcp"), _end("POD-01", reason="fine"))
    )
    article = read.text[read.text.index("What is broken") : read.text.index("What was tested")]

    for words in ("fail NPI-02a/tcp", "Nothing reaches a selected pod.", "because fail", "x/a  .!", "evidence/NPI-02a__tcp"):
        assert words in article
    assert "fine" not in article
    assert read.links.count("https://k8s.io/policy") == 1
    assert "evidence/NPI-02a__tcp/README.txt" in read.links


def test_the_worst_stands_first() -> None:
    text = _Page(_html(_end("NPI-01", Verdict.FLAKY), _end("NPI-03", Verdict.FAIL, caused_by="NPI-01"), _end("NPI-02", Verdict.ERROR))).text

    assert text.index("fail NPI-03") < text.index("error NPI-02") < text.index("flaky NPI-01")


def test_the_answer_is_a_sentence_and_a_colour() -> None:
    assert '<p class="answer pass">All promised behaviours that were tested hold.<small>1 pass' in _html(_end("POD-01"))
    assert '<p class="answer fail">At least one promise is broken.<small>1 fail' in _html(_end("POD-01", Verdict.FAIL))
    assert '<p class="answer flaky">' in _html(_end("POD-01", Verdict.SLOW))


def test_a_run_that_judged_nothing_is_not_green() -> None:
    assert '<p class="answer inconclusive">Nothing that is promised was judged.' in _html(_end("POD-01", Verdict.UNSUPPORTED))


def test_what_must_not_be_overlooked_is_near_the_top() -> None:
    end = RunFinished(110.0, 2, "interrupted by SIGTERM", ("namespace n",), ("NPI-05 holds by now",), ("slow disk",))
    text = _Page(_html(_end("POD-01"), end=end, testbed=True)).text
    top = text[: text.index("Suites")]

    for words in ("built from source", "interrupted by SIGTERM", "namespace n", "NPI-05 holds by now", "slow disk"):
        assert words in top


def test_the_table_has_only_verdicts_that_occur() -> None:
    html = _html(_end("POD-01", suite="pod_ip"), _end("NPI-01", Verdict.FAIL))

    assert '<tr><th>suite</th><th class="pass">pass</th><th class="fail">fail</th><th>cases</th></tr>' in html
    assert '<tr><td>pod_ip</td><td class="pass">1</td><td class="none">&ndash;</td><td>1</td></tr>' in html
    assert '<tr><td>total</td><td class="pass">1</td><td class="fail">1</td><td>2</td></tr>' in html


def test_the_page_is_named_after_cluster_and_cni() -> None:
    cni = {"cni": {"name": "cilium", "version": "1.18.3"}}

    assert "<title>Netproof: prod, cilium 1.18.3</title>" in _html(implementation=cni)
    assert "<title>Netproof: prod</title>" in _html()
    assert "<title>Netproof: report</title>" in _html(cluster="")


def test_what_was_tested_is_listed_once() -> None:
    html = _html(_end("POD-01"), command="pytest --cluster=prod", families=["IPv4"], testbed=True)

    assert "<dt>command</dt><dd>pytest --cluster=prod</dd>" in html
    assert "<dt>families</dt><dd>IPv4</dd>" in html
    assert "<dt>mind</dt>" not in html
    assert "<dt>command</dt>" not in _html(_end("POD-01"))


def test_everything_of_the_run_is_escaped() -> None:
    evil = "<script>alert(1)</script><img src=x onerror=y>\"'&\x1b[31m\x00"
    figures = {evil: 1.0}
    fields = {
        "reason": evil,
        "matrix": evil,
        "counterexample": evil,
        "evidence": evil,
        "deviation": evil,
        "coverage": evil,
        "excludes": evil,
        "suite": evil,
    }
    cases = [
        _end(f"NPI-02a/{evil}", Verdict.FAIL, converged=0.5, figures=figures, **fields),
        _end(evil, Verdict.FAIL, caused_by=evil),
    ]
    clean = _html(
        _end("NPI-02a", Verdict.FAIL, converged=0.5, matrix="m", counterexample="c", figures={"x": 1.0}),
        _end("NPI-01", Verdict.FAIL, caused_by="y"),
    )
    end = RunFinished(110.0, 1, evil, (evil,), (evil,), (evil,))
    html = _html(*cases, end=end, url=evil, cluster=evil, unsupported={evil: evil}, command=evil)

    assert "script" not in _Page(html).tags
    assert "img" not in _Page(html).tags
    assert set(_Page(html).tags) <= set(_Page(clean).tags)
    assert "\x1b" not in html
    assert "\x00" not in html


def test_the_smallest_counterexample_stands_before_the_matrix() -> None:
    read = _Page(_html(_end("NPG-01/s1-1", Verdict.FAIL, matrix="all that was seen", counterexample="the smallest")))

    assert 0 < read.text.index("the smallest") < read.text.index("all that was seen")


@pytest.mark.parametrize("url", ["javascript:alert(1)", "//evil.example", "data:text/html,x"])
def test_only_web_addresses_become_links(url: str) -> None:
    read = _Page(_html(_end("NPI-02a", Verdict.FAIL, deviation=url, evidence=url), url=url))

    assert read.links == []
    assert url in read.text


@pytest.mark.parametrize("place", ["/etc", "../../x", "evidence/../../x"])
def test_evidence_outside_the_report_is_no_link(place: str) -> None:
    assert _Page(_html(_end("POD-01", Verdict.FAIL, evidence=place))).links == []


def test_the_page_needs_nothing_else() -> None:
    html = _html(_end("NPI-02a", Verdict.FAIL, converged=0.5))

    assert not re.search(r"@import|url\(|<link|<script|<img|src=", html)
    assert "prefers-color-scheme: dark" in html


def test_the_page_is_written(tmp_path: Path) -> None:
    events = [as_json(RunStarted(1.0, {"cluster": "prod"})), as_json(_end("POD-01", reason="é"))]
    write_html(document(events), tmp_path / "report.html")

    assert "é" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_each_case_is_a_dot_at_its_time() -> None:
    svg = strip([(0.0, "a"), (2.0, "b"), (2.0, "c"), (0.5, "<d>")], {"p50": 0.5})
    dots = re.findall(r'cx="([\d.]+)" cy="(\d+)" r="4"><title>(.*?)</title>', svg)

    assert dots == [
        ("40.0", "80", "a: 0.00 s"),
        ("260.0", "80", "&lt;d&gt;: 0.50 s"),
        ("920.0", "80", "b: 2.00 s"),
        ("920.0", "71", "c: 2.00 s"),
    ]
    assert ">p50 0.50 s</text>" in svg
    assert ">2 s</text>" in svg


def test_the_axis_ends_at_a_round_time() -> None:
    ends = {0.004: "0.01 s", 0.7: "1 s", 1.01: "2 s", 3.0: "5 s", 6.0: "10 s", 119.0: "200 s"}

    for value, end in ends.items():
        labels = re.findall(r'<text x="([\d.]+)" y="112" text-anchor="middle">(.*?)</text>', strip([(value, "a")], {}))
        assert (labels[0], labels[-1], len(labels)) == (("40.0", "0 s"), ("920.0", end), 5)


def test_a_figure_is_named_beside_its_line_and_inside_the_picture() -> None:
    svg = strip([(2.0, "a")], {"p50": 0.5, "max": 2.0})

    assert '<line class="mark" x1="260.0" y1="3" x2="260.0" y2="92"/><text x="265.0" y="12" text-anchor="start">p50 0.50 s</text>' in svg
    assert '<line class="mark" x1="920.0" y1="15" x2="920.0" y2="92"/><text x="915.0" y="24" text-anchor="end">max 2.00 s</text>' in svg


@pytest.mark.parametrize("value", [0.0, 0.004, 0.7, 1.0, 1.01, 9.99, 119.0, 1e5])
def test_every_time_has_its_place_on_the_axis(value: float) -> None:
    assert all(40 <= float(x) <= 920 for x in re.findall(r'cx="([\d.]+)"', strip([(value, "a")], {"max": value})))


def test_what_was_timed_is_a_bar_and_a_row() -> None:
    evil = "<b>policy</b> created"
    timing = Timing(evil, "closes", "<i>", 2, (0.2, 0.4), (0.1, 0.3), (0.2, 0.5), 40, 1)
    html = _html(_end("NPC-09a", Verdict.OBSERVED, timings=(timing,)))
    read = _Page(html)

    assert read.open == []
    assert "<b>policy" not in html
    assert "<i>" not in html
    bars = re.findall(r'<rect class="(\w+)" x="250\.0" y="6" width="([\d.]+)"', html)
    assert bars == [("max", "650.0"), ("p90", "650.0"), ("p50", "260.0")]  # the longest below the others
    assert ": p50 0.20 s, p90 0.50 s, max 0.50 s</title>" in html
    row = "".join(f"<td>{text}</td>" for text in ["0.20", "0.40", "0.40", "0.20", "0.50", "0.50", "0.10", "0.30", "0.30", "2", "1/40"])
    assert row in html


def test_a_run_that_timed_nothing_has_no_bars() -> None:
    assert "Time to enforce" not in _html(_end("POD-01", converged=1.0))


def test_a_run_without_convergence_has_no_plot() -> None:
    assert "<svg" not in _html(_end("POD-01"))
    assert "<svg" in _html(_end("POD-01", converged=1.0))
