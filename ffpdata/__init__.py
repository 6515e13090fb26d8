"""ffpdata: the open builder of paired video-editing datasets.

The names below are loaded when they are first used: `import ffpdata` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from ffpdata.api.plan import plan
    from ffpdata.api.run import Run, open_run, run
    from ffpdata.api.trial import Trial, try_stage
    from ffpdata.core.config import Pipeline, load_pipeline
    from ffpdata.core.errors import ConfigError, FatalError, FfpdataError, Reject, RetryableError, UsageError
    from ffpdata.core.prompt import Prompt
    from ffpdata.core.resources import Resources
    from ffpdata.core.stage import Artifact, Child, ModelSpec, Row, Stage, StageSettings
    from ffpdata.export.loader import Pair, pairs, webdataset_pipeline
    from ffpdata.export.verify import verify
    from ffpdata.models.protocols import Edit, Segmentation
    from ffpdata.models.settings import BackendSettings
    from ffpdata.stages._vision import VisionStage

__all__ = [
    "Artifact",
    "BackendSettings",
    "Child",
    "ConfigError",
    "Edit",
    "FatalError",
    "FfpdataError",
    "ModelSpec",
    "Pair",
    "Pipeline",
    "Prompt",
    "Reject",
    "Resources",
    "RetryableError",
    "Row",
    "Run",
    "Segmentation",
    "Stage",
    "StageSettings",
    "Trial",
    "UsageError",
    "VisionStage",
    "load_pipeline",
    "open_run",
    "pairs",
    "plan",
    "run",
    "try_stage",
    "verify",
    "webdataset_pipeline",
]

_MODULES = {
    "ffpdata.api.plan": ("plan",),
    "ffpdata.api.run": ("Run", "open_run", "run"),
    "ffpdata.api.trial": ("Trial", "try_stage"),
    "ffpdata.core.config": ("Pipeline", "load_pipeline"),
    "ffpdata.core.errors": (*("ConfigError", "FatalError", "FfpdataError", "Reject", "RetryableError", "UsageError"),),
    "ffpdata.core.prompt": ("Prompt",),
    "ffpdata.core.resources": ("Resources",),
    "ffpdata.core.stage": ("Artifact", "Child", "ModelSpec", "Row", "Stage", "StageSettings"),
    "ffpdata.export.loader": ("Pair", "pairs", "webdataset_pipeline"),
    "ffpdata.export.verify": ("verify",),
    "ffpdata.models.protocols": ("Edit", "Segmentation"),
    "ffpdata.models.settings": ("BackendSettings",),
    "ffpdata.stages._vision": ("VisionStage",),
}
_MODULE = {name: module for module, names in _MODULES.items() for name in names}

if not TYPE_CHECKING:  # a type checker would take every misspelt name for one that is loaded on demand

    def __getattr__(name: str) -> Any:
        if name not in _MODULE:
            raise AttributeError(f"module 'ffpdata' has no attribute {name!r}")
        value = getattr(import_module(_MODULE[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
