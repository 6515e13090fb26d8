"""Writes the report, RUN/report/index.html: one file that needs no network and no server."""

from __future__ import annotations

import base64
import hashlib
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from ffpdata import __version__
from ffpdata.core.errors import FatalError, FfpdataError
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.manifests.views import CURATE
from ffpdata.report import statistics
from ffpdata.report.gallery_media import Preview, preview, thumbnail
from ffpdata.report.trust import band
from ffpdata.stages.check_frame import CheckFrame
from ffpdata.storage.store import Store

REPORT = "report/index.html"

MAX_PAIRS = 60
"""Most accepted pairs in the gallery; each adds about 0.4 MB to the file."""

MAX_OTHERS = 18
"""Most rejected or failed pairs in the gallery."""

EXAMPLES, MAX_EXAMPLES = 3, 48
"""Most examples of rejected or failed items per reason, and in total."""

UNITS = {
    "psnr_outside": "dB",
    "screen_score": "of 10",
    "verify_score": "of 10",
    "judge_score": "of 9",
    "image_quality": "of 5",
}
SHOWN = ("score", "psnr_outside", "structure", "flicker", "motion")
"""Measures under a pair, in this order; its detail view shows all."""

FRAME_NUMBERS = tuple(CheckFrame.writes)
"""Numbers of a first frame that was edited before the edit was carried on."""

_DETAILS = {
    "Captions": ("caption", "caption_by", "target_caption", "cinematic_caption", "style", "style_caption"),
    "Verdicts": ("screen_score", "screen_reason", "discriminate_reason", "verify_score", "verify_reason"),
    "Judge": ("judge", "judge_score", "judge_follows", "judge_quality", "judge_unedited"),
    "Measures": (),
    "Source": ("licence", "url", "source_id", "split", "width", "height", "fps", "frames"),
    "Edit": ("object", "phrase", "variant", "back_end", "seed", "mask_area", "edit_facts", "depth_kind"),
    "First frame": ("edit_instruction", "edited_first_frame_id", *FRAME_NUMBERS),
}


def write_report(run: RunFolder, *, max_pairs: int = MAX_PAIRS) -> Path | str:
    """Write the report.

    Args:
        run: a run that was started; it may still be running.
        max_pairs: most accepted pairs in the gallery.

    Returns:
        The report's path, or its URL where the run is not local.

    Raises:
        FatalError: the run was never started, or cannot be written.
    """
    tracks = run.tracks()
    if not tracks:
        raise FatalError(f"{run.store.root}: nothing to report, no pipeline was started in it")
    with run.reading() as connection:
        numbers = statistics.collect(run, connection)
        measures = statistics.measure_names(connection)
        chosen = statistics.pairs_to_show(connection, max_pairs, MAX_OTHERS)
        groups = statistics.rejected_examples(connection, EXAMPLES, MAX_EXAMPLES)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        cards = [c for c in pool.map(partial(_card, run.store, measures), chosen) if c]
        for group in groups:
            group["rows"] = list(pool.map(partial(_example, run.store), group["rows"]))
    starts = run.starts()
    page = render(
        "report.html.j2",
        title=PurePosixPath(run.store.root).name,
        quoted=shlex.quote(PurePosixPath(run.store.root).name),
        version=__version__,
        written=datetime.now(UTC),
        started=datetime.fromisoformat(starts[0]["started_at"]),
        pipelines=[start["pipeline"] for start in run.latest().values()],
        numbers=numbers,
        cards=cards,
        groups=groups,
    )
    run.store.write(REPORT, page.encode())
    return run.store.local_path(REPORT) if run.store.local else run.store.url(REPORT)


def _card(store: Store, measures: Sequence[str], row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the gallery's card of one pair; None where its files are missing or damaged."""
    try:
        video = preview(store, row)
    except FatalError:
        raise
    except (FfpdataError, FileNotFoundError):
        return None
    status = status_of(row)
    middle = {"mask": ["edited region"], "reference": ["reference"], "": []}[video.middle]
    return {
        "id": row["item_id"],
        "task": row.get("task") or "unknown",
        "status": status,
        "band": band(row.get("score")),
        "reason": row["reason"],
        "error": _last_line(row["error"]),
        "instruction": row.get("instruction") or "",
        "caption": row.get("target_caption") or row.get("caption") or row.get("style_caption") or "",
        "object": row.get("object") or row.get("style") or "",
        "scores": statistics.facts(row, SHOWN),
        "details": {name: statistics.facts(row, columns) for name, columns in _DETAILS.items()}
        | {"Measures": statistics.facts(row, measures)}
        | {"Models": [(k.removesuffix("_model"), v) for k, v in row.items() if k.endswith("_model") and v]},
        "labels": ["source", *middle, "target"],
        "wipe": "",
        "preview": embedded(video),
    }


def status_of(row: Mapping[str, Any]) -> str:
    """Return what became of an item, in a word or two: curation sets pairs aside that nothing is wrong with."""
    if row["status"] == "ok":
        return "accepted"
    return "set aside" if row["stage"] == CURATE else row["status"]


def embedded(preview: Preview) -> dict[str, Any]:
    """Return a preview for a page, with its files as data URIs."""
    return {
        "video": data_uri("video/mp4", preview.video),
        "poster": data_uri("image/jpeg", preview.poster),
        "width": preview.width,
        "height": preview.height,
        "panels": preview.panels,
    }


def _example(store: Store, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the report shows of one rejected or failed item, with its pictures where it has some."""
    pictures: list[dict[str, str]] = []
    shown = {"source_video": "source", "content_image": "source", "edited_first_frame": "edited first frame"}
    for column, label in {**shown, "target_video": "target"}.items():
        if row.get(column) and label not in [p["label"] for p in pictures]:
            try:
                image = thumbnail(store, row[column])
            except FatalError:
                raise
            except (FfpdataError, FileNotFoundError):
                continue
            pictures.append({"label": label, "image": data_uri("image/jpeg", image)})
    name = row.get("path") or row["item_id"]
    edit = " ".join(str(row[c]) for c in ("task", "variant", "back_end") if row.get(c))
    return {"id": row["item_id"], "name": name, "edit": edit, "error": _last_line(row["error"]), "pictures": pictures}


def _last_line(text: str | None) -> str:
    lines = [line.strip() for line in (text or "").splitlines() if line.strip()]
    return lines[-1][:400] if lines else ""


def data_uri(kind: str, content: bytes) -> str:
    """Return a file as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def render(template: str, *, script_file: str = "report.js", **values: Any) -> str:
    """Render a template of `templates/` with the filters below, the common style and one of its scripts."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ffpdata.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    filters: dict[str, Callable[..., Any]] = {
        "number": number,
        "seconds": seconds,
        "words": words,
        "hours": hours,
        "percent": percent,
        "share": lambda part, whole: f"{100 * part / whole:.3f}%" if whole else "0%",
        "unit": lambda name: UNITS.get(name, ""),
    }
    environment.filters.update(filters)
    folder = Path(__file__).parent / "templates"
    script, style = ((folder / name).read_text(encoding="utf-8") for name in (script_file, "report.css"))
    values |= {"script": script, "style": style, "script_hash": _csp_hash(script)}
    return environment.get_template(template).render(**values)


def _csp_hash(script: str) -> str:
    """Return the hash of the page's script for its content security policy, which allows no other script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def number(value: Any) -> str:
    """Format a number with three significant digits; those from 10,000 on with grouped thousands."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", "\u202f" if abs(value) >= 10_000 else "")
    return f"{value:.3g}" if abs(value) >= 0.001 or value == 0 else f"{value:.1e}"


def words(name: str) -> str:
    """Format a column's name as words."""
    return name.replace("_", " ").replace("psnr", "PSNR")


def seconds(value: float) -> str:
    """Format a duration, given in seconds, as s, min or h."""
    if value < 100:
        return f"{value:.2g} s" if value < 10 else f"{value:.0f} s"
    minutes = value / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"


def hours(value: float) -> str:
    """Format hours with three significant digits."""
    return f"{number(value)} h" if abs(value) >= 1 or not value else seconds(value * 3600)


def percent(value: float) -> str:
    """Format a share of 0..1 in percent."""
    return f"{100 * value:.3g} %"


__all__: Sequence[str] = ["MAX_PAIRS", "REPORT", "data_uri", "embedded", "render", "write_report"]
