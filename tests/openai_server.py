"""A local server that speaks just enough of the OpenAI protocol to misbehave in every way that real ones do."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "tiny-qwen"


@dataclass(frozen=True)
class Say:
    """Stream `text` piece by piece, `pause` seconds before each, and end as `finish` says."""

    text: str
    pieces: int = 3
    pause: float = 0.0
    finish: str = "stop"
    usage: bool = True


@dataclass(frozen=True)
class Hang:
    """Take the request and say nothing."""

    seconds: float = 30.0


@dataclass(frozen=True)
class Status:
    """Refuse with a status."""

    code: int
    message: str = "no"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Break:
    """Begin to answer with `text`, then end the connection: by a reset, by a missing end, or in good order."""

    text: str = ""
    how: str = "reset"


@dataclass(frozen=True)
class Raw:
    """Answer 200 with these bytes."""

    body: bytes
    kind: str = "text/event-stream"


@dataclass(frozen=True)
class Stall:
    """Begin to answer, then fall silent."""

    text: str = '{"'
    seconds: float = 30.0


Behaviour = Say | Hang | Status | Break | Raw | Stall
Script = list[Behaviour] | Callable[[dict[str, Any]], Behaviour]


class Server:
    """Answers each question as the next entry of its script says; the last entry holds for all that follow.

    Args:
        script: behaviours in order, or a function of the request's body.
        models: names that `/v1/models` lists.
        key: the key that it wants, none where it is empty.
    """

    def __init__(self, script: Script, *, models: tuple[str, ...] = (MODEL,), key: str = "") -> None:
        self.script, self.models, self.key = script, models, key
        self.models_behaviour: Behaviour | None = None
        self.requests: list[dict[str, Any]] = []
        self.authorization: list[str] = []
        self.most_at_once = self._at_once = 0
        self.connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._http: ThreadingHTTPServer | None = None
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen; after `stop`, on the same port again."""
        self._stopped.clear()

        class Handler(_Handler):
            server_of = self

        class Http(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_: object) -> None:
                pass  # a connection that was broken on purpose

        self._http = Http(("127.0.0.1", self.port), Handler)
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Be gone: connections are refused from here on."""
        self._stopped.set()
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http = None
        with self._lock:
            for connection in self.connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self.connections.clear()

    def next(self, body: dict[str, Any]) -> Behaviour:
        with self._lock:
            self.requests.append(body)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            if callable(self.script):
                return self.script(body)
            return self.script.pop(0) if len(self.script) > 1 else self.script[0]

    def done(self) -> None:
        with self._lock:
            self._at_once -= 1

    def wait(self, seconds: float) -> None:
        self._stopped.wait(seconds)


class _Handler(BaseHTTPRequestHandler):
    server_of: Server
    protocol_version = "HTTP/1.1"
    timeout = 30

    def setup(self) -> None:
        super().setup()
        with self.server_of._lock:
            self.server_of.connections.add(self.connection)

    def finish(self) -> None:
        with self.server_of._lock:
            self.server_of.connections.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        server = self.server_of
        if self.refuses_key():
            return
        if server.models_behaviour is not None:
            self.perform(server.models_behaviour, {})
        elif self.path == "/v1/models":
            data = [{"id": name, "object": "model", "created": 0, "owned_by": "test"} for name in server.models]
            self.send_json(200, {"object": "list", "data": data})
        else:
            self.send_json(404, {"detail": "Not Found"})

    def do_POST(self) -> None:
        server = self.server_of
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.refuses_key():
            return
        if self.path != "/v1/chat/completions":
            self.send_json(404, {"detail": "Not Found"})
        elif body["model"] not in server.models:
            self.send_json(404, {"error": {"message": f"The model `{body['model']}` does not exist.", "code": 404}})
        else:
            behaviour = server.next(body)
            try:
                self.perform(behaviour, body)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the client gave up
            finally:
                server.done()

    def refuses_key(self) -> bool:
        given = self.headers.get("Authorization", "")
        self.server_of.authorization.append(given)
        if not self.server_of.key or given == f"Bearer {self.server_of.key}":
            return False
        self.send_json(401, {"error": {"message": f"Incorrect API key provided: {given.removeprefix('Bearer ')}"}})
        return True

    def perform(self, how: Behaviour, body: dict[str, Any]) -> None:
        match how:
            case Say():
                self.begin()
                step = max(1, -(-len(how.text) // how.pieces))
                for start in range(0, len(how.text), step):
                    self.pause(how.pause)
                    self.event(content=how.text[start : start + step])
                self.event(finish=how.finish)
                if how.usage:
                    self.event(usage={"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120})
                self.chunk(b"data: [DONE]\n\n")
                self.chunk(b"")
            case Hang():
                self.pause(how.seconds)
                self.close_connection = True
            case Status():
                self.send_json(how.code, {"error": {"message": how.message, "code": how.code}}, how.headers)
            case Break():
                if how.text or how.how != "reset":
                    self.begin()
                    self.event(content=how.text)
                if how.how == "reset":
                    linger = struct.pack("ii", 1, 0)
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                elif how.how == "in order":
                    self.chunk(b"")
                self.close_connection = True
                self.connection.close()
            case Stall():
                self.begin()
                self.event(content=how.text)
                self.pause(how.seconds)
                self.close_connection = True
            case Raw():
                self.send_response(200)
                self.send_header("Content-Type", how.kind)
                self.send_header("Content-Length", str(len(how.body)))
                self.end_headers()
                self.wfile.write(how.body)

    def pause(self, seconds: float) -> None:
        if seconds:
            self.server_of.wait(seconds)

    def begin(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def event(self, content: str | None = None, finish: str | None = None, usage: dict | None = None) -> None:
        delta = {"content": content} if content is not None else {}
        choices = [] if usage else [{"index": 0, "delta": delta, "finish_reason": finish}]
        data = {
            "id": "x",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": MODEL,
            "choices": choices,
            "usage": usage,
        }
        self.chunk(f"data: {json.dumps(data)}\n\n".encode())

    def chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def send_json(self, status: int, data: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        payload = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(payload)
