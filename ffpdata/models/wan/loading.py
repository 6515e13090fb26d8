"""diffsynth's WanVideoPipeline, loaded from the files of a checkpoint."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ffpdata.core.errors import FatalError
from ffpdata.models.wan.checkpoint_files import TRANSFORMER
from ffpdata.models.weights import torch_dtype

if TYPE_CHECKING:
    from ffpdata.models.wan.checkpoint_files import Parts


@dataclass(frozen=True)
class LoadPlan:
    """How a pipeline is loaded; equal plans share one.

    Attributes:
        parts: the files.
        dtype: of the weights.
        device: `cuda`, `cuda:1` or `cpu`.
        offload: `none`, `models` or `layers`.
        layer_limit_gib: offload by layers: see DiffsynthRuntime.
        ranks: processes that work on one clip.
    """

    parts: Parts
    dtype: str
    device: str
    offload: str = "none"
    layer_limit_gib: float = 3.0
    ranks: int = 1


def require(*packages: str) -> None:
    """Say what is to be installed before an import fails.

    Raises:
        FatalError: a package is not there.
    """
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise FatalError(f"{' and '.join(missing)} not installed: pip install 'ffpdata[models]' {missing[-1]}")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Send what the libraries print to standard error: standard output is the program's own."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def load(plan: LoadPlan) -> Any:
    """Return the pipeline of a plan.

    Raises:
        FatalError: the files are not what the plan says they are.
    """
    from diffsynth.core import ModelConfig
    from diffsynth.pipelines.wan_video import WanVideoPipeline

    dtype = torch_dtype(plan.dtype)
    waits: dict[str, Any] = {}
    if plan.offload != "none":
        _open_blocks_of_vace()
        waits = {f"{state}_dtype": dtype for state in ("offload", "onload", "preparing", "computation")}
        waits |= {"offload_device": "cpu", "onload_device": "cpu"}
        waits |= {"preparing_device": plan.device, "computation_device": plan.device}
    try:
        pipe = WanVideoPipeline.from_pretrained(
            torch_dtype=dtype,
            device=plan.device,
            model_configs=[ModelConfig(path=list(files), **waits) for _, files in plan.parts.files],
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
    missing = [part for part, model in _models(pipe, plan.parts).items() if model is None]
    if missing:
        raise FatalError(f"the checkpoint has no {' and no '.join(missing)}: {dict(plan.parts.files)}")
    return pipe


def _models(pipe: Any, parts: Parts) -> dict[str, Any]:
    """Models that the files must have given."""
    named = [part for part, _ in parts.files]
    found = {TRANSFORMER: pipe.dit, "text_encoder": pipe.text_encoder, "vae": pipe.vae}
    found["image_encoder"] = pipe.image_encoder
    models = {part: found[part] for part in named}
    if TRANSFORMER in named and "image_encoder" not in named:
        models["vace"] = pipe.vace
    return models


def _open_blocks_of_vace() -> None:
    """Have diffsynth manage the layers inside VACE's blocks one by one, as it does for the transformer's.

    It wraps each block whole (2.1.12, configs/vram_management_module_maps.py). No LoRA can then be laid over a layer
    in it, and none is, without an error.
    """
    from diffsynth.configs import VRAM_MANAGEMENT_MODULE_MAPS as MAPS

    blocks = "diffsynth.models.wan_video_dit.DiTBlock"
    MAPS["diffsynth.models.wan_video_vace.VaceWanModel"][blocks] = MAPS["diffsynth.models.wan_video_dit.WanModel"][
        blocks
    ]
