"""Write what else a trainer may read of a pair: further wordings of its instruction, and the captions that it lacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from ffpdata.core.errors import Reject
from ffpdata.core.stage import Row, StageSettings
from ffpdata.media.clip_cache import cached_masks, cached_video
from ffpdata.media.codec import read_image
from ffpdata.metrics.words import agreement, seen_colours
from ffpdata.stages._vision import VisionStage

AGREES = 0.5
"""Least agreement of a wording with its pair, in kind of edit and in colours; below it the wording is left out."""
CHECKED = ("instruction_task", "instruction_colours")
TURNED = {"source": "target_video", "target": "source_video", "mask": "mask_video"}
"""Media of an inverse pair to the columns of its removal."""


class WordingsSettings(StageSettings):
    """What is written; nothing by default, and items then pass the stage without a row."""

    instructions: list[Literal["short", "descriptive", "casual"]] = []
    """Further wordings of the instruction."""
    captions: bool = False
    """Captions of both clips, where the pair lacks one: the source's of a stylization, the target's of a swap or a
    modification."""
    additions: bool = False
    """An instruction for a removal that is read backwards (`export.inverse`); without it the removal's is reworded."""


class Wordings(VisionStage):
    """Write `instructions`, captions and `addition_instruction`, as far as they are asked for.

    A wording keeps the rules of its prompt, and agrees with the pair as the instruction itself must in `grade`; one
    that does not is left out and noted, and the pair goes on.
    """

    name, version = "wordings", 1
    optional = ("mask_video", "reference_image", "object", "style", "caption", "caption_by", "target_caption")
    reads = ("source_video", "target_video", "instruction", "task", *optional)
    writes = {
        "instructions": dict,
        "addition_instruction": str,
        **dict.fromkeys(("caption", "caption_by", "target_caption"), str),
    }
    prompts = ("wordings", "pair_captions", "instruct_addition")
    fields = ("thing",)
    Settings = WordingsSettings

    @property
    def idle(self) -> bool:
        """Whether nothing is asked for."""
        return not (self.settings.instructions or self.settings.captions or self.settings.additions)

    def applies(self, row: Mapping[str, Any]) -> bool:  # noqa: ARG002
        """All pairs, once something is asked for."""
        return not self.idle

    def setup(self) -> None:
        """Load the model, once something is asked for."""
        if not self.idle:
            super().setup()

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return what was asked for and could be written."""
        columns: dict[str, Any] = {}
        if self.settings.instructions:
            columns["instructions"] = self._instructions(row)
        if self.settings.captions and not (row.get("caption") and (row.get("target_caption") or row.get("style"))):
            columns |= self._captions(row)
        if self.settings.additions and row["task"] == "removal":
            thing = row.get("object") or "object"
            fields = {"thing": thing, "object": thing, "task": "addition"}
            media = {name: column for name, column in TURNED.items() if row.get(column)}
            answer = self._answer(row, "instruct_addition", fields, media)
            columns["addition_instruction"] = answer.get("instruction")
        return columns

    def _instructions(self, row: Row) -> dict[str, str]:
        fields = {name: row.get(name) for name in ("instruction", "task", "object", "style")}
        answer = self._answer(row, "wordings", fields)
        texts = {name: str(answer[name]) for name in self.settings.instructions if answer.get(name)}
        masks = cached_masks(row.file("mask_video")) if row.get("mask_video") else None
        reference = read_image(row.file("reference_image")) if row.get("reference_image") else None
        source, target = (cached_video(row.file(name)) for name in ("source_video", "target_video"))
        seen = seen_colours(source, target, masks, reference)
        kept = {}
        for name, text in texts.items():
            found = agreement({**row, "instruction": text}, seen)
            wrong = {check: found[check] for check in CHECKED if found.get(check, 1.0) < AGREES}
            if wrong:
                row.notes[f"left_out_{name}"] = {"text": text, **wrong}
            else:
                kept[name] = text
        return kept

    def _captions(self, row: Row) -> dict[str, Any]:
        fields = {name: row.get(name) for name in ("instruction", "object")}
        answer = self._answer(row, "pair_captions", fields)
        columns: dict[str, Any] = {}
        if not row.get("caption") and answer.get("source"):
            columns |= {"caption": answer["source"], "caption_by": self.answered_by()}
        if not row.get("target_caption") and not row.get("style") and answer.get("target"):
            columns["target_caption"] = answer["target"]
        return columns

    def _answer(
        self, row: Row, prompt: str, fields: Mapping[str, Any], media: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Ask; an answer that breaks its rules, or that the model cannot give, is noted and counts as none."""
        try:
            return self.ask(row, fields, media, prompt=prompt)
        except Reject as err:
            row.notes[f"left_out_{prompt}"] = str(err)
            return {}
