"""What a worker keeps from one stage to the next."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffpdata.core.stage import Item, Row, Stage
from ffpdata.media import clip_cache
from ffpdata.media.codec import write_video
from ffpdata.runners.task import Task
from ffpdata.runners.worker import Worker
from ffpdata.storage.store import Store

CLIP_GB = 5 * 32 * 48 * 3 / 1e9


class Look(Stage):
    """Tells where in memory the clip lies that it was given."""

    name = "look"
    reads = ("video",)
    writes = {"address": str}

    def process(self, row: Row) -> dict[str, Any]:
        return {"address": str(clip_cache.cached_video(row.file("video")).ctypes.data)}


@pytest.fixture(autouse=True)
def nothing_at_hand() -> Iterator[None]:
    yield
    clip_cache.start_item("")


@pytest.mark.parametrize("keep", [True, False])
def test_an_items_clips_stay_for_its_next_stage_and_no_longer(tmp_path: Path, keep: bool) -> None:
    for name in "ab":
        frames = np.random.default_rng(ord(name)).integers(0, 255, (5, 32, 48, 3), np.uint8)
        write_video(tmp_path / f"{name}.mp4", frames, 16)
    worker = Worker([Look(), Look()], Store(tmp_path), 1, keep_clips=keep)

    def address(stage: int, name: str) -> str:
        task = Task(Item(name, {"video": f"{name}.mp4"}), f"{stage}{name}", stage, adopt=False)
        [outcome] = worker.run([task]).outcomes
        return str(outcome.children[0].columns["address"])

    first = address(0, "a")
    assert clip_cache.cached_gb() == (CLIP_GB if keep else 0)
    if keep:
        assert address(1, "a") == first
    address(0, "b")
    assert clip_cache.cached_gb() == (CLIP_GB if keep else 0)
    worker.close()
    assert clip_cache.cached_gb() == 0
