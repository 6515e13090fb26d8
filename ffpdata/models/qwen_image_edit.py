"""Qwen-Image-Edit by diffsynth: changes a picture as a sentence says, for the role `image_editor`.

What was read: diffsynth 2.1.12, `pipelines/qwen_image.py`, and its example for Qwen-Image-Edit-2509, which gives the
picture in a list even where it is one.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from ffpdata.core.errors import ConfigError, FatalError, nearest
from ffpdata.models.gpu_memory import gpu_memory, release
from ffpdata.models.protocols import EditedImage
from ffpdata.models.requirements import Checkpoint, Requirements, wants_gpu
from ffpdata.models.settings import BackendSettings, DeviceRuntime, parse_runtime, parse_settings
from ffpdata.models.wan.loading import offload_options, require, stdout_to_stderr
from ffpdata.models.wan.settings import Source
from ffpdata.models.weights import Dtype, checkpoint_folder, torch_device, torch_dtype, weight_files

if TYPE_CHECKING:
    from ffpdata.core.stage import ModelSpec
    from ffpdata.models.protocols import Image, Mask

MULTIPLE = 16
"""Height and width of a picture must be multiples of it (8 of the VAE, 2 of the transformer's patches)."""
REMEDY = "Set the role's runtime offload to models or layers, or use a smaller clip."
STEMS = {
    "transformer": "transformer/diffusion_pytorch_model",
    "text_encoder": "text_encoder/model",
    "vae": "vae/diffusion_pytorch_model",
}
"""Part to the prefix of its files' names, in the repositories of Qwen-Image and Qwen-Image-Edit."""
MARKS = "mm_token_type_ids"
PROCESSOR, PROCESSOR_FILES = "processor", ("preprocessor_config.json", "processor_config.json")
"""Folder of the processor, and the file that one of its versions has."""


class QwenImageEditSettings(BackendSettings):
    """Settings of `QwenImageEdit`; steps and guidance are those of the checkpoint's model card."""

    steps: int = Field(40, ge=1)
    guidance: float = Field(4.0, ge=1)
    """Classifier-free guidance; 1 is none and halves the time."""
    negative: str = " "
    """Negative prompt."""
    megapixel_input: bool = True
    """Bring the given pictures to one megapixel, as the model was trained; otherwise they stay at the clip's size."""
    clean_condition: bool = False
    """Tell the transformer that the given pictures have no noise: Qwen-Image-Edit-2511 was trained so, 2509 was not."""
    tiled: bool = False
    """Let the VAE process tiles."""
    dtype: Dtype = "bfloat16"
    sources: dict[str, Source] = {}
    """Part (`transformer`, `text_encoder`, `vae`, `processor`) to its source, where it is not `model`."""


class QwenImageEditRuntime(DeviceRuntime):
    """Device and offloading."""

    offload: Literal["none", "models", "layers"] = "none"
    """Weights that stay in main memory until they are needed: none, whole models, or single layers."""
    layer_limit_gib: float = Field(3.0, gt=0)
    """For offload `layers`: layers stay on the device while less memory than this is in use."""


@dataclass(frozen=True)
class Files:
    """Weights of each part, and the processor's folder."""

    weights: Mapping[str, tuple[str, ...]]
    processor: str


class QwenImageEdit:
    """An `ImageEditor` on Qwen-Image-Edit-2509, or on the first one or 2511, which diffsynth loads alike.

    The mask is not shown to it: `check_frame` looks whether it kept to it. The same seed gives the same bytes on one
    machine and library version.
    """

    name = "qwen_image_edit"
    version: int = 1
    Settings = QwenImageEditSettings
    Runtime = QwenImageEditRuntime

    def __init__(self, spec: ModelSpec) -> None:
        self.settings = parse_settings(self.Settings, spec)
        runtime = parse_runtime(self.Runtime, spec)
        require("torch", "diffsynth")
        self.device = torch_device(spec)
        if self.device.type == "cpu" and runtime.offload != "none":
            raise ConfigError(f"{spec.backend}: runtime offload keeps weights off a GPU: on the CPU leave it at none")
        files = find_files(spec, self.settings)
        with stdout_to_stderr(), gpu_memory(self.device, "loading the model", REMEDY):
            self.pipe = load(files, self.settings, runtime, str(self.device))

    @classmethod
    def needs(cls, spec: ModelSpec) -> Requirements:
        """Return its packages and checkpoints."""
        settings = parse_settings(cls.Settings, spec)
        found = []
        for part in (*STEMS, PROCESSOR):
            source = _source(spec, settings, part)
            stem = STEMS.get(part)
            patterns = _patterns(part)
            found.append(Checkpoint(part, source.model, source.revision, patterns, stem))
        return Requirements(("torch", "diffsynth", "transformers"), tuple(found), wants_gpu(spec))

    def close(self) -> None:
        """Free the model."""
        self.pipe = None
        release(self.device)

    def edit_image(
        self,
        image: Image,
        *,
        task: str,  # noqa: ARG002 - the role's interface
        prompt: str,
        mask: Mask | None = None,
        reference: Image | None = None,
        seed: int = 0,
    ) -> EditedImage:
        """Return the picture after the edit that the prompt says.

        Args:
            image: uint8 (H, W, 3); H and W are multiples of 16.
            task: not shown to the model.
            prompt: what to do; the given pictures are `picture 1` and `picture 2` in it.
            mask: bool (H, W), not shown to the model; it is measured how much it changed beyond it.
            reference: uint8 (h, w, 3), a second picture, e.g. of a style.
            seed: of the noise, drawn on the CPU.

        Returns:
            uint8 (H, W, 3), all of it drawn anew; the fact `outside_drift` where there is a mask, the mean difference
            beyond it in levels of 255.

        Raises:
            ConfigError: the model does not support the picture's size.
            FloatingPointError: the model's answer is not finite.
            GpuMemoryError: the picture does not fit the GPU.
            RetryableError: other processes fill the GPU.
        """
        if self.pipe is None:
            raise RuntimeError("the model was closed")
        height, width = image.shape[:2]
        if height % MULTIPLE or width % MULTIPLE:
            fits = " x ".join(str(max(1, round(side / MULTIPLE)) * MULTIPLE) for side in (width, height))
            raise ConfigError(
                f"{type(self).__name__} takes sides that are multiples of {MULTIPLE}, not {width} x {height}: set the "
                f"pipeline's clip to {fits}"
            )
        import torch

        pictures = [image] if reference is None else [image, reference]
        arguments = pipeline_arguments(self.settings, pictures, prompt, (height, width), seed)
        with torch.no_grad(), stdout_to_stderr(), gpu_memory(self.device, f"{width} x {height}", REMEDY):
            made = self.pipe(**arguments)
        facts = {}
        if mask is not None and not mask.all():
            facts["outside_drift"] = float(np.abs(made.astype(np.int16) - image)[~mask].mean())
        return EditedImage(made, facts)


def pipeline_arguments(
    settings: QwenImageEditSettings, pictures: list[Image], prompt: str, size: tuple[int, int], seed: int
) -> dict[str, Any]:
    """Return the arguments of diffsynth's `QwenImagePipeline`.

    Args:
        settings: of the role.
        pictures: uint8 (h, w, 3), the one to edit first.
        prompt: what to do.
        size: height and width of the answer.
        seed: of the noise.
    """
    from PIL import Image as Picture

    return {
        "prompt": prompt,
        "negative_prompt": settings.negative,
        "cfg_scale": settings.guidance,
        "height": size[0],
        "width": size[1],
        "seed": seed,
        "rand_device": "cpu",
        "num_inference_steps": settings.steps,
        "edit_image": [Picture.fromarray(picture) for picture in pictures],
        "edit_image_auto_resize": settings.megapixel_input,
        "zero_cond_t": settings.clean_condition,
        "tiled": settings.tiled,
        "progress_bar_cmd": iter,
    }


def find_files(spec: ModelSpec, settings: QwenImageEditSettings) -> Files:
    """Find the files of every part; those on the hub are fetched.

    Raises:
        ConfigError: `sources` names an unknown part.
        FatalError: a part is missing.
    """
    for name in settings.sources:
        if name not in (*STEMS, PROCESSOR):
            raise ConfigError(f"sources names no part {name!r}{nearest(name, (*STEMS, PROCESSOR))}")
    weights = {}
    for part, stem in STEMS.items():
        source = _source(spec, settings, part)
        try:
            folder = checkpoint_folder(source.model, source.revision, patterns=_patterns(part))
            weights[part] = tuple(map(str, weight_files(folder, stem)))
        except FatalError as err:
            raise FatalError(f"{part} of {source.model}: {err}. Another place: settings.sources.{part}") from err
    source = _source(spec, settings, PROCESSOR)
    found = checkpoint_folder(source.model, source.revision, patterns=_patterns(PROCESSOR)) / PROCESSOR
    if not any((found / name).is_file() for name in PROCESSOR_FILES):
        raise FatalError(
            f"{found}: neither {' nor '.join(PROCESSOR_FILES)}. Another place: settings.sources.{PROCESSOR}"
        )
    return Files(weights, str(found))


def load(files: Files, settings: QwenImageEditSettings, runtime: QwenImageEditRuntime, device: str) -> Any:
    """Return the pipeline, whose answers are arrays uint8 (H, W, 3).

    Raises:
        FatalError: the files are not a checkpoint of these parts.
    """
    from diffsynth.core import ModelConfig
    from diffsynth.pipelines.qwen_image import QwenImagePipeline

    dtype = torch_dtype(settings.dtype)
    options = offload_options(runtime.offload, dtype, device)
    try:
        pipe = QwenImagePipeline.from_pretrained(
            torch_dtype=dtype,
            device=device,
            model_configs=[ModelConfig(path=list(paths), **options) for paths in files.weights.values()],
            tokenizer_config=None,  # the processor has one
            processor_config=ModelConfig(path=files.processor),
            vram_limit=runtime.layer_limit_gib if runtime.offload == "layers" else None,
        )
    except (ValueError, KeyError, OSError) as err:
        names = ", ".join(f"{part} {paths[0]}" for part, paths in files.weights.items())
        raise FatalError(f"not the checkpoint that it should be ({str(err).splitlines()[0]}): {names}") from err
    models = {"transformer": pipe.dit, "text_encoder": pipe.text_encoder, "vae": pipe.vae}
    if missing := [part for part, model in models.items() if model is None]:
        raise FatalError(f"the checkpoint has no {' and no '.join(missing)}: {dict(files.weights)}")
    _mark_pictures(pipe.text_encoder.model)
    pipe.vae_output_to_image = to_image  # diffsynth's own truncates, and hides what is not finite
    return pipe


def _mark_pictures(encoder: Any) -> None:
    """Have the text encoder place the tokens of a picture in rows and columns.

    Since version 5 transformers does so only where it is told which tokens are a picture's (`mm_token_type_ids`), which
    diffsynth 2.1.12 does not do: they would get the places of words, without a warning.
    """
    if MARKS not in inspect.signature(encoder.forward).parameters:
        return

    def mark(_: Any, args: tuple[Any, ...], given: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if given.get("image_grid_thw") is None or given.get(MARKS) is not None:
            return None
        return args, {**given, MARKS: (given["input_ids"] == encoder.config.image_token_id).int()}

    encoder.register_forward_pre_hook(mark, with_kwargs=True)


def to_image(answer: Any, **_: Any) -> Image:
    """Convert a decoded picture, float (1, 3, H, W) in -1..1, to uint8 (H, W, 3), rounded.

    Raises:
        FloatingPointError: a value is not finite.
    """
    from ffpdata.models.wan.engine import to_frames

    made: Image = to_frames(answer.unsqueeze(2))[0]
    return made


def _source(spec: ModelSpec, settings: QwenImageEditSettings, part: str) -> Source:
    return settings.sources.get(part, Source(model=spec.model, revision=spec.revision))


def _patterns(part: str) -> tuple[str, ...]:
    """Return which files of a repository are fetched for a part."""
    if part == PROCESSOR:
        return tuple(str(Path(PROCESSOR, ending)) for ending in ("*.json", "*.txt", "*.jinja"))
    return (f"{STEMS[part]}*.safetensors",)
