"""Nobody gets past the server who should not."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ffpdata.curate.verdicts import REVIEW
from ffpdata.manifests.run_folder import RunFolder
from tests.fixture_run import HOSTILE
from tests.review.conftest import TOKEN, Client, Server, serving

ROUTES = ["/", "/review.js", "/player.js", "/review.css", "/icon.svg", "/api/session", "/api/progress", "/nothing"]


@pytest.fixture(scope="module")
def server(shared: RunFolder) -> Iterator[Server]:
    with serving(Path(shared.store.root), "--overlap", "0") as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Client:
    return server.client()


def cookie_of(server: Server) -> str:
    return server.client(None, None).get(f"/?token={TOKEN}").headers["set-cookie"].partition(";")[0]


def test_no_route_answers_without_the_token(server: Server, client: Client) -> None:
    pair = client.take()[0]
    nobody = server.client(None, None)
    for path in [*ROUTES, f"/media/{pair['key']}/video", "/?token=wrong", "/?token=", "/?other=1"]:
        answer = nobody.get(path)
        assert answer.status == 401, path
        assert pair["key"].encode() not in answer.body
    for path in ("/api/next", "/api/verdicts", "/api/login", "/api/release"):
        assert nobody.post(path, {}).status == 401
    assert server.client("ann", "wrong").get("/api/session").status == 401
    assert nobody.get("/api/session", Authorization="Basic " + TOKEN).status == 401


def test_the_token_in_the_address_becomes_a_cookie(server: Server) -> None:
    nobody = server.client(None, None)
    answer = nobody.get(f"/?token={TOKEN}")
    cookie = answer.headers["set-cookie"]
    assert answer.status == 200
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert TOKEN not in cookie
    assert TOKEN.encode() not in answer.body
    cookie = cookie.partition(";")[0]
    assert nobody.get("/api/session", Cookie=cookie).json["reviewer"] is None
    assert nobody.post("/api/next", {}, Cookie=cookie).status == 403  # nobody yet
    named = nobody.post("/api/login", {"reviewer": "Zo\u00eb"}, Cookie=cookie).headers["set-cookie"].partition(";")[0]
    assert nobody.get("/api/session", Cookie=named).json["reviewer"] == "Zo\u00eb"
    for forged in (named[:-1], named.replace("=", "=x", 1), cookie.split("=")[0] + "=Ym9i.", "x", named + "\u00ff"):
        assert nobody.get("/api/session", Cookie=forged.encode("latin-1", "replace").decode("latin-1")).status == 401
    for name in ("", " bob", "a\nb", "x" * 65, "<b>"):
        assert nobody.post("/api/login", {"reviewer": name}, Cookie=cookie).status == 422


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example", 421),
        ("127.0.0.1.evil.example:8700", 421),
        ("", 421),
        ("localhost:1234", 200),
        ("127.0.0.1", 200),
        ("[::1]:8700", 200),
    ],
)
def test_the_host_must_be_this_server(client: Client, host: str, status: int) -> None:
    assert client.get("/api/session", Host=host).status == status


def test_another_site_cannot_post(server: Server, client: Client) -> None:
    nobody, cookie = server.client(None, None), cookie_of(server)
    here = f"http://127.0.0.1:{server.port}"
    body = {"reviewer": "bob"}
    assert nobody.post("/api/login", body, Cookie=cookie, Origin=here).status == 200
    assert nobody.post("/api/login", body, Cookie=cookie, Origin="http://evil.example").status == 403
    assert nobody.post("/api/login", body, Cookie=cookie, Origin="null").status == 403
    assert nobody.post("/api/login", body, Cookie=cookie, X_Review=None).status == 403
    assert client.post("/api/next", {}, X_Review=None).status == 403
    assert client.ask("DELETE", "/api/session").status == 403


def test_large_bodies_are_refused_with_and_without_their_length(server: Server, client: Client) -> None:
    assert client.post("/api/login", b"x" * 70_000).status == 413
    chunks = iter([b"x" * 1000] * 70)
    assert client.ask("POST", "/api/login", chunks, {"Transfer-Encoding": "chunked"}).status == 413
    small = iter([b'{"reviewer":', b' "bob"}'])
    assert client.ask("POST", "/api/login", small, {"Transfer-Encoding": "chunked"}).status == 200
    # An endless body is cut off, and the server goes on.
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        head = f"POST /api/login HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nX-Review: 1\r\n"
        raw.sendall(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + (b"1000\r\n" + b"x" * 4096 + b"\r\n") * 17)
        assert raw.recv(100).startswith(b"HTTP/1.1 413")
    assert client.get("/api/session").status == 200


def test_media_come_by_pair_and_kind_alone(client: Client, shared: RunFolder) -> None:
    pair = client.take()[0]
    for path in ("../run.yaml", "%2e%2e/run.yaml", "video/../../run.yaml", "run.yaml", "source_video", "", "%00"):
        assert client.get(f"/media/{pair['key']}/{path}").status in (404, 405, 422), path
    for key in ("0" * 32, "..", "%2e%2e%2f%2e%2e", "run.yaml"):
        assert client.get(f"/media/{key}/video").status == 404, key
    assert client.get(f"/media/{pair['key']}/reference").status == 404
    assert client.get("/../../run.yaml").status == 404
    assert client.get("/page/index.html").status == 404
    for kind in ("source", "target", "mask", "video", "poster"):
        assert client.get(f"/media/{pair['key']}/{kind}").status == 200


def test_a_manifest_that_names_another_place_leads_nowhere(tmp_path: Path, tiny_clips: dict[str, Path]) -> None:
    from ffpdata.review.panel_video import Previews
    from ffpdata.review.routes import _media

    run = RunFolder(tmp_path / "run")
    with pytest.raises(ValueError, match="not a path inside"):
        _media(run.store, Previews(run.store), {"source": str(tiny_clips["source"])}, "source")
    with pytest.raises(ValueError, match="not a path inside"):
        _media(run.store, Previews(run.store), {"source": "../clips/source.mp4"}, "source")


def test_media_come_in_ranges_and_stay_in_the_cache(client: Client) -> None:
    pair = client.take()[0]
    path = f"/media/{pair['key']}/video"
    whole = client.get(path)
    assert whole.headers["content-type"] == "video/mp4"
    assert "immutable" in whole.headers["cache-control"]
    part = client.get(path, Range="bytes=10-19")
    assert (part.status, part.body) == (206, whole.body[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(whole.body)}"
    assert client.get(path, Range="bytes=-5").body == whole.body[-5:]
    assert client.get(path, Range="bytes=99999999-").status == 416


def test_every_answer_has_the_policy(server: Server, client: Client) -> None:
    pair = client.take()[0]
    answers = [client.get(path) for path in [*ROUTES, f"/media/{pair['key']}/video"]]
    answers += [server.client(None, None).get("/"), client.post("/api/verdicts", {})]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
    assert client.get("/api/progress").headers["cache-control"] == "no-store"
    page = client.get("/").body.decode()
    assert "style=" not in page
    assert "onclick" not in page


def test_forged_verdicts_are_refused_and_leave_no_row(server: Server, client: Client, shared: RunFolder) -> None:
    before = shared.manifest.parts(REVIEW)
    pair, other = client.take(2)
    bob = server.client("bob")
    assert bob.judge(pair).status == 409
    assert "not leased to you" in bob.judge(pair).json["error"]
    assert client.judge({"key": "0" * 32}).status == 404
    assert client.judge(pair, "maybe").status == 422
    assert "valid names: accept" in client.judge(pair, "maybe").json["error"]
    assert "did you mean 'flicker'" in client.judge(pair, "reject", "flickr").json["error"]
    assert client.judge(pair, "reject").status == 422
    assert client.judge(pair, "accept", "flicker").status == 422
    assert client.judge(pair, "reject", "flicker", "flicker").status == 422
    assert client.judge(pair, seconds=-1).status == 422
    assert client.judge(pair, seconds=1e9).status == 422
    assert bob.judge(pair, "undo").status == 409
    good = {"pair": pair["key"], "verdict": "accept"}
    for wrong in (
        {"pair": 7},
        {"verdict": True},
        {"seconds": "2"},
        {"reasons": "flicker"},
        {"reviewer": "bob"},
        {"overlap": True},
        {"pair": None},
    ):
        answer = client.post("/api/verdicts", good | wrong)
        assert (answer.status, bool(answer.json["error"])) == (422, True), wrong
    for body in (b"", b"null", b"[]", b"{", b'{"pair": NaN}', b"\xff"):
        assert 400 <= client.post("/api/verdicts", body).status < 500, body
    assert client.post("/api/next", {"count": 1000}).status == 422
    assert client.post("/api/next", {"wanted": {"order": "by magic"}}).status == 422
    assert shared.manifest.parts(REVIEW) == before
    client.post("/api/release", {"pairs": [pair["key"], other["key"]]})


def test_hostile_texts_are_sent_as_data(client: Client) -> None:
    answer = client.post("/api/next", {})
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.json["pairs"][0]["facts"]["caption"] == HOSTILE
