"""What a worker keeps from one stage to the next."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffpdata.core.stage import Artifact, Item, Resources, Row, Stage
from ffpdata.media import clip_cache
from ffpdata.media.codec import read_video, write_video
from ffpdata.runners.task import Task
from ffpdata.runners.worker import Worker, WorkerReply
from ffpdata.storage.store import Store

CARD_SECONDS = 0.3
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


class OnCard(Stage):
    """Edits a clip on a card that takes a while; some clips are edited into what cannot be encoded."""

    name = "on_card"
    reads = ("video", "gain")
    writes = {"edit": Artifact("mp4"), "began": float, "ended": float}
    resources = Resources(gpus=1, timeout=5.0)

    def process(self, row: Row) -> Mapping[str, Any]:
        frames = read_video(row.file("video"))
        began = time.time()
        time.sleep(CARD_SECONDS if row["gain"] else 1.5)
        edited = frames // max(row["gain"], 1)
        ended = time.time()
        target = row.new_file("edit")
        write_video(target, edited[:, :-1] if row["gain"] == 3 else edited, 16)
        return {"edit": target, "began": began, "ended": ended}


def edits(folder: Path, gains: list[int], overlap: int) -> list[WorkerReply]:
    """Send a worker one call per gain, as many at once as it takes."""
    rng = np.random.default_rng(7)
    write_video(folder / "clip.mp4", rng.integers(0, 255, (33, 128, 192, 3), np.uint8), 16)
    stage = OnCard()
    stage.resources = Resources(gpus=1, timeout=60.0)
    worker = Worker([stage], Store(folder), 1, overlap=overlap)
    tasks = [Task(Item(f"g{gain}", {"video": "clip.mp4", "gain": gain}), f"key{gain}", 0) for gain in gains]
    with ThreadPoolExecutor(overlap) as calls:
        return list(calls.map(lambda task: worker.run([task]), tasks))


def test_files_are_read_and_written_while_the_card_works(tmp_path: Path) -> None:
    """The files, rows and errors are those of a worker that takes one item after another."""
    gains, told = [1, 2, 3, 4, 5], {}
    for overlap in (1, 4):
        folder = tmp_path / str(overlap)
        folder.mkdir()
        start, cpu = time.perf_counter(), time.process_time()
        replies = edits(folder, gains, overlap)
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        outcomes = [outcome for reply in replies for outcome in reply.outcomes]
        files = {path.name: path.read_bytes() for path in folder.glob("artifacts/edit/*/*.mp4")}
        told[overlap] = (files, [(o.status, o.reason, o.error[-60:], o.artifacts) for o in outcomes])
        spans = sorted((o.children[0].columns["began"], o.children[0].columns["ended"]) for o in outcomes if o.children)
        assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))
        assert all(reply.seconds >= CARD_SECONDS for reply in replies)
        if overlap > 1:
            held, own = sum(reply.seconds for reply in replies), sum(o.seconds for o in outcomes)
            assert held < wall < own, "items overlap, and none counts the seconds that it waited for another"
            children = sum(o.cpu_seconds for o in outcomes) - cpu
            assert 0 < children < wall * 2, "CPU seconds are divided among the items in hand"
        assert list(folder.glob(".tmp/*")) == []
    assert told[4] == told[1]
    assert [status for status, *_ in told[4][1]] == ["ok", "ok", "failed", "ok", "ok"]


def test_an_item_above_its_time_limit_is_told_of_by_name(tmp_path: Path) -> None:
    """A call that only waits for its turn is not late."""
    stage = OnCard()
    stage.resources = Resources(gpus=1, timeout=0.8)
    worker = Worker([stage], Store(tmp_path), 1, overlap=3)
    write_video(tmp_path / "clip.mp4", np.zeros((5, 32, 48, 3), np.uint8), 16)
    tasks = [Task(Item(f"g{gain}", {"video": "clip.mp4", "gain": gain}), f"key{gain}", 0) for gain in (1, 2, 4)]
    with ThreadPoolExecutor(3) as calls:
        replies = list(calls.map(lambda task: worker.run([task]), tasks))
    assert [reply.late for reply in replies] == [0, 0, 0]
    assert sum(reply.seconds for reply in replies) > 0.8
    late = worker.run([Task(Item("g0", {"video": "clip.mp4", "gain": 0}), "key0", 0)])
    assert late.late > 0.8
    assert late.outcomes == []
