"""CLIP, DINOv2 and PickScore: pixels as published, and tiny checkpoints of the real classes out of a profile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("torch", reason="the extra `models` is not installed")
pytest.importorskip("transformers", reason="the extra `models` is not installed")

import ffpdata
from ffpdata.core.errors import FatalError
from ffpdata.core.stage import ModelSpec, Row, Stage
from ffpdata.media.codec import write_video
from ffpdata.metrics.frame_consistency import frame_consistency
from ffpdata.metrics.text_alignment import frame_text
from ffpdata.models.perception.clip import Clip
from ffpdata.models.perception.dinov2 import DinoV2
from ffpdata.models.perception.pickscore import PickScore, reduced
from ffpdata.models.perception.pixels import picture_processor, pixels
from tests.models import tiny_perception as tiny

ROOM = "ffpdata.models.perception"
CLIP_FILE = {
    "feature_extractor_type": "CLIPFeatureExtractor",
    **dict.fromkeys(("do_resize", "do_center_crop", "do_normalize"), True),
    "size": 224,
    "crop_size": 224,
    "resample": 3,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
"""`preprocessor_config.json` of openai/clip-vit-large-patch14, in the words of its time."""
DINO_FILE = {
    "image_processor_type": "BitImageProcessor",
    **dict.fromkeys(("do_resize", "do_center_crop", "do_normalize", "do_rescale", "do_convert_rgb"), True),
    "size": {"shortest_edge": 256},
    "crop_size": {"height": 224, "width": 224},
    "resample": 3,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "rescale_factor": 0.00392156862745098,
}
"""Of facebook/dinov2-base."""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.dinov2(tmp_path_factory.mktemp("dino"))


def spec(backend: str, folder: Path, batch: int = 16, **settings: Any) -> ModelSpec:
    runtime = {"device": "cpu", "batch": batch}
    return ModelSpec(backend=f"{ROOM}.{backend}", model=str(folder), settings=settings, runtime=runtime)


def noise(frames: int = 5) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (frames, 48, 64, 3), np.uint8)


def ramp(height: int = 90, width: int = 160) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 // (width - 1), y * 255 // (height - 1), (x * 7 + y * 13) % 256], -1).astype(np.uint8)


@pytest.mark.parametrize(
    ("file", "corner", "inside", "mean"),
    [
        (CLIP_FILE, (-0.9893, -1.7521, 2.1459), (-0.4492, -0.0412, 0.6955), (0.0620, 0.1541, 0.3284)),
        (DINO_FILE, (-1.0219, -1.7731, -0.1661), (-0.4739, -0.0224, 1.3154), (0.0524, 0.1877, 0.4176)),
    ],
    ids=["clip", "dinov2"],
)
def test_pixels_are_those_of_the_published_processors(
    tmp_path: Path, file: dict[str, Any], corner: Any, inside: Any, mean: Any
) -> None:
    """The values: `CLIPImageProcessorPil` and `BitImageProcessorPil` of transformers 5.20.2 on `ramp()`."""
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(file))
    (tmp_path / "config.json").write_text("{}")
    found = pixels(picture_processor(tmp_path), [ramp()]).numpy()
    assert (found.shape, found.dtype) == ((1, 3, 224, 224), np.float32)
    assert found[0, :, 0, 0] == pytest.approx(corner, abs=2e-4)
    assert found[0, :, 100, 57] == pytest.approx(inside, abs=2e-4)
    assert found[0].mean((1, 2)) == pytest.approx(mean, abs=2e-4)
    # By hand: bicubic at a short side of 224 or 256, the middle 224 pixels, (value / 255 - mean) / deviation.
    from PIL import Image

    short = 224 if file is CLIP_FILE else 256
    wide = int(short * 160 / 90)
    left, top = (wide - 224) // 2, (short - 224) // 2
    scaled = np.asarray(Image.fromarray(ramp()).resize((wide, short), Image.Resampling.BICUBIC), np.float64)
    middle = scaled[top : top + 224, left : left + 224] / 255
    by_hand = ((middle - file["image_mean"]) / file["image_std"]).transpose(2, 0, 1)
    assert np.abs(found[0] - by_hand).max() < 1e-5


def test_large_frames_are_reduced_before_pickscore_sees_them() -> None:
    assert reduced(ramp(720, 1280)).size == (672, 378)
    assert reduced(ramp(1280, 720)).size == (378, 672)
    assert reduced(ramp(405, 719)).size == (672, 378), "378.5 is cut"
    assert reduced(ramp(90, 672)).size == (672, 90)


def test_frames_and_texts_as_transformers_has_them(clip: Path) -> None:
    import torch
    from transformers import CLIPModel, CLIPTokenizer, CLIPVisionModel

    model, frames, text = Clip(spec("clip:Clip", clip, batch=2)), noise(), "a dog. " * 40
    found = model.encode_frames(frames)
    whole = CLIPModel.from_pretrained(clip).eval()
    tokens = CLIPTokenizer.from_pretrained(clip)(text, truncation=True, max_length=77, return_tensors="pt")
    assert tokens["input_ids"].shape == (1, 77)
    with torch.inference_mode():
        values = pixels(model.processor, list(frames))
        out = whole(pixel_values=values, **tokens)
        tower = CLIPVisionModel.from_pretrained(clip).eval()(pixel_values=values)  # what upstream takes consistency of
    np.testing.assert_allclose(found.pooled, tower.pooler_output.numpy(), atol=2e-5)
    np.testing.assert_allclose(found.projected, out.image_embeds.numpy(), atol=2e-5)
    np.testing.assert_allclose(model.encode_text(text), out.text_embeds[0].numpy(), atol=2e-5)
    mean = frame_text(found.projected, model.encode_text(text), model.logit_scale)
    assert mean == pytest.approx(float(out.logits_per_image.mean()), abs=1e-3)
    scorer = PickScore(spec("pickscore:PickScore", clip, batch=3))
    assert scorer.score(frames, text) == pytest.approx(out.logits_per_image[:, 0].numpy(), abs=1e-3)


def test_dinov2_gives_the_class_token(dino: Path) -> None:
    import torch
    from transformers import Dinov2Model

    model, frames = DinoV2(spec("dinov2:DinoV2", dino, batch=2)), noise()
    with torch.inference_mode():
        out = Dinov2Model.from_pretrained(dino).eval()(pixel_values=pixels(model.processor, list(frames)))
    np.testing.assert_allclose(model.encode_frames(frames), out.last_hidden_state[:, 0].numpy(), atol=2e-5)
    half = DinoV2(spec("dinov2:DinoV2", dino, dtype="bfloat16")).encode_frames(frames)
    assert half.dtype == np.float32
    assert 1e-4 < np.abs(half - out.pooler_output.numpy()).max() < 0.2


def test_still_steady_and_shuffled_clips(clip: Path, dino: Path) -> None:
    wide = ramp(48, 200)
    pan = np.stack([wide[:, 12 * t : 12 * t + 64] for t in range(9)])
    for encode in (
        lambda frames: Clip(spec("clip:Clip", clip)).encode_frames(frames).pooled,
        DinoV2(spec("dinov2:DinoV2", dino)).encode_frames,
    ):
        still, steady, mixed = (
            frame_consistency(encode(pan[order])) for order in ([0] * 9, range(9), [0, 5, 1, 7, 2, 8, 3, 6, 4])
        )
        assert still == pytest.approx(1, abs=1e-6)
        assert still > steady > mixed


def test_incomplete_checkpoints_are_refused(clip: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    copied = tmp_path / "clip"
    copied.mkdir()
    for path in clip.iterdir():
        (copied / path.name).write_bytes(path.read_bytes())
    weights = load_file(copied / "model.safetensors")
    weights.pop("visual_projection.weight")
    save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(FatalError, match=r"1 weights of CLIPModel are missing, e\.g\. visual_projection\.weight"):
        Clip(spec("clip:Clip", copied))
    (copied / "preprocessor_config.json").unlink()
    with pytest.raises(FatalError, match="cannot be loaded as AutoImageProcessor"):
        PickScore(spec("pickscore:PickScore", clip, processor=str(copied)))


SCORED = ("quality", "clip", "dino", "pick", "video_text")


class Edited(Stage):
    """An edit that changes nothing."""

    name, version = "edited", 1
    reads = ("source_video",)
    writes = {"target_video": ffpdata.Artifact("mp4"), "target_caption": str}

    def process(self, row: Row) -> dict[str, Any]:
        target = row.new_file("target_video")
        target.write_bytes(row.file("source_video").read_bytes())
        return {"target_video": target, "target_caption": "a ramp"}


def test_through_a_profile_alone(tmp_path: Path) -> None:
    profile = tiny.write_profile(tmp_path)
    stages = ["source", "ingest", f"{__name__}:Edited", *(f"{name}_scores" for name in SCORED)]
    pipeline = {"name": "scored", "track": "local", "about": "Scores.", "profile": "cpu", "stages": stages}
    pipeline["clip"] = {"width": 64, "height": 48, "fps": 16, "frames": 5}
    (tmp_path / "scored.yaml").write_text(yaml.safe_dump(pipeline))
    (tmp_path / "clips").mkdir()
    write_video(tmp_path / "clips" / "pan.mp4", np.stack([ramp(48, 120)[:, 4 * t : 4 * t + 64] for t in range(9)]), 16)
    run = ffpdata.run(
        tmp_path / "scored.yaml",
        tmp_path / "clips",
        tmp_path / "run",
        profile=f"cpu,{profile}",
        overrides=["ingest.min_side=48"],
    )
    row = run.sql("select * from items").to_pylist()[0]
    assert (row["status"], row["error"]) == ("ok", None), row
    assert 0.5 < row["clip_consistency"] == row["source_clip_consistency"] < 1
    assert 0.5 < row["dino_consistency"] == row["source_dino_consistency"] < 1
    assert row["input_similarity"] == 1
    assert abs(row["frame_text"]) < 100
    assert row["frame_text"] == pytest.approx(row["pick_score"], abs=0.01), "the same tiny weights"
    assert abs(row["video_text"]) <= 100
    assert row["image_quality"] is None, "the profile has nobody to ask"
    assert row["clip_scores_model"] == f"{tmp_path / 'clip'}@1"
