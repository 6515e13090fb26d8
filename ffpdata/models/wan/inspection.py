"""What `ffpdata doctor` tells of a Wan back end: whether every key of its LoRAs has a place in its checkpoint.

Reads headers of files that are on this machine; loads nothing and fetches nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from ffpdata.core.errors import FatalError
from ffpdata.models.requirements import Checkpoint, Note
from ffpdata.models.wan.lora_keys import Sorted, sort_keys
from ffpdata.models.wan.loras import named, wrong_keys
from ffpdata.models.wan.settings import Lora
from ffpdata.models.weights import cached_snapshot, folder_of, safetensors_shapes, weight_files

Shapes = Mapping[str, Sequence[int]]


def lora_notes(loras: Iterable[Lora], transformer: Checkpoint, spell: Callable[[str], str] = str) -> list[Note]:
    """Account for every key of each LoRA that is on this machine.

    Args:
        loras: of a role's settings.
        transformer: the checkpoint that they are laid over.
        spell: translates Wan's own name of a parameter into the checkpoint's.
    """
    notes = []
    base: Shapes | None = None
    for lora in loras:
        files = local_files(lora.checkpoint())
        if lora.file:
            files = [file for file in files if file.name == Path(lora.file).name]
        if len(files) > 1:
            text = f"{lora.model} has {len(files)} files: name one as `file`, e.g. {files[0].name}"
            notes.append(Note("error", "lora", text))
        elif files:  # where there is none, the line about the checkpoint says so
            base = _base(transformer) if base is None else base
            notes.append(_account(files[0], base, spell))
    return notes


def _account(file: Path, base: Shapes, spell: Callable[[str], str]) -> Note:
    subject = f"keys of {file.name}"
    try:
        shapes = safetensors_shapes(file)
    except FatalError as err:
        return Note("error", subject, str(err))
    found = sort_keys(shapes)
    if problem := wrong_keys(found):
        return Note("error", subject, problem)
    misfits = _misfits(found, shapes, base, spell) if base else []
    total = len(shapes)
    if misfits:
        text = f"{total - len(misfits)} of {total} keys fit this model; of another model are {named(misfits)}"
        return Note("error", subject, text)
    ranks = sorted({shapes[keys["down"]][0] for keys in found.pairs.values()})
    rank = f" of rank {ranks[0] if len(ranks) == 1 else f'{ranks[0]} to {ranks[-1]}'}" if ranks else ""
    what = f"{len(found.pairs)} layers{rank}, {len(found.diffs)} parameters changed as a whole"
    if base:
        return Note("ok", subject, f"{total} of {total} are laid on: {what}")
    text = f"{total} of {total} are understood: {what}; whether they fit is seen once the checkpoint is here"
    return Note("ok", subject, text)


def _misfits(found: Sorted, shapes: Shapes, base: Shapes, spell: Callable[[str], str]) -> list[str]:
    """Return the keys whose parameter the checkpoint lacks or has in another shape."""
    misfits = []
    for layer, keys in found.pairs.items():
        shape = [shapes[keys["up"]][0], *shapes[keys["down"]][1:]]
        own = list(base.get(spell(f"{layer}.weight"), ()))
        if own != shape and own != shape[:2]:  # a linear layer's matrices may be written as a convolution's, 1 x 1
            misfits += keys.values()
    for name, key in found.diffs.items():
        if list(base.get(spell(name), ())) != list(shapes[key]):
            misfits.append(key)
    return misfits


def _base(transformer: Checkpoint) -> Shapes:
    """Return the shapes of the transformer's parameters; none where it is not on this machine."""
    shapes: dict[str, Sequence[int]] = {}
    try:
        for file in local_files(transformer):
            shapes |= safetensors_shapes(file)
    except FatalError:
        return {}  # the line about the checkpoint says so
    return shapes


def local_files(checkpoint: Checkpoint) -> list[Path]:
    """Return the weights of a checkpoint that are on this machine."""
    if "://" in checkpoint.model:
        return []
    own = folder_of(checkpoint.model)
    if own and own.is_file():
        return [own]
    folder = own or cached_snapshot(checkpoint.model, checkpoint.revision, checkpoint.patterns)
    if folder is None or not folder.exists():
        return []
    try:
        return weight_files(folder, checkpoint.stem or "")
    except FatalError:
        return []
