"""One small protocol per model role.

Conventions at this border, whatever a model uses inside: frames are uint8 (T, H, W, 3) RGB; masks are bool (T, H, W),
True = edit this pixel; depth is float32 (T, H, W) in 0..1, near = 1; images are uint8 (H, W, 3) RGB; boxes are
(x0, y0, x1, y1) in pixels, half-open. T, H and W of an answer equal those of the question. What a back end is given it
must not write to: other stages see the same arrays. It may raise `Reject` (a decision with a reason), `RetryableError`
or `FatalError`.

A back end is a class `Backend(spec: ModelSpec)`. Its constructor loads the weights (it is called in a stage's `setup`,
once per worker); importing its module must be cheap. It has the class attributes `name` (str), which counts in keys and
never changes, and `version` (int), raised whenever its answers change, and `close()`, which frees processes and memory.
`Settings` and `Runtime` are the pydantic models of these sections of its profile entry; one that it does not have takes
no entries. A class method `adapters(spec) -> tuple[str, ...]`, where it has one, names what lies over its weights as
`name@revision`; the manifest's `model`, the card and the report show it behind the model,
`Wan-AI/Wan2.1-VACE-14B@539c162+removal@ab12cd34`. It counts in no key; settings do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ffpdata.core.prompt import Prompt

    Frames = NDArray[np.uint8]
    Image = NDArray[np.uint8]
    Masks = NDArray[np.bool_]
    Depth = NDArray[np.float32]

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Segmentation:
    """Masks of one object over a clip.

    Attributes:
        masks: bool (T, H, W), True on the object.
        phrase: the candidate phrase that was found.
        score: confidence in 0..1.
        facts: measured numbers that gates and reports use, e.g. `temporal_iou`, `motion_coherence`.
    """

    masks: Masks
    phrase: str
    score: float
    facts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Edit:
    """An edited clip.

    Attributes:
        frames: uint8 (T, H, W, 3) RGB.
        facts: numbers that the back end alone can know, e.g. `unrevealed` (fraction of the mask never seen).
    """

    frames: Frames
    facts: dict[str, float] = field(default_factory=dict)


class Model(Protocol):
    """What every back end has."""

    name: str
    version: int

    def close(self) -> None:
        """Free processes and memory."""


class VisionLanguage(Model, Protocol):
    """Answers questions about images and clips."""

    def ask(self, prompt: Prompt, media: Mapping[str, Frames | Image | Masks], fields: Mapping[str, Any]) -> dict:
        """Answer `prompt` as its JSON schema says.

        Args:
            prompt: the question; `prompt.media` says which media the model is shown and how.
            media: clips (T, H, W, 3), images (H, W, 3) and masks (T, H, W) by name. It may hold more than the prompt
                shows: a back end that measures instead of looking uses what it needs.
            fields: values for the template's inputs, and facts known about the item.
        """


class Segmenter(Model, Protocol):
    """Finds one object in every frame."""

    def segment(self, frames: Frames, phrases: Sequence[str], box: Box | None = None) -> Segmentation:
        """Segment the first of `phrases` that is found.

        Args:
            frames: the clip.
            phrases: candidates in order of preference.
            box: where the user says the object is in the first frame; it wins over the phrases.

        Raises:
            Reject: `no_target` where none is found, or the reason of a guard that failed.
        """


class Inpainter(Model, Protocol):
    """Regenerates the masked region of a clip."""

    def edit(
        self,
        frames: Frames,
        masks: Masks,
        *,
        prompt: str,
        negative: str = "",
        reference: Image | None = None,
        seed: int = 0,
    ) -> Edit:
        """Return the clip with the masked pixels edited; pixels outside the mask may change slightly."""


class ImageToVideo(Model, Protocol):
    """Animates a still image."""

    def animate(self, image: Image, *, prompt: str, frames: int, seed: int = 0) -> Edit:
        """Return `frames` frames of the image's size whose first frame is the image."""


class DepthEstimator(Model, Protocol):
    """Estimates relative depth."""

    kind: str
    """What the numbers are, kept with the pair: `pseudo` for a heuristic, `relative` for a trained model."""

    def depth(self, frames: Frames) -> Depth:
        """Return float32 (T, H, W) in 0..1, near = 1."""


class Stylizer(Model, Protocol):
    """Restyles a whole clip after a reference image."""

    def stylize(self, frames: Frames, depth: Depth, reference: Image, *, prompt: str, seed: int = 0) -> Edit:
        """Return the clip in the reference's style with the scene's structure and motion kept."""
