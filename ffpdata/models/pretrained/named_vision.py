"""The vision-language role on a detector: objects and scenes with names, the rest as `TemplateVision` measures it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ffpdata.models.classical.attributes import describe_scene
from ffpdata.models.classical.vision_language.phrasing import noun
from ffpdata.models.classical.vision_language.sentences import surroundings
from ffpdata.models.classical.vision_language.template_vision import (
    GENERIC,
    TemplateVision,
    get_medium,
    rule_length,
)
from ffpdata.models.packaged.litert_session import interpreter
from ffpdata.models.packaged.onnx_session import session
from ffpdata.models.pretrained import scene_sentences
from ffpdata.models.pretrained.candidates import named_candidates
from ffpdata.models.pretrained.detector import ObjectDetector
from ffpdata.models.pretrained.salient import SalientObjects
from ffpdata.models.pretrained.scene_things import SceneThings, scene_things

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ffpdata.core.prompt import Prompt
    from ffpdata.core.stage import ModelSpec
    from ffpdata.models.protocols import Image

    Media = Mapping[str, Any]
    Fields = Mapping[str, Any]

_DETECTOR, _SALIENT = "objectron_ssd", "u2netp"
MOST = 3
"""Most candidates for an edit, as the prompt allows."""


class NamedVision(TemplateVision):
    """`TemplateVision` that names objects by class, and scenes by what was detected and where.

    Its candidates for an edit are those of `DetectionSegmenter`, found by the same function of the first frame, so that
    what is named is what will be outlined. A scene in which nothing is detected is described as `TemplateVision` does.
    """

    name = "named_vision"
    version = 3

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self._detector = ObjectDetector(interpreter(_DETECTOR))
        self._salient = SalientObjects(session(_SALIENT))
        self._plain = dict(self._answers)
        self._answers |= {
            "identify": self._identify,
            "caption": self._caption,
            "removal_caption": self._removal_caption,
            "cinematic_caption": self._cinematic_caption,
        }

    @classmethod
    def packaged(cls, spec: ModelSpec) -> tuple[str, ...]:  # noqa: ARG003 - the same whatever the settings
        """Return the names of the networks that it runs."""
        return _DETECTOR, _SALIENT

    def close(self) -> None:
        """Free the networks."""
        del self._detector, self._salient

    def _identify(self, prompt: Prompt, media: Media, fields: Fields) -> dict[str, Any]:
        if noun(fields.get("object")) != "object":
            return self._plain["identify"](prompt, media, fields)
        return {"objects": self.candidates(get_medium(media, "source", prompt))}

    def candidates(self, frame: Image) -> list[str]:
        """Return names of what people would edit in a first frame, uint8 (H, W, 3), best first."""
        (saliency,) = self._salient.maps([frame])
        found = named_candidates(self._detector.detect(frame), saliency, frame.shape[:2])
        names = scene_sentences.names_for((one.name for one in found), MOST)
        return list(dict.fromkeys([*names, *GENERIC]))[:MOST]

    def _caption(self, prompt: Prompt, media: Media, fields: Fields) -> dict[str, Any]:
        found = self._things(prompt, media, noun(fields.get("object")))
        if found.things:
            scene = describe_scene(get_medium(media, "source", prompt), media.get("mask"))
            answer = {"caption": scene_sentences.caption(scene, found, rule_length(prompt, "caption"))}
            if not prompt.violations(answer, fields):
                return answer
        return self._plain["caption"](prompt, media, fields)

    def _removal_caption(self, prompt: Prompt, media: Media, fields: Fields) -> dict[str, Any]:
        banned, told = str(fields.get("object") or ""), str(fields.get("caption") or "")
        own = scene_sentences.OWN_CAPTION.match(told)
        if own or not surroundings(told, banned):
            found = self._things(prompt, media, noun(banned))
            scene = describe_scene(get_medium(media, "source", prompt), media.get("mask"))
            text = scene_sentences.caption_without(scene, found, banned, rule_length(prompt, "caption"))
            if found.things and not prompt.violations({"caption": text}, fields):
                return {"caption": text}
        return self._plain["removal_caption"](prompt, media, {**fields, "caption": ""} if own else fields)

    def _cinematic_caption(self, prompt: Prompt, media: Media, fields: Fields) -> dict[str, Any]:
        found = self._things(prompt, media, "")
        answer = self._plain["cinematic_caption"](prompt, media, fields)
        if found.things:
            told = {"caption": f"The picture shows {scene_sentences.things(found)}. {answer['caption']}"}
            if not prompt.violations(told, fields):
                return told
        return answer

    def _things(self, prompt: Prompt, media: Media, first: str) -> SceneThings:
        return scene_things(get_medium(media, "source", prompt), self._detector, first)
