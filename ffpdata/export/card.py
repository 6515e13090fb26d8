"""The dataset card: counts, models and licences of an export, and its limits in plain words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import duckdb

from ffpdata import __version__
from ffpdata.core.keys import digest
from ffpdata.core.licences import CLASSES
from ffpdata.core.networks import network_labels, network_names
from ffpdata.core.stage import Stage
from ffpdata.curate.curation import current_settings
from ffpdata.export.contents import contents
from ffpdata.export.dataset import Shard
from ffpdata.export.extras import Extras
from ffpdata.export.inherited_licence import CLASS
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.manifests.sql_text import literal, quote
from ffpdata.metrics.learned import LEARNED
from ffpdata.models.packaged.catalogue import packaged
from ffpdata.stages.assess import Assess
from ffpdata.stages.grade import Grade

CLASSICAL = "ffpdata.models.classical."

LIMITS = {
    "vision_language": "Captions, instructions and verdicts are templates filled in with measured attributes (colour, "
    "position, motion). An object has a name only where the input gave it one, and is a `moving object` otherwise.",
    "segmenter": "Objects were found by their motion against the background. Slow, blurred or partly still objects are "
    "missed, and only clips whose masks passed every guard are here: the choice leans to clear motion before a steady "
    "background.",
    "remover": "Removals fill the region with background that other frames of the same clip show. Shadows and "
    "reflections may stay, and clips whose background is never seen were left out.",
    "swapper": "Modifications recolour the object. No shape changes, and no object becomes another.",
    "image_to_video": "Clips made from still images are a slow camera move over a guessed depth: nothing in them moves "
    "by itself.",
    "depth_estimator": "Depth is a heuristic (`depth: pseudo` in the records), not the estimate of a trained model.",
    "image_editor": "First frames were edited without a trained model: objects got another colour, pattern or "
    "material, and pictures the style of a small network. Nothing new was drawn.",
    "propagator": "Edits of first frames were moved along the optical flow of the clip. What could not be followed "
    "took the edit of pixels of its colour, and clips in which too little could be followed were left out.",
    "stylizer": "Stylizations come from a small feed-forward style network with a flow stabiliser: colours and "
    "textures follow the reference, brush strokes and shapes less so, and fine detail is lost.",
}
"""What each embedded back end cannot do. A role that a larger model fills has no entry on the card."""


def describe(
    run: RunFolder,
    connection: duckdb.DuckDBPyConnection,
    shards: Sequence[Shard],
    shard_size_mb: float,
    *,
    extras: Extras,
    counts_of_extras: Counter[tuple[str, str]],
) -> dict[str, Any]:
    """Collect what `dataset.json` tells beside the list of shards, from the table `chosen`.

    Args:
        run: the run.
        connection: with the table `chosen`.
        shards: all of them.
        shard_size_mb: as it was asked for.
        extras: what the tracks add.
        counts_of_extras: pairs that have each of it, by track and name.
    """
    chosen = connection.table("chosen")

    def counts(column: str) -> dict[str, int]:
        if column not in chosen.columns:
            return {}
        found = chosen.aggregate(f"{column} as name, count(*) as n").order("name")
        return {"unknown" if name is None else name: n for name, n in found.fetchall()}

    splits = {}
    for split in dict.fromkeys(shard.split for shard in shards):
        mine = chosen.filter(f"split = {literal(split)}")
        pairs, sources = mine.aggregate("count(*), count(distinct source_id)").fetchall()[0]
        tasks = dict(mine.aggregate("task, count(*) as n").order("task").fetchall())
        splits[split] = {"pairs": pairs, "sources": sources, "tasks": tasks}
    sizes = chosen.aggregate("width, height, frames, fps, count(*) as pairs").order("pairs desc, width, height")
    curate = current_settings(run)
    # Datasets from before there were reviewers and caps stay byte for byte the same.
    unused = {"verdicts": curate.verdicts == "use", "caps": not curate.caps, "together": not curate.together}
    told = curate.model_dump(mode="json", exclude={name for name, so in unused.items() if so})
    settings: dict[str, Any] = {"curate": told, "shard_size_mb": shard_size_mb}
    added = {}
    if extras.settings:
        settings["export"] = extras.settings
        if extras.given:
            added["extras"] = extras.describe(counts_of_extras)
    return {
        "ffpdata": __version__,
        "pairs": sum(shard.pairs for shard in shards),
        "bytes": sum(shard.bytes for shard in shards),
        "splits": splits,
        "tasks": counts("task"),
        "contents": contents(chosen),
        "geometry": [dict(zip(sizes.columns, row, strict=True)) for row in sizes.fetchall()],
        "licences": counts("licence"),
        "licence_classes": {name: found[name] for name in CLASSES if name in (found := counts(CLASS))},
        "captions_by": _known(counts("caption_by")),
        "depth": _known(counts("depth_kind")),
        "models": _models(run, chosen),
        **_scores(run, chosen),
        **_assessed(run, chosen),
        "settings": settings | {"digest": digest(settings)},
        **added,
    }


BANDS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98)
"""Lower ends of the bands of the score on the card."""


def _scores(run: RunFolder, chosen: duckdb.DuckDBPyRelation) -> dict[str, Any]:
    """Pairs per band of the score and task, and what the score's models were fitted on; empty without such a stage."""
    grades = [stage for pipeline in run.pipelines().values() for stage in pipeline.build() if isinstance(stage, Grade)]
    if not grades or "score" not in chosen.columns:
        return {}
    band = "case " + " ".join(f"when score >= {low} then {low}" for low in BANDS[::-1]) + " end"
    rows = chosen.filter("score is not null").aggregate(f"task, {band} as low, count(*) as n").order("task, low")
    found: dict[str, dict[str, int]] = {}
    for task, low, n in rows.fetchall():
        found.setdefault(task, {})[f"{low:g}"] = n
    return {"score": {"about": sorted({stage.model_of_score().about for stage in grades}), "pairs_from": found}}


def _assessed(run: RunFolder, chosen: duckdb.DuckDBPyRelation) -> dict[str, Any]:
    """Means of the scores by trained models, each with its model and that model's licence; empty without any."""
    specs: dict[str, tuple[str, str]] = {}
    for pipeline in run.pipelines().values():
        for stage in pipeline.build():
            if isinstance(stage, Assess):
                specs |= {role: (spec.label, spec.licence or "unknown") for role, spec in stage.specs.items()}
    found = []
    for score in LEARNED:
        if score.role not in specs or score.name not in chosen.columns:
            continue
        mean, n = chosen.aggregate(f"avg({quote(score.name)}), count({quote(score.name)})").fetchall()[0]
        if n:
            model, licence = specs[score.role]
            about = {"unit": score.unit, "better": score.better, "meaning": score.meaning}
            found.append(
                {"score": score.name, "mean": round(mean, 4), "pairs": n, "model": model, "licence": licence} | about
            )
    return {"assessed": found} if found else {}


def _known(counts: dict[str, int]) -> dict[str, int]:
    return {name: n for name, n in counts.items() if name != "unknown"}


def _models(run: RunFolder, chosen: duckdb.DuckDBPyRelation) -> list[dict[str, Any]]:
    """The models that made the pairs, as the manifests name them, with the licence that the profile gives them."""
    found: dict[tuple[str, ...], set[str]] = {}
    for track, pipeline in run.pipelines().items():
        mine = chosen.filter(f"track = {literal(track)}")
        for stage in pipeline.build():
            for name in stage.packaged() if mine.shape[0] else ():
                label = network_labels([name])[0]
                found.setdefault((label, *_network(name, "stage itself")), set()).add(stage.name)
            column = f"{stage.name}_model"
            if column not in chosen.columns:
                continue
            for (labels,) in mine.project(quote(column)).distinct().fetchall():
                for label in labels.split(", ") if labels else []:
                    found.setdefault((label, *_backing(stage, label)), set()).add(stage.name)
                    for entry in _networks(stage, label):
                        found.setdefault(entry, set()).add(stage.name)
    names = ("model", "role", "backend", "licence")
    return [dict(zip(names, entry, strict=True)) | {"stages": sorted(found[entry])} for entry in sorted(found)]


def _backing(stage: Stage, label: str) -> tuple[str, str, str]:
    """Role, back end and licence of a model by its label; unknown where a run now names another model."""
    exact_first = sorted(stage.specs.items(), key=lambda entry: entry[1].label != label)
    for role, spec in exact_first:
        if spec.named_by(label):
            return role.partition("/")[0], spec.backend, spec.licence or "unknown"
    return "unknown", "unknown", "unknown"


def _networks(stage: Stage, label: str) -> list[tuple[str, ...]]:
    """The packaged networks that a model's label names: name@version, role, package and licences."""
    named = {part.partition("@")[0]: part for part in label.split("+")[1:]}
    specs = [(role.partition("/")[0], spec) for role, spec in stage.specs.items() if spec.named_by(label)]
    roles = {name: role for role, spec in specs for name in network_names(spec.load_class(), spec) if name in named}
    return [(named[name], *_network(name, role)) for name, role in roles.items()]


def _network(name: str, user: str) -> tuple[str, str, str]:
    """Role, package and licences of a packaged network."""
    model = packaged(name)
    return f"network of {user}", str(model.package), model.licence


def write(about: dict[str, Any]) -> str:
    """Return the card as Markdown, with the front matter that dataset hubs read."""
    import jinja2

    environment = jinja2.Environment(  # noqa: S701 - Markdown, with its own escaping
        loader=jinja2.PackageLoader("ffpdata.export"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["cell"] = _cell
    environment.filters["spread"] = _spread
    embedded = {m["role"] for m in about["models"] if m["backend"].startswith(CLASSICAL)}
    limits = [text for role, text in LIMITS.items() if role in embedded]
    splits = sorted(about["splits"].items(), key=lambda entry: -entry[1]["pairs"])
    about = {"licence_classes": {}, "contents": {}} | about  # the export of an earlier release
    propagators = [m["model"] for m in about["models"] if m["role"] == "propagator"]
    return environment.get_template("card.md.j2").render(
        about=about, splits=splits, limits=limits, propagators=propagators
    )


def _spread(values: list[float] | None, factor: float = 1.0, digits: int = 0) -> str:
    """A median with the percentiles around it; a dash where there are none."""
    if not values:
        return "-"
    low, middle, high = (f"{value * factor:.{digits}f}" for value in values)
    return f"{middle} ({low}-{high})"


def _cell(text: Any) -> str:
    """Text for a cell of a table: users' words must not break the page."""
    plain = " ".join(str(text).split())
    for mark in "\\`*_{}[]<>|#":
        plain = plain.replace(mark, "\\" + mark)
    return plain
