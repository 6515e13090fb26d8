"""An S3 server on this machine, and a proxy before it that answers as a busy or broken store does."""

from __future__ import annotations

import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

FAULTS = ("500", "503", "slow", "reset", "lost", "cut")
"""`lost`: the request is carried out and its answer never arrives. `cut`: the answer ends in the middle."""
SECRET = "correct-horse-battery-staple"
_ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>{}</Message><RequestId>1</RequestId></Error>"


class FlakyProxy:
    """Passes requests on to an S3 server and spoils a share of them.

    Attributes:
        rate: share of the requests that get a fault.
        faults: kinds that are drawn from.
        down: refuse everything with 503.
        requests: how many came, per method; `faulty` of them were spoiled.
    """

    def __init__(self, target: tuple[str, int], seed: int = 1) -> None:
        self.rate, self.faults, self.down, self.only = 0.0, FAULTS, False, ""
        self.slow_seconds = 0.3
        self.requests: Counter[str] = Counter()
        self.faulty: Counter[str] = Counter()
        self._draw, self._lock, self._target = random.Random(seed), threading.Lock(), target
        handler = type("Handler", (_Handler,), {"proxy": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def fault(self, method: str, path: str) -> str:
        """Draw what happens to a request."""
        with self._lock:
            self.requests[method] += 1
            if self.down:
                return "503"
            if self.only not in path or self._draw.random() >= self.rate:
                return ""
            kind = self._draw.choice(self.faults)
            self.faulty[kind] += 1
            return kind

    def forward(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, Any, bytes]:
        """Ask the real server."""
        connection = http.client.HTTPConnection(*self._target, timeout=30)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def close(self) -> None:
        """Stop listening."""
        self.server.shutdown()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FlakyProxy

    def _serve(self) -> None:
        body = self._body()
        fault = self.proxy.fault(self.command, self.path)
        if fault == "slow":
            time.sleep(self.proxy.slow_seconds)
        if fault == "reset":
            self._reset()
            return
        if fault in ("500", "503"):
            code, text = (
                ("InternalError", "We encountered an internal error. Please try again.")
                if fault == "500"
                else ("SlowDown", "Please reduce your request rate.")
            )
            self._answer(int(fault), {"Content-Type": "application/xml"}, _ERROR.format(code, text).encode())
            return
        passed = {k: v for k, v in self.headers.items() if k.lower() not in ("expect", "transfer-encoding")}
        passed["Content-Length"] = str(len(body))
        status, headers, data = self.proxy.forward(self.command, self.path, passed, body)
        if fault == "lost" or (fault == "cut" and len(data) < 2):
            self._reset()
            return
        kept = {k: v for k, v in headers.items() if k.lower() not in ("transfer-encoding", "connection", "keep-alive")}
        self._answer(status, kept, data, cut=fault == "cut")

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _serve  # noqa: N815 - names that http.server calls

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, status: int, headers: dict[str, str], data: bytes, *, cut: bool = False) -> None:
        length = headers.get("Content-Length") if self.command == "HEAD" else None
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() != "content-length":
                self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", length or str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self.wfile.flush()
            self._reset()

    def _reset(self) -> None:
        """Close the connection as a crashed peer does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def finish(self) -> None:
        with suppress(OSError, ValueError):
            super().finish()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def s3_proxy(monkeypatch: pytest.MonkeyPatch, bucket: str = "bucket") -> Iterator[FlakyProxy]:
    """An S3 server with one bucket behind a proxy; the environment points to the proxy."""
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    proxy = FlakyProxy(server.get_host_and_port())
    proxy.forward("POST", "/moto-api/reset", {}, b"")  # its state belongs to this process, not to the server
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIATESTTESTTEST",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": proxy.url,
    }.items():
        monkeypatch.setenv(name, value)
    try:
        s3fs.S3FileSystem(endpoint_url=proxy.url).mkdir(bucket)
        yield proxy
    finally:
        proxy.close()
        server.stop()
        s3fs.S3FileSystem.clear_instance_cache()
