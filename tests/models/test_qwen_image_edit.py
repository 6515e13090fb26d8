"""Qwen-Image-Edit on a tiny random checkpoint, through the code that loads and runs the real one."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffpdata.core.errors import ConfigError, FatalError
from ffpdata.core.stage import ModelSpec
from ffpdata.models.protocols import EditedImage
from ffpdata.models.qwen_image_edit import QwenImageEdit, QwenImageEditSettings, pipeline_arguments, to_image
from ffpdata.models.requirements import find_checkpoint

torch = pytest.importorskip("torch", reason="the extra `models` is not installed")
pytestmark = pytest.mark.skipif(not importlib.util.find_spec("diffsynth"), reason="diffsynth is not installed")

PROMPT = "Replace the dog with a fox."


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.models import tiny_qwen_image

    return tiny_qwen_image.write(tmp_path_factory.mktemp("qwen"))


@pytest.fixture(scope="module")
def spec(checkpoint: Path) -> ModelSpec:
    settings = {"steps": 2, "megapixel_input": False, "dtype": "float32"}
    return ModelSpec.of(QwenImageEdit, model=str(checkpoint), settings=settings, runtime={"device": "cpu"})


@pytest.fixture(scope="module")
def model(spec: ModelSpec) -> Iterator[QwenImageEdit]:
    made = QwenImageEdit(spec)
    yield made
    made.close()


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)


def edited(model: QwenImageEdit, image: np.ndarray, **changes: Any) -> EditedImage:
    return model.edit_image(image, **{"task": "swap", "prompt": PROMPT, "seed": 3, **changes})


def test_picture_prompt_seed_and_reference_count(model: QwenImageEdit, image: np.ndarray) -> None:
    mask = np.zeros(image.shape[:2], bool)
    mask[:, :32] = True
    plain = edited(model, image, mask=mask)
    assert (plain.image.shape, plain.image.dtype) == (image.shape, np.uint8)
    assert plain.image.std() > 10
    assert plain.facts["outside_drift"] == pytest.approx(
        np.abs(plain.image.astype(int) - image)[~mask].mean(), abs=0.01
    )
    assert np.array_equal(edited(model, image).image, plain.image), "the mask is measured by, and not shown"
    for changes in ({"prompt": "Add a hat."}, {"seed": 4}, {"reference": 255 - image[:32]}):
        assert not np.array_equal(edited(model, image, **changes).image, plain.image), changes
    assert not np.array_equal(edited(model, 255 - image).image, plain.image)


def test_the_tokens_of_a_picture_have_rows_and_columns(model: QwenImageEdit, image: np.ndarray) -> None:
    """transformers 5 places them as words where it is not told what they are."""
    seen: list[Any] = []
    language = model.pipe.text_encoder.model.language_model
    hook = language.register_forward_pre_hook(lambda _, __, given: seen.append(given["position_ids"]), with_kwargs=True)
    edited(model, image)
    hook.remove()
    time, row, column = seen[0][-3:, 0]
    at = torch.nonzero(row != time).flatten()
    assert len(at), "all of them follow each other like words"
    assert len(set(row[at].tolist())) > 1
    assert len(set(column[at].tolist())) > 1


def test_the_pipeline_takes_the_arguments(image: np.ndarray) -> None:
    import inspect

    from diffsynth.pipelines.qwen_image import QwenImagePipeline

    taken = inspect.signature(QwenImagePipeline.__call__).parameters
    arguments = pipeline_arguments(QwenImageEditSettings(), [image, image], PROMPT, (48, 64), 7)
    assert set(arguments) <= set(taken)
    assert [picture.size for picture in arguments["edit_image"]] == [(64, 48)] * 2
    assert (arguments["num_inference_steps"], arguments["cfg_scale"]) == (40, 4.0)
    assert arguments["edit_image_auto_resize"]


def test_what_does_not_fit_is_told(spec: ModelSpec, model: QwenImageEdit, image: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"multiples of 16, not 64 x 40: set the pipeline's clip to 64 x 32"):
        edited(model, image[:40])
    with pytest.raises(FloatingPointError, match="not finite"):
        to_image(torch.full((1, 3, 8, 8), torch.nan))
    with pytest.raises(ConfigError, match="offload keeps weights off a GPU"):
        QwenImageEdit(spec.model_copy(update={"runtime": {"device": "cpu", "offload": "layers"}}))
    with pytest.raises(ConfigError, match="no part 'vea'; did you mean 'vae'"):
        QwenImageEdit(spec.model_copy(update={"settings": {"sources": {"vea": {"model": "x/y"}}}}))
    (tmp_path / "transformer").mkdir()
    with pytest.raises(FatalError, match=r"transformer of .*incomplete.*settings\.sources\.transformer"):
        QwenImageEdit(spec.model_copy(update={"model": str(tmp_path)}))


def test_doctor_finds_its_parts(spec: ModelSpec) -> None:
    needs = QwenImageEdit.needs(spec)
    assert [one.part for one in needs.checkpoints] == ["transformer", "text_encoder", "vae", "processor"]
    assert {find_checkpoint(one).level for one in needs.checkpoints} == {"ok"}
