"""A run does not wait for a store that only wants to be told how it does."""

from __future__ import annotations

import time

import pytest

from ffpdata.runners import progress as progress_module
from ffpdata.runners.progress import PROGRESS_FILE, Progress
from ffpdata.storage.store import Store
from tests.s3_server import s3_proxy


def test_a_slow_store_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(progress_module, "REMOTE_SECONDS", 0.0)
    with s3_proxy(monkeypatch) as proxy:
        store = Store("s3://bucket/run")
        with Progress(store, ["a"], quiet=True) as progress:
            progress.tick()
            assert store.exists(PROGRESS_FILE)
            proxy.rate, proxy.faults, proxy.slow_seconds = 1.0, ("slow",), 8.0
            begun = time.monotonic()
            progress.tick()
            assert time.monotonic() - begun < 5
            proxy.rate = 0.0
        assert not store.exists(PROGRESS_FILE)
