"""The plugin in other people's runs, and in runs that must not begin: through pytest, without a cluster."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from textwrap import dedent

import netproof.cluster.kind
import netproof.cluster.lab
import netproof.run.controller  # noqa: F401
import pytest

ROOT = Path(__file__).resolve().parents[2]

CASE = """
    import pytest
    from netproof.cases import TCP, UDP, behaviour

    @pytest.fixture
    def case(request):
        raise AssertionError("a case ran")

    @behaviour("NPI-02a", protocol=[TCP, UDP], via=["pod-ip"])
    def test_case(case): ...
"""


@pytest.fixture
def pytester(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """An empty project in which the plugin is there, and no kubeconfig, site file or variable of this machine."""
    for name in ("KUBECONFIG", "NETPROOF_CNI", "NETPROOF_PROBE_IMAGE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "plugins"))
    monkeypatch.setenv("XDG_STATE_HOME", str(pytester.path / "state"))
    pytester.makeini("[pytest]\nstrict = true\naddopts = -p netproof.plugin -p no:hypothesispytest\n")
    return pytester


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess(*arguments, timeout=60)


def run_here(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """In this process, which has imported all: enough where a run is refused before it has begun, and quicker."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        return pytester.runpytest_inprocess(*arguments)
    finally:
        signal.signal(signal.SIGTERM, before)  # the runner's own


def everything_said(result: pytest.RunResult) -> str:
    return "\n".join([*result.outlines, *result.errlines])


def test_other_peoples_tests_are_left_alone(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_one(): pass\ndef test_two(): assert False")
    result = run(pytester, "--strict-markers")
    result.assert_outcomes(passed=1, failed=1)
    assert result.ret == 1
    said = [line for line in everything_said(result).splitlines() if not line.startswith("plugins: ")]  # pytest's own list of them
    assert not [line for line in said if "netproof" in line.replace("netproof.plugin", "").replace("test_netproof", "")]
    assert not (pytester.path / "netproof-report").exists()


@pytest.mark.parametrize("parallel", [[], ["-n", "2"]], ids=["alone", "xdist"])
def test_a_case_without_a_cluster_ends_the_run(pytester: pytest.Pytester, parallel: list[str]) -> None:
    pytester.makepyfile(CASE)
    result = run(pytester, *parallel)
    assert result.ret == 4
    assert "pytest --cluster=kind --cni=cilium -n 4" in everything_said(result)
    assert "a case ran" not in everything_said(result)
    assert "INTERNALERROR" not in everything_said(result)


def test_ids_are_the_behaviour_and_its_axes(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(CASE)
    result = run(pytester, "--collect-only", "-q")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*::test_case[[]NPI-02a/tcp/ipv4/pod-ip[]]", "*::test_case[[]NPI-02a/udp/ipv4/pod-ip[]]"])


TIMED = """
    import pytest
    from netproof.cases import TCP, behaviour

    @pytest.mark.timing
    @behaviour("NPC-09a", protocol=[TCP])
    def test_timed(case): ...

    @behaviour("NPI-02a", protocol=[TCP])
    def test_other(case): ...

    @pytest.fixture
    def case(request): ...
"""


@pytest.fixture
def timed(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project with a suite that measures latencies."""
    folder = pytester.mkpydir("suites") / "time"
    folder.mkdir()
    (folder / "test_one.py").write_text(dedent(TIMED))
    return pytester


@pytest.mark.parametrize(
    "arguments",
    [["suites/time"], ["suites/time/test_one.py::test_timed"], ["-m", "timing"], ["-k", "NPI-02a or npc-09"]],
    ids=" ".join,
)
def test_latencies_are_measured_where_they_are_named(timed: pytest.Pytester, arguments: list[str]) -> None:
    assert "test_timed[" in everything_said(run(timed, "--collect-only", "-q", *arguments))


@pytest.mark.parametrize("arguments", [["suites"], ["-k", "tcp and not NPI-01"]], ids=" ".join)
def test_latencies_are_measured_nowhere_else(timed: pytest.Pytester, arguments: list[str]) -> None:
    said = everything_said(run(timed, "--collect-only", "-q", *arguments))
    assert "test_other[" in said
    assert "test_timed[" not in said
    assert "1 deselected" in said


DRAWN = """
    from netproof.cases import behaviour

    @behaviour("NPG-01", via=["pod-ip"], drawn=True)
    def test_drawn(case): ...

    class TestDrawn:
        @behaviour("NPI-02a", via=["pod-ip"], drawn=True)
        def test_more(self, case): ...

    def test_other(): ...
"""


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        ([], []),
        (["--netproof-policies=0"], []),
        (["--netproof-policies=2"], ["s1-1", "s1-2"]),
        (["--netproof-policies=2", "--netproof-seed=20260714"], ["s20260714-1", "s20260714-2"]),
        (["--netproof-policies=12", "-k", "s1-1/"], ["s1-1"]),
        (["--netproof-policies=12", "-k", "NPG-01/s1-2/ipv4/pod-ip"], ["s1-2"]),
    ],
)
def test_sets_of_policies_are_cases_where_they_are_asked_for(pytester: pytest.Pytester, arguments: list[str], ids: list[str]) -> None:
    pytester.makepyfile(DRAWN)
    result = run(pytester, "--collect-only", "-q", *arguments)
    found = [line for line in result.outlines if "::test_drawn[" in line]
    assert [line.partition("::")[2] for line in found] == [f"test_drawn[NPG-01/{name}/ipv4/pod-ip]" for name in ids]
    assert ("::test_other" in everything_said(result)) == ("-k" not in arguments)
    assert "NOTSET" not in everything_said(result)


@pytest.mark.parametrize(
    ("said", "families"), [([], ["ipv4"]), (["--netproof-family=ipv6"], ["ipv6"]), (["--netproof-family=both"], ["ipv4", "ipv6"])]
)
def test_a_case_is_one_for_each_family_that_was_asked_for(pytester: pytest.Pytester, said: list[str], families: list[str]) -> None:
    pytester.makepyfile(CASE.replace("[TCP, UDP]", "[TCP]"))
    result = run(pytester, "--collect-only", "-q", *said)
    assert result.ret == 0
    found = [line.partition("[")[2].rstrip("]") for line in result.outlines if "::test_case[" in line]
    assert found == [f"NPI-02a/tcp/{family}/pod-ip" for family in families]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("via=", 'draw=["s1-1"], via=', "unknown axes draw; the axes are protocol, family, via"),
        ('"NPI-02a"', '"NPI-99"', "behaviour NPI-99 stands not in suites/behaviours.toml"),
        ("via=", "wia=", "unknown axes wia; the axes are protocol, family, via, direction, order"),
    ],
)
def test_a_wrong_mark_is_a_usage_error(pytester: pytest.Pytester, old: str, new: str, said: str) -> None:
    pytester.makepyfile(CASE.replace(old, new))
    result = run(pytester, "--collect-only")
    assert result.ret != 0
    assert said in everything_said(result)


KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:9"}}],
    "users": [{"name": "u", "user": {"token": "t"}}],
    "contexts": [{"name": "prod", "context": {"cluster": "c", "user": "u"}}],
}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--cluster=lab", "--cni=cilium"], "--cni is for real clusters: the lab has its own network, and no images"),
        (["--cluster=lab", "--keep-cluster"], "a lab ends with the run that started it"),
        (["--cluster=lab", "--netproof-fault=N0"], "--netproof-fault: there is no fault N0; there are P6, "),
        (["--cluster=kind", "--cni=cilium", "--netproof-fault=N1"], "--netproof-fault breaks the embedded lab, and nothing else"),
        (["--cluster=staging"], "has no context 'staging': it has prod"),
        (["--cluster=prod"], "127.0.0.1:9"),
        (["--cluster=prod", "--netproof-kubeconfig=nowhere"], "nowhere: no such file"),
        (["--cluster=prod", "--netproof-kubeconfig=torn"], "torn"),
        (["--cluster=kind", "--cni=nosuch"], "no cni entry is called 'nosuch': there are cilium, flannel"),
        (["--cluster=kind", "--cni=./broken/"], "is no TOML"),
        (["--cluster=kind", "--cni=cilium", "--loadbalancer=nosuch"], "'nosuch'"),
        (["--cluster=kind", "--cni=cilium", "--netproof-claim=Magic"], "'Magic' is no feature that can be claimed"),
        (["--cluster=kind", "--cni=cilium", "--netproof-manifest=cilium"], "--netproof-manifest wants NAME=VALUE, not 'cilium'"),
        (["--cluster=kind", "--cni=cilium", "--netproof-cap=soon"], "--netproof-cap wants a number of 0 or more, not 'soon'"),
        (["--cluster=kind", "--cni=cilium", "--netproof-burst=-1"], "--netproof-burst wants a number of 0 or more, not '-1'"),
        (["--cluster=kind", "--cni=cilium", "--netproof-repeat=often"], "--netproof-repeat wants a number of 0 or more, not 'often'"),
        (["--cluster=lab", "--netproof-policies=x"], "--netproof-policies wants a whole number from 0 to 100000, not 'x'"),
        (["--cluster=lab", "--netproof-policies=-1"], "--netproof-policies wants a whole number from 0 to 100000, not '-1'"),
        (["--cluster=lab", "--netproof-policies=3", "--netproof-seed=1.5"], "--netproof-seed wants a whole number from 0 to"),
        (["--cluster=kind", "--cni=cilium", "--netproof-family=ipv5"], "--netproof-family wants one of ipv4, ipv6, both, not 'ipv5'"),
        (["--cluster=kind", "--cni=cilium", "--netproof-report=file/below"], "the folder cannot be written"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_input_is_one_sentence(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str) -> None:
    pytester.makepyfile(CASE)
    (pytester.path / "file").write_text("")
    (pytester.path / "torn").write_text("apiVersion: [")
    (pytester.path / "broken").mkdir()
    (pytester.path / "broken" / "cni.toml").write_text("name = [")
    (pytester.path / "kubeconfig").write_text(json.dumps(KUBECONFIG))
    monkeypatch.setenv("KUBECONFIG", str(pytester.path / "kubeconfig"))
    result = run_here(pytester, *arguments)
    assert result.ret == 4
    told = everything_said(result)
    assert said in told
    assert told.count("ERROR: ") == 1
    assert "Traceback" not in told
    assert not list((pytester.path / "state").rglob("*.json")), "the run is still registered"
    assert not list(pytester.path.glob("netproof-report/*")), "a report of a run that never began"


def test_a_wrong_number_in_the_environment_is_told_before_anything_is_collected(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(CASE)
    monkeypatch.setenv("NETPROOF_POLICIES", "many")
    result = run_here(pytester, "--cluster=lab")
    assert result.ret == 4
    assert "ERROR: --netproof-policies wants a whole number from 0 to 100000, not 'many'" in everything_said(result)


def test_no_docker_engine_is_one_sentence(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pytester.makepyfile(CASE)
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere")
    result = run_here(pytester, "--cluster=kind", "--cni=cilium")
    assert result.ret == 4
    assert "ERROR: kind needs a Docker engine" in everything_said(result)


def test_a_site_file_with_an_unknown_key_is_one_sentence(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(CASE)
    (pytester.path / "netproof.toml").write_text('probe_image = "python"\n')
    result = run_here(pytester, "--cluster=kind", "--cni=cilium")
    assert result.ret == 4
    assert "unknown keys probe_image" in everything_said(result)
