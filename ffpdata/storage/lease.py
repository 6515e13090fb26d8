"""A lease on an object store: the lock of a run folder there, one small object that its holder renews.

The object is created and renewed by conditional PUTs, so of two processes that try one wins. The holder renews it every
`BEAT_SECONDS`; a lease that was not renewed for its `seconds` may be taken over. Clocks of two machines are never
compared: the age of a lease is the server's `Date` less the object's `LastModified`, and a holder measures on its own
clock from before its last successful PUT, so it stops before anybody may take over.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from fsspec.asyn import sync

from ffpdata.core.errors import FatalError, RunLockedError
from ffpdata.storage.object_store import error_code, open_fs, patient

LEASE_SECONDS = 60.0
"""A lease that was not renewed for this long has expired."""
MAX_LEASE_SECONDS = 86_400.0
"""Longest valid lease: an object that claims more is treated as damaged."""
BEAT_SECONDS = 10.0
"""Seconds between renewals; `HURRY_SECONDS` after a failed one, if that is less."""
HURRY_SECONDS = 2.0
REQUEST_SECONDS = 10.0
"""Timeout of one request of a renewal."""
RELEASE_SECONDS = 3.0
"""How long a release is retried on a store that does not answer; after that the lease expires by itself."""
MARGIN_SECONDS = 2.0
"""Seconds after its expiry from which a lease is taken over: servers report whole seconds."""


@dataclass(frozen=True)
class StoredLease:
    """A lease as stored.

    Attributes:
        etag: of the object.
        holder: what its holder wrote about itself; empty where it cannot be read.
        age: seconds since it was renewed, by the server's clock; None where the server reports no time.
    """

    etag: str
    holder: dict[str, Any]
    age: float | None

    @property
    def seconds(self) -> float:
        """Seconds from a renewal to expiry, as its holder set them."""
        value = self.holder.get("seconds")
        if isinstance(value, (int, float)) and 0 < value <= MAX_LEASE_SECONDS:
            return float(value)
        return LEASE_SECONDS

    @property
    def left(self) -> float:
        """Seconds until it may be taken over; 0 where it may be taken over now."""
        if _died_here(self.holder):
            return 0.0
        return max(self.seconds + MARGIN_SECONDS - (self.age or 0.0), 0.0)

    def __str__(self) -> str:
        holder = self.holder
        until = datetime.now(UTC) + timedelta(seconds=self.left)
        return (
            f"process {holder.get('pid', '?')} on {holder.get('host', '?')} since {holder.get('since', '?')}; unless "
            f"renewed its lease ends at {until.isoformat('T', 'seconds')}, in {self.left:.0f} s"
        )


class Lease:
    """The right to write one run folder on S3.

    Args:
        url: of the lease's object.
        seconds: from a renewal to expiry; `LEASE_SECONDS` by default.
        beat: seconds between renewals; `BEAT_SECONDS` by default.
        clock: a clock in seconds that also runs while the machine sleeps.
    """

    def __init__(
        self,
        url: str,
        *,
        seconds: float | None = None,
        beat: float | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.url = url
        self._seconds = LEASE_SECONDS if seconds is None else seconds
        self._beat = min(BEAT_SECONDS if beat is None else beat, self._seconds / 3)
        self._clock = clock or _boot_time
        # A file system of its own: a renewal does not wait behind transfers and is not retried for long.
        self._fs = open_fs(url, attempts=1, timeout=min(REQUEST_SECONDS, self._seconds / 3))
        self._bucket, self._key, _ = self._fs.split_path(url)
        self._token = uuid.uuid4().hex
        self._since = datetime.now(UTC).isoformat("T", "seconds")
        self._beats = 0
        self._etag = ""
        self._renewed = 0.0
        self._lost = ""
        self._conditions = True
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._renew_until_released, name="lease", daemon=True)

    def acquire(self) -> None:
        """Acquire the lease and start renewing it.

        Raises:
            RunLockedError: another process holds it.
        """
        for _ in range(5):
            found = self.read()
            if found and found.age is None:
                found = self._observe(found)
            if found and found.left > 0 and not found.holder:
                raise RunLockedError(
                    f"{self.url} is damaged: it does not tell which run holds it. If none is going on, try again in "
                    f"{found.left:.0f} s, when it has expired, or remove it; or name another --run folder."
                )
            if found and found.left > 0:
                raise RunLockedError(
                    f"{self.url.rpartition('/')[0]} is being written by another run ({found}). "
                    "Wait for it to end, stop it, or name another --run folder."
                )
            if self._put({"IfMatch": found.etag} if found else {"IfNoneMatch": "*"}, patience=None):
                break
        else:
            raise RunLockedError(f"{self.url}: other runs are starting in this folder. Try again in a minute.")
        self._try_conditions()
        self._thread.start()

    def check(self) -> None:
        """Raise FatalError where the lease was lost: then nothing more may be written."""
        if not self._lost and self._left() <= 0:
            self._lost = f"it could not renew its lease for {self._seconds:.0f} s"
        if self._lost:
            raise FatalError(
                f"{self.url.rpartition('/')[0]}: this run stops because {self._lost}. Nothing more is committed; "
                "what is finished is kept, and the same command resumes it."
            )

    def release(self) -> None:
        """Stop renewing and delete the lease, so that the next run can start at once."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()
        until = time.monotonic() + RELEASE_SECONDS
        while not self._lost and self._left() > self._seconds / 3:  # nobody can have taken it over yet
            with suppress(Exception):
                found = self.read(seconds=0)  # each time: the response to a deletion may have been lost
                if found and found.holder.get("token") == self._token:
                    self._fs.call_s3("delete_object", Bucket=self._bucket, Key=self._key)
                return
            if time.monotonic() > until:
                return
            time.sleep(0.1)

    def read(self, seconds: float | None = None) -> StoredLease | None:
        """Read the stored lease; None where there is none. `seconds` limits retries as in `object_store.patient`."""
        try:
            found: StoredLease = patient(self.url, lambda: sync(self._fs.loop, self._get), seconds)
        except FileNotFoundError:
            return None
        except PermissionError as err:
            raise FatalError(f"{self.url}: {err.strerror}. Check what the credentials may do in this bucket.") from None
        return found

    async def _get(self) -> StoredLease:
        reply = await self._fs._call_s3("get_object", Bucket=self._bucket, Key=self._key)
        body = reply["Body"]
        try:
            data = await asyncio.wait_for(body.read(), REQUEST_SECONDS)
        finally:
            body.close()
        date = reply["ResponseMetadata"]["HTTPHeaders"].get("date")
        age = (parsedate_to_datetime(date) - reply["LastModified"]).total_seconds() if date else None
        try:
            holder = json.loads(data)
        except (ValueError, RecursionError):
            holder = {}
        return StoredLease(reply["ETag"], holder if isinstance(holder, dict) else {}, age)

    def _observe(self, found: StoredLease) -> StoredLease | None:
        """Watch a lease on a store that reports no time, until it changes or would have expired."""
        begun = self._clock()
        while (watched := self._clock() - begun) < found.seconds + MARGIN_SECONDS and not _died_here(found.holder):
            time.sleep(min(1.0, found.seconds / 5))
            now = self.read()
            if now is None or now.etag != found.etag:
                return now
        return StoredLease(found.etag, found.holder, watched)

    def _try_conditions(self) -> None:
        """Test whether the store supports conditional PUTs. Without them a lease is read again before it is renewed."""
        if self._conditions and (etag := self._send({"IfNoneMatch": "*"}, None)):
            self._conditions, self._etag = False, etag
        if not self._conditions:
            time.sleep(2 * MARGIN_SECONDS)  # of runs that start at the same time, the last one to write wins
            if reason := self._renew():
                raise RunLockedError(f"{self.url}: {reason}")

    def _put(self, condition: dict[str, str], patience: float | None) -> bool:
        """Write the lease under a condition; False where another process has written its own."""
        for _ in range(3):
            sent = self._clock()
            etag = self._send(condition, patience)
            if etag:
                self._etag, self._renewed = etag, sent
                return True
            found = self.read(patience)
            if found is None or found.holder.get("token") != self._token:
                return False
            condition = {"IfMatch": found.etag}  # an earlier PUT arrived, but its response was lost
        return False

    def _send(self, condition: dict[str, str], patience: float | None) -> str:
        """Send one PUT and return the new etag; empty where the condition was not met."""
        self._beats += 1
        holder = {
            "token": self._token,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "machine": _machine(),
            "born": _born(os.getpid()),
            "since": self._since,
            "beat": self._beats,
            "seconds": self._seconds,
        }
        request = {"Bucket": self._bucket, "Key": self._key, "Body": json.dumps(holder).encode()}

        def send() -> str:
            try:
                return str(self._fs.call_s3("put_object", **request, **(condition if self._conditions else {}))["ETag"])
            except Exception as err:
                code, status = error_code(err)
                if self._conditions and (code == "NotImplemented" or status == 501):
                    self._conditions = False
                    return send()
                if status in (404, 412) and code != "NoSuchBucket":
                    return ""
                raise

        try:
            return patient(self.url, send, patience)
        except PermissionError as err:
            raise FatalError(f"{self.url}: {err.strerror}. Check what the credentials may do in this bucket.") from None

    def _renew(self) -> str:
        """Renew the lease once; return why it was lost, empty where it was renewed."""
        if self._conditions and self._put({"IfMatch": self._etag}, patience=0):
            return ""
        found = self.read(seconds=0)
        if found is None:
            return "its lease was removed"
        if found.holder.get("token") != self._token:
            return f"the run folder was taken over by another run ({found})"
        self._put({"IfMatch": found.etag}, patience=0)
        return ""

    def _renew_until_released(self) -> None:
        """Renew the lease in the background until it is released or lost."""
        wait = self._beat
        while not self._end.wait(wait):
            wait = self._beat
            try:
                lost = self._renew()
                self._lost = self._lost or lost
            except Exception:  # noqa: BLE001 - whatever the error, the lease is still valid for a while and is retried
                wait = min(self._beat, HURRY_SECONDS)
            if self._lost or self._left() <= 0:
                with suppress(FatalError):
                    self.check()
                return

    def _left(self) -> float:
        return self._seconds - (self._clock() - self._renewed)


def _boot_time() -> float:
    """Return seconds of a clock that also runs while the machine sleeps, where the system has one."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def _machine() -> str:
    """Return an id of this boot and process namespace, in which process ids are comparable; empty where unknown."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _born(pid: int) -> str:
    """Return a process's start time in kernel ticks; empty where it is unknown or the process is dead."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return ""
    return "" if state in ("Z", "X") else fields[18]


def _died_here(holder: dict[str, Any]) -> bool:
    """Return whether a holder ran on this machine and is certainly dead; a later process may have its id."""
    machine, pid = _machine(), holder.get("pid")
    if not machine or holder.get("machine") != machine or not isinstance(pid, int) or not holder.get("born"):
        return False
    if pid <= 0:  # os.kill would address a group of processes
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return bool(_born(pid) != holder["born"])
