"""Base class of the stages that ask a vision-language model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ffpdata.core.errors import ConfigError, nearest
from ffpdata.core.stage import Reject, Row, Stage
from ffpdata.media.clip_cache import cached_masks, cached_video
from ffpdata.media.codec import read_first_frame, read_image, video_info

if TYPE_CHECKING:
    from ffpdata.core.prompt import Prompt

MEDIA = {
    "source": "source_video",
    "target": "target_video",
    "mask": "mask_video",
    "reference": "reference_image",
    "image": "content_image",
}
"""Name of a medium in a prompt to the column that holds it."""


class VisionStage(Stage):
    """A stage with one prompt. Subclasses name it in `prompts` and call `ask`."""

    models: ClassVar[tuple[str, ...]] = ("vision_language",)

    def ask(
        self, row: Row, fields: Mapping[str, Any], media: Mapping[str, str] | None = None, *, prompt: str = ""
    ) -> dict[str, Any]:
        """Ask the model one of the stage's prompts and check the answer against the prompt's schema and rules.

        Args:
            row: the item, which has the media's files.
            fields: input fields of the prompt, and numbers for a model that measures; None values are left out. A
                trained model is given `fps`, the rate of the clips, too.
            media: media name to column; by default every one of `MEDIA` that the row has.
            prompt: name of one of the stage's prompts; the first where empty.

        Raises:
            Reject: `answer_breaks_rules`, with every rule that was broken.
            ConfigError: the prompt shows something that the stage does not have.
        """
        model, question = self.model("vision_language"), self.questions[prompt or self.prompts[0]]
        columns = media or {name: column for name, column in MEDIA.items() if row.get(column)}
        # A trained model gets the media that the prompt names, and what it crops them by; one that measures gets all.
        if not getattr(model, "measures", False):
            for name in question.media:
                if name not in columns:
                    raise ConfigError(_cannot_show(self.name, question.name, name, columns))
            more = model.more_media(question) if hasattr(model, "more_media") else ()
            columns = {name: columns[name] for name in dict.fromkeys((*question.media, *more)) if name in columns}
            fields = {"fps": _rate(row, question, columns), **fields}
        arrays = {name: _load_medium(row, column, question.media.get(name, "clip")) for name, column in columns.items()}
        return self.ask_about(row, question, arrays, fields)

    def ask_about(
        self, row: Row, question: Prompt, arrays: Mapping[str, Any], fields: Mapping[str, Any], *, note: str = ""
    ) -> dict[str, Any]:
        """Ask about media that are in memory, frames of a clip, say; `note` is the answer's name among the notes.

        Raises:
            Reject: as `ask`.
        """
        fields = {name: value for name, value in fields.items() if value is not None}
        try:
            answer: dict[str, Any] = self.model("vision_language").ask(question, arrays, fields)
        except Reject as err:
            row.notes |= {note or question.name: err.facts} if err.facts else {}
            raise
        if facts := getattr(answer, "facts", None):  # a served model's: frames, tokens, seconds
            row.notes[note or question.name] = facts
        violations = question.violations(answer, fields)
        if violations:
            raise Reject("answer_breaks_rules", f"{question.name}: {'; '.join(violations)}")
        return answer

    def answered_by(self) -> str:
        """Return the back end's `kind` (`template`), or `model` where it has none."""
        return str(getattr(self.model("vision_language"), "kind", "model"))


def _cannot_show(stage: str, prompt: str, name: str, columns: Mapping[str, str]) -> str:
    said = f"prompt {prompt!r} shows {name!r}"
    if name not in {*MEDIA, *columns}:
        return f"{said}, which is no medium{nearest(name, {*MEDIA, *columns})}"
    return f"{said}, and stage {stage!r} has no {MEDIA.get(name, name)!r} to show: add that column to its `reads`"


class TargetCaption(VisionStage):
    """Writes `target_caption`, the caption of what one task paints, from the caption of the clip and the object.

    Attributes:
        task: the only one whose edits it captions.
    """

    reads = ("source_video", "caption", "object")
    uses = ("task",)
    writes = {"target_caption": str}
    task: str

    def applies(self, row: Mapping[str, Any]) -> bool:
        """Edits of the task only."""
        return bool(row["task"] == self.task)

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return the caption of the edited clip."""
        fields = {"caption": row["caption"], "object": row["object"]}
        return {"target_caption": self.ask(row, fields, {"source": "source_video"})["caption"]}


def numeric_facts(row: Row) -> dict[str, Any]:
    """Return all numbers of an item, those in dictionaries too, by name: input of models that measure."""
    facts: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            facts |= {k: v for k, v in value.items() if isinstance(v, (int, float))}
        elif isinstance(value, (int, float)):
            facts[name] = value
    return facts


def _rate(row: Row, prompt: Prompt, columns: Mapping[str, str]) -> float | None:
    """Return the frames per second of the first clip that the prompt shows; None where it shows none."""
    clips = [name for name, view in prompt.media.items() if view == "clip" and row.file(columns[name]).suffix != ".png"]
    return video_info(row.file(columns[clips[0]])).fps or None if clips else None


def _load_medium(row: Row, column: str, view: str) -> Any:
    path = row.file(column)
    if column == "mask_video":
        return cached_masks(path)
    if path.suffix == ".png":
        return read_image(path)
    return read_first_frame(path) if view == "first_frame" and column != "target_video" else cached_video(path)
