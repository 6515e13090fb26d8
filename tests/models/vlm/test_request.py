"""What is really sent: the body of the HTTP request that a stage's question becomes."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ffpdata.core.config import load_pipeline
from ffpdata.core.errors import FatalError
from ffpdata.core.prompt import Prompt
from ffpdata.core.stage import ModelSpec, Row, Stage
from ffpdata.media.codec import read_video, write_masks, write_video
from ffpdata.models.vlm.settings import OWN_VIEWS, VisionSettings
from ffpdata.stages.discriminate import Discriminate
from ffpdata.stages.screen import Screen
from ffpdata.stages.verify import Verify
from tests.answers import ANSWERS
from tests.openai_server import MODEL, Say, Server, Status

PROMPTS = Path(__file__).parents[3] / "prompts"
FPS, FRAMES, HEIGHT, WIDTH = 12.0, 81, 112, 196
LEFT, TOP = 56, 28
"""Of the mask, a square of 28 pixels."""


@pytest.fixture(scope="module")
def columns(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A pair of 81 frames: frame n of the source is of level 2n + 40, of the target 2n + 60; odd frames flicker."""
    folder = tmp_path_factory.mktemp("pair")
    source = np.zeros((FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    source[:] = (np.arange(FRAMES) * 2 + 40).reshape(-1, 1, 1, 1)
    target = source + 20
    masks = np.zeros(source.shape[:3], bool)
    masks[:, TOP : TOP + 28, LEFT : LEFT + 28] = True
    target[1::2][masks[1::2]] = 0
    write_video(folder / "source.mp4", source, FPS)
    write_video(folder / "target.mp4", target, FPS)
    write_masks(folder / "mask.mp4", masks, FPS)
    files = {name: str(folder / f"{name.split('_')[0]}.mp4") for name in ("source_video", "target_video", "mask_video")}
    return {**files, "object": "dog", "instruction": "Remove the dog."}


@pytest.fixture
def ask(columns: dict[str, Any]) -> Callable[..., tuple[dict[str, Any], Row]]:
    """Ask a stage's question and return the request's body and the row."""

    def asked(stage: type[Stage], answer: Any = None, task: str = "removal", **settings: Any) -> Any:
        [name] = stage.prompts
        with Server([answer or Say(json.dumps(ANSWERS[name]))]) as server:
            backend, runtime = "ffpdata.models.vlm.backend:ServedVision", {"endpoint": server.url}
            spec = ModelSpec(backend=backend, model=MODEL, settings=settings, runtime=runtime)
            made = stage(stage.Settings(), {"vision_language": spec}, {name: Prompt.load(PROMPTS / f"{name}.yaml")})
            row = Row({**columns, "task": task}, item_id="item")
            try:
                made.process(row)
            finally:
                made.teardown()
            return server.requests[0], row

    return asked


def content(body: dict[str, Any], kind: str) -> list[Any]:
    """The parts of a kind: texts, and pictures as lists of RGB arrays."""
    parts = [part[kind] for part in body["messages"][0]["content"] if part["type"] == kind]
    return parts if kind == "text" else [pictures(part["url"]) for part in parts]


def pictures(url: str) -> list[np.ndarray]:
    jpegs = (np.frombuffer(base64.b64decode(jpeg), np.uint8) for jpeg in url.partition(",")[2].split(","))
    return [cv2.cvtColor(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB) for jpeg in jpegs]


def numbers(frames: list[np.ndarray], clip: str) -> list[int]:
    """Which frames of the clip these are, by their level at the lower right."""
    levels = read_video(Path(clip))[:, -8:, -8:].mean((1, 2, 3))
    return [int(abs(levels - frame[-8:, -8:].mean()).argmin()) for frame in frames]


def test_a_discrimination_shows_the_first_the_middle_and_the_last_frame(
    ask: Callable[..., Any], columns: dict[str, Any]
) -> None:
    body, row = ask(Discriminate, task="swap")
    source, target = content(body, "video_url")
    shown = [0, 10, 20, 30, 40, 50, 60, 70, 80]
    assert numbers(source, columns["source_video"]) == numbers(target, columns["target_video"]) == shown
    assert row.notes["discriminate"]["frames"] == {"source": shown, "target": shown}
    assert body["media_io_kwargs"] == {"video": {"fps": pytest.approx(1.2), "num_frames": -1}}, "10 frames apart, of 12"
    assert row.notes["discriminate"]["fps"] == {"source": 1.2, "target": 1.2}
    assert not content(body, "image_url"), "no close-up"


@pytest.mark.parametrize("profile", ["gpu", "small"])
def test_with_every_profile(profile: str) -> None:
    spec = load_pipeline("local_editing", profile).models["vision_language"]
    settings = VisionSettings.model_validate(spec.settings)
    assert settings.view("discriminate").frames % 2, "an odd number holds the middle frame"
    closeup = settings.view("screen").closeup
    assert closeup is not None
    assert closeup.frames >= 3, "flicker is what neighbours show"


def test_a_screening_shows_neighbouring_frames_around_the_mask_at_full_size(
    ask: Callable[..., Any], columns: dict[str, Any]
) -> None:
    body, row = ask(Screen)
    source, target = content(body, "video_url")
    even = [0, 11, 23, 34, 46, 57, 69, 80]
    assert numbers(source, columns["source_video"]) == numbers(target, columns["target_video"]) == even
    assert body["media_io_kwargs"]["video"]["fps"] == pytest.approx(7 / 80 * 12)
    crops = [picture for [picture] in content(body, "image_url")]
    runs = [*range(4), *range(38, 42), *range(77, 81)]
    assert numbers(crops, columns["target_video"]) == runs
    notes = row.notes["screen"]
    assert notes["frames"]["closeup"] == runs
    assert notes["sizes"]["closeup"] == [crops[0].shape[1], crops[0].shape[0]] == [196, 112]
    x0, y0, x1, y1 = notes["boxes"][0]
    assert (x1 - x0, y1 - y0) == (196, 112), "not scaled"
    place = [float(crop[TOP - y0 + 4 : TOP - y0 + 24, LEFT - x0 + 4 : LEFT - x0 + 24].mean()) for crop in crops]
    assert [level < 20 for level in place] == [number % 2 == 1 for number in runs], "every second frame flickers"
    headings = [text for text in content(body, "text") if text.startswith("Close-up of the second video")]
    assert [heading.rpartition(" at ")[2] for heading in headings] == [
        "0.00, 0.08, 0.17 and 0.25 s:",
        "3.17, 3.25, 3.33 and 3.42 s:",
        "6.42, 6.50, 6.58 and 6.67 s:",
    ]


def test_a_large_crop_is_scaled_down_and_a_close_up_can_be_left_out(ask: Callable[..., Any]) -> None:
    body, row = ask(Screen, questions={"screen": {"closeup": {"runs": 1, "frames": 2, "pixels": 56 * 84}}})
    assert [picture.shape[:2] for [picture] in content(body, "image_url")] == [(56, 84)] * 2
    assert row.notes["screen"]["sizes"]["closeup"] == [84, 56]
    body, row = ask(Screen, questions={"screen": {"closeup": None, "frames": 3}})
    assert not content(body, "image_url")
    assert row.notes["screen"]["frames"] == {name: [0, 40, 80] for name in ("source", "target")}


def test_frames_as_images_have_their_times_beside_them(ask: Callable[..., Any]) -> None:
    body, row = ask(Verify, clips_as="images", frames=3)
    first, second, _ = content(body, "text")
    assert first == "First video, 3 frames at 0.00, 3.33 and 6.67 s:"
    assert second == "Second video, 3 frames at 0.00, 3.33 and 6.67 s:"
    assert len(content(body, "image_url")) == 6
    assert "media_io_kwargs" not in body, "there is no video"
    assert row.notes["verify"]["fps"] == {"source": 0.3, "target": 0.3}


@pytest.mark.parametrize(("frames", "rate"), [(2, 12 / 80), (1, 12.0), (128, 12.0)])
def test_the_rate_is_that_of_the_frames(ask: Callable[..., Any], frames: int, rate: float) -> None:
    assert ask(Verify, frames=frames)[0]["media_io_kwargs"]["video"]["fps"] == pytest.approx(rate)


def test_a_server_that_takes_no_rate_stops_the_run_with_the_remedy(ask: Callable[..., Any]) -> None:
    with pytest.raises(FatalError, match=r"--trust-request-mm-kwargs.*settings\.request_fps"):
        ask(Verify, Status(400, "Per-request media_io_kwargs are disabled by default"))
    assert "media_io_kwargs" not in ask(Verify, request_fps=False)[0]


def test_a_profile_changes_an_own_view_entry_by_entry() -> None:
    settings = VisionSettings.model_validate(
        {
            "frames": 5,
            "clip_pixels": 4000,
            "questions": {"screen": {"closeup": {"runs": 2}}, "discriminate": {"frames": 3}},
        }
    )
    screen = settings.view("screen")
    assert (screen.frames, screen.clip_pixels) == (5, 4000)
    assert screen.closeup is not None
    assert (screen.closeup.runs, screen.closeup.frames, screen.closeup.images) == (2, 4, 8)
    assert settings.view("discriminate").frames == 3
    assert (settings.view("verify").frames, settings.view("verify").closeup) == (5, None)
    assert set(settings.views()) == {"", *OWN_VIEWS}
