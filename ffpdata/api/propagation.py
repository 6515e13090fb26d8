"""Carry edits of first frames through their clips, with a trained model or its base: `ffpdata propagate`."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ffpdata.api.run import Run, Runner, run
from ffpdata.core.entries import assignment
from ffpdata.core.errors import FfpdataError, UsageError
from ffpdata.core.wording import counted
from ffpdata.models.propagation.model_folder import read_model
from ffpdata.propagation.clip_tuning import read_tuned
from ffpdata.propagation.train import PIPELINE, ROLE
from ffpdata.training.atomic_files import make_atomically, write_atomically

Method = Literal["freeprop", "loraedit"]

PIPELINES: Mapping[Method, str] = {"freeprop": PIPELINE, "loraedit": "loraedit"}
"""Method to the pipeline that carries the edits by it."""

TUNED_ROLE = "tuned_propagator"
"""The role of `loraedit`."""


def propagate_table(
    table: str | Path,
    run_folder: str | Path,
    *,
    method: Method = "freeprop",
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
            edited clip shows. With `loraedit` also `source_caption`, `mask` and `edited_frame`.
        run_folder: where the run goes; local or `s3://`.
        method: `freeprop`, a model of `ffpdata train` or its base; or `loraedit`, which tunes a model to each clip.
        model: folder of `ffpdata train`, or of an earlier tuning; None takes the profile's propagator as it comes, or
            tunes.
        profile: whose `propagator` or `tuned_propagator` is the base; by default the pipeline's.
        overrides: settings of the pipeline `propagate` or `loraedit`, as `a.b=c`. The clip has as many frames as the
            model was trained on, unless `clip.frames` is among them.
        runner: as for `run`.
        quiet: show no progress.

    Raises:
        FatalError: the model was trained over another base; both digests are named.
        As `run`.
    """
    return run(
        PIPELINES[method],
        table,
        run_folder,
        profile=profile,
        overrides=[*_of_model(method, model, overrides), *overrides],
        runner=runner,
        quiet=quiet,
    )


def propagate_clip(
    clip: str | Path,
    edited_first_frame: str | Path,
    out: Path,
    *,
    method: Method = "freeprop",
    model: str | Path | None = None,
    prompt: str = "",
    source_prompt: str = "",
    mask: str | Path | None = None,
    edited_frames: Mapping[int, str | Path] | None = None,
    profile: str | None = None,
    overrides: Sequence[str] = (),
) -> dict[str, object]:
    """Edit one clip as its edited first frame begins it, exactly as a row of a table.

    Args:
        clip: video file.
        edited_first_frame: image file, the clip's first frame after the edit.
        out: mp4 to write; a JSON of the same name says what made it.
        method: as for `propagate_table`.
        model: likewise.
        prompt: what the edited clip shows; may be empty.
        source_prompt: what the clip itself shows; for `loraedit`, may be empty.
        mask: image or clip, white where the clip may change; for `loraedit`, None takes the box around what differs in
            the first frame.
        edited_frames: further frames after the edit, by their index in the conformed clip; for `loraedit`.
        profile: as for `propagate_table`.
        overrides: likewise.

    Returns:
        What the JSON says: model, facts, seed, and the digests of clip and image; with `loraedit` also what the model
        was tuned to, and how.

    Raises:
        UsageError: a file is missing, or `out` is no mp4.
        FfpdataError: the clip or the image was rejected, with the reason.
        As `propagate_table`.
    """
    if out.suffix.lower() != ".mp4":
        raise UsageError(f"{out}: name the clip to write, e.g. {out.with_suffix('.mp4').name}")
    given = {"source_caption": source_prompt, "mask": mask, "edited_frame": edited_frames}
    if method != "loraedit" and (extra := [name for name, value in given.items() if value]):
        raise UsageError(f"{extra[0]} is for --method loraedit alone: leave it out, or name that method")
    paths = [Path(path).expanduser().resolve() for path in (clip, edited_first_frame)]
    further = {index: Path(path).expanduser().resolve() for index, path in sorted((edited_frames or {}).items())}
    masks = [Path(mask).expanduser().resolve()] if mask else []
    for path in (*paths, *masks, *further.values()):
        if not path.is_file():
            raise UsageError(f"{path} is not there: give a clip and the image of its edited first frame")
    row: dict[str, Any] = {"path": str(paths[0]), "edited_first_frame": [str(paths[1])], "caption": prompt}
    row |= {"source_caption": source_prompt, "mask": list(map(str, masks))}
    row["edited_frame"] = [f"{index}={path}" for index, path in further.items()]
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".propagate-", dir=out.parent) as folder:
        table = Path(folder, "table.jsonl")
        table.write_text(json.dumps({name: value for name, value in row.items() if value}) + "\n", encoding="utf-8")
        root = f"input.root={json.dumps(str(Path(paths[0].anchor)))}"
        done = propagate_table(
            table, Path(folder, "run"), method=method, model=model, profile=profile, overrides=[root, *overrides]
        )
        tuned = method == "loraedit"
        columns = "propagate_tuned_model as model, tuning" if tuned else "propagate_model as model"
        rows = done.sql(
            f"select item_id, {columns}, edit_facts, seed, target_video, sha, edited_first_frame_ids "  # noqa: S608
            "from items where target_video is not null"
        ).to_pylist()
        if not rows:
            raise FfpdataError(_why(done))
        [row] = rows
        store = done.folder.store
        make_atomically(out, lambda temp: shutil.copyfile(store.fetch(row["target_video"]), temp))
    told = {
        "model": row["model"],
        "facts": _plain(row["edit_facts"]),
        "seed": row["seed"],
        "prompt": prompt,
        "clip": row["sha"],
        "edited_first_frame": row["edited_first_frame_ids"][0],
    }
    if tuned:
        told["tuning"] = _plain(row["tuning"])
    write_atomically(out.with_suffix(".json"), (json.dumps(told, indent=1, ensure_ascii=False) + "\n").encode())
    return told


def _plain(value: Any) -> Any:
    """Return a column of JSON as data."""
    return json.loads(value) if isinstance(value, str) else value


def _of_model(method: Method, model: str | Path | None, overrides: Sequence[str]) -> list[str]:
    """Return the settings that a trained model or a tuning asks for."""
    if model is None:
        return []
    folder = Path(model).expanduser().resolve()
    if method == "loraedit":
        return [f"models.{TUNED_ROLE}.settings.trained={json.dumps(str(read_tuned(folder).folder))}"]
    trained = read_model(folder)
    found = [f"models.{ROLE}.settings.trained={json.dumps(str(trained.folder))}"]
    if not any(assignment(text)[0] == ["clip", "frames"] for text in overrides):
        found.append(f"clip.frames={trained.settings.frames}")
    return found


def _why(done: Run) -> str:
    """Say why the one item of a run has no result."""
    [pipeline] = done.pipelines.values()
    for stage in pipeline.build():
        rows = done.sql(f"select status, reason, error from {stage.name} where status <> 'ok'").to_pylist()  # noqa: S608
        if rows:
            return f"{stage.name} {rows[0]['status']}: {rows[0]['reason'] or ''} {rows[0]['error'] or ''}".rstrip()
    return f"no stage has a result: {counted(0, 'item')}"
