"""The files of a Wan checkpoint in the official layout (Wan-AI/Wan2.1-VACE-14B and its sisters)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ffpdata.core.errors import ConfigError, FatalError, nearest
from ffpdata.models.requirements import Checkpoint
from ffpdata.models.wan.settings import Source
from ffpdata.models.weights import checkpoint_folder, folder_of, weight_files

TRANSFORMER = "transformer"
HIGH_NOISE, LOW_NOISE = "transformer_high_noise", "transformer_low_noise"
"""The two transformers of a model on Wan 2.2."""
TRANSFORMERS = (TRANSFORMER, HIGH_NOISE, LOW_NOISE)
TOKENIZER = "tokenizer"

STEMS = {
    TRANSFORMER: "diffusion_pytorch_model",
    HIGH_NOISE: "high_noise_model/diffusion_pytorch_model",
    LOW_NOISE: "low_noise_model/diffusion_pytorch_model",
    "text_encoder": "models_t5_umt5-xxl-enc-bf16",
    "vae": "Wan2.1_VAE",
    "image_encoder": "models_clip_open-clip-xlm-roberta-large-vit-huge-14",
}
"""Part to the prefix of its file names, in Wan-AI's repositories (in alibaba-pai's of two transformers) and, as
safetensors, in diffsynth's conversions (diffsynth, pipelines/wan_video.py: redirect_dict)."""

TOKENIZER_FOLDER = "google/umt5-xxl"
TOKENIZER_FILES = ("tokenizer.json", "spiece.model")


@dataclass(frozen=True)
class Parts:
    """Files of each part, and the tokenizer's folder."""

    files: tuple[tuple[str, tuple[str, ...]], ...]
    tokenizer: str


def checkpoints(main: Source, sources: dict[str, Source], parts: Sequence[str]) -> list[Checkpoint]:
    """Return the checkpoint of each part, without fetching; arguments as for `find_parts`."""
    found = []
    for part in parts:
        source = sources.get(part, main)
        own = folder_of(source.model) if part in sources else None
        named = own is None or any(own.glob(f"{STEMS[part]}*"))
        stem = STEMS[part] if named else ""
        found.append(Checkpoint(part, source.model, source.revision, (f"{stem}*.safetensors",), stem))
    tokenizer = sources.get(TOKENIZER, main)
    patterns = tuple(f"{TOKENIZER_FOLDER}/{name}" for name in TOKENIZER_FILES)
    if TOKENIZER in sources:
        patterns += TOKENIZER_FILES
    return [*found, Checkpoint(TOKENIZER, tokenizer.model, tokenizer.revision, patterns, None)]


def find_parts(main: Source, sources: dict[str, Source], parts: Sequence[str], *, allow_pickle: bool = False) -> Parts:
    """Find the files of every part of a pipeline; those on the hub are fetched.

    Args:
        main: source of the transformer, and of every part that `sources` does not name.
        sources: part (of `STEMS`, or `tokenizer`) to its source.
        parts: parts of the pipeline, beside the tokenizer.
        allow_pickle: as for `weight_files`.

    Raises:
        ConfigError: `sources` names an unknown part.
        FatalError: a part is missing.
    """
    known = (*parts, TOKENIZER)
    for name in sources:
        if name not in known:
            raise ConfigError(f"sources names no part {name!r}{nearest(name, known)}")
    files = []
    for part in parts:
        try:
            found = _files(part, sources.get(part), main, allow_pickle=allow_pickle)
        except FatalError as err:
            raise FatalError(f"{part} of {main.model}: {err}. Another place for it: settings.sources.{part}") from err
        files.append((part, tuple(map(str, found))))
    return Parts(tuple(files), str(_tokenizer(sources.get(TOKENIZER, main))))


def _files(part: str, own: Source | None, main: Source, *, allow_pickle: bool) -> list[Path]:
    source, stem = own or main, STEMS[part]
    endings = (".safetensors", ".pth") if allow_pickle else (".safetensors",)
    folder = checkpoint_folder(source.model, source.revision, patterns=[f"{stem}*{ending}" for ending in endings])
    # In a part's own folder the file may have any name, e.g. `model.safetensors` of a conversion.
    if own and not any(folder.glob(f"{stem}*")):
        stem = ""
    return weight_files(folder, stem, allow_pickle=allow_pickle)


def _tokenizer(source: Source) -> Path:
    patterns = [f"{folder}*" for folder in (f"{TOKENIZER_FOLDER}/", "tokenizer")] + ["*.json", "*.model"]
    folder = checkpoint_folder(source.model, source.revision, patterns=patterns)
    for path in (folder / TOKENIZER_FOLDER, folder / "tokenizer", folder):
        if any((path / name).is_file() for name in TOKENIZER_FILES):
            return path
    raise FatalError(f"{folder}: no tokenizer: {TOKENIZER_FOLDER}/ with {' or '.join(TOKENIZER_FILES)} is missing")
