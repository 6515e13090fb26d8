"""The command as users run it: durable verdicts, one server per run, what it says."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ffpdata.curate import verdicts
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.review.server import Address, serve, token
from tests.review.conftest import Client, serving

pytestmark = pytest.mark.slow

Make = Callable[[int], RunFolder]


def review(run: Path, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ffpdata.cli", "review", str(run), "--port", "0", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ | env)


def test_a_killed_server_has_lost_no_verdict_that_it_answered(make: Make) -> None:
    run = make(60)
    root = Path(run.store.root)
    answered: dict[str, set[str]] = {"ann": set(), "bob": set()}

    def judge(client: Client) -> None:
        while pairs := client.take(3):
            for pair in pairs:
                if client.judge(pair).status == 200:
                    answered[client.reviewer or ""].add(pair["key"])

    with serving(root, "--overlap", "0.3") as server, ThreadPoolExecutor(2) as pool:
        working = [pool.submit(judge, server.client(name)) for name in answered]
        while sum(map(len, answered.values())) < 15:
            time.sleep(0.005)
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        for each in working:  # the connection broke
            assert each.exception() is not None
    with run.connect() as connection:
        kept = verdicts.read(connection)
    for name, keys in answered.items():
        assert keys <= {key for key, given in kept.items() if name in given}
    with serving(root, "--overlap", "0.3") as server:
        left = {pair["key"] for pair in server.client("ann").take(8)}
        assert left
        assert not left & answered["ann"]
        assert server.client("ann").get("/api/progress").json["reviewed"] == len(kept)
        again = review(root)
        assert again.returncode == 1
        assert "is being reviewed by another server" in again.stderr


def test_what_the_command_says(make: Make, tmp_path: Path) -> None:
    run = make(1)
    with serving(Path(run.store.root), "--host", "0.0.0.0", "--allow-host", "review.example") as server:
        assert any("WARNING" in line and "--tls-cert" in line for line in server.said)
        assert server.client().get("/api/session", Host="review.example").status == 200
        assert server.client().get("/api/session", Host="other.example").status == 421
    for options, message in (
        (("--tls-cert", "x.pem"), "--tls-cert and --tls-key belong together"),
        (("--tls-cert", "x.pem", "--tls-key", "y.pem"), "x.pem: no such file"),
        (("--host", "203.0.113.7"), "cannot listen at 203.0.113.7"),
    ):
        done = review(Path(run.store.root), *options)
        assert (done.returncode, message in done.stderr) == (1, True), done.stderr


def test_a_token_of_the_environment_must_be_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFPDATA_REVIEW_TOKEN", "short")
    with pytest.raises(Exception, match="5 characters, at least 16"):
        token()
    monkeypatch.delenv("FFPDATA_REVIEW_TOKEN")
    assert len(token()) > 40
    assert token() != token()


def test_without_the_extra_it_says_what_to_install(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(Exception, match=r"pip install 'ffpdata\[review\]'"):
        serve(make(0), Address(port=0), 0.1, 600, print)


def test_nothing_to_review_is_said(make: Make) -> None:
    with pytest.raises(Exception, match="no finished pair to review yet"):
        serve(make(0), Address(port=0), 0.1, 600, print)


def test_tls(make: Make, tmp_path: Path) -> None:
    import http.client
    import ssl

    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(cert)]
    try:
        subprocess.run([*made, "-subj", "/CN=localhost", "-days", "2"], capture_output=True, check=True)
    except FileNotFoundError:
        pytest.skip("no openssl on this machine")
    with serving(Path(make(1).store.root), "--tls-cert", str(cert), "--tls-key", str(key)) as server:
        assert server.url.startswith("https://")
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=trusting, timeout=30)
        connection.request("GET", server.url[server.url.index("/?") :])
        answer = connection.getresponse()
        assert answer.status == 200
        assert "Secure" in (answer.headers["set-cookie"] or "")
        connection.close()
