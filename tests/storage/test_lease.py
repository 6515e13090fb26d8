"""On an object store a run folder has one writer too."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from ffpdata.core.errors import FatalError, RunLockedError
from ffpdata.storage import lease as lease_module
from ffpdata.storage.lease import Lease
from ffpdata.storage.lock import is_locked, run_lock
from ffpdata.storage.store import Store
from tests.s3_server import FlakyProxy, s3_proxy

URL = "s3://bucket/run/run.lock"


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[FlakyProxy]:
    with s3_proxy(monkeypatch) as found:
        yield found


def wait_for(what, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)


def test_a_second_driver_is_refused_and_a_released_folder_is_free_at_once(proxy: FlakyProxy) -> None:
    store = Store("s3://bucket/run")
    assert not is_locked(store)
    with run_lock(store) as held:
        held.check()
        assert is_locked(Store("s3://bucket/run"))
        says = r"s3://bucket/run is being written .*process \d+ on .* since .* in \d+ s"
        with pytest.raises(RunLockedError, match=says), run_lock(Store("s3://bucket/run")):
            pass
        held.check()
    assert not is_locked(store)
    with run_lock(store):
        pass
    assert not store.exists("run.lock")


def test_of_drivers_that_start_at_the_same_moment_one_wins(proxy: FlakyProxy) -> None:
    start, results = threading.Barrier(6), []

    def drive() -> None:
        lease = Lease(URL)
        start.wait()
        try:
            lease.acquire()
            results.append(lease)
        except RunLockedError as err:
            results.append(err)

    threads = [threading.Thread(target=drive) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [winner] = [r for r in results if isinstance(r, Lease)]
    winner.check()
    winner.release()


HOLD = (
    "import sys, time; from ffpdata.storage import lease; lease.LEASE_SECONDS = 4.0\n"
    "{}\n"
    "from ffpdata.storage.lock import run_lock; from ffpdata.storage.store import Store\n"
    "with run_lock(Store('s3://bucket/run')):\n    print('held', flush=True); time.sleep(60)"
)


def kill_a_driver(extra: str) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD.format(extra)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert is_locked(Store("s3://bucket/run"))
        holder.send_signal(signal.SIGKILL)


@pytest.mark.slow
def test_a_killed_drivers_lease_is_taken_over_when_it_has_expired(proxy: FlakyProxy) -> None:
    kill_a_driver("lease._machine = lambda: 'another machine'")
    with pytest.raises(RunLockedError, match="unless renewed its lease ends at"), run_lock(Store("s3://bucket/run")):
        pass
    wait_for(lambda: not is_locked(Store("s3://bucket/run")))
    with run_lock(Store("s3://bucket/run")) as held:
        held.check()


def test_a_driver_killed_on_this_machine_holds_nothing(proxy: FlakyProxy) -> None:
    kill_a_driver("")
    assert not is_locked(Store("s3://bucket/run"))
    with run_lock(Store("s3://bucket/run")) as held:
        held.check()


@pytest.mark.slow
def test_a_driver_whose_lease_was_taken_stops(proxy: FlakyProxy) -> None:
    """Its heart stood still, as on a machine that slept; when it beats again another run is at work."""
    asleep = threading.Event()
    first = Lease(URL, seconds=2.0, beat=0.2, clock=lambda: 0.0)  # its clock stands still too: it cannot know
    send = first._send

    def sleeping(*args) -> str:
        while asleep.is_set():
            time.sleep(0.05)
        return send(*args)

    first._send = sleeping  # type: ignore[method-assign]
    first.acquire()
    first.check()
    asleep.set()
    second = Lease(URL)
    wait_for(lambda: second.read().left == 0)
    second.acquire()
    first.check()
    asleep.clear()
    wait_for(lambda: first._lost)
    with pytest.raises(FatalError, match=r"stops because the run folder was taken over by another run \(process"):
        first.check()
    first.release()
    second.check()
    assert second.read().holder["token"] == second._token, "the first one took nothing away"
    second.release()


def test_a_driver_that_cannot_renew_stops_before_its_lease_ends(proxy: FlakyProxy) -> None:
    lease = Lease(URL, seconds=2.0, beat=0.2)
    lease.acquire()
    proxy.down = True
    wait_for(lambda: lease._lost)
    with pytest.raises(FatalError, match="could not renew its lease for 2 s"):
        lease.check()
    proxy.down = False
    with pytest.raises(FatalError):
        lease.check()
    lease.release()


@pytest.mark.slow
def test_a_lease_lives_through_faults(proxy: FlakyProxy) -> None:
    """Also where a renewal arrives and its answer does not: then the etag is another than the holder knows."""
    proxy.rate, proxy.slow_seconds = 0.4, 0.1
    lease = Lease(URL, seconds=20.0, beat=0.05)
    lease.acquire()
    wait_for(lambda: sum(proxy.faulty.values()) > 12 and proxy.faulty["lost"] > 2, 60)
    lease.check()
    proxy.rate = 0.0
    lease.release()
    assert lease.read() is None


def test_a_removed_lease_stops_its_driver(proxy: FlakyProxy) -> None:
    lease = Lease(URL, seconds=5.0, beat=0.1)
    lease.acquire()
    Store("s3://bucket/run").remove("run.lock")
    wait_for(lambda: lease._lost)
    with pytest.raises(FatalError, match="its lease was removed"):
        lease.check()
    lease.release()


@pytest.mark.slow
def test_a_server_that_tells_no_time_is_watched(proxy: FlakyProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    kill_a_driver("lease._machine = lambda: 'another machine'")
    read = Lease.read

    def timeless(self, *args, **kwargs):
        found = read(self, *args, **kwargs)
        return found and lease_module.StoredLease(found.etag, found.holder, None)

    monkeypatch.setattr(Lease, "read", timeless)
    lease = Lease(URL, seconds=2.0)
    lease.acquire()  # the dead one's lease did not change for as long as it lives
    with pytest.raises(RunLockedError):
        Lease(URL).acquire()  # the live one's does
    lease.release()


def test_a_store_without_conditional_writes(proxy: FlakyProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some ignore the conditions: a lease is then read before it is renewed."""
    forward = proxy.forward

    def deaf(method, path, headers, body):
        return forward(method, path, {k: v for k, v in headers.items() if not k.lower().startswith("if-")}, body)

    monkeypatch.setattr(proxy, "forward", deaf)
    monkeypatch.setattr(lease_module, "MARGIN_SECONDS", 0.2)
    first = Lease(URL, seconds=10.0, beat=0.1)
    first.acquire()
    with pytest.raises(RunLockedError):
        Lease(URL).acquire()
    Store("s3://bucket/run").write("run.lock", b'{"token": "another"}')
    wait_for(lambda: first._lost)
    with pytest.raises(FatalError, match="taken over"):
        first.check()
    first.release()


@pytest.mark.parametrize("content", [b"", b"no JSON", b"\xff\xfe\x00", b"[1]", b"[" * 100_000])
def test_a_damaged_lease_is_named_and_expires(
    proxy: FlakyProxy, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    store = Store("s3://bucket/run")
    begun = time.monotonic()
    store.write("run.lock", content)
    assert is_locked(store), "it may be somebody's"
    says = rf"^{URL} is damaged: it does not tell which run holds it. If none is going on, try again in (\d+) s, "
    with pytest.raises(RunLockedError, match=says) as caught, run_lock(store):
        pass
    whole = lease_module.LEASE_SECONDS + lease_module.MARGIN_SECONDS
    past = time.monotonic() - begun + 1  # the server tells whole seconds
    left = re.match(says, str(caught.value))
    assert left
    assert whole - past - 1 <= int(left[1]) <= whole
    monkeypatch.setattr(lease_module, "LEASE_SECONDS", 0.1)
    monkeypatch.setattr(lease_module, "MARGIN_SECONDS", 0.1)
    wait_for(lambda: not is_locked(store))
    taken = Lease(URL, seconds=60.0)
    taken.acquire()
    taken.check()
    taken.release()


@pytest.mark.parametrize("seconds", ["NaN", "Infinity", "-5", "0", "1e300", '"60"', "null", "9" * 400])
@pytest.mark.parametrize("pid", ["7", "-1", "0", "9" * 40])
def test_a_lease_that_claims_what_cannot_be_is_held_for_a_minute(seconds: str, pid: str) -> None:
    holder = json.loads(f'{{"host": "h", "since": "now", "seconds": {seconds}, "pid": {pid}, "born": "1"}}')
    found = lease_module.StoredLease("etag", holder | {"machine": "elsewhere"}, 2.0)
    assert found.left == lease_module.LEASE_SECONDS + lease_module.MARGIN_SECONDS - 2.0
    assert f"process {pid} on h since now; unless renewed its lease ends at" in str(found)
    here = lease_module.StoredLease("etag", holder | {"machine": lease_module._machine()}, 2.0)
    assert here.left in (0.0, found.left)
    assert "in " in str(here)
