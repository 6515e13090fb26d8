"""Carry edits of first frames through their clips, with a trained model or its base: `ffpdata propagate`."""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ffpdata.api.run import Run, Runner, run
from ffpdata.core.entries import assignment
from ffpdata.core.errors import FfpdataError, UsageError
from ffpdata.core.wording import counted
from ffpdata.models.propagation.model_folder import read_model
from ffpdata.propagation.train import PIPELINE, ROLE
from ffpdata.training.atomic_files import make_atomically, write_atomically


def propagate_table(
    table: str | Path,
    run_folder: str | Path,
    *,
    model: str | Path | None = None,
    profile: str | None = None,
    overrides: Sequence[str] = (),
    runner: Runner = "inline",
    quiet: bool = True,
) -> Run:
    """Edit each clip of a table as its edited first frame begins it; the same call again resumes.

    The result is a run: every row of the table ends in a row of its manifests, as `ok` with its `target_video`, or
    rejected or failed with its reason, and `ffpdata status`, `sql`, `retry` and `report` work on it.

    Args:
        table: CSV, TSV, JSON lines or Parquet with `path`, `edited_first_frame` and, if known, `caption`: what the
            edited clip shows.
        run_folder: where the run goes; local or `s3://`.
        model: folder of `ffpdata train`; None takes the profile's propagator as it comes.
        profile: whose `propagator` is the base; by default the pipeline's.
        overrides: settings of the pipeline `propagate`, as `a.b=c`. The clip has as many frames as the model was
            trained on, unless `clip.frames` is among them.
        runner: as for `run`.
        quiet: show no progress.

    Raises:
        FatalError: the model was trained over another base; both digests are named.
        As `run`.
    """
    return run(
        PIPELINE,
        table,
        run_folder,
        profile=profile,
        overrides=[*_of_model(model, overrides), *overrides],
        runner=runner,
        quiet=quiet,
    )


def propagate_clip(
    clip: str | Path,
    edited_first_frame: str | Path,
    out: Path,
    *,
    model: str | Path | None = None,
    prompt: str = "",
    profile: str | None = None,
    overrides: Sequence[str] = (),
) -> dict[str, object]:
    """Edit one clip as its edited first frame begins it, exactly as a row of a table.

    Args:
        clip: video file.
        edited_first_frame: image file, the clip's first frame after the edit.
        out: mp4 to write; a JSON of the same name says what made it.
        model: as for `propagate_table`.
        prompt: what the edited clip shows; may be empty.
        profile: as for `propagate_table`.
        overrides: likewise.

    Returns:
        What the JSON says: model, facts, seed, and the digests of clip and image.

    Raises:
        UsageError: a file is missing, or `out` is no mp4.
        FfpdataError: the clip or the image was rejected, with the reason.
        As `propagate_table`.
    """
    if out.suffix.lower() != ".mp4":
        raise UsageError(f"{out}: name the clip to write, e.g. {out.with_suffix('.mp4').name}")
    paths = [Path(path).expanduser().resolve() for path in (clip, edited_first_frame)]
    for path in paths:
        if not path.is_file():
            raise UsageError(f"{path} is not there: give a clip and the image of its edited first frame")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".propagate-", dir=out.parent) as folder:
        table = Path(folder, "table.csv")
        with table.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([["path", "edited_first_frame", "caption"], [*map(str, paths), prompt]])
        root = f"input.root={json.dumps(str(Path(paths[0].anchor)))}"
        done = propagate_table(table, Path(folder, "run"), model=model, profile=profile, overrides=[root, *overrides])
        rows = done.sql(
            "select item_id, propagate_model, edit_facts, seed, target_video, sha, edited_first_frame_ids from items "
            "where target_video is not null"
        ).to_pylist()
        if not rows:
            raise FfpdataError(_why(done))
        [row] = rows
        store = done.folder.store
        make_atomically(out, lambda temp: shutil.copyfile(store.fetch(row["target_video"]), temp))
    facts = json.loads(row["edit_facts"]) if isinstance(row["edit_facts"], str) else row["edit_facts"]
    told = {
        "model": row["propagate_model"],
        "facts": facts,
        "seed": row["seed"],
        "prompt": prompt,
        "clip": row["sha"],
        "edited_first_frame": row["edited_first_frame_ids"][0],
    }
    write_atomically(out.with_suffix(".json"), (json.dumps(told, indent=1, ensure_ascii=False) + "\n").encode())
    return told


def _of_model(model: str | Path | None, overrides: Sequence[str]) -> list[str]:
    """Return the settings that a trained model asks for."""
    if model is None:
        return []
    trained = read_model(Path(model).expanduser().resolve())
    found = [f"models.{ROLE}.settings.trained={json.dumps(str(trained.folder))}"]
    if not any(assignment(text)[0] == ["clip", "frames"] for text in overrides):
        found.append(f"clip.frames={trained.settings.frames}")
    return found


def _why(done: Run) -> str:
    """Say why the one item of a run has no result."""
    for stage in done.pipelines[PIPELINE].build():
        rows = done.sql(f"select status, reason, error from {stage.name} where status <> 'ok'").to_pylist()  # noqa: S608
        if rows:
            return f"{stage.name} {rows[0]['status']}: {rows[0]['reason'] or ''} {rows[0]['error'] or ''}".rstrip()
    return f"no stage has a result: {counted(0, 'item')}"
