"""Run folders with many finished pairs, whose files are a few clips under different names."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path
from typing import Any

from ffpdata.core.stage import Item
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.media.codec import write_masks, write_video
from tests.fixture_run import FPS, GEOMETRY, HOSTILE, RunMaker, background, mask, measures, pipelines, source


class Copies(RunMaker):
    """Takes files where `RunMaker` takes arrays."""

    def _write(self, final: Path, value: Any) -> None:
        shutil.copyfile(value, final)


@cache
def facts() -> dict[str, Any]:
    """Columns of `measure`, the same for every pair."""
    return measures(source(1), background(1), psnr_outside=41.0, change_inside=12.5)


def clips(folder: Path) -> dict[str, Path]:
    """A tiny source, target and mask."""
    files = {name: folder / f"{name}.mp4" for name in ("source", "target", "mask")}
    write_video(files["source"], source(1), FPS)
    write_video(files["target"], background(1), FPS)
    write_masks(files["mask"], mask(1), FPS)
    return files


def make_pairs(root: Path, count: int, files: dict[str, Path], geometry: dict[str, Any] = GEOMETRY) -> RunFolder:
    """Build a run with `count` finished removals, one per source, with verify scores from 5 to 10.

    Args:
        root: the run folder.
        count: at most 10,000.
        files: `source`, `target` and `mask`.
        geometry: columns of `ingest` that tell the clips' size.
    """
    make = Copies(root)
    make.start(*pipelines())
    for number in range(count):
        source_id = f"{number:016x}"
        sourced = {"path": f"{number}.mp4", "kind": "video", "sha": source_id, "bytes": 1000, "licence": "CC0-1.0"}
        (item,) = make.step("local", "source", Item(f"input/{source_id}"), (source_id, sourced))
        (item,) = make.step("local", "ingest", item, ("00", {"source_video": files["source"], **geometry}))
        item = make.walk("local", item, identify={"objects": ["dog"], "object": "dog"}, caption={"caption": HOSTILE})
        edit = {"task": "removal", "variant": "bbox", "seed": number}
        (item,) = make.step("local", "propose", item, ("removal/bbox", edit))
        score = 5 + 5 * number / count
        make.walk(
            "local",
            item,
            segment={"mask_video": files["mask"], "phrase": "dog", "segment_score": 0.9},
            removal_caption={"target_caption": HOSTILE},
            condition={"condition_mask": files["mask"], "condition_area": 0.06},
            synthesize={"target_video": files["target"]},
            measure=facts(),
            screen={"screen_score": 9.0, "screen_reason": "clean"},
            instruct={"instruction": f"Remove the dog ({number}). {HOSTILE}"},
            verify={"verify_score": score, "verify_reason": "as asked", "score": score / 10},
            grade={"score": score / 10, "score_faults": []},
        )
    return make.commit()
