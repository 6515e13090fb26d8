"""The folder of a trained model: what is laid over the base, and what says which base, input and positions it needs.

lora.safetensors          the LoRA, as other programs read it; or transformer.safetensors, every weight
propagation.safetensors   the mask's columns and the predictor of AST-RoPE, where there are any
heads.json                the classes of the heads, with AST-RoPE (`propagation.heads`)
settings.json             `PropagationSettings`, and name, revision and digest of the base
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ffpdata.core.errors import FatalError
from ffpdata.core.keys import KEY_CHARS
from ffpdata.core.wording import fault
from ffpdata.models.propagation.settings import PropagationSettings

if TYPE_CHECKING:
    from ffpdata.models.wan.checkpoint_files import Parts

LORA, TRANSFORMER, PROPAGATION = "lora.safetensors", "transformer.safetensors", "propagation.safetensors"
HEADS, SETTINGS = "heads.json", "settings.json"


@dataclass(frozen=True)
class Base:
    """The checkpoint that a model was trained over.

    Attributes:
        digest: of its transformer (`base_digest`).
        model: its name, for people.
        revision: likewise.
    """

    digest: str
    model: str = ""
    revision: str = ""


def settings_text(settings: PropagationSettings, base: Base) -> str:
    """Return the content of `settings.json`."""
    return json.dumps({"base": vars(base), "settings": settings.model_dump(mode="json")}, indent=1) + "\n"


@dataclass(frozen=True)
class TrainedModel:
    """A folder that was read and checked.

    Attributes:
        folder: of the model.
        settings: that it was trained with.
        base: that it was trained over.
    """

    folder: Path
    settings: PropagationSettings
    base: Base

    @property
    def weights(self) -> Path:
        """The LoRA's file, or that of every weight."""
        return self.folder / (LORA if self.settings.rank else TRANSFORMER)

    def digest(self) -> str:
        """Hash what the model answers by: its files without names of checkpoints and optimisation."""
        files = [self.weights, *(p for name in (PROPAGATION, HEADS) if (p := self.folder / name).is_file())]
        return _hash(tuple((str(path), *_state(path)) for path in files))


def read_model(folder: str | Path) -> TrainedModel:
    """Read the folder of a trained model.

    Raises:
        FatalError: a file is missing or damaged.
    """
    folder = Path(folder).expanduser()
    path = folder / SETTINGS
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        model = TrainedModel(folder, PropagationSettings(**found["settings"]), Base(**found["base"]))
    except FileNotFoundError:
        raise FatalError(f"{folder}: no {SETTINGS}: name the folder that `ffpdata train` wrote") from None
    except ValidationError as err:
        first = err.errors()[0]
        entry = ".".join(map(str, first["loc"]))
        raise FatalError(f"{path}: {entry}: {fault(first)}: it is of another release of ffpdata") from None
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise FatalError(f"{path}: not the settings of a trained model ({err})") from err
    settings = model.settings
    wanted = [PROPAGATION] if settings.mask_channels or settings.ast_rope else []
    wanted += [LORA if settings.rank else TRANSFORMER, *([HEADS] if settings.ast_rope else [])]
    if lacking := [name for name in wanted if not (folder / name).is_file()]:
        raise FatalError(f"{folder}: {' and '.join(lacking)} missing: the model is not complete")
    return model


def check_base(model: TrainedModel, digest: str, name: str) -> None:
    """Raise for a model that was trained over another base.

    Args:
        model: the trained model.
        digest: of the base that it is to be laid over.
        name: of that base.

    Raises:
        FatalError: with both digests.
    """
    if model.base.digest != digest:
        own = f" ({model.base.model})" if model.base.model else ""
        raise FatalError(
            f"{model.folder} was trained over the base {model.base.digest}{own}, {name} is {digest}: name that base"
        )


def base_digest(parts: Parts) -> str:
    """Hash the files of a checkpoint's transformer; the same wherever they are and whatever they are called.

    Reads them once per process: 3 GB of the 1.3B model take seconds, 33 GB of the 14B a minute.
    """
    from ffpdata.models.wan.checkpoint_files import TRANSFORMER as PART

    return _hash(tuple((path, *_state(Path(path))) for path in dict(parts.files)[PART]))


def _state(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns


@lru_cache(maxsize=16)
def _hash(files: tuple[tuple[str, int, int], ...]) -> str:
    digests = []
    for path, *_ in files:
        with Path(path).open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return digest_of(digests)


def digest_of(parts: Iterable[Any]) -> str:
    """Hash texts, in any order, to `KEY_CHARS` hex digits."""
    return hashlib.sha256("\n".join(sorted(map(str, parts))).encode()).hexdigest()[:KEY_CHARS]
