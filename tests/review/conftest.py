"""A review server as users start it, in a process of its own, and a client that sends what it is told to."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ffpdata.manifests.run_folder import RunFolder
from tests.review.many_pairs import clips, make_pairs
from tests.shared import told_once

TOKEN = "a-token-for-tests-0123456789"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Client:
    """Asks a server; as a bearer of the token unless told otherwise."""

    port: int
    reviewer: str | None = "ann"
    token: str | None = TOKEN

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str | None] | None = None) -> Answer:
        usual: dict[str, str | None] = {"Host": f"127.0.0.1:{self.port}"}
        usual |= {"Authorization": f"Bearer {self.token}"} if self.token else {}
        usual |= {"X-Reviewer": self.reviewer} if self.reviewer else {}
        if method == "POST":
            usual |= {"X-Review": "1", "Content-Type": "application/json"}
        sent = {name: value for name, value in (usual | (headers or {})).items() if value is not None}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            data = body if body is None or isinstance(body, (bytes, Iterator)) else json.dumps(body).encode()
            connection.request(method, path, data, sent, encode_chunked=isinstance(body, Iterator))
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str | None) -> Answer:
        return self.ask("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def post(self, path: str, body: Any, **headers: str | None) -> Answer:
        return self.ask("POST", path, body, {name.replace("_", "-"): value for name, value in headers.items()})

    def take(self, count: int = 1, **wanted: Any) -> list[dict[str, Any]]:
        answer = self.post("/api/next", {"wanted": wanted, "count": count})
        assert answer.status == 200, answer.body
        return list(answer.json["pairs"])

    def judge(self, pair: dict[str, Any], verdict: str = "accept", *reasons: str, seconds: float = 2.0) -> Answer:
        body = {"pair": pair["key"], "verdict": verdict, "reasons": list(reasons), "seconds": seconds}
        return self.post("/api/verdicts", body)


@dataclass
class Server:
    """A running `ffpdata review`."""

    process: subprocess.Popen[str]
    url: str
    port: int
    said: list[str]

    def client(self, reviewer: str | None = "ann", token: str | None = TOKEN) -> Client:
        return Client(self.port, reviewer, token)


@contextmanager
def serving(run: Path, *options: str) -> Iterator[Server]:
    """Run the command until the block ends."""
    command = [sys.executable, "-m", "ffpdata.cli", "review", str(run), "--port", "0", *options]
    env = os.environ | {"FFPDATA_REVIEW_TOKEN": TOKEN}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env) as process:
        assert process.stdout
        try:
            said = []
            for line in process.stdout:
                said.append(line)
                if found := re.search(r"https?://\S+:(\d+)/\?token=\S+", line):
                    yield Server(process, found[0], int(found[1]), said)
                    break
            else:
                pytest.fail("".join(said))
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def tiny_clips() -> dict[str, Path]:
    found: dict[str, Path] = told_once("tiny-clips", clips)
    return found


@pytest.fixture
def make(tmp_path: Path, tiny_clips: dict[str, Path]) -> Callable[[int], RunFolder]:
    """Makes a run with so many finished pairs."""
    return lambda count: make_pairs(tmp_path / "run", count, tiny_clips)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, tiny_clips: dict[str, Path]) -> RunFolder:
    """A run with 40 pairs that the tests of one module share."""
    return make_pairs(tmp_path_factory.mktemp("shared") / "run", 40, tiny_clips)
