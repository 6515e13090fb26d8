"""Clients that send half a request, nothing, or too much, and clients that do not read."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from ffpdata.manifests.run_folder import RunFolder
from tests.review.conftest import TOKEN, Client, Server, serving


@pytest.fixture(scope="module")
def server(shared: RunFolder) -> Iterator[Server]:
    with serving(Path(shared.store.root)) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Client:
    return server.client()


def head(port: int, method: str = "POST", path: str = "/api/next", *lines: str) -> bytes:
    usual = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", f"Authorization: Bearer {TOKEN}", "X-Review: 1"]
    return "\r\n".join([*usual, "X-Reviewer: ann", *lines]).encode()


def sent(port: int, data: bytes) -> socket.socket:
    raw = socket.create_connection(("127.0.0.1", port), timeout=30)
    raw.sendall(data)
    return raw


def drip(raw: socket.socket, stop: threading.Event) -> None:
    """Send a byte now and then, as if more was to come."""
    while not stop.wait(0.5):
        try:
            raw.sendall(b"x")
        except OSError:
            return


def test_half_a_request_is_given_up(server: Server, client: Client) -> None:
    begin = head(server.port)
    halves = [b"", b"POST", begin, begin + b"\r\nX-A: ", begin + b"\r\nContent-Length: 60000\r\n\r\n{"]
    halves += [begin + b"\r\nTransfer-Encoding: chunked\r\n\r\n99\r\n{"]
    began, stop = time.monotonic(), threading.Event()
    connections = [sent(server.port, half) for half in halves]
    threads = [threading.Thread(target=drip, args=(raw, stop)) for raw in connections[3:]]
    for thread in threads:
        thread.start()
    assert client.get("/api/session").status == 200, "others are served meanwhile"
    for raw, half in zip(connections, halves, strict=True):
        with closing(raw):
            assert raw.recv(100).startswith(b"HTTP/1.1 408"), half
    stop.set()
    for thread in threads:
        thread.join()
    assert 9 < time.monotonic() - began < 20
    assert client.take(), "half a request did nothing"


def test_a_long_head_is_refused(server: Server, client: Client) -> None:
    for line in ("X-Long: " + "a" * 70_000, *(("X-A: b\r\n" * 9000).strip(),)):
        data = head(server.port, "GET", "/api/session", line)
        with closing(sent(server.port, data[:40_000])) as raw:
            assert raw.recv(100).startswith(b"HTTP/1.1 400")
    assert client.get("/api/session").status == 200


def test_connections_that_send_nothing_make_room_for_those_that_do(server: Server, client: Client) -> None:
    idle = [sent(server.port, b"GET") for _ in range(210)]
    try:
        for _ in range(3):
            assert client.get("/api/session").status == 200
        idle[0].settimeout(5)
        assert idle[0].recv(10) == b"", "the oldest ones were closed"
    except ConnectionResetError:
        pass
    finally:
        for raw in idle:
            raw.close()


def test_half_a_verdict_counts_as_none(server: Server, client: Client) -> None:
    pair = client.take()[0]
    body = f'{{"pair": "{pair["key"]}", "verdict": "accept"}}'.encode()
    lines = ("Content-Type: application/json", f"Content-Length: {len(body) + 5}")
    with closing(sent(server.port, head(server.port, "POST", "/api/verdicts", *lines) + b"\r\n\r\n" + body)) as raw:
        raw.shutdown(socket.SHUT_WR)
        time.sleep(0.3)
    assert "ann" not in client.get("/api/progress").json["reviewers"]


def test_a_request_that_comes_again_after_its_undo_does_not_count(server: Server, client: Client) -> None:
    pair = client.take()[0]
    given = {"pair": pair["key"], "verdict": "accept", "reasons": [], "seconds": 1.0}
    answers = [client.post("/api/verdicts", given | {"event": pair["event"]}).json]
    undo = {"pair": pair["key"], "verdict": "undo", "event": answers[0]["event"]}
    answers.append(client.post("/api/verdicts", undo).json)
    assert [answer["event"] for answer in answers] == [1, 2]
    for late in (given | {"event": 0}, given | {"event": 3}):
        assert client.post("/api/verdicts", late).status == 409
    assert "ann" not in client.get("/api/progress").json["reviewers"]
    assert next(each for each in client.take(8) if each["key"] == pair["key"])["event"] == 2
    assert client.post("/api/verdicts", given | {"event": 2}).json["event"] == 3


def test_no_head_and_no_body_makes_the_server_fail(server: Server, client: Client) -> None:
    """Malformed cookies, headers and bodies are refused: 400 to 499."""
    nobody, draw = server.client(None, None), random.Random(19)
    cookie = nobody.get(f"/?token={TOKEN}").headers["set-cookie"].partition("=")[0]
    for value in ("\u00e9.x", "=====.x", "a.\u00ff", "....", '"', "\\", "YQ==", "_" * 999, "\u00b2", "7b+9.x"):
        assert nobody.get("/api/session", Cookie=f"{cookie}={value}").status == 401, value
        assert nobody.get("/api/session", Cookie=value).status == 401, value
        assert nobody.get("/api/session", Authorization=value).status == 401, value
        assert nobody.get("/api/session", Host=value).status in (400, 401, 421), value
        assert client.get("/api/session", X_Reviewer=value).status in (200, 422), value
        assert client.post("/api/next", {}, Origin=value).status == 403, value
        assert client.post("/api/next", {}, Content_Type=value).status in (200, 422), value
    letters = "".join(map(chr, range(33, 256)))
    for _ in range(150):
        value = "".join(draw.choices(letters, k=draw.randint(0, 60)))
        assert nobody.get("/api/session", Cookie=f"{cookie}={value}").status == 401, value
    bodies = [b"[" * 60_000, b'{"a":' * 12_000, b'{"\\ud800": 1}', b'{"pair": "\\ud800", "verdict": "accept"}']
    bodies += [b'{"count": 1e999}', b'{"count": ' + b"9" * 5000 + b"}", b'{"reviewer": "\\ud800"}', b"\xff\xfe", b"NaN"]
    bodies += [b'{"pair": "x", "verdict": "accept", "seconds": %s}' % each for each in (b"NaN", b"1e999", b"9" * 400)]
    bodies += [b'{"pair": "x", "verdict": "accept", "event": %s}' % each for each in (b"-1", b"9" * 400, b"1.5")]
    for path in ("/api/next", "/api/verdicts", "/api/login", "/api/release"):
        for body in bodies:
            assert 400 <= client.post(path, body).status < 500, (path, body[:60])


@contextmanager
def running(answer: bytes, limits: pytest.MonkeyPatch) -> Iterator[int]:
    """A server in this process that sends one long answer."""
    import uvicorn

    from ffpdata.review import connections

    async def app(scope: object, receive: object, send: object) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})  # type: ignore[operator]
        for _ in range(400):
            await send({"type": "http.response.body", "body": answer, "more_body": True})  # type: ignore[operator]
        await send({"type": "http.response.body", "body": b""})  # type: ignore[operator]

    limits.setattr(connections, "STALL_SECONDS", 1.0)
    config = uvicorn.Config(app, http=connections.LimitedConnection, ws="none", lifespan="off", log_level="error")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        made = uvicorn.Server(config)
        thread = threading.Thread(target=lambda: asyncio.run(made.serve([listening])))
        thread.start()
        yield listening.getsockname()[1]
        made.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def test_a_client_that_does_not_read_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(b"x" * 100_000, monkeypatch) as port:
        slow, quick = (sent(port, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") for _ in range(2))
        with closing(slow), closing(quick):
            assert taken(quick) > 40_000_000
            time.sleep(2)
            assert taken(slow) < 40_000_000


def taken(raw: socket.socket) -> int:
    """Bytes that come until the connection ends."""
    count = 0
    while True:
        try:
            data = raw.recv(1 << 20)
        except ConnectionResetError:
            return count
        if not data:
            return count
        count += len(data)
