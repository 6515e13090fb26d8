"""Files on an S3 server that is busy, slow, broken or away."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from ffpdata.core.errors import ConfigError, FatalError, RetryableError
from ffpdata.manifests.manifest import COMMON, Manifest, ManifestWriter
from ffpdata.manifests.views import connect, records
from ffpdata.storage import object_store, scratch
from ffpdata.storage.object_store import redact
from ffpdata.storage.scratch import process_scratch
from ffpdata.storage.store import Store
from tests.s3_server import SECRET, FlakyProxy, s3_proxy

pytestmark = pytest.mark.slow


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FlakyProxy]:
    monkeypatch.setenv(scratch.FOLDER_VARIABLE, str(tmp_path / "scratch"))
    monkeypatch.setattr(scratch, "_process", {})
    with s3_proxy(monkeypatch) as found:
        yield found


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """An outage is over, or given up, soon."""
    monkeypatch.setattr(object_store, "OUTAGE_SECONDS", 0.5)
    monkeypatch.setattr(object_store, "FIRST_WAIT", 0.1)
    monkeypatch.setattr(object_store, "REQUEST_ATTEMPTS", 1)


def test_every_operation_lives_through_faults(proxy: FlakyProxy) -> None:
    store = Store("s3://bucket/run")
    proxy.rate, proxy.slow_seconds = 0.3, 0.05
    for number in range(10):
        data = bytes([number]) * 50_000
        store.write(f"a/{number}.bin", data)
        temp = store.temp_file("x.bin")
        temp.write_bytes(data)
        store.commit(temp, f"b/{number}.bin")
        assert not temp.exists()
        assert store.read(f"a/{number}.bin") == data
        assert store.fetch(f"b/{number}.bin").read_bytes() == data
        assert store.size(f"b/{number}.bin") == 50_000
        assert store.exists(f"a/{number}.bin")
        assert not store.exists(f"a/{number}.gone")
        with store.open(f"a/{number}.bin") as stream:
            assert stream.read() == data
        store.remove(f"a/{number}.bin")
        store.remove(f"a/{number}.bin")
    assert store.list("a") == []
    assert store.list("b") == [f"b/{number}.bin" for number in range(10)]
    assert store.folders("") == ["b"]
    with pytest.raises(FileNotFoundError):
        store.read("a/0.bin")
    assert set(proxy.faulty) == {"500", "503", "slow", "reset", "lost", "cut"}


@pytest.mark.usefixtures("short")
def test_an_outage_is_an_error_to_try_again(proxy: FlakyProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store("s3://bucket/run")
    store.write("a", b"x")
    temp = store.temp_file("x.bin")
    temp.write_bytes(b"x")
    proxy.down = True
    for call in (
        lambda: store.read("a"),
        lambda: store.write("a", b"y"),
        lambda: store.list(""),
        lambda: store.exists("b"),
        lambda: store.fetch("a"),
        lambda: store.commit(temp, "b"),
    ):
        with pytest.raises(RetryableError, match=r"has not answered as it should for .*(SlowDown|Unavail)"):
            call()
    assert list(process_scratch().folder.iterdir()) == [], "nothing half made is left"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(RetryableError, match="Could not connect"):
        Store("s3://bucket/run").read("a")


@pytest.mark.usefixtures("short")
def test_a_driver_whose_store_is_away_stops_with_one_message(proxy: FlakyProxy) -> None:
    manifest = Manifest(Store("s3://bucket/run"))
    row = dict.fromkeys(COMMON.names) | {"item_id": "a", "stage": "x"}
    with pytest.raises(FatalError, match="cannot go on without its storage"), ManifestWriter(manifest) as writer:
        writer.add("x", [row], COMMON)
        proxy.down = True


def test_a_writer_that_may_not_write_any_more_writes_nothing(proxy: FlakyProxy) -> None:
    def guard() -> None:
        raise FatalError("taken over")

    manifest = Manifest(Store("s3://bucket/run"))
    with pytest.raises(FatalError, match="taken over"), ManifestWriter(manifest, guard=guard) as writer:
        writer.add("x", [dict.fromkeys(COMMON.names) | {"item_id": "a"}], COMMON)
    assert manifest.stages() == []


def test_wrong_credentials_and_buckets_say_so_at_once(proxy: FlakyProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FatalError, match="no such bucket"):
        Store("s3://nowhere/run").write("a", b"x")
    error = "<?xml version='1.0'?><Error><Code>{}</Code><Message>key " + SECRET + " is wrong</Message></Error>"
    for code, says in {
        "InvalidAccessKeyId": "refuses the credentials",
        "AccessDenied": "access denied.*Check what the credentials may do",
    }.items():
        answer = error.format(code).encode()
        monkeypatch.setattr(proxy, "forward", lambda *_, answer=answer: (403, {}, answer))
        with pytest.raises(FatalError, match=says) as caught:
            Store("s3://bucket/run").write("a", b"x")
        assert SECRET not in str(caught.value)
        assert caught.value.__suppress_context__, "a traceback shows what the client said"


def test_no_secret_in_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    text = redact(f"http://me:{SECRET}@host/b?X-Amz-Signature=abc&x=1 {SECRET} s3://bucket/a@b")
    assert text == "http://***@host/b?X-Amz-Signature=***&x=1 *** s3://bucket/a@b"
    with pytest.raises(ConfigError) as caught:
        Store(f"s3://key:{SECRET}@bucket/run")
    assert SECRET not in str(caught.value)


def test_sql_reads_a_part_once(proxy: FlakyProxy) -> None:
    store = Store("s3://bucket/run")
    manifest = Manifest(store)
    for number in range(3):
        row = dict.fromkeys(COMMON.names) | {"item_id": str(number), "stage": "x", "track": "t"}
        manifest.append("x", [row], COMMON)
    proxy.requests.clear()
    proxy.rate = 0.2
    with connect(store) as connection:
        for _ in range(5):
            found = records(connection, "select item_id from x_history order by 1")
            assert [row["item_id"] for row in found] == ["0", "1", "2"]
    assert proxy.requests["HEAD"] == 0
    downloads = proxy.requests["GET"] - sum(proxy.faulty.values())
    assert downloads < 20


def test_uploads_in_parts_that_nobody_finished_are_given_up(proxy: FlakyProxy) -> None:
    store = Store("s3://bucket/run")
    for key in ("run/artifacts/a/x.mp4", "other/artifacts/a/x.mp4"):
        store.fs.call_s3("create_multipart_upload", Bucket="bucket", Key=key)
    store.clean_temp()
    left = store.fs.call_s3("list_multipart_uploads", Bucket="bucket")
    assert [upload["Key"] for upload in left["Uploads"]] == ["other/artifacts/a/x.mp4"]


def test_a_store_goes_to_another_process(proxy: FlakyProxy) -> None:
    store = Store("s3://bucket/run")
    store.write("a", b"x")
    assert pickle.loads(pickle.dumps(store)).read("a") == b"x"  # noqa: S301
