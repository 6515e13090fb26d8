"""A valid answer to every prompt of the project, for models that answer whatever they are shown."""

from __future__ import annotations

from typing import Any

PLACE = (
    "The video shows a quiet yard with a grey wall, two low benches, a row of green plants, wet paving stones and a "
    "wooden gate under soft morning light while thin clouds drift slowly over the roofs behind it"
)
ANSWERS: dict[str, dict[str, Any]] = {
    "identify": {"objects": ["dog", "ball"]},
    "caption": {"caption": " ".join(PLACE.split()[:24]) + "."},
    "removal_caption": {"caption": f"{PLACE} and beside the old trees."},
    "cinematic_caption": {"caption": f"{PLACE}, and the camera moves slowly forward."},
    "style_caption": {"style": "loose oil painting", "caption": f"{PLACE}, in thick strokes of ochre and blue."},
    "screen": {
        "reason": "Nothing of it is left.",
        "object_gone": True,
        "replaced_by_other": False,
        "shadow_or_reflection_left": False,
        "background_plausible": True,
        "flicker": False,
        "contour_artifacts": False,
        "score": 8,
    },
    "discriminate": {"reason": "Another animal stands there.", "task": "swap"},
    "instruct": {"instruction": "Replace the dog in the yard with a brown fox."},
    "plan_frame": {
        "object": "red lantern",
        "instruction": "Replace the dog with a brown fox that stands in the same way.",
        "caption": "A brown fox crosses a quiet yard with a grey wall while a red lantern hangs beside the gate.",
    },
    "instruct_style": {"instruction": "Restyle the whole video as a loose oil painting."},
    "wordings": {
        "short": "Remove the dog.",
        "descriptive": "Remove the dog that stands in the yard before the wall, and leave everything else as it is.",
        "casual": "Hey, could you take the dog out for me?",
    },
    "pair_captions": {"source": " ".join(PLACE.split()[:24]) + ".", "target": " ".join(PLACE.split()[:20]) + "."},
    "instruct_addition": {"instruction": "Add a brown dog in the middle of the yard."},
    "verify": {"reason": "It is what was asked for.", "follows": True, "score": 9},
}
