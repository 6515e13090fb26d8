"""One stage on one row, without runner, manifest or pipeline; back ends that do the least a role allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ffpdata.core.prompt import Prompt
from ffpdata.core.stage import Child, ModelSpec, Reject, Row, Stage
from ffpdata.media.codec import write_image, write_masks, write_video
from ffpdata.models.protocols import Edit, Segmentation

PROMPTS = Path(__file__).parents[2] / "prompts"
HEIGHT, WIDTH, FRAMES, FPS = 48, 64, 5, 16.0


@dataclass
class Alone:
    """A folder in which stages run on rows."""

    folder: Path

    def row(self, stage: Stage, **values: Any) -> Row:
        """Return the row as a runner shows it: declared columns alone, files as paths."""
        (self.folder / "new").mkdir(exist_ok=True)
        declared = (*stage.reads, *stage.uses, *getattr(stage, "optional", ()))
        seen = {n: str(v) if isinstance(v, Path) else v for n, v in values.items() if n in declared}
        return Row(seen, item_id="item", new_file=lambda column, child: self._new(stage, column, child))

    def process(self, stage: Stage, **values: Any) -> dict[str, Any]:
        """Run a stage that does not fan out and return its columns."""
        found = dict(stage.process(self.row(stage, **values)))
        assert set(found) <= set(stage.writes), "a column that the stage does not declare"
        return found

    def expand(self, stage: Stage, **values: Any) -> list[Child]:
        """Run a stage that fans out."""
        children = stage.expand(self.row(stage, **values))
        assert all(set(child.columns) <= set(stage.writes) for child in children), "a column that is not declared"
        return children

    def video(self, name: str, frames: np.ndarray) -> Path:
        """Write a clip, uint8 (T, H, W, 3)."""
        write_video(self.folder / f"{name}.mp4", frames, FPS)
        return self.folder / f"{name}.mp4"

    def masks(self, name: str, masks: np.ndarray) -> Path:
        """Write masks, bool (T, H, W)."""
        write_masks(self.folder / f"{name}.mp4", masks, FPS)
        return self.folder / f"{name}.mp4"

    def image(self, name: str, image: np.ndarray) -> Path:
        """Write an image, uint8 (H, W, 3)."""
        write_image(self.folder / f"{name}.png", image)
        return self.folder / f"{name}.png"

    def _new(self, stage: Stage, column: str, child: str) -> Path:
        return self.folder / "new" / f"{column}-{child.replace('/', '-')}.{stage.writes[column].ext}"


def flat(level: int | Sequence[int], frames: int = FRAMES) -> np.ndarray:
    """A clip of one grey level or colour, uint8 (T, H, W, 3)."""
    return np.full((frames, HEIGHT, WIDTH, 3), level, np.uint8)


def square(*, top: int = 16, left: int = 16, side: int = 16, frames: int = FRAMES) -> np.ndarray:
    """Masks of a square that stands still, bool (T, H, W)."""
    masks = np.zeros((frames, HEIGHT, WIDTH), bool)
    masks[:, top : top + side, left : left + side] = True
    return masks


def light_square() -> np.ndarray:
    """A light square on a dark ground, uint8 (T, H, W, 3)."""
    frames = flat(20)
    frames[square()] = 230
    return frames


class Backend:
    """What all back ends of these tests have; `asked` holds every call's arguments."""

    version = 1

    def __init__(self, spec: ModelSpec) -> None:
        self.settings = spec.settings
        self.asked: list[dict[str, Any]] = []
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Answering(Backend):
    """A model that looks: it answers as its settings say."""

    name = "answering"
    asked: list[dict[str, Any]]

    def ask(self, prompt: Prompt, media: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append({"prompt": prompt.name, "media": dict(media), "fields": dict(fields)})
        return dict(self.settings["answer"])


class Measuring(Answering):
    """A model that measures: it is given all there is, and calls itself a template."""

    name, measures, kind = "measuring", True, "template"


class Noting(Answering):
    """A served model: its answers carry what they cost."""

    name = "noting"

    def ask(self, prompt: Prompt, media: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
        class Answer(dict[str, Any]):
            facts = {"tokens": 12}

        return Answer(super().ask(prompt, media, fields))


class Refusing(Answering):
    """A served model whose answer was no answer."""

    name = "refusing"

    def ask(self, prompt: Prompt, media: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
        raise Reject("no_answer", "three tries", {"tokens": 99})


class Inverting(Backend):
    """Paints the negative of what it may repaint, animates by fading to black, and stylizes by the depth."""

    name = "inverting"

    def edit(self, frames: np.ndarray, masks: np.ndarray, **question: Any) -> Edit:
        self.asked.append(question)
        out = frames.copy()
        out[masks] = 255 - out[masks]
        return Edit(out, {"unrevealed": float(masks.mean())})

    def animate(self, image: np.ndarray, **question: Any) -> Edit:
        self.asked.append(question)
        steps = np.linspace(1, 0, question["frames"])[:, None, None, None]
        return Edit((image[None] * steps).round().astype(np.uint8), {"zoom": 1.0})

    def stylize(self, frames: np.ndarray, depth: np.ndarray, reference: np.ndarray, **question: Any) -> Edit:
        self.asked.append(question | {"depth": depth, "reference": reference})
        mixed = frames * (1 - depth[..., None]) + reference[None] * depth[..., None]
        return Edit(mixed.round().astype(np.uint8), {"weight": 0.5})


class Lights(Backend):
    """Segments what is light and takes lightness for depth."""

    name, kind = "lights", "relative"

    def segment(self, frames: np.ndarray, phrases: Sequence[str], box: Any = None) -> Segmentation:
        self.asked.append({"phrases": list(phrases), "box": box})
        return Segmentation(frames.mean(-1) > 128, phrases[0], 0.75, {"temporal_iou": 0.5})

    def depth(self, frames: np.ndarray) -> np.ndarray:
        return (frames.mean(-1) / 255).astype(np.float32)


def spec(backend: type[Backend], **settings: Any) -> ModelSpec:
    """The entry of a profile for one of these back ends."""
    return ModelSpec(backend=f"{__name__}:{backend.__name__}", settings=settings)


def asking(stage: type[Stage], answer: Mapping[str, Any], backend: type[Answering] = Answering, **settings: Any) -> Any:
    """Return a vision stage with its own prompt of the project, whose model answers so."""
    prompts = {name: Prompt.load(PROMPTS / f"{name}.yaml") for name in stage.prompts}
    return stage(stage.Settings(**settings), {"vision_language": spec(backend, answer=dict(answer))}, prompts)


def asked(stage: Stage, role: str = "vision_language") -> list[dict[str, Any]]:
    """What a stage's model was asked so far."""
    found: list[dict[str, Any]] = stage.model(role).asked
    return found
