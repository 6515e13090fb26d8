"""Load diffsynth's WanVideoPipeline from the files of a checkpoint."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ffpdata.core.errors import FatalError
from ffpdata.models.wan.checkpoint_files import HIGH_NOISE, LOW_NOISE, TRANSFORMER, TRANSFORMERS
from ffpdata.models.wan.precision import quantize_config
from ffpdata.models.weights import torch_dtype

if TYPE_CHECKING:
    from ffpdata.models.wan.checkpoint_files import Parts


@dataclass(frozen=True)
class LoadPlan:
    """Files and options of a pipeline; back ends with equal plans share one pipeline.

    Attributes:
        parts: the checkpoint's files.
        dtype: of the weights.
        device: `cuda`, `cuda:1` or `cpu`.
        offload: `none`, `models` or `layers`.
        layer_limit_gib: as in `DiffsynthRuntime`, for offload `layers`.
        ranks: processes per clip.
        quantization: the setting of this name.
        compiled: whether the blocks are compiled.
        beside: models of the pipeline that the transformer's files must hold beside it, e.g. `vace`; of two
            transformers each has its own.
    """

    parts: Parts
    dtype: str
    device: str
    offload: str = "none"
    layer_limit_gib: float = 3.0
    ranks: int = 1
    quantization: str = "none"
    compiled: bool = False
    beside: tuple[str, ...] = ()


def require(*packages: str) -> None:
    """Check that packages are installed, before an import fails.

    Raises:
        FatalError: a package is missing.
    """
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise FatalError(f"{' and '.join(missing)} not installed: pip install 'ffpdata[models]' {missing[-1]}")


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Redirect what the libraries print to standard error: standard output is the program's own."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def offload_options(offload: str, dtype: Any, device: str) -> dict[str, Any]:
    """Return the options of diffsynth's `ModelConfig` that keep weights in main memory until they are needed.

    Args:
        offload: `none`, `models` or `layers`.
        dtype: torch's, of the weights wherever they are.
        device: that computes.
    """
    if offload == "none":
        return {}
    found: dict[str, Any] = {f"{state}_dtype": dtype for state in ("offload", "onload", "preparing", "computation")}
    found |= {"offload_device": "cpu", "onload_device": "cpu"}
    return found | {"preparing_device": device, "computation_device": device}


def load(plan: LoadPlan) -> Any:
    """Return the pipeline of a plan.

    Raises:
        FatalError: the files are not a checkpoint of these parts.
    """
    from diffsynth.core import ModelConfig
    from diffsynth.pipelines.wan_video import WanVideoPipeline

    dtype = torch_dtype(plan.dtype)
    if plan.offload != "none":
        _manage_layers_of_vace()
    try:
        pipe = WanVideoPipeline.from_pretrained(
            torch_dtype=dtype,
            device=plan.device,
            model_configs=[
                ModelConfig(
                    path=list(files),
                    quantize=quantize_config(plan.quantization) if part in TRANSFORMERS else None,
                    **offload_options(plan.offload, dtype, plan.device),
                )
                for part, files in plan.parts.files
            ],
            tokenizer_config=ModelConfig(path=plan.parts.tokenizer),
            redirect_common_files=False,
            use_usp=plan.ranks > 1,
            vram_limit=plan.layer_limit_gib if plan.offload == "layers" else None,
        )
    except ModuleNotFoundError as err:
        raise FatalError(f"runtime sequence_parallel needs the package {err.name!r}: pip install xfuser") from err
    except (ValueError, KeyError, OSError) as err:
        names = ", ".join(f"{part} {files[0]}" for part, files in plan.parts.files)
        raise FatalError(f"not the checkpoint that it should be ({str(err).splitlines()[0]}): {names}") from err
    missing = [part for part, model in _models(pipe, plan).items() if model is None]
    if missing:
        raise FatalError(f"the checkpoint has no {' and no '.join(missing)}: {dict(plan.parts.files)}")
    return pipe


def _models(pipe: Any, plan: LoadPlan) -> dict[str, Any]:
    """Return the pipeline's models by part; None for a model that the files lack."""
    names = [part for part, _ in plan.parts.files]
    found = {TRANSFORMER: pipe.dit, HIGH_NOISE: pipe.dit, LOW_NOISE: pipe.dit2, "text_encoder": pipe.text_encoder}
    found |= {"vae": pipe.vae, "image_encoder": pipe.image_encoder}
    models = {part: found[part] for part in names}
    for name in plan.beside:
        if not {TRANSFORMER, HIGH_NOISE}.isdisjoint(names):
            models[name] = getattr(pipe, name)
        if LOW_NOISE in names:
            models[f"{name} of the low noise"] = getattr(pipe, f"{name}2")
    return models


def _manage_layers_of_vace() -> None:
    """Have diffsynth manage the layers inside VACE's blocks one by one, as it does for the transformer's.

    diffsynth 2.1.12 wraps each block as a whole (configs/vram_management_module_maps.py) and then silently applies no
    LoRA to the layers in it.
    """
    from diffsynth.configs import VRAM_MANAGEMENT_MODULE_MAPS as MAPS

    blocks = "diffsynth.models.wan_video_dit.DiTBlock"
    MAPS["diffsynth.models.wan_video_vace.VaceWanModel"][blocks] = MAPS["diffsynth.models.wan_video_dit.WanModel"][
        blocks
    ]
