"""The command that classifies the heads of a base, before it is trained."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ffpdata.cli.options import JsonOption, as_asked

if TYPE_CHECKING:
    from ffpdata.models.propagation.head_study import StudyPair

FILE, PICTURE = "heads.json", "heads.png"


def heads(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="Export with the pairs that vote.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the classes; the same one resumes.")],
    profile: Annotated[str | None, typer.Option(help="Whose propagator is the base. [gpu]")] = None,
    model: Annotated[str, typer.Option(help="Its checkpoint: a name at the hub, or a folder. [the profile's]")] = "",
    clips: Annotated[int, typer.Option(min=1, help="Pairs that vote; the paper takes 10.")] = 10,
    split: Annotated[str, typer.Option(help="Of the export. [every split]")] = "",
    frames: Annotated[int, typer.Option(min=5, help="First frames of a pair, 4n+1; 33 or 81 as in training.")] = 81,
    timestep: Annotated[list[int] | None, typer.Option(help="Of 1000; several are averaged. [500]")] = None,
    rows: Annotated[int, typer.Option(min=0, help="Queries looked at per frame; 0: all, exactly.")] = 0,
    epsilon: Annotated[float, typer.Option(help="Attention above which a token counts; the paper's.")] = 1e-6,
    as_json: JsonOption = False,
) -> None:
    """Classify attention heads as spatial or temporal, for AST-RoPE; once per base, size and length."""
    from ffpdata.core.errors import ConfigError
    from ffpdata.models.propagation.head_picture import head_picture
    from ffpdata.models.propagation.head_study import TIMESTEP, StudyOptions, study
    from ffpdata.propagation.train import propagator_of
    from ffpdata.storage.store import Store

    with as_asked():
        if frames % 4 != 1:
            raise ConfigError(f"--frames {frames}: the model takes 4n+1, e.g. 33 or 81")
        options = StudyOptions(tuple(timestep or (TIMESTEP,)), epsilon, rows)
        spec = propagator_of(profile)
        if not hasattr(spec.load_class(), "training_plan"):
            raise ConfigError(f"{spec.backend} has no attention heads to classify: name a profile as gpu or small")
        spec = spec.model_copy(update={"model": model}) if model else spec
        found = study(spec, study_pairs(dataset, split, clips, frames), out, options, lambda s: typer.echo(s, err=True))
    store = Store(out)
    store.write(PICTURE, head_picture(found))
    store.write(FILE, found.text().encode())
    if len(found.clips) < clips:
        typer.echo(f"warning: {len(found.clips)} pairs voted, there are no more of this size and length", err=True)
    warning = found.warning()
    if warning:
        typer.echo(f"warning: {warning}", err=True)
    temporal, count = (sum(map(sum, found.temporal)), sum(map(len, found.temporal)))
    if as_json:
        facts = {"base": found.base, "clips": list(found.clips), "spatial": count - temporal, "temporal": temporal}
        typer.echo(json.dumps({**facts, "warning": warning}))
    else:
        typer.echo(f"{count - temporal} spatial and {temporal} temporal heads: {out / FILE}, shown in {out / PICTURE}")


def study_pairs(dataset: str, split: str, count: int, frames: int) -> Iterator[StudyPair]:
    """Yield the first pairs of an export that are long enough and of the first one's size, each cut to `frames`."""
    from ffpdata.export.loader import pairs
    from ffpdata.models.propagation.head_study import StudyPair

    def fitting() -> Iterator[StudyPair]:
        size = None
        for pair in pairs(dataset, split or None):
            source = pair["source"]
            if len(source) < frames or source.shape[1:3] != (size or source.shape[1:3]):
                continue
            size = source.shape[1:3]
            text = pair["json"]["captions"].get("target") or pair["instruction"]
            yield StudyPair(pair["key"], source[:frames], pair["target"][:frames], pair["edited_first_frame"], text)

    yield from islice(fitting(), count)
