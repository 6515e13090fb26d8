"""What the stages that ask a vision-language model share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ffpdata.core.errors import ConfigError, nearest
from ffpdata.core.stage import Reject, Row, Stage
from ffpdata.media.clip_cache import see_masks, see_video
from ffpdata.media.codec import read_first_frame, read_image

MEDIA = {
    "source": "source_video",
    "target": "target_video",
    "mask": "mask_video",
    "reference": "reference_image",
    "image": "content_image",
}
"""Name of a medium in a prompt to the column that holds it."""


class VisionStage(Stage):
    """A stage that asks one question. Subclasses name the prompt in `prompts` and call `ask`."""

    models = ("vision_language",)

    def ask(self, row: Row, fields: Mapping[str, Any], media: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Ask the stage's own question and check the answer against the prompt's schema and rules.

        Args:
            row: where the media are.
            fields: input fields of the prompt, and facts for a model that measures.
            media: media name to column; by default every one of `MEDIA` that the row has.

        Raises:
            Reject: `answer_breaks_rules`, with every rule that was broken.
            ConfigError: the prompt shows something that the stage does not have.
        """
        model, prompt = self.model("vision_language"), self.questions[self.prompts[0]]
        columns = media or {name: column for name, column in MEDIA.items() if row.get(column)}
        # A model that looks is given what the prompt shows; one that measures may use everything there is.
        if not getattr(model, "measures", False):
            for name in prompt.media:
                if name not in columns:
                    raise ConfigError(_cannot_show(self.name, prompt.name, name, columns))
            columns = {name: columns[name] for name in prompt.media}
        shown = {name: _load(row, column, prompt.media.get(name, "clip")) for name, column in columns.items()}
        fields = {name: value for name, value in fields.items() if value is not None}
        try:
            answer: dict[str, Any] = model.ask(prompt, shown, fields)
        except Reject as err:
            row.notes |= {prompt.name: err.facts} if err.facts else {}
            raise
        if facts := getattr(answer, "facts", None):  # a served model's: what it was shown and what that cost
            row.notes[prompt.name] = facts
        broken = prompt.violations(answer, fields)
        if broken:
            raise Reject("answer_breaks_rules", f"{prompt.name}: {'; '.join(broken)}")
        return answer

    def answered_by(self) -> str:
        """How an answer came about: `model`, or what the back end calls itself (`template`)."""
        return str(getattr(self.model("vision_language"), "kind", "model"))


def _cannot_show(stage: str, prompt: str, name: str, columns: Mapping[str, str]) -> str:
    said = f"prompt {prompt!r} shows {name!r}"
    if name not in {*MEDIA, *columns}:
        return f"{said}, which is no medium{nearest(name, {*MEDIA, *columns})}"
    return f"{said}, and stage {stage!r} has no {MEDIA.get(name, name)!r} to show: add that column to its `reads`"


def measured(row: Row) -> dict[str, Any]:
    """All numbers known about an item, flat, for models that judge by measurement."""
    facts: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            facts |= {k: v for k, v in value.items() if isinstance(v, (int, float))}
        elif isinstance(value, (int, float)):
            facts[name] = value
    return facts


def _load(row: Row, column: str, view: str) -> Any:
    path = row.file(column)
    if column == "mask_video":
        return see_masks(path)
    if path.suffix == ".png":
        return read_image(path)
    return read_first_frame(path) if view == "first_frame" and column != "target_video" else see_video(path)
