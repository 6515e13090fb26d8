"""The commands of first-frame propagation: train the model on an export, edit clips with it."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ffpdata.cli.options import JsonOption, OverridesOption, QuietOption, Runner, RunnerOption, as_asked

ModelOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder of `ffpdata train`, or of a tuning. Default: the profile's propagator."),
]


class Method(StrEnum):
    """How an edit is carried through a clip."""

    FREEPROP = "freeprop"
    LORAEDIT = "loraedit"


def train(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="Export: a folder or a URL.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the model; the same one resumes.")],
    recipe: Annotated[str, typer.Option(metavar="FILE", help="What is trained: a name or a file.")] = "freeprop",
    preset: Annotated[str | None, typer.Option(help="Row of the ablation: baseline, ast_rope or full.")] = None,
    profile: Annotated[str | None, typer.Option(help="Whose propagator is the base. Default: the recipe's.")] = None,
    nodes: Annotated[int | None, typer.Option(min=1, help="Machines of the Ray cluster of RAY_ADDRESS.")] = None,
    overrides: OverridesOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train the model of first-frame propagation on an export. The same command again resumes."""
    from ffpdata.propagation.recipe import load
    from ffpdata.propagation.train import propagator_of
    from ffpdata.propagation.train import train as start

    own = [f"preset={preset}"] if preset else []
    own += [f"train.nodes={nodes}"] if nodes else []
    with as_asked():
        wanted = load(recipe, [*(overrides or []), *own])
        wanted.model_settings()
        base = propagator_of(profile or wanted.profile)

    def say(text: str) -> None:
        if not quiet:
            typer.echo(text, err=as_json)

    done = start(dataset, out, wanted, base, say)
    if as_json:
        weights = {stem: str(path) for stem, path in done.weights.items()}
        typer.echo(json.dumps({"revision": done.revision, "weights": weights, "lineage": done.lineage}))
        return
    typer.echo(f"Model {done.revision} in {out}: {', '.join(path.name for path in done.weights.values())}")
    typer.echo(f"Next: ffpdata propagate CLIP EDITED_FIRST_FRAME edited.mp4 --model {out}")


def propagate(
    what: Annotated[
        list[str],
        typer.Argument(metavar="CLIP EDITED_FIRST_FRAME OUT | TABLE OUT", help="One clip, or a table of them."),
    ],
    method: Annotated[
        Method, typer.Option(help="`freeprop`: a trained model. `loraedit`: a model that is tuned to each clip.")
    ] = Method.FREEPROP,
    model: ModelOption = None,
    prompt: Annotated[str, typer.Option(help="What the edited clip shows; of a table its column `caption`.")] = "",
    source_prompt: Annotated[str, typer.Option(help="What the clip shows, for loraedit: `source_caption`.")] = "",
    mask: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Image or clip, white where it may change, for loraedit: `mask`."),
    ] = None,
    edited_frame: Annotated[
        list[str] | None,
        typer.Option(metavar="INDEX=IMAGE", help="A further frame after the edit, for loraedit: `edited_frame`."),
    ] = None,
    profile: Annotated[str | None, typer.Option(help="Whose propagator is the base.")] = None,
    runner: RunnerOption = Runner.INLINE,
    overrides: OverridesOption = None,
    quiet: QuietOption = False,
) -> None:
    """Carry the edit of a first frame through its clip; a table becomes a run, which resumes."""
    from ffpdata.api.propagation import propagate_clip, propagate_table
    from ffpdata.core.errors import UsageError

    if len(what) == 3:
        clip, image, out = what
        with as_asked():
            told = propagate_clip(
                clip,
                image,
                Path(out),
                method=method.value,
                model=model,
                prompt=prompt,
                source_prompt=source_prompt,
                mask=mask,
                edited_frames=_numbered(edited_frame or []),
                profile=profile,
                overrides=overrides or [],
            )
        typer.echo(f"{out}: by {told['model']}")
        return
    if len(what) != 2:
        raise UsageError("propagate takes CLIP EDITED_FIRST_FRAME OUT, or TABLE OUT")
    columns: dict[str, tuple[str, object]] = {"--prompt": ("caption", prompt)}
    columns |= {"--source-prompt": ("source_caption", source_prompt)}
    columns |= {"--mask": ("mask", mask), "--edited-frame": ("edited_frame", edited_frame)}
    for option, (column, given) in columns.items():
        if given:
            raise UsageError(f"{option} is for one clip; a table has the column `{column}`")
    table, folder = what
    with as_asked():
        done = propagate_table(
            table,
            folder,
            method=method.value,
            model=model,
            profile=profile,
            overrides=overrides or [],
            runner=runner.value,
            quiet=quiet,
        )
    typer.echo(str(done.result or done.status()))


def _numbered(given: list[str]) -> dict[int, str]:
    """Return the images of `--edited-frame` by their index."""
    from ffpdata.core.errors import UsageError

    found: dict[int, str] = {}
    for text in given:
        index, _, path = text.partition("=")
        if not index.strip().isdecimal() or not path or int(index) in found:
            raise UsageError(f"--edited-frame {text}: write INDEX=IMAGE, each index once, e.g. 24=later.png")
        found[int(index)] = path
    return found
