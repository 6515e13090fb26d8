"""Access to object stores: opening them, which errors are temporary, how long to retry, and redacted messages.

There are two layers of retries. The S3 client itself retries a single request a few times (exponential with jitter),
also for readers that know nothing of ffpdata, such as DuckDB. Around it `patient` retries a whole operation for
`OUTAGE_SECONDS`.
"""

from __future__ import annotations

import errno
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import duckdb
import fsspec

from ffpdata.core.errors import ConfigError, FatalError, FfpdataError, RetryableError

T = TypeVar("T")

S3 = ("s3", "s3a")
OUTAGE_SECONDS = 60.0
"""How long an operation is retried; after that it is an outage."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 10.0
"""Seconds between two tries, doubled each time; the actual wait is random between half of it and all of it."""
REQUEST_ATTEMPTS = 3
"""Tries of one request by the S3 client."""

_PASSING = {
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "RequestLimitExceeded",
    "RequestTimeout",
    "InternalError",
    "ServiceUnavailable",
    "OperationAborted",
    "ConditionalRequestConflict",
    "BadDigest",
    "IncompleteBody",
    "XAmzContentSHA256Mismatch",
}
_CREDENTIALS = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
    "RequestTimeTooSkewed",
}
_latest: RetryableError | None = None
"""The newest outage of this process."""
_SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def check_url(url: str) -> str:
    """Return a URL; raises ConfigError for one with credentials, which would end up in manifests and logs."""
    if "@" in url.partition("://")[2].partition("/")[0]:
        raise ConfigError(
            f"a {url.partition(':')[0]}:// URL must not carry credentials: give them in the environment "
            "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile)"
        )
    return url


def is_s3(url: str) -> bool:
    """Return whether a URL is of S3."""
    return url.partition("://")[0] in S3


def open_fs(url: str, *, attempts: int | None = None, timeout: float | None = None) -> Any:
    """Open the fsspec file system of a URL.

    Args:
        url: any fsspec URL. For S3 the endpoint is `FSSPEC_S3_ENDPOINT_URL`, else `AWS_ENDPOINT_URL_S3`, else
            `AWS_ENDPOINT_URL`, else Amazon's.
        attempts: tries of one request, `REQUEST_ATTEMPTS` by default.
        timeout: seconds that one request may take to connect and to answer.
    """
    if not is_s3(url):
        if "::" in url:
            raise ConfigError(f"{url}: chained URLs are not supported")
        return fsspec.core.url_to_fs(url)[0]
    given = fsspec.config.conf.get("s3", {})
    names = ("FSSPEC_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    endpoint = next((os.environ[name] for name in names if os.environ.get(name)), given.get("endpoint_url"))
    attempts = REQUEST_ATTEMPTS if attempts is None else attempts
    retries = {"mode": "standard", "total_max_attempts": attempts}
    config = {**given.get("config_kwargs", {}), "retries": retries}
    if timeout is not None:
        config |= {"connect_timeout": timeout, "read_timeout": timeout}
    # A cached listing would hide what other workers have written since.
    options: dict[str, Any] = {"use_listings_cache": False, "config_kwargs": config}
    if endpoint:  # among the options, so that another endpoint is another file system
        options["endpoint_url"] = endpoint
    fs = fsspec.filesystem("s3", **options)
    fs.retries = min(2, attempts)  # for responses that break off while they are read
    return fs


def patient(what: str, call: Callable[[], T], seconds: float | None = None) -> T:
    """Call an operation on an object store, and retry it while its errors are temporary.

    Args:
        what: the location, for messages.
        call: the operation; must be safe to repeat.
        seconds: how long to retry, `OUTAGE_SECONDS` by default; 0 tries once.

    Raises:
        RetryableError: the error was still there after this time.
        FatalError: the credentials are wrong or missing, or there is no such bucket.
        PermissionError: the credentials do not allow it.
        FileNotFoundError: the file is missing.
        FfpdataError: the store refuses it for another reason; the message has no secrets.
    """
    global _latest  # noqa: PLW0603 - see `outage_ends_run`
    limit, begun, wait = OUTAGE_SECONDS if seconds is None else seconds, time.monotonic(), FIRST_WAIT
    while True:
        try:
            return call()
        except Exception as err:  # noqa: BLE001 - the client raises many kinds; `_settle` raises what is not to be repeated
            spent = time.monotonic() - begun
            if not passing(err):
                raise _settle(what, err) from None
            if spent >= limit:
                _latest = RetryableError(
                    f"{what}: the object store has not answered as it should for {spent:.0f} s ({_text(err)})"
                )
                raise _latest from None
        time.sleep(min(wait * random.uniform(0.5, 1.0), max(limit - spent, 0.05)))  # noqa: S311 - spreads the load
        wait = min(2 * wait, LONGEST_WAIT)


def latest_outage() -> RetryableError | None:
    """Return the newest outage in this process; None where there was none."""
    return _latest


@contextmanager
def outage_ends_run(root: str) -> Iterator[None]:
    """Turn an outage in a with block into a FatalError, for what the run itself reads and writes."""
    before, outage = _latest, None
    try:
        yield
    except RetryableError as err:
        outage = err
    except duckdb.Error:  # DuckDB keeps only the text of an error in a file that it reads
        outage = _latest
        if outage is before:
            raise
    if outage is not None:
        raise FatalError(
            f"{root}: the run cannot go on without its storage: {outage}. What is finished is kept: "
            "when the store is back, the same command resumes it."
        ) from None


def error_code(err: BaseException) -> tuple[str, int]:
    """Return S3's error code and the HTTP status of an error; empty and 0 where the store did not answer."""
    for found in (err, err.__cause__):
        response = getattr(found, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            return str(response.get("Error", {}).get("Code", "")), int(status or 0)
    return "", 0


def passing(err: BaseException) -> bool:
    """Return whether an error is temporary, so that a retry may succeed."""
    code, status = error_code(err)
    if code or status:
        return code in _PASSING or status in (408, 409, 429) or (status >= 500 and status != 501)
    if isinstance(err, (TimeoutError, ConnectionError)):
        return True
    if type(err).__module__.partition(".")[0] not in ("botocore", "aiobotocore", "aiohttp", "urllib3", "s3fs"):
        return False
    import aiohttp
    import botocore.exceptions as boto
    import botocore.parsers

    kinds = (
        boto.ConnectionError,
        boto.HTTPClientError,
        boto.IncompleteReadError,
        boto.FlexibleChecksumError,
        boto.CredentialRetrievalError,
        botocore.parsers.ResponseParserError,
        aiohttp.ClientError,
    )
    return isinstance(err, kinds)


def redact(text: str) -> str:
    """Remove what looks like a credential from a text."""
    text = re.sub(r"://[^/@\s\"']+@", "://***@", text)
    text = re.sub(r"(?i)(signature|credential|security-token|accesskeyid)=[^&\s\"']+", r"\1=***", text)
    for name in _SECRETS:
        value = os.environ.get(name, "")
        if len(value) >= 8:
            text = text.replace(value, "***")
    return text


def _text(err: BaseException) -> str:
    code, status = error_code(err)
    said = redact(str(err)) or type(err).__name__
    return f"{status} {code}: {said}" if status and code != str(status) else said


def _settle(what: str, err: Exception) -> Exception:
    """Return the error to raise for one of the client's that is not temporary."""
    code, status = error_code(err)
    kind = type(err).__name__
    if code in _CREDENTIALS or kind in ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"):
        return FatalError(
            f"{what}: the object store refuses the credentials ({code or kind}). Set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY or AWS_PROFILE, and AWS_ENDPOINT_URL for a store that is not Amazon's."
        )
    if code == "NoSuchBucket":
        return FatalError(f"{what}: there is no such bucket at this endpoint: make it, or correct the URL")
    if isinstance(err, FileNotFoundError):
        return FileNotFoundError(errno.ENOENT, "not found", what)
    if isinstance(err, PermissionError) or status in (401, 403):
        return PermissionError(errno.EACCES, f"access denied ({_text(err)})", what)
    if code or status or type(err).__module__.partition(".")[0] in ("botocore", "aiobotocore", "aiohttp"):
        return FfpdataError(f"{what}: {_text(err)}")
    return err
