"""One small protocol per model role.

Conventions, whatever a model uses inside: frames are uint8 (T, H, W, 3) RGB; masks are bool (T, H, W),
True = edit this pixel; depth is float32 (T, H, W) in 0..1, near = 1; images are uint8 (H, W, 3) RGB; boxes are
(x0, y0, x1, y1) in pixels, half-open. T, H and W of a result equal those of the input. Input arrays are read-only,
because other stages use them too. A back end may raise `Reject` (a decision with a reason), `RetryableError` or
`FatalError`.

A back end is a class `Backend(spec: ModelSpec)`. Its constructor loads the weights (it is called in a stage's `setup`,
once per worker); importing its module must be cheap. It has the class attributes `name` (str), which counts in keys and
never changes, and `version` (int), raised whenever its answers change, and `close()`, which frees processes and memory.
`Settings` and `Runtime` are the pydantic models of these sections of its profile entry; a section without a model takes
no entries. It may have a class method `adapters(spec) -> tuple[str, ...]` that names what the model runs with, LoRAs as
`name@revision` and an attention kernel; the manifest's `model`, the card and the report show them after the model,
`Wan-AI/Wan2.1-VACE-14B@539c162+removal@ab12cd34+sdpa`. They count in no key; settings do.

Networks of `models/packaged` that it runs are named by a class method `packaged(spec) -> tuple[str, ...]`: a run
begins where they are on the machine, their versions count in keys, and the label, `doctor` and the card (with their
licences) show them. It opens them in its constructor.
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
    Mask = NDArray[np.bool_]
    Masks = NDArray[np.bool_]
    Depth = NDArray[np.float32]

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Segmentation:
    """Masks of one object over a clip.

    Attributes:
        masks: bool (T, H, W), True on the object.
        phrase: the candidate phrase that was segmented.
        score: confidence in 0..1.
        facts: measured numbers for limits and reports, e.g. `temporal_iou`, `motion_coherence`.
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
        facts: numbers measured by the back end, e.g. `unrevealed` (fraction of the mask that no frame shows).
    """

    frames: Frames
    facts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class EditedImage:
    """An edited picture.

    Attributes:
        image: uint8 (H, W, 3) RGB.
        facts: numbers measured by the back end.
    """

    image: Image
    facts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Detection:
    """A thing in a picture.

    Attributes:
        label: what it is, one of the detector's names.
        score: 0..1.
        box: x0, y0, x1, y1 in pixels of the picture.
    """

    label: str
    score: float
    box: Box


@dataclass(frozen=True)
class FrameFeatures:
    """What an image-text encoder makes of frames.

    Attributes:
        pooled: output of its vision tower, float32 (T, W), of any length.
        projected: in the space of texts, float32 (T, D), of length 1.
    """

    pooled: NDArray[np.float32]
    projected: NDArray[np.float32]


class Model(Protocol):
    """Attributes of every back end."""

    name: str
    version: int
    # `tasks`, a tuple of names, may say of an `Inpainter` or an `ImageEditor` which tasks it makes; without it all.

    def close(self) -> None:
        """Free processes and memory."""


class VisionLanguage(Model, Protocol):
    """Answers questions about images and clips."""

    def ask(self, prompt: Prompt, media: Mapping[str, Frames | Image | Masks], fields: Mapping[str, Any]) -> dict:
        """Answer `prompt` as its JSON schema says.

        Args:
            prompt: the question; `prompt.media` lists the media of the question and their form.
            media: clips (T, H, W, 3), images (H, W, 3) and masks (T, H, W) by name: the prompt's, and, where the item
                has them, those that the back end's `more_media(prompt) -> tuple[str, ...]` names, if it has this
                method. A back end that measures (class attribute `measures = True`) gets all that the item has.
            fields: values for the template's inputs, and numbers measured on the item. A back end that does not measure
                gets `fps`, the frames per second of the clips.

        Returns:
            A JSON object that fits `prompt.schema`.
        """


class Segmenter(Model, Protocol):
    """Finds one object in every frame."""

    def segment(self, frames: Frames, phrases: Sequence[str], box: Box | None = None) -> Segmentation:
        """Segment the first of `phrases` that is found.

        Args:
            frames: the clip.
            phrases: candidates in order of preference.
            box: the object in the first frame, given by the user; used in place of the phrases.

        Raises:
            Reject: `no_target` where no phrase is found, or the reason of a guard.
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
    """Recorded with the pair: `pseudo` for a heuristic, `relative` for a trained model."""

    def depth(self, frames: Frames) -> Depth:
        """Return float32 (T, H, W) in 0..1, near = 1."""


class Stylizer(Model, Protocol):
    """Restyles a whole clip after a reference image."""

    def stylize(self, frames: Frames, depth: Depth, reference: Image, *, prompt: str, seed: int = 0) -> Edit:
        """Return the clip in the reference's style with the scene's structure and motion kept."""


class Propagator(Model, Protocol):
    """Carries the edit of a clip's first frame through the clip."""

    def propagate(
        self, frames: Frames, edited_first_frame: Image, *, prompt: str = "", negative: str = "", seed: int = 0
    ) -> Edit:
        """Return the clip with the motion of `frames` and the content of the edited first frame.

        Args:
            frames: the source clip.
            edited_first_frame: its frame 0 after the edit, of the same size.
            prompt: what the edited clip shows; may be empty.
            negative: what it shall not show.
            seed: of the noise.
        """


class ImageEditor(Model, Protocol):
    """Edits one picture, the first frame of a clip."""

    def edit_image(
        self,
        image: Image,
        *,
        task: str,
        prompt: str,
        mask: Mask | None = None,
        reference: Image | None = None,
        seed: int = 0,
    ) -> EditedImage:
        """Return the picture at its own size with one edit made and the rest as it was.

        Args:
            image: the picture.
            task: `swap`, `modification`, `addition` or `stylization`.
            prompt: what to do, one or two sentences in the imperative.
            mask: bool (H, W), True on the object that the edit is of; None where there is none.
            reference: the picture whose style it is to have, of any size; None where there is none.
            seed: of the noise, or of a choice.
        """


@dataclass(frozen=True)
class TunedEdit(Edit):
    """A clip that was edited by a model tuned to it.

    Attributes:
        tuning: what the model was tuned to and how: base, settings, digests, losses.
    """

    tuning: dict[str, Any] = field(default_factory=dict)


class TunedPropagator(Model, Protocol):
    """Carries the edit of a clip's first frame through the clip, after it was tuned to this very clip."""

    def propagate(
        self,
        frames: Frames,
        edited_first_frame: Image,
        region: Masks,
        *,
        edited_frames: Mapping[int, Image] | None = None,
        prompt: str = "",
        source_prompt: str = "",
        negative: str = "",
        seed: int = 0,
    ) -> TunedEdit:
        """Return the clip with the edit inside the region, and as it was outside.

        Args:
            frames: the source clip.
            edited_first_frame: its frame 0 after the edit, of the same size.
            region: what may change; the first frame of it says nothing.
            edited_frames: further frames after the edit, by their index, of the same size.
            prompt: what the edited clip shows; may be empty.
            source_prompt: what the source shows; may be empty.
            negative: what the edited clip shall not show.
            seed: of the noise.
        """


class Detector(Model, Protocol):
    """Finds things of the kinds that it knows. It looks at sources and targets with the same eyes."""

    def detect(self, picture: Image) -> Sequence[Detection]:
        """Return what is seen in a picture, one detection a thing, best first; empty where there is nothing."""


class ContentGate(Model, Protocol):
    """Keeps sources with unwanted content out, before anything costly is made of them."""

    def inspect(self, frames: Frames) -> dict[str, float]:
        """Return what was measured, each number under a name of the gate's own.

        Args:
            frames: the clip; one frame where the source is a still image.

        Raises:
            Reject: the source is kept out; with the reason, what was found against which limit, and the numbers.
        """


class Embedder(Model, Protocol):
    """Describes pictures by vectors: copies of a picture, also cropped, mirrored or recoloured, lie near each other."""

    def embed(self, pictures: Sequence[Image]) -> NDArray[np.float32]:
        """Return a vector of length 1 for each picture, float32 (N, D)."""


class ImageTextEncoder(Model, Protocol):
    """Describes frames and texts by vectors of one space: what a text says of a picture has a high cosine with it."""

    logit_scale: float
    """Factor by which its cosines become scores."""

    def encode_frames(self, frames: Frames) -> FrameFeatures:
        """Return the vectors of every frame."""

    def encode_text(self, text: str) -> NDArray[np.float32]:
        """Return the vector of a text, float32 (D,), of length 1; a text that is too long is cut."""


class FrameEncoder(Model, Protocol):
    """Describes how frames look."""

    def encode_frames(self, frames: Frames) -> NDArray[np.float32]:
        """Return a vector for each frame, float32 (T, D), of any length."""


class PreferenceScorer(Model, Protocol):
    """Says how well people would like a picture for a text."""

    def score(self, frames: Frames, text: str) -> NDArray[np.float32]:
        """Return the score of each frame, float32 (T,), higher = better."""


class VideoTextEncoder(Model, Protocol):
    """Describes clips and texts by vectors of one space."""

    def encode_clip(self, frames: Frames) -> NDArray[np.float32]:
        """Return the vector of a clip, float32 (D,), of length 1; which frames it looks at is the encoder's own."""

    def encode_text(self, text: str) -> NDArray[np.float32]:
        """Return the vector of a text, float32 (D,), of length 1; a text that is too long is cut."""


class QualityScorer(Model, Protocol):
    """Says how good pictures look, whatever they show. None comes with ffpdata."""

    def score(self, frames: Frames) -> NDArray[np.float32]:
        """Return the score of each frame, float32 (T,), 1 (bad) to 5 (excellent)."""
