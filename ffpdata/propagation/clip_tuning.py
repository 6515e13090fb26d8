"""Tune a model to one clip, in two parts, and keep the result under the key of all that it depends on (LoRA-Edit).

FOLDER/<key>/                 one tuning
    decoupling/, appearance/  folders of the two trainings (`training.results`), each with its lineage
    lora.safetensors          the LoRA of the last part
    settings.json             written last: base, settings, and digests of what it was made of

A tuning that was killed goes on with the same call; a finished one is taken as it is.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ffpdata.core.errors import FatalError
from ffpdata.core.keys import digest
from ffpdata.core.stage import ModelSpec
from ffpdata.models.loraedit.region import of_clip
from ffpdata.models.loraedit.settings import LoraEditSettings
from ffpdata.models.propagation.model_folder import LORA, SETTINGS, Base
from ffpdata.models.settings import parse_settings
from ffpdata.propagation.clip_job import ClipJob, ClipSample, array_digest, sample_of
from ffpdata.storage.lock import run_lock
from ffpdata.storage.store import Store
from ffpdata.training.atomic_files import make_atomically, write_atomically
from ffpdata.training.removal_sample import file_digest
from ffpdata.training.results import plain_name, train

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.models.protocols import Frames, Image

    Masks = NDArray[np.bool_]

VERSION = 1
"""Raised whenever the same inputs would give another LoRA."""

DECOUPLING, APPEARANCE = "decoupling", "appearance"
"""The parts: on the clip (section 3.3.1), and on its further edited frames (3.3.2)."""

ARRAYS = "arrays"


@dataclass(frozen=True)
class Tuned:
    """A tuning that is done.

    Attributes:
        folder: of its files.
        base: that it was made over.
        about: content of `settings.json`: base, settings, text, digests and losses.
    """

    folder: Path
    base: Base
    about: Mapping[str, Any]

    @property
    def weights(self) -> Path:
        """The LoRA's file."""
        return self.folder / LORA


@dataclass(frozen=True)
class TuningInputs:
    """What a model is tuned to.

    Attributes:
        frames: the clip, uint8 (T, H, W, 3).
        region: bool (T, H, W), True is drawn anew; of whole cells of 8 x 8 pixels.
        text: of the clip as it is, with the special token.
        edited: further edited frames: index to uint8 (H, W, 3).
        edited_text: what these show, with the special token.
    """

    frames: Frames
    region: Masks
    text: str
    edited: Mapping[int, Image]
    edited_text: str

    def key(self) -> list[Any]:
        """Return what identifies it. Of the first frame's edit nothing is learned: it takes part by the region."""
        further = [[index, array_digest(image)] for index, image in sorted(self.edited.items())]
        texts = [self.text, self.edited_text if further else ""]
        return [array_digest(self.frames), array_digest(of_clip(self.region)), texts, further]

    def clip_samples(self, folder: Path, window: int) -> Iterator[ClipSample]:
        """Yield the clip, or its windows of so many frames, each beginning with the last frame of the one before."""
        count = len(self.frames)
        length = min(window, count) if window else count
        starts = range(0, count - length + 1, length - 1)
        begins = [*starts, *([count - length] if starts[-1] + length < count else [])]
        for begin in begins:
            part = slice(begin, begin + length)
            frames, region = self.frames[part], of_clip(self.region[part])
            path = folder / f"frames-{begin:03d}.npz"
            yield sample_of(path, frames=frames, region=region, target=frames, text=self.text)

    def still_samples(self, folder: Path) -> Iterator[ClipSample]:
        """Yield each further edited frame as a still: its region is blank, and no frame before it is given."""
        for index, image in sorted(self.edited.items()):
            part = slice(index, index + 1)
            given = {"frames": self.frames[part], "region": self.region[part], "target": image[None]}
            yield sample_of(folder / f"still-{index:03d}.npz", **given, text=self.edited_text)


def tune(
    inputs: TuningInputs,
    spec: ModelSpec,
    base: Base,
    cache: Path,
    *,
    say: Callable[[str], None],
    make_room: Callable[[], None] = lambda: None,
) -> Tuned:
    """Tune a model to a clip; one that was interrupted goes on, one that is done is returned.

    Args:
        inputs: of the tuning.
        spec: of the role.
        base: of the checkpoint.
        cache: folder of all tunings.
        say: called with each line of progress.
        make_room: called before a training begins: frees what the caller holds on the device.

    Raises:
        RunLockedError: another process makes this very tuning.
        As `results.train`.
    """
    settings = parse_settings(LoraEditSettings, spec)
    dumped = settings.tuning.model_dump(mode="json", exclude={"save_every", "gradient_checkpointing"})
    identity = {**ClipJob.identity_of(spec), "settings": dumped}
    key = digest("loraedit", VERSION, base.digest, identity, inputs.key())
    folder = cache / key
    if (found := _done(folder)) is not None:
        return found
    make_room()
    folder.mkdir(parents=True, exist_ok=True)
    with run_lock(Store(folder), "tuning.lock"):
        arrays, tuning = folder / ARRAYS, settings.tuning
        job = ClipJob.make(
            inputs.clip_samples(arrays, tuning.window), tuning.decoupling_steps, spec, tuning, folder / DECOUPLING
        )
        say(f"tuning {key}: {tuning.decoupling_steps} steps on the clip")
        trained = train(job, say)
        losses = {DECOUPLING: [trained.losses[0][1], trained.losses[-1][1]]}
        seconds = trained.seconds
        if inputs.edited:
            say(f"tuning {key}: {tuning.appearance_steps} steps on {len(inputs.edited)} edited frames")
            stills = inputs.still_samples(arrays)
            job = ClipJob.make(
                stills,
                tuning.appearance_steps,
                spec,
                tuning,
                folder / APPEARANCE,
                begin=trained.weights["lora"],
                begun=trained.revision,
            )
            trained = train(job, say)
            losses[APPEARANCE] = [trained.losses[0][1], trained.losses[-1][1]]
            seconds += trained.seconds
        weights = trained.weights["lora"]
        make_atomically(folder / LORA, lambda temp: shutil.copyfile(weights, temp))
        about = {
            "base": vars(base),
            "settings": {"token": settings.token, **settings.tuning.model_dump(mode="json")},
            "key": key,
            "revision": trained.revision,
            "clip": array_digest(inputs.frames),
            "region": array_digest(of_clip(inputs.region)),
            "text": inputs.text,
            "edited_frames": {str(index): array_digest(image) for index, image in sorted(inputs.edited.items())},
            "losses": losses,
            "seconds": round(seconds, 1),
        }
        write_atomically(folder / SETTINGS, (json.dumps(about, indent=1, ensure_ascii=False) + "\n").encode())
        for name in (ARRAYS, *(f"{part}/{kind}" for part in losses for kind in ("latents", "checkpoints"))):
            shutil.rmtree(folder / name, ignore_errors=True)
    return Tuned(folder, base, about)


def read_tuned(folder: Path) -> Tuned:
    """Read the folder of a tuning.

    Raises:
        FatalError: it is none, it is not finished, or the LoRA is not the one that was written.
    """
    folder = folder.expanduser()
    try:
        about = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        found = Tuned(folder, Base(**about["base"]), about)
        revision = about["revision"]
    except FileNotFoundError:
        raise FatalError(
            f"{folder}: no {SETTINGS}: name the folder of a finished tuning of --method loraedit"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise FatalError(f"{folder / SETTINGS}: not the settings of a tuning ({err})") from err
    if not found.weights.is_file() or file_digest(found.weights) != revision:
        raise FatalError(f"{folder}: {LORA} is missing or not the one of {SETTINGS}: tune again")
    return found


def check_tuned(tuned: Tuned, base: Base) -> None:
    """Raise FatalError for a tuning over another base, with both digests."""
    if tuned.base.digest != base.digest:
        own = f" ({tuned.base.model})" if tuned.base.model else ""
        raise FatalError(
            f"{tuned.folder} was tuned over the base {tuned.base.digest}{own}, {base.model} is {base.digest}: name "
            "that base"
        )


def base_of(spec: ModelSpec, digest: str) -> Base:
    """Return the base of a role."""
    return Base(digest, plain_name(spec.model), spec.revision)


def _done(folder: Path) -> Tuned | None:
    """Return the finished tuning of a folder; None where there is none, or its LoRA is damaged."""
    if not (folder / SETTINGS).is_file():
        return None
    try:
        return read_tuned(folder)
    except FatalError:
        (folder / SETTINGS).unlink(missing_ok=True)
        return None
