"""Access control before every route of the review server.

- The `Host` must be this server: other names that resolve to it (DNS rebinding) are refused.
- Every request needs the token: as a bearer, or in the cookie that a visit to `/?token=...` sets.
- A POST needs the header `X-Review`, which a form of another site cannot send, and its `Origin`, where there is one,
  must be this server.
- The size of bodies is limited, with a `Content-Length` and without. `connections` limits the rest of a request.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import json
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, unquote

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY = 64 * 1024
SAFE = ("GET", "HEAD")
CSRF_HEADER = "x-review"
REVIEWER_HEADER = "x-reviewer"

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
"""Sent with every response. `cache-control: no-store` is added to a response that does not set the header."""

# A `SameSite=Strict` cookie is not sent on a redirect from another site's link, so this page loads / itself.
_WELCOME = (
    b'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0;url=/">'
    b'<link rel="icon" href="/icon.svg"><title>Review</title>'
)


class Logins:
    """Checks tokens and login cookies.

    A cookie holds the reviewer's name and its signature, so the server stores no sessions.

    Args:
        token: the secret.
        cookie: name of the cookie. Cookies are shared by all ports of a host, so it should contain the port.
        secure: whether the server uses TLS.
    """

    def __init__(self, token: str, cookie: str, *, secure: bool = False) -> None:
        self._token = token
        self._cookie = cookie
        self.secure = secure

    def cookie(self, reviewer: str) -> str:
        """Return the `Set-Cookie` header that logs a reviewer in; an empty name logs in without one."""
        name = base64.urlsafe_b64encode(reviewer.encode()).decode().rstrip("=")
        flags = "HttpOnly; SameSite=Strict; Path=/" + ("; Secure" if self.secure else "")
        return f"{self._cookie}={name}.{self._sign(reviewer)}; {flags}"

    def accepts(self, token: str) -> bool:
        """Return whether this is the token."""
        return _same(token, self._token)

    def reviewer(self, cookies: str) -> str | None:
        """Return the name in a `Cookie` header, empty where it has none yet; None where nobody is logged in."""
        try:
            cookie = SimpleCookie(cookies).get(self._cookie)
            encoded, _, signature = (cookie.value if cookie else "").partition(".")
            reviewer = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
        except (CookieError, ValueError):  # no base64, no ASCII, or no UTF-8 in it
            return None
        return reviewer if _same(signature, self._sign(reviewer)) else None

    def _sign(self, reviewer: str) -> str:
        return hmac.new(self._token.encode(), reviewer.encode(), hashlib.sha256).hexdigest()


class AccessGuard:
    """An ASGI application that checks requests before another one; sets `scope["reviewer"]` to a name or None.

    Args:
        app: the application that it protects.
        logins: of the server.
        hosts: further names of the server, beside `localhost`, this machine's names and IP addresses.
    """

    def __init__(self, app: App, logins: Logins, hosts: Iterable[str] = ()) -> None:
        self._app = app
        self._logins = logins
        names = {"localhost", socket.gethostname(), socket.getfqdn(), *hosts}
        self._hosts = {name.lower().rstrip(".") for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on to the application, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no route uses WebSocket
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        token = _token_in(scope)
        wrong = self._check(scope, headers, token)
        if wrong is None and scope["method"] not in SAFE:
            try:
                body = await _read(receive, headers)
            except _ClientGoneError:
                return
            wrong = (413, f"a request has at most {MAX_BODY} bytes") if body is None else None
            receive = _replay(body or b"", receive)
        if wrong is not None:
            status, message = wrong
            await _reply(send, status, json.dumps({"error": message}).encode(), {"connection": "close"})
        elif token is not None:
            await _reply(send, 200, _WELCOME, {"content-type": "text/html", "set-cookie": self._logins.cookie("")})
        else:
            await self._app(scope, receive, _with_headers(send))

    def _check(self, scope: Scope, headers: Mapping[str, str], token: str | None) -> tuple[int, str] | None:
        """Return HTTP status and message of a refused request, None for an allowed one. Sets `scope["reviewer"]`."""
        host = headers.get("host", "")
        if not self._known_host(host):
            return 421, f"this server is not {host[:100]!r}: name it with --allow-host, or use its address"
        kind, _, bearer = headers.get("authorization", "").partition(" ")
        if kind or token is not None:
            logged_in = self._logins.accepts(bearer if kind.lower() == "bearer" else token or "")
            scope["reviewer"] = unquote(headers.get(REVIEWER_HEADER, "")) or None
        else:
            name = self._logins.reviewer(headers.get("cookie", ""))
            logged_in = name is not None
            scope["reviewer"] = name or None
        if not logged_in:
            return 401, "log in with the address that `ffpdata review` printed: it ends in ?token=..."
        if scope["method"] in SAFE:
            return None
        if CSRF_HEADER not in headers:
            return 403, f"a {scope['method']} needs the header {CSRF_HEADER}"
        origin = headers.get("origin")
        if origin is not None and origin != f"{'https' if self._logins.secure else 'http'}://{host}":
            return 403, f"asked by another site: {origin[:100]!r}"
        return None

    def _known_host(self, host: str) -> bool:
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        name = name.strip("[]").lower().rstrip(".")
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._hosts
        return True  # DNS rebinding needs a name


def _token_in(scope: Scope) -> str | None:
    """Return the token in the page's URL; None where it has none."""
    if scope["path"] != "/":
        return None
    query: str = scope["query_string"].decode("latin-1")
    values = parse_qs(query, keep_blank_values=True).get("token")
    return values[0] if values else None


def _same(text: str, secret: str) -> bool:
    return hmac.compare_digest(text.encode("utf-8", "replace"), secret.encode())


class _ClientGoneError(Exception):
    """The connection ended within a body: half a request counts as none."""


async def _read(receive: Receive, headers: Mapping[str, str]) -> bytes | None:
    """Read a body; returns None for one larger than `MAX_BODY`, without reading the rest."""
    length = headers.get("content-length", "").lstrip("0")
    if len(length) > len(str(MAX_BODY)) or (length.isdecimal() and int(length) > MAX_BODY):
        return None
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise _ClientGoneError
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            return None
        if not message.get("more_body"):
            break
    return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that repeats a body that was read, and then continues with the original one."""
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def replayed() -> MutableMapping[str, Any]:
        return next(messages, None) or await receive()

    return replayed


def _with_headers(send: Send) -> Send:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            present = {name.lower() for name, _ in message["headers"]}
            more = {**HEADERS, "cache-control": "no-store"}
            message["headers"] = [
                *message["headers"],
                *((n.encode(), v.encode()) for n, v in more.items() if n.encode() not in present),
            ]
        await send(message)

    return sending


async def _reply(send: Send, status: int, body: bytes, headers: dict[str, str]) -> None:
    default = {**HEADERS, "cache-control": "no-store", "content-type": "application/json"}
    more = {**default, **headers, "content-length": str(len(body))}
    names = [(name.encode(), value.encode("latin-1")) for name, value in more.items()]
    await send({"type": "http.response.start", "status": status, "headers": names})
    await send({"type": "http.response.body", "body": body})
