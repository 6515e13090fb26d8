"""`content_gate`: which gates of the profile look at a source, and what becomes of what they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ffpdata.core.config import load_pipeline
from ffpdata.core.errors import ConfigError
from ffpdata.core.stage import ModelSpec, Reject
from ffpdata.stages.content_gate import ContentGate, ContentGateSettings
from tests.stages.alone import Alone, Backend, flat


class Bright(Backend):
    """Keeps bright clips out."""

    name = "bright"

    def inspect(self, frames: np.ndarray) -> dict[str, float]:
        self.asked.append({"frames": frames})
        facts = {"brightness": float(frames.mean())}
        if facts["brightness"] > 200:
            raise Reject("too_bright", f"{facts['brightness']:.0f}, at most 200", facts)
        return facts


class Counting(Backend):
    """Keeps nothing out and counts frames."""

    name = "counting"

    def inspect(self, frames: np.ndarray) -> dict[str, float]:
        self.asked.append({})
        return {"looked_at": float(len(frames))}


BOTH = {"content_gate/counting": ModelSpec.of(Counting), "content_gate/bright": ModelSpec.of(Bright)}


def gate(specs: dict[str, Any], skip: tuple[str, ...] = ()) -> ContentGate:
    return ContentGate(ContentGateSettings(skip=list(skip)), specs)


def test_without_a_gate_items_pass(alone: Alone) -> None:
    assert not gate({}).applies({})
    assert not gate(BOTH, ("counting", "bright")).applies({})
    gate({}).setup()


def test_all_gates_are_asked_in_their_order_and_the_numbers_kept(alone: Alone) -> None:
    stage = gate(BOTH)
    assert stage.applies({})
    found = alone.process(stage, source_video=alone.video("source", flat(90)))
    assert found == {"content_facts": {"looked_at": 5.0, "brightness": pytest.approx(90, abs=2)}}
    with pytest.raises(Reject) as caught:
        alone.process(stage, source_video=alone.video("light", flat(240)))
    assert caught.value.reason == "too_bright"
    assert set(caught.value.facts) == {"looked_at", "brightness"}, "those of the gates before, too"


def test_a_still_image_is_a_clip_of_one_frame(alone: Alone) -> None:
    found = alone.process(gate(BOTH), content_image=alone.image("content", flat(90)[0]))
    assert found["content_facts"]["looked_at"] == 1.0


def test_a_skipped_gate_is_not_loaded_not_asked_and_counts_in_no_key(alone: Alone) -> None:
    stage = gate(BOTH, ("bright",))
    stage.setup()
    found = alone.process(stage, source_video=alone.video("source", flat(240)))
    assert set(found["content_facts"]) == {"looked_at"}
    assert stage.roles({}) == ("content_gate/counting",)
    alone_in_it = gate({"content_gate": ModelSpec.of(Counting)}, ("bright",))
    assert stage.key_of({"source_video": "x"}) == alone_in_it.key_of({"source_video": "x"})


def test_each_gate_s_settings_count_in_the_key() -> None:
    def key(**settings: Any) -> str:
        return gate(BOTH | {"content_gate/bright": ModelSpec.of(Bright, settings=settings)}).key_of(
            {"source_video": "x"}
        )

    other_first = gate(
        {
            "content_gate/counting": ModelSpec.of(Counting, settings={"a": 1}),
            "content_gate/bright": ModelSpec.of(Bright),
        }
    )
    assert len({key(), key(limit=1), other_first.key_of({"source_video": "x"})}) == 3


def test_a_misspelt_name_is_told_and_one_of_another_profile_is_not() -> None:
    with pytest.raises(ConfigError, match="no gate 'brigth'; did you mean 'bright'"):
        gate(BOTH, ("brigth",))
    assert gate(BOTH, ("nsfw",)).roles({}) == tuple(BOTH)


def test_the_profiles() -> None:
    def roles(profile: str, *overrides: str) -> tuple[str, ...]:
        stages = {s.name: s for s in load_pipeline("local_editing", profile, overrides).build()}
        assert stages["redetect"].applies({"task": "removal", "mask_video": "m"}) == ("pretrained" in profile)
        assert not stages["embed"].applies({})
        return stages["content_gate"].roles({})

    assert roles("cpu") == ()
    assert roles("cpu,pretrained") == ("content_gate/text",)
    assert roles("cpu,pretrained", "content_gate.skip=[]") == ("content_gate/text", "content_gate/faces")
    assert roles("cpu,pretrained", "content_gate.skip=[text, faces]") == ()
    load_pipeline("stylization", "cpu,pretrained")
