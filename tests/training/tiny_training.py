"""Tiny samples, and training processes forked from one that has the libraries loaded: importing them is slow."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ffpdata.core.stage import ModelSpec
from ffpdata.media.codec import write_masks, write_video
from ffpdata.training.removal_sample import RemovalSample, content_key
from ffpdata.training.settings import LoraSettings
from ffpdata.training.vace_lora import VaceJob

SHAPE = (9, 64, 64, 3)
LIBRARIES = ["diffsynth.pipelines.wan_video", "diffsynth.diffusion.training_module", "peft", "accelerate"]


def write_sample(folder: Path, number: int) -> RemovalSample:
    """A square on waves, and the waves without it."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[: SHAPE[1], : SHAPE[2]]
    waves = 128 + 60 * np.sin(x / rng.uniform(4, 9))[..., None] * np.cos(y / rng.uniform(4, 9))[..., None] * [
        1,
        0.6,
        0.3,
    ]
    target = np.repeat(waves.astype(np.uint8)[None], SHAPE[0], 0)
    source, masks = target.copy(), np.zeros(SHAPE[:3], bool)
    for t in range(SHAPE[0]):
        left = 8 + 2 * t + number
        source[t, 20:40, left : left + 20] = rng.integers(0, 256, 3)
        masks[t, 16:44, left - 4 : left + 24] = True
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number}.{kind}.mp4" for kind in ("source", "mask", "target")]
    write_video(paths[0], source, 16)
    write_masks(paths[1], masks, 16)
    write_video(paths[2], target, 16)
    return RemovalSample(
        f"clip{number}/removal/bbox", *paths, f"waves {number}", "a square", number, f"pair{number}", "accepted"
    )


def spec_of(checkpoint: Path, **settings: Any) -> ModelSpec:
    return ModelSpec(
        backend="tests.models.tiny_wan:TinyVace",
        model=str(checkpoint),
        settings={"steps": 2, **settings},
        runtime={"device": "cpu"},
    )


def job_of(
    samples: list[RemovalSample], held_out: list[RemovalSample], spec: ModelSpec, folder: Path, **settings: Any
) -> VaceJob:
    folder.mkdir(parents=True, exist_ok=True)
    keys = {sample.item_id: content_key(sample) for sample in (*samples, *held_out)}
    return VaceJob(tuple(samples), tuple(held_out), keys, spec, LoraSettings(**settings), folder)


class Forks:
    """Starts functions in processes that have torch and diffsynth in memory and have computed nothing yet."""

    def __init__(self) -> None:
        os.environ["OMP_NUM_THREADS"] = "1"
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(LIBRARIES)

    def start(self, call: Callable[..., Any], *arguments: Any) -> Any:
        process = self._context.Process(target=_leave, args=(call, *arguments), daemon=True)
        process.start()
        return process

    def run(self, call: Callable[..., Any], *arguments: Any) -> int:
        process = self.start(call, *arguments)
        process.join()
        return process.exitcode


def _leave(call: Callable[..., Any], *arguments: Any) -> None:
    sys.exit(call(*arguments))
