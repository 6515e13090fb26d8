"""A training sample: a removal, with the request that the remover got and the clip that it shall make."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ffpdata.core.errors import ConfigError, FatalError
from ffpdata.core.keys import KEY_CHARS, digest
from ffpdata.media.codec import read_masks, read_video, video_info
from ffpdata.media.conditioning import blank
from ffpdata.media.geometry import check_clip

if TYPE_CHECKING:
    from ffpdata.models.protocols import Frames

CLIPS = ("source_video", "condition_mask", "target_video")
"""Files of a sample: their columns in a run, and its attributes here."""


@dataclass(frozen=True)
class RemovalSample:
    """An accepted removal to train on, or a held-out one.

    Attributes:
        item_id: the edit.
        source_video: the clip with the object.
        condition_mask: the region that the remover repaints.
        target_video: the accepted clip, of the same size.
        prompt: the remover's prompt: the caption without the object.
        negative: its negative prompt.
        seed: seed of the drawings.
        pair: key of the pair (`curate.verdicts.pair_key`).
        verdict: what the reviewers decided, for the lineage.
        content: hash or name of what the files hold, where the caller knows one; where it is empty their bytes are
            hashed, which takes long for thousands of samples.
    """

    item_id: str
    source_video: Path
    condition_mask: Path
    target_video: Path
    prompt: str
    negative: str
    seed: int
    pair: str
    verdict: str
    content: str = ""

    @property
    def label(self) -> str:
        """The line above its pictures on the contact sheet."""
        return f"{self.item_id}: {self.prompt}"

    @property
    def bucket(self) -> tuple[()]:
        """All removals are shuffled together."""
        return ()

    def shown(self) -> dict[str, Frames]:
        """Return the clip with the object, its region, and the accepted clip."""
        source = read_video(self.source_video)
        region = blank(source, read_masks(self.condition_mask))
        return {"source": source, "region": region, "accepted": read_video(self.target_video)}

    def record(self) -> dict[str, str]:
        """Return what the lineage records of it."""
        return {name: getattr(self, name) for name in ("item_id", "pair", "verdict", "prompt")}


def content_key(sample: RemovalSample) -> str:
    """Hash a sample's files, prompts and seed; the same wherever its files are."""
    files = [sample.content] if sample.content else [file_digest(getattr(sample, clip)) for clip in CLIPS]
    return digest(files, sample.prompt, sample.negative, sample.seed)


def file_digest(path: Path) -> str:
    """Hash a file's bytes to `KEY_CHARS` hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:KEY_CHARS]


def check_samples(samples: Sequence[RemovalSample], validation: Sequence[RemovalSample]) -> None:
    """Raise where the samples cannot be trained on.

    Args:
        samples: to train on.
        validation: held out.

    Raises:
        ConfigError: there is no sample; an item occurs twice; a sample's clips differ in size, or their size does not
            suit the model.
        FatalError: a file is missing.
    """
    if not samples:
        raise ConfigError("no accepted pair to learn from: review more pairs first")
    seen: dict[str, str] = {}
    for name, part in (("samples", samples), ("validation", validation)):
        for sample in part:
            if sample.item_id in seen:
                raise ConfigError(f"{sample.item_id} is in {seen[sample.item_id]} and in {name}: give it once")
            seen[sample.item_id] = name
    for sample in (*samples, *validation):
        _check_clips(sample)


def _check_clips(sample: RemovalSample) -> None:
    sizes = {}
    for kind in CLIPS:
        path: Path = getattr(sample, kind)
        if not path.is_file():
            raise FatalError(f"{sample.item_id}: its {kind} is missing: {path}")
        info = video_info(path)
        sizes[kind] = (info.frames, info.height, info.width)
    if len(set(sizes.values())) > 1:
        found = ", ".join(f"{kind} {w} x {h} x {t}" for kind, (t, h, w) in sizes.items())
        raise ConfigError(f"{sample.item_id}: all three must have one size: {found}")
    check_clip(*sizes["source_video"], model=sample.item_id)
