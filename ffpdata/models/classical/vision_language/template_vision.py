"""The embedded vision-language model: it measures, and fills sentence templates with the measured words.

Its captions are simple but true. It recognises no category, and cannot distinguish indoors from outdoors: an object's
name comes from the user or stays `object`. Its verdicts are measured (`removal_measures`, `change_measures`,
`scoring`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from ffpdata.core.errors import FatalError, Reject, nearest
from ffpdata.models.classical.attributes import ObjectDescription, describe_object, describe_scene, palette
from ffpdata.models.classical.vision_language import scoring, sentences
from ffpdata.models.classical.vision_language.change_measures import LocalChange, measure_global, measure_local
from ffpdata.models.classical.vision_language.phrasing import noun, promised_colours
from ffpdata.models.classical.vision_language.removal_measures import measure_removal
from ffpdata.models.settings import BackendSettings, parse_settings

if TYPE_CHECKING:
    from ffpdata.core.prompt import Prompt
    from ffpdata.core.stage import ModelSpec

Media = Mapping[str, Any]
Fields = Mapping[str, Any]
GENERIC = ("moving object", "object")
"""Phrases for the embedded segmenter, which finds moving objects."""
ACCENT = 0.06
"""Smallest share of a style's pixels for a colour of its palette."""


BEYOND = {
    "background_caption": "cannot think of another place",
    "screen_background": "cannot tell whether an object suits a place",
    "instruct_background": "knows no names of places",
    "reference_caption": "recognises nothing in a picture",
    "screen_reference": "cannot tell whether two pictures show one thing",
    "instruct_reference": "recognises nothing in a picture",
    "verify_reference": "cannot tell whether two pictures show one thing",
    "identify_text": "reads no writing",
    "instruct_text": "reads no writing",
    "judge": "its numbers are no judge's grades",
}
"""Questions that no measurement answers, with the reason."""


class TemplateSettings(BackendSettings):
    """Threshold of the verdict."""

    follows: float = Field(5.0, ge=0, le=10)
    """Smallest score of a pair that follows its instruction."""


class TemplateVision:
    """A `VisionLanguage` of measurements and templates. It uses more media than those of the prompt, e.g. masks."""

    name = "template_vision"
    version = 6
    Settings = TemplateSettings
    measures = True
    """Stages pass it all media and numbers of the item, because it measures."""
    kind = "template"
    """Value of `caption_by` for its captions."""

    def __init__(self, spec: ModelSpec) -> None:
        self.settings = parse_settings(self.Settings, spec)
        self._answers: dict[str, Callable[[Prompt, Media, Fields], dict[str, Any]]] = {
            "identify": _identify,
            "caption": _caption,
            "removal_caption": _removal_caption,
            "cinematic_caption": _cinematic_caption,
            "style_caption": _style_caption,
            "discriminate": _discriminate,
            "screen": _screen,
            "instruct": _instruct,
            "instruct_style": _instruct_style,
            "instruct_addition": _instruct,
            "plan_frame": _plan_frame,
            "wordings": _wordings,
            "pair_captions": _pair_captions,
            "verify": self._verify,
        }

    def close(self) -> None:
        """Do nothing: no process and no memory is held."""

    def ask(self, prompt: Prompt, media: Media, fields: Fields) -> dict[str, Any]:
        """Answer `prompt`.

        Args:
            prompt: its name selects the template; its rules define the lengths of captions.
            media: `source` and `target` clips, uint8 (T, H, W, 3), or for `cinematic_caption` an image; `mask`, bool
                (T, H, W), True on the object; `reference`, uint8 (H, W, 3).
            fields: `object`, `caption`, `task`, `style`, `instruction`, and numbers known about the pair
                (`unrevealed`, `psnr_outside`, `flicker`), which are part of the verdicts.

        Raises:
            Reject: `needs_trained_model` where the answer cannot be measured.
            FatalError: there is no template for the prompt or the task, or a medium is missing.
        """
        if why := BEYOND.get(prompt.name):
            detail = f"the embedded vision-language model measures, and {why}: take a served one, e.g. --profile gpu"
            raise Reject("needs_trained_model", detail)
        answer = self._answers.get(prompt.name)
        if answer is None:
            raise FatalError(
                f"the embedded vision-language model has no answer to the prompt {prompt.name!r}"
                f"{nearest(prompt.name, self._answers)}"
            )
        return answer(prompt, media, fields)

    def _verify(self, prompt: Prompt, media: Media, fields: Fields) -> dict[str, Any]:
        verdict = _score_pair(prompt, media, fields)
        return {"reason": verdict.reason, "follows": verdict.score >= self.settings.follows, "score": verdict.score}


def _identify(prompt: Prompt, media: Media, fields: Fields) -> dict[str, Any]:  # noqa: ARG001
    known = " ".join(noun(fields.get("object")).lower().split()[-2:])
    return {"objects": list(GENERIC) if known == "object" or not 2 <= len(known) <= 40 else [known]}


def _caption(prompt: Prompt, media: Media, fields: Fields) -> dict[str, Any]:
    scene = describe_scene(get_medium(media, "source", prompt), media.get("mask"))
    length = rule_length(prompt, "caption")
    answer = {"caption": sentences.caption(scene, noun(fields.get("object")), length)}
    if prompt.violations(answer, fields):  # the user's word breaks a rule: leave it out
        answer = {"caption": sentences.caption(scene, "object", length)}
    return answer


def _removal_caption(prompt: Prompt, media: Media, fields: Fields) -> dict[str, Any]:
    scene = describe_scene(get_medium(media, "source", prompt), media.get("mask"))
    banned, length = str(fields.get("object") or ""), rule_length(prompt, "caption")
    answer = {"caption": sentences.caption_without(scene, str(fields.get("caption") or ""), banned, length)}
    if prompt.violations(answer, fields):  # the user's caption breaks a rule: use only measured words
        answer = {"caption": sentences.caption_without(scene, "", banned, length)}
    return answer


def _cinematic_caption(prompt: Prompt, media: Media, fields: Fields) -> dict[str, Any]:  # noqa: ARG001
    return {"caption": sentences.cinematic(describe_scene(get_medium(media, "source", prompt)))}


def _style_caption(prompt: Prompt, media: Media, fields: Fields) -> dict[str, Any]:
    reference = get_medium(media, "reference", prompt)
    reference_scene, colours = describe_scene(reference), _palette(reference)
    scene = describe_scene(get_medium(media, "source", prompt))
    style = noun(fields.get("style")).lower()
    return {
        "style": sentences.style_name(reference_scene, colours) if style == "object" else style,
        "caption": sentences.style_caption(reference_scene, colours, scene),
    }


def _discriminate(prompt: Prompt, media: Media, fields: Fields) -> dict[str, Any]:
    found = _measure_edit(prompt, media)
    # What is painted on has edges of its own, and the object between it stays.
    same = found.structure >= scoring.SAME_OBJECT or _look(fields) in sentences.PAINTED_ON
    kept = f"{max(0.0, found.structure):.0%} of the pattern of the {noun(fields.get('object'))} is kept"
    changed = f"{found.part:.0%} of it changed by more than a slight shade"
    return {"reason": f"{kept}; {changed}."[:240], "task": "modification" if same else "swap"}


def _screen(prompt: Prompt, media: Media, fields: Fields) -> dict[str, Any]:
    clips = [get_medium(media, name, prompt) for name in ("source", "target", "mask")]
    found = measure_removal(clips[0], clips[1], clips[2])
    if found is None:
        nothing = dict.fromkeys(("object_gone", "replaced_by_other", "background_plausible"), False)
        nothing |= dict.fromkeys(("shadow_or_reflection_left", "flicker", "contour_artifacts"), False)
        return {
            "reason": "The mask is empty or does not fit the clips: there is nothing to judge.",
            **nothing,
            "score": 0.0,
        }
    faults = scoring.removal_faults(found, fields)
    verdict = scoring.grade(faults, "the fill agrees with the background that is seen there at other times")
    heavy = {name: fault.weight >= 0.5 for name, fault in faults.items()}
    return {
        "reason": verdict.reason,
        "object_gone": not heavy["left"],
        "replaced_by_other": not heavy["left"] and heavy["wrong"] and found.soft < 0.5,
        "shadow_or_reflection_left": faults["shade"].weight > 0.05,
        "background_plausible": not (heavy["left"] or heavy["wrong"] or faults["soft"].weight >= 0.3),
        "flicker": heavy["flicker"],
        "contour_artifacts": faults["seam"].weight >= 0.1,
        "score": verdict.score,
    }


def _instruct(prompt: Prompt, media: Media, fields: Fields) -> dict[str, Any]:
    task = _task(fields, ("removal", "swap", "modification", "addition"))
    phrase = noun(fields.get("object"))
    clip = get_medium(media, "target" if task == "addition" else "source", prompt)
    mask = media.get("mask")
    description = describe_object(clip, mask) if mask is not None else ObjectDescription()
    if task in ("removal", "addition"):
        return {"instruction": (sentences.remove if task == "removal" else sentences.add)(phrase, description)}
    found = (
        measure_local(get_medium(media, "source", prompt), get_medium(media, "target", prompt), mask)
        if mask is not None
        else None
    )
    change = found or LocalChange()
    if task == "swap":
        return {"instruction": sentences.swap(phrase, description, change)}
    painted = fields.get("painted_part")
    part = float(painted) if isinstance(painted, (int, float)) else 1.0
    colour = _named(fields, "new_colour_")
    return {"instruction": sentences.modify(phrase, description, change, _look(fields), part, colour=colour)}


def _plan_frame(prompt: Prompt, media: Media, fields: Fields) -> dict[str, Any]:  # noqa: ARG001
    """Ask for another look of the object; which one the embedded editor chooses by its colours."""
    if (task := str(fields.get("task"))) != "modification":
        raise Reject(
            "needs_trained_model",
            f"the embedded vision-language model cannot think of what is to come in a {task}: take a served one, e.g. "
            "--profile gpu",
        )
    phrase = noun(fields.get("object"))
    return {
        "object": phrase,
        "instruction": f"Give the {phrase} another look.",
        "caption": str(fields.get("caption") or f"The video shows a {phrase}."),
    }


def _instruct_style(prompt: Prompt, media: Media, fields: Fields) -> dict[str, Any]:
    reference = get_medium(media, "reference" if "reference" in media else "target", prompt)
    style = noun(fields.get("style"))
    style = "different" if style == "object" else style
    return {"instruction": sentences.restyle(style, describe_scene(reference), _palette(reference))}


def _wordings(prompt: Prompt, media: Media, fields: Fields) -> dict[str, Any]:  # noqa: ARG001
    """Reword the instruction, whose words were measured: nothing is added to what it says of the picture."""
    instruction, task = str(fields.get("instruction") or ""), str(fields.get("task") or "")
    short = sentences.shortened(instruction, task, noun(fields.get("object")))
    return {
        "short": short,
        "descriptive": sentences.extended(instruction, task),
        "casual": sentences.asked_casually(short),
    }


def _pair_captions(prompt: Prompt, media: Media, fields: Fields) -> dict[str, Any]:
    mask, phrase = media.get("mask"), noun(fields.get("object"))
    scenes = {name: describe_scene(get_medium(media, name, prompt), mask) for name in ("source", "target")}
    answer = {name: sentences.caption(scene, phrase, rule_length(prompt, name)) for name, scene in scenes.items()}
    if prompt.violations(answer, fields):  # the user's word breaks a rule: leave it out
        answer = {name: sentences.caption(scene, "object", rule_length(prompt, name)) for name, scene in scenes.items()}
    return answer


def _score_pair(prompt: Prompt, media: Media, fields: Fields) -> scoring.GradedAnswer:
    """Score a pair for its task and instruction."""
    task = _task(fields, ("removal", "swap", "modification", "addition", "stylization"))
    source, target = (get_medium(media, name, prompt) for name in ("source", "target"))
    if task == "stylization":
        whole = measure_global(source, target, media.get("reference"))
        if whole is None:
            return scoring.GradedAnswer(0.0, "The two clips differ in size or length.")
        return scoring.grade(
            scoring.style_faults(whole, fields),
            f"the look changes by {whole.change:.0f} CIELAB units, {max(0.0, whole.structure):.0%} of the edges stay",
        )
    mask = get_medium(media, "mask", prompt)
    if task in ("removal", "addition"):
        with_it, without = (source, target) if task == "removal" else (target, source)
        found = measure_removal(with_it, without, mask)
        if found is None:
            return scoring.GradedAnswer(0.0, "The mask is empty or does not fit the clips: there is nothing to judge.")
        return scoring.grade(
            scoring.removal_faults(found, fields),
            f"the object is in one clip only, and {found.known:.0%} of the place is as it is seen at other times",
        )
    change = _measure_edit(prompt, media)
    if task == "swap":
        return scoring.grade(scoring.swap_faults(change, fields), "something else stands in the place of the object")
    return scoring.grade(
        scoring.modification_faults(change, fields, promised_colours(str(fields.get("instruction") or ""))),
        f"{change.part:.0%} of the object is now {' and '.join(change.after)}, its pattern is kept",
    )


def _look(fields: Fields) -> str:
    """Return the look that the embedded editor gave the object, `look_<name>` among the item's numbers; or nothing."""
    return _named(fields, "look_")


def _named(fields: Fields, prefix: str) -> str:
    return next((name.removeprefix(prefix) for name, value in fields.items() if name.startswith(prefix) and value), "")


def _palette(reference: Any) -> list[str]:
    """Return the names of a style's colours, including accents."""
    return palette(reference, least=ACCENT, shades=True)


def _measure_edit(prompt: Prompt, media: Media) -> LocalChange:
    return measure_local(*(get_medium(media, name, prompt) for name in ("source", "target", "mask"))) or LocalChange()


def get_medium(media: Media, name: str, prompt: Prompt) -> Any:
    """Return a medium; raise FatalError where it is missing."""
    value = media.get(name)
    if value is None or not np.size(value):
        raise FatalError(f"prompt {prompt.name!r}: the embedded model needs the medium {name!r}, got {sorted(media)}")
    return value


def _task(fields: Fields, valid: tuple[str, ...]) -> str:
    task = str(fields.get("task"))
    if task not in valid:
        raise FatalError(f"no template for the task {task!r}{nearest(task, valid)}")
    return task


def rule_length(prompt: Prompt, name: str) -> tuple[int, int]:
    """Return the fewest and most words of the prompt's rule."""
    rule = prompt.rules.get(name)
    return rule.words if rule and rule.words else (1, 60)
