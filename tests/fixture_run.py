"""A real run folder without a model at work: both tracks, small real videos, rows committed as a runner does."""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ffpdata.core.config import Pipeline, load_pipeline
from ffpdata.core.keys import digest
from ffpdata.core.stage import Artifact, Child, Item, Stage
from ffpdata.manifests.manifest import stage_schema
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.media.codec import write_gray, write_image, write_masks, write_video
from ffpdata.media.phash import clip_hashes
from ffpdata.runners.task import Outcome
from ffpdata.storage.digests import file_facts
from tests.shared import built_once

WIDTH, HEIGHT, FRAMES, FPS = 160, 96, 17, 16.0
HOSTILE = (
    "A dog </script><script>window.hacked = true</script><img src=x onerror='window.hacked = true'> caf\u00e9 \u72ac."
)

# What each source is: seed of its scene, and how it goes.
GOOD = ("1" * 16, "2" * 16, "3" * 16)
MIRROR = "4" * 16
"""A mirrored copy of the first good source under another id."""
STYLED_IMAGE, STYLED_CLIP = "5" * 16, GOOD[1]


def background(seed: int) -> np.ndarray:
    """A smooth random scene that pans, uint8 (T, H, W, 3)."""
    small = np.random.default_rng(seed).integers(20, 230, (7, 14, 3), dtype=np.uint8)
    wide = cv2.resize(small, (WIDTH * 2, HEIGHT), interpolation=cv2.INTER_CUBIC)
    return np.stack([wide[:, 2 * t : 2 * t + WIDTH] for t in range(FRAMES)])


def mask(seed: int) -> np.ndarray:
    """A square on its way through the picture, bool (T, H, W)."""
    masks = np.zeros((FRAMES, HEIGHT, WIDTH), bool)
    for t in range(FRAMES):
        x = 20 + 10 * (seed % 5) + 3 * t
        masks[t, 30:62, x : x + 32] = True
    return masks


def source(seed: int) -> np.ndarray:
    """The scene with a checked square in it."""
    frames, masks = background(seed).copy(), mask(seed)
    checks = np.kron(np.indices((4, 4)).sum(0) % 2, np.ones((8, 8))).astype(np.uint8)[..., None]
    patch = np.where(checks, [230, 60, 40], [250, 220, 60]).astype(np.uint8)
    for t in range(FRAMES):
        frames[t][masks[t]] = patch.reshape(-1, 3)
    return frames


def recoloured(seed: int) -> np.ndarray:
    """The scene with the square in other colours."""
    frames, masks = source(seed), mask(seed)
    frames[masks] = frames[masks][:, ::-1]
    return frames


def styled(seed: int, style: int) -> np.ndarray:
    """The scene in two or three flat tones."""
    grey = source(seed).mean(axis=3, keepdims=True)
    levels = 2 + style
    tones = np.random.default_rng(100 + style).integers(0, 255, (levels, 3), dtype=np.uint8)
    return tones[np.minimum(grey[..., 0] * levels / 256, levels - 1).astype(int)]


@cache
def pipelines() -> tuple[Pipeline, Pipeline]:
    """The two pipelines that ffpdata ships, at the size of the fixture."""
    size = [f"clip.width={WIDTH}", f"clip.height={HEIGHT}", f"clip.frames={FRAMES}", f"clip.fps={FPS}"]
    splits = ["curate.splits={train: 0.6, test: 0.4}", "curate.seed=2"]
    return load_pipeline("local_editing", None, size + splits), load_pipeline("stylization", None, size + splits)


class RunMaker:
    """Takes items through stages as a runner does, with given outcomes in place of the stages' work.

    Args:
        root: the run folder.
        seconds: shifts every time that a row tells, as a resumed run on a slower machine would.
    """

    def __init__(self, root: Path, seconds: float = 1.0) -> None:
        self.run = RunFolder(root)
        self._seconds = seconds
        self._rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._stages: dict[tuple[str, str], Stage] = {}

    def start(self, *started: Pipeline) -> None:
        """Record the start of pipelines."""
        for pipeline in started:
            self.run.record_start(pipeline, "clips", None)
            self._stages |= {(pipeline.track, stage.name): stage for stage in pipeline.build()}
        self._began = time.time()

    def step(self, track: str, stage: str, item: Item, *children: tuple[str, Mapping[str, Any]]) -> list[Item]:
        """Pass a stage with one child per (suffix, columns); the values of artifact columns are arrays."""
        made = self._stages[track, stage]
        key = digest(stage, item.item_id, item.upstream)
        outcome = self._outcome(made, item, key, "ok")
        for suffix, columns in children:
            assert set(columns) <= set(made.writes), sorted(set(columns) - set(made.writes))
            placed = {n: self._place(made, n, v, digest(key, suffix), outcome) for n, v in columns.items()}
            source_id = suffix.split("-")[0] if stage == "source" else ""
            outcome.children.append(Child(suffix, placed, source_id))
        self._rows[stage] += outcome.rows(made, item, track)
        return outcome.items(made, item)

    def walk(self, track: str, item: Item, **stages: Mapping[str, Any]) -> Item:
        """Pass several stages that do not fan out, each given its columns."""
        for stage, columns in stages.items():
            item = self.step(track, stage, item, ("", columns))[0]
        return item

    def end(self, track: str, stage: str, item: Item, *, status: str, reason: str, error: str, **facts: Any) -> None:
        """End an item at a stage as rejected or failed."""
        made = self._stages[track, stage]
        outcome = self._outcome(made, item, digest(stage, item.item_id, item.upstream), status)
        outcome.reason, outcome.error, outcome.facts = reason, error, facts
        self._rows[stage] += outcome.rows(made, item, track)

    def commit(self) -> RunFolder:
        """Commit the rows."""
        for stage, rows in self._rows.items():
            writes = {}
            for (_, name), made in self._stages.items():
                writes |= made.writes if name == stage else {}
            self.run.manifest.append(stage, rows, stage_schema(writes))
        self._rows.clear()
        return self.run

    def _outcome(self, stage: Stage, item: Item, key: str, status: str) -> Outcome:
        roles = [stage.specs[role] for role in stage.roles(item.values) if role in stage.specs]
        return Outcome(
            status=status,
            key=key,
            started_at=self._began + self._seconds,
            seconds=self._seconds * (1 + len(stage.name) % 5),
            cpu_seconds=self._seconds,
            worker=f"host-{self._seconds}",
            model=", ".join(f"{spec.load_class().name}@1" for spec in roles),
        )

    def _place(self, stage: Stage, column: str, value: Any, key: str, outcome: Outcome) -> Any:
        kind = stage.writes[column]
        if not isinstance(kind, Artifact):
            return value
        path = f"artifacts/{column}/{key[:2]}/{key}.{kind.ext}"
        final = self.run.store.local_path(path)
        final.parent.mkdir(parents=True, exist_ok=True)
        self._write(final, value)
        outcome.artifacts[path] = file_facts(final)
        return path

    def _write(self, final: Path, value: Any) -> None:
        if final.suffix == ".png":
            write_image(final, value)
        elif value.dtype == bool:
            write_masks(final, value, FPS)
        elif value.ndim == 3:
            write_gray(final, value, FPS)
        else:
            write_video(final, value, FPS)


GEOMETRY = {"width": WIDTH, "height": HEIGHT, "fps": FPS, "frames": FRAMES}


def measures(before: np.ndarray, after: np.ndarray, **more: float) -> dict[str, Any]:
    """Columns of `measure`."""
    hashes = {"source_hash": clip_hashes(before), "target_hash": clip_hashes(after)}
    return hashes | {"change": 9.5, "colour_drift": 0.25, "structure": 0.8, "flicker": 0.1, "motion": 2.5} | more


def local_clip(make: RunMaker, source_id: str, seed: int, *, mirrored: bool = False, score: float = 8.0) -> None:
    """One clip of the local track with two removals (the box one better) and a recolouring."""

    def turned(frames: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(frames[:, :, ::-1]) if mirrored else frames

    before, region = turned(source(seed)), turned(mask(seed))
    after = {"bbox": turned(background(seed)), "mask": turned(background(seed)), "swap": turned(recoloured(seed))}
    facts = {"path": f"{seed}.mp4", "kind": "video", "sha": source_id, "bytes": 1000, "licence": "CC-BY-4.0"}
    facts |= {"url": f"https://example.org/{seed}", "meta": {"camera": "hand", "note": HOSTILE}}
    (item,) = make.step("local", "source", Item(f"input/{source_id}"), (source_id, facts))
    (item,) = make.step("local", "ingest", item, ("00", {"source_video": before, **GEOMETRY, "codec": "h264"}))
    caption = {"caption": HOSTILE if seed == 1 else "A dog crosses a field.", "caption_by": "template"}
    item = make.walk("local", item, identify={"objects": ["dog", "square"], "object": "dog"}, caption=caption)
    found = {"mask_video": region, "phrase": "dog", "segment_score": 0.9, "mask_area": 0.06, "mask_coverage": 1.0}
    edits = [("removal", "bbox"), ("removal", "mask"), ("swap", "mask")]
    children = [(f"{t}/{v}", {"task": t, "variant": v, "seed": 7}) for t, v in edits]
    for (task, variant), child in zip(edits, make.step("local", "propose", item, *children), strict=True):
        target, points = after[variant if task == "removal" else "swap"], score - ((task, variant) == edits[1])
        stages: dict[str, Any] = {"segment": found | {"segment_facts": {"temporal_iou": 0.9}}}
        if task == "removal":
            stages["removal_caption"] = {"target_caption": "A field."}
        stages |= {
            "condition": {"condition_mask": region, "condition_area": 0.06},
            "synthesize": {"target_video": target, "edit_facts": {"unrevealed": 0.02}},
            "measure": measures(before, target, psnr_outside=40.0 + seed, change_inside=12.5),
        }
        if task == "removal":
            stages["screen"] = {"screen_score": score, "screen_reason": "clean", "screen": {"residue": False}}
            stages["instruct"] = {"instruction": "Remove the dog."}
        else:
            stages["discriminate"] = {"task": "modification"}
            stages["instruct"] = {"instruction": f"Make the dog blue & green ({seed})."}
        stages["verify"] = {"verify_score": points, "verify_reason": "as asked", "score": points / 10}
        stages["grade"] = {"score": points / 10, "score_faults": []}
        make.walk("local", child, **stages)


def local_failures(make: RunMaker) -> None:
    """Inputs that end early, each in its own way."""
    empty = {"reason": "empty_file", "error": "zero.mp4 has 0 bytes"}
    make.end("local", "source", Item("input/zero"), status="rejected", **empty)
    (item,) = make.step("local", "source", Item("input/cut"), ("6" * 16, {"path": "cut.mp4", "sha": "6" * 16}))
    short = {"reason": "too_short", "error": "the longest shot has 0.40 s, a clip needs 1.06 s"}
    make.end("local", "ingest", item, status="rejected", **short)
    for source_id, stage, status, reason, error in (
        ("7" * 16, "segment", "rejected", "mask_too_small", "area 0.0004, at least 0.002"),
        ("8" * 16, "synthesize", "failed", "RuntimeError", f"Traceback ...\nRuntimeError: {HOSTILE}"),
        ("9" * 16, "measure", "rejected", "flicker_too_high", "flicker is 4.2, at most 3"),
    ):
        seed = int(source_id[0])
        facts = {"path": f"{seed}.mp4", "sha": source_id, "licence": "CC0-1.0"}
        (item,) = make.step("local", "source", Item(f"input/{source_id}"), (source_id, facts))
        (item,) = make.step("local", "ingest", item, ("00", {"source_video": source(seed), **GEOMETRY}))
        caption = {"caption": HOSTILE, "caption_by": "user"}
        item = make.walk("local", item, identify={"objects": ["cat"], "object": "cat"}, caption=caption)
        edit = {"task": "removal", "variant": "bbox", "seed": 1}
        (item,) = make.step("local", "propose", item, ("removal/bbox", edit))
        if stage != "segment":
            found = {"mask_video": mask(seed), "phrase": "cat"}
            item = make.walk("local", item, segment=found, removal_caption={"target_caption": "A field."})
            item = make.walk("local", item, condition={"condition_mask": mask(seed)})
        if stage == "measure":
            item = make.walk("local", item, synthesize={"target_video": background(seed)})
        make.end("local", stage, item, status=status, reason=reason, error=error)


def styled_clip(make: RunMaker, source_id: str, seed: int, *, image: bool) -> None:
    """One source of the stylization track with two references."""
    before = source(seed)
    facts = {"path": f"{seed}.png", "kind": "image" if image else "video", "sha": source_id, "licence": "CC0-1.0"}
    (item,) = make.step("style", "source", Item(f"input/style-{source_id}"), (source_id, facts))
    given = {"content_image": before[0]} if image else {"source_video": before}
    (item,) = make.step("style", "ingest", item, ("00", given | GEOMETRY))
    if image:
        animated = {"source_video": before, "animate_facts": {"zoom": 1.1}}
        item = make.walk("style", item, cinematic_caption={"cinematic_caption": "A slow dolly in."}, animate=animated)
    depth = {"depth_video": before.mean(axis=3).astype(np.uint8), "depth_kind": "pseudo"}
    item = make.walk("style", item, depth=depth)
    children = []
    for style in (0, 1):
        name = digest("style", style)[:16]
        columns = {"reference_image": styled(50 + style, style)[0], "style_id": name, "task": "stylization"}
        children.append((f"style/{name[:8]}", columns | {"variant": name[:8], "seed": style}))
    for style, child in enumerate(make.step("style", "references", item, *children)):
        target = styled(seed, style)
        make.walk(
            "style",
            child,
            style_caption={"style": "poster", "style_caption": "A dog in flat poster colours."},
            stylize={"target_video": target, "edit_facts": {"weight": 0.75}},
            measure=measures(before, target),
            instruct_style={"instruction": "Make it a poster."},
            verify={"verify_score": 7.0, "verify_reason": "as asked", "score": 0.7},
            grade={"score": 0.7, "score_faults": []},
        )


def make_run(root: Path, seconds: float = 1.0) -> RunFolder:
    """Build the whole fixture: 16 finished pairs of 5 sources, and five inputs that ended early.

    Curation keeps 10 pairs of 4 sources: 3 removals, 3 modifications, 4 stylizations.
    """
    make = RunMaker(root, seconds)
    make.start(*pipelines())
    for seed, source_id in enumerate(GOOD, 1):
        local_clip(make, source_id, seed, score=8.0)
    local_clip(make, MIRROR, 1, mirrored=True, score=6.0)
    local_failures(make)
    styled_clip(make, STYLED_IMAGE, 5, image=True)
    styled_clip(make, STYLED_CLIP, 2, image=False)
    return make.commit()


def copy_run(target: Path) -> RunFolder:
    """Return a copy of the fixture that a test may change; it is built once."""
    shutil.copytree(built_once("fixture-run", make_run), target)
    return RunFolder.existing(target)
