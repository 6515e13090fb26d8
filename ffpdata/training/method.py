"""What a kind of training adds to the loop: what is encoded, which module learns, and how it draws."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from ffpdata.training.sample import Sample

if TYPE_CHECKING:
    import torch

    from ffpdata.models.protocols import Frames
    from ffpdata.training.job import Job
    from ffpdata.training.process import TrainingProcess

    Tensors = Mapping[str, torch.Tensor]

S = TypeVar("S", bound=Sample)


class Learner(Protocol):
    """A torch module that learns.

    Attributes:
        terms: the parts of the last forward pass's loss, by name; they need not add up to it.
    """

    terms: dict[str, float]

    def __call__(self, latents: Tensors, seed: int, window: tuple[float, float] = (0.0, 1.0)) -> torch.Tensor:
        """Return the loss of one sample, a scalar.

        Args:
            latents: of the sample, on the CPU.
            seed: of noise and timestep: the same seed gives the same loss.
            window: part of the timesteps that one is drawn from, as fractions; 0 is the noisy end.
        """

    def learned(self) -> Mapping[str, torch.nn.Parameter]:
        """Return all parameters that are trained, by name."""

    def parts(self) -> Mapping[str, Mapping[str, torch.nn.Parameter]]:
        """Return the files of weights that the training writes: stem to the parameters in it, by their names there."""


class Method(ABC, Generic[S]):
    """A kind of training, in one of its processes.

    Args:
        job: of this kind.
        process: this one of the job's processes.
    """

    libraries: ClassVar[tuple[str, ...]] = ("torch", "diffsynth", "peft", "accelerate")
    """Libraries whose versions the lineage records."""

    def __init__(self, job: Job[Any, Any], process: TrainingProcess) -> None:
        self.job, self.process = job, process

    @abstractmethod
    def preflight(self) -> None:
        """Check before anything is loaded that the job fits memory and disk, and report the estimates.

        Raises:
            ConfigError: too little memory, or a setting that does not fit the model.
            FatalError: too little disk.
        """

    @abstractmethod
    def latent_bytes(self, sample: S) -> int:
        """Return the bytes that a sample's latents take on disk, as estimated."""

    @abstractmethod
    def encoder(self) -> AbstractContextManager[Callable[[S], Tensors]]:
        """Return a with block that holds the encoders in memory; its value encodes a sample into CPU tensors."""

    @abstractmethod
    def learner(self) -> AbstractContextManager[Learner]:
        """Return a with block that holds the module that learns in memory."""

    def write_beside(self) -> None:
        """Write what goes with the trained weights, when these are written."""

    @abstractmethod
    def drawer(self, revision: str) -> AbstractContextManager[Callable[[S], tuple[Frames, float]]]:
        """Return a with block that holds the whole model in memory; its value makes a clip of a sample.

        Args:
            revision: of the trained weights, which are used; "" draws without them.

        Returns:
            As its value, a function that returns frames, uint8 (T, H, W, 3), and frames per second.
        """
