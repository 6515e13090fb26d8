"""The review server: listens, checks access and serves the page until it is stopped."""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ffpdata.core.errors import ConfigError, FatalError, RunLockedError
from ffpdata.core.wording import counted
from ffpdata.curate.verdicts import REVIEW
from ffpdata.manifests.manifest import COMPACT_PARTS
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.review.access import AccessGuard, Logins
from ffpdata.review.assignments import Assignments
from ffpdata.review.panel_video import Previews
from ffpdata.storage.lock import run_lock
from ffpdata.storage.store import Store

TOKEN_VARIABLE = "FFPDATA_REVIEW_TOKEN"  # noqa: S105 - the variable's name
TOKEN_LENGTH = 16
"""Least number of characters of a token from the environment."""

REVIEW_LOCK = "review.lock"


@dataclass(frozen=True)
class Address:
    """Where the server listens.

    Attributes:
        host: name or address.
        port: 0 for any that is free.
        hosts: further names of the server.
        tls_cert, tls_key: PEM files; without them it uses plain HTTP.
    """

    host: str = "127.0.0.1"
    port: int = 8700
    hosts: tuple[str, ...] = ()
    tls_cert: Path | None = None
    tls_key: Path | None = None


@contextmanager
def _only_server(store: Store) -> Iterator[None]:
    """Allow one server per run: two would not know each other's leases."""
    try:
        with run_lock(store, REVIEW_LOCK):
            yield
    except RunLockedError as err:
        raise RunLockedError(f"{store.root} is being reviewed by another server: use that one. ({err})") from None


def _compact(run: RunFolder) -> None:
    """Merge the many small parts of earlier sessions, unless a run is writing, which merges them itself."""
    if len(run.manifest.parts(REVIEW)) <= COMPACT_PARTS:
        return
    try:
        with run_lock(run.store):
            run.manifest.compact(REVIEW)
    except RunLockedError:
        return


def token() -> str:
    """Return the secret of this server: that of the environment, or a new one."""
    secret = os.environ.get(TOKEN_VARIABLE)
    if secret is not None and len(secret) < TOKEN_LENGTH:
        raise ConfigError(f"{TOKEN_VARIABLE} has {len(secret)} characters, at least {TOKEN_LENGTH}: take a longer one")
    return secret or secrets.token_urlsafe(32)


def serve(run: RunFolder, address: Address, overlap: float, lease_seconds: float, say: Callable[[str], None]) -> None:
    """Serve the review page until Ctrl-C or SIGTERM.

    Args:
        run: the run folder.
        address: where to listen.
        overlap: fraction of the pairs that two people judge.
        lease_seconds: duration of a lease.
        say: called with each line for the terminal.

    Raises:
        FatalError: the address cannot be used, there is nothing to review, or the extra `review` is not installed.
        ConfigError: the TLS files or the token are not valid.
        RunLockedError: another server reviews this run.
    """
    try:
        import uvicorn

        from ffpdata.review.connections import MAX_HEAD, LimitedConnection
        from ffpdata.review.routes import make_app
    except ImportError as err:
        raise FatalError(f"the review page needs {err.name}: pip install 'ffpdata[review]'") from err
    if (address.tls_cert is None) != (address.tls_key is None):
        raise ConfigError("--tls-cert and --tls-key belong together: give both or none")
    for file in (address.tls_cert, address.tls_key):
        if file is not None and not file.is_file():
            raise ConfigError(f"{file}: no such file; --tls-cert and --tls-key name PEM files")
    with _only_server(run.store), _listen(address) as listening:
        _compact(run)
        assignments = Assignments(run, overlap, lease_seconds)
        if not assignments.pairs.by_key:
            raise FatalError(
                f"{run.store.root} has no finished pair to review yet: `ffpdata status` tells how far it is"
            )
        previews = Previews(run.store)
        secret, port = token(), listening.getsockname()[1]
        secure = address.tls_cert is not None
        host = f"[{address.host}]" if ":" in address.host else address.host
        logins = Logins(secret, f"ffpdata_review_{port}", secure=secure)
        app = AccessGuard(make_app(run, assignments, previews, logins), logins, (address.host, *address.hosts))
        if not _loopback(address.host) and not secure:
            say("WARNING: others on the network can read the token: give --tls-cert and --tls-key, or use ssh -L.")
        count = counted(len(assignments.pairs.by_key), "pair")
        say(f"Review {count} at  {'https' if secure else 'http'}://{host}:{port}/?token={secret}")
        say("Ctrl-C ends it; every verdict is kept as soon as it is given.")
        config = uvicorn.Config(
            app,
            http=LimitedConnection,
            ws="none",
            h11_max_incomplete_event_size=MAX_HEAD,
            log_level="warning",
            access_log=False,
            server_header=False,
            ssl_certfile=address.tls_cert,
            ssl_keyfile=address.tls_key,
            timeout_graceful_shutdown=3,
        )
        try:
            uvicorn.Server(config).run(sockets=[listening])
        except KeyboardInterrupt:
            say("Ended.")
        finally:
            previews.close()


@contextmanager
def _listen(address: Address) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        listening = socket.create_server((address.host, address.port), family=family)
    except OSError as err:
        raise FatalError(f"cannot listen at {address.host}:{address.port} ({err.strerror}): choose --port") from err
    with listening:
        yield listening


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
