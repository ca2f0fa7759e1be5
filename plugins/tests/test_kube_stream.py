"""Streams into pods: data, ends and their reasons, time-outs that lose nothing."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakeapi import Certificates, Drop, FakeApi, Hang, Proxy, Status, WebSocket, kubeconfig
from netproof.kube.client import Api, ApiError, ApiUnavailable, Forbidden, NotFound, connect
from netproof.kube.stream import Channel, ChannelClosed, Completed, execute, forward, run
from netproof.kube.wait import Late

FORWARD, EXEC = "/api/v1/namespaces/x/pods/a/portforward", "/api/v1/namespaces/x/pods/a/exec"
PORT = (9600).to_bytes(2, "little")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    monkeypatch.setattr("netproof.kube.retry._backoff", lambda state: 0.02)
    with FakeApi().serve() as fake:
        yield fake


@pytest.fixture
def api(server: FakeApi, tmp_path: Path) -> Api:
    return Api(kubeconfig(tmp_path / "kubeconfig", server.url), None, patience=1.0)


@pytest.fixture
def forwarded(api: Api) -> Iterator[Callable[[], Channel]]:
    """Opens a port-forward, and closes it after the test."""
    with contextlib.ExitStack() as opened:
        yield lambda: opened.enter_context(contextlib.closing(forward(api, "x", "a", 9600)))


@pytest.fixture
def done() -> Iterator[threading.Event]:
    """Set at the end of the test: what keeps the far end open until then."""
    event = threading.Event()
    yield event
    event.set()


def until_done(event: threading.Event) -> None:
    event.wait(5)


def feed(channel: Channel, data: bytes) -> threading.Thread:
    """Writes in small pieces, in a thread of its own."""

    def write() -> None:
        for start in range(0, len(data), 1000):
            channel.send(data[start : start + 1000])

    thread = threading.Thread(target=write)
    thread.start()
    return thread


def greeted(talk: Callable[[WebSocket], None]) -> Callable[[WebSocket], None]:
    """A port-forward's far end, from its two first frames on."""

    def stream(ws: WebSocket) -> None:
        ws.send(b"\0" + PORT)
        ws.send(b"\1" + PORT)
        talk(ws)

    return stream


def echo(ws: WebSocket) -> None:
    while data := ws.receive():
        ws.send(data)


def received(channel: Channel, size: int, step: float = 1.0) -> bytes:
    data, end = b"", time.monotonic() + 20
    while len(data) < size and time.monotonic() < end:
        data += channel.receive(step)
    return data


def end(channel: Channel) -> str:
    with pytest.raises(ChannelClosed) as caught:
        channel.receive(3.0)
    assert isinstance(caught.value, ConnectionError)
    with pytest.raises(ChannelClosed, match=r"."):
        channel.send(b"x")
    return str(caught.value)


def test_forward_carries_bytes(forwarded: Callable[[], Channel], server: FakeApi) -> None:
    server.stream = greeted(echo)
    channel = forwarded()
    for data in (b"hello", bytes(range(256)) * 1000):
        channel.send(data)
        assert received(channel, len(data)) == data
    assert server.asked[0].query == {"ports": "9600"}
    assert server.asked[0].headers["Sec-WebSocket-Protocol"] == "v4.channel.k8s.io"


def test_nothing_comes(forwarded: Callable[[], Channel], server: FakeApi, done: threading.Event) -> None:
    server.stream = greeted(lambda ws: until_done(done))
    channel = forwarded()
    start = time.monotonic()
    assert channel.receive(0.2) == b""
    assert 0.2 <= time.monotonic() - start < 1
    assert channel.receive(0.0) == b""


def test_time_outs_in_the_middle_of_a_frame_lose_nothing(forwarded: Callable[[], Channel], server: FakeApi) -> None:
    message = b"0123456789" * 13  # a header with a length of its own

    def talk(ws: WebSocket) -> None:
        ws.dribble(b"\0" + PORT[:1], 0.002)
        ws.dribble(b"\0" + PORT[1:], 0.002)
        ws.send(b"\1" + PORT)
        ws.dribble(b"\0" + message, 0.002)
        ws.send(b"\0whole")
        ws.receive()

    server.stream = talk
    channel = forwarded()
    empty, data = 0, b""
    while len(data) < len(message) + 5:
        piece = channel.receive(0.001)
        empty += not piece
        data += piece
    assert data == message + b"whole"
    assert empty > 20


def test_one_reads_while_another_writes(forwarded: Callable[[], Channel], server: FakeApi) -> None:
    server.stream = greeted(echo)
    channel = forwarded()
    data = bytes(range(256)) * 2000
    writer = feed(channel, data)
    assert received(channel, len(data), 0.01) == data
    writer.join()


def test_calls_and_streams_over_tls_and_a_proxy_with_a_token(tmp_path: Path) -> None:
    if not shutil.which("openssl"):
        pytest.skip("no openssl")
    certificates = Certificates.make(tmp_path)
    with FakeApi(stream=greeted(echo)).serve(certificates.server()) as server, Proxy().serve() as proxy:
        cluster = {"certificate-authority": "ca.pem", "proxy-url": f"http://me:secret@127.0.0.1:{proxy.port}"}
        text = kubeconfig(tmp_path / "kubeconfig", server.url, cluster=cluster, user={"token": "t"})
        channel = forward(connect(text, None, patience=20.0), "x", "a", 9600)
        data = bytes(range(256)) * 2000
        writer = feed(channel, data)
        assert received(channel, len(data), 0.01) == data
        writer.join()
        channel.close()

    assert [request.headers["Authorization"] for request in server.asked] == ["Bearer t"] * 2
    assert [where for where, _ in proxy.seen] == [server.url.removeprefix("https://")] * 2
    assert all("Proxy-Authorization: Basic bWU6c2VjcmV0".lower() in ",".join(headers).lower() for _, headers in proxy.seen)


def test_a_closed_port(forwarded: Callable[[], Channel], server: FakeApi) -> None:
    server.stream = greeted(lambda ws: ws.send(b"\1connection\nrefused"))
    assert end(forwarded()) == "connection refused"


def test_a_closed_port_whose_stream_stays_open(
    forwarded: Callable[[], Channel], server: FakeApi, done: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netproof.kube.stream._LAST_WORDS", 0.2)

    def talk(ws: WebSocket) -> None:
        ws.send(b"\1connection refused")
        ws.send(b"\0last words")
        done.wait(5)

    server.stream = greeted(talk)
    channel = forwarded()
    assert channel.receive(1.0) == b"last words"
    assert channel.receive(0.05) == b""
    start = time.monotonic()
    assert end(channel) == "connection refused"
    assert time.monotonic() - start < 2


@pytest.mark.parametrize(
    ("talk", "reason"),
    [
        (lambda ws: ws.send(b"\x03\xe8bye", opcode=8), "the far end closed the stream"),
        (lambda ws: ws.send(b"\x03\xf3kaputt", opcode=8), "the far end closed the stream: 1011 kaputt"),
        (lambda ws: None, "the connection to the pod ended: Connection to remote host was lost."),
        (lambda ws: ws.raw(b"\x82\x05\0a"), "the connection to the pod ended: Connection to remote host was lost."),
        (lambda ws: ws.reset(), "the connection to the pod ended: "),
        (lambda ws: ws.raw(b"\xff\xff\xff\xff" * 40), "the connection to the pod ended: "),
    ],
    ids=["close", "close with a reason", "end", "end in a frame", "reset", "nonsense"],
)
def test_the_far_ends_end(forwarded: Callable[[], Channel], server: FakeApi, talk: Callable[[WebSocket], None], reason: str) -> None:
    server.stream = greeted(talk)
    channel = forwarded()
    assert end(channel).startswith(reason)
    assert end(channel).startswith(reason)


def test_pings_are_answered(forwarded: Callable[[], Channel], server: FakeApi) -> None:
    pongs = []

    def talk(ws: WebSocket) -> None:
        ws.send(b"now", opcode=9)
        pongs.append(ws.receive())
        ws.send(b"\0after")

    server.stream = greeted(talk)
    assert forwarded().receive(2.0) == b"after"
    assert pongs == [b"now"]


def test_close_wakes_the_reader(forwarded: Callable[[], Channel], server: FakeApi) -> None:
    server.stream = greeted(echo)
    channel = forwarded()
    threading.Timer(0.1, channel.close).start()
    start = time.monotonic()
    assert end(channel) == "closed at this end"
    assert time.monotonic() - start < 2
    channel.close()


def test_a_far_end_that_takes_nothing(api: Api, server: FakeApi, done: threading.Event) -> None:
    server.stream = greeted(lambda ws: until_done(done))
    api.patience = 0.5
    channel = forward(api, "x", "a", 9600)
    with pytest.raises(ChannelClosed, match=r"nothing was taken for 0\.5 s"):
        channel.send(bytes(50_000_000))


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Status(404, 'pods "a" not found', "NotFound"), NotFound),
        (Status(403, "cannot create resource pods/portforward", "Forbidden"), Forbidden),
        (Status(401, "Unauthorized", "Unauthorized"), Forbidden),
        (Status(500, "container not found", "InternalError"), ApiError),
        (Status(400, "bad"), ApiError),
    ],
)
def test_a_refused_handshake_has_its_real_status(api: Api, server: FakeApi, answer: Status, error: type[ApiError]) -> None:
    server.script(f"GET {FORWARD}", answer)
    with pytest.raises(error, match=answer.message) as caught:
        forward(api, "x", "a", 9600)
    assert caught.value.status == answer.code
    server.script(f"GET {EXEC}", answer)
    with pytest.raises(error, match=answer.message):
        execute(api, "x", "a", ["cat"])
    assert len(server.asked) == 2


def test_opening_outlasts_an_api_server_that_is_away(
    forwarded: Callable[[], Channel], server: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netproof.kube.retry.REQUEST", 0.2)
    server.stream = greeted(echo)
    server.script(f"GET {FORWARD}", Status(503), Drop(), Hang(0.4), Status(500, "error dialing backend: dial tcp 10.0.0.1:10250: refused"))
    channel = forwarded()
    channel.send(b"hello")
    assert channel.receive(2.0) == b"hello"


def test_a_command_is_not_started_twice(api: Api, server: FakeApi) -> None:
    server.script(f"GET {EXEC}", Drop())
    with pytest.raises(ApiUnavailable, match="the connection was made, but no answer came"):
        run(api, "x", "a", ["touch", "/tmp/once"])
    assert len(server.asked) == 1


def ended(code: int) -> bytes:
    """The frame in which the kubelet tells how a command ended."""
    failure = {"status": "Failure", "message": f"exit code {code}", "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]}}
    return b"\3" + json.dumps(failure if code else {"status": "Success"}).encode()


def test_execute(api: Api, server: FakeApi) -> None:
    def talk(ws: WebSocket) -> None:
        ws.send(b"\1")
        ws.send(b"\2some noise\n")
        ws.send(b"\1" + ws.receive()[1:].upper())
        ws.send(ended(3))
        time.sleep(0.1)
        ws.send(b"\1overtaken")

    server.stream = talk
    channel = execute(api, "x", "a", ["relay 1"], container="agent")
    channel.send(b"hello")
    assert received(channel, 14) == b"HELLOovertaken"
    assert end(channel) == "exit code 3: some noise"
    assert server.asked[0].query == {"command": "relay 1", "container": "agent", "stdin": "true", "stdout": "true", "stderr": "true"}
    assert server.asked[0].headers["Sec-WebSocket-Protocol"] == "v5.channel.k8s.io,v4.channel.k8s.io"


def finished(*frames: bytes) -> Callable[[WebSocket], None]:
    def stream(ws: WebSocket) -> None:
        for frame in frames:
            ws.send(frame)

    return stream


@pytest.mark.parametrize("code", [0, 7])
def test_run(api: Api, server: FakeApi, code: int) -> None:
    server.stream = finished(b"\1o", ended(code), b"\2err", b"\1ut")
    assert run(api, "x", "a", ["true"]) == Completed(code, "out", "err")
    assert "stdin" not in server.asked[0].query


def test_run_of_a_status_in_two_frames(api: Api, server: FakeApi) -> None:
    server.stream = finished(ended(7)[:20], b"\3" + ended(7)[20:])
    assert run(api, "x", "a", ["true"]).code == 7


def test_run_of_what_cannot_start(api: Api, server: FakeApi) -> None:
    server.stream = finished(b'\3{"status": "Failure", "message": "executable file not found"}')
    with pytest.raises(ChannelClosed, match="executable file not found"):
        run(api, "x", "a", ["nonsense"])


def test_run_whose_end_is_lost(api: Api, server: FakeApi) -> None:
    server.stream = finished(b"\1out")
    with pytest.raises(ChannelClosed, match="the connection to the pod ended"):
        run(api, "x", "a", ["true"])


def test_run_has_a_limit(api: Api, server: FakeApi, done: threading.Event) -> None:
    def talk(ws: WebSocket) -> None:
        ws.send(b"\1half of it")
        done.wait(5)

    server.stream = talk
    with pytest.raises(Late, match=r"the end of 'sleep 9' in x/a: not within 0\.3 s; last seen: half of it"):
        run(api, "x", "a", ["sleep", "9"], limit=0.3)
