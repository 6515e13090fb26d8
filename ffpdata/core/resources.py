"""What a stage's workers get of a machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydantic import BaseModel, ConfigDict, Field, field_validator


class Resources(BaseModel):
    """What one worker of a stage holds while it lives, and how long an item may take it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpus: float = Field(default=1.0, ge=0)
    gpus: float = Field(default=0.0, ge=0)
    """Whole GPUs, or a fraction below 1 of one GPU that stages share."""
    memory_gb: float = Field(default=1.5, gt=0)
    gpu_memory_gb: float | None = Field(default=None, gt=0)
    """GPU memory that its model takes; `ffpdata doctor` compares it with the cards."""
    concurrency: int = Field(default=1, ge=1)
    """Items that one worker holds at once, each in a thread: above 1 only for stages that wait for a service."""
    overlap: int = Field(default=6, ge=1)
    """Items that a worker on a GPU has in hand at most: one computes, while the files of the others are read and
    written. It takes no more than keep the GPU busy. Counts where `gpus` is above 0 and `concurrency` is 1."""
    timeout: float = Field(default=3600.0, gt=0)
    """Seconds that an item may take; after that its worker is killed and the item fails with `timeout`."""
    seconds: float | None = Field(default=None, gt=0)
    """Expected seconds per item, from which worker counts are planned; measured by the first items where unset."""

    @property
    def overlaps(self) -> bool:
        """Whether its items take turns at a GPU (`processes/turns`)."""
        return self.gpus > 0 and self.concurrency == 1 and self.overlap > 1

    @property
    def in_hand(self) -> int:
        """Items that one worker has in hand at most."""
        return self.overlap if self.overlaps else self.concurrency

    @field_validator("gpus")
    @classmethod
    def _whole(cls, gpus: float) -> float:
        if gpus > 1 and gpus != int(gpus):
            raise ValueError("above one GPU, ask for whole GPUs")
        return gpus

    def overlaid(self, *overlays: ResourceSettings | None) -> Resources:
        """Return the same with what the overlays set, later ones winning."""
        merged = self.model_dump()
        for overlay in overlays:
            merged |= overlay.model_dump(exclude_none=True) if overlay else {}
        return Resources(**merged)


class ResourceSettings(BaseModel):
    """What a profile or a pipeline changes in a stage's `Resources`; None leaves it as it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpus: float | None = Field(default=None, ge=0)
    gpus: float | None = Field(default=None, ge=0)
    memory_gb: float | None = Field(default=None, gt=0)
    gpu_memory_gb: float | None = Field(default=None, gt=0)
    concurrency: int | None = Field(default=None, ge=1)
    overlap: int | None = Field(default=None, ge=1)
    timeout: float | None = Field(default=None, gt=0)
    seconds: float | None = Field(default=None, gt=0)


def held_together(models: Sequence[ResourceSettings]) -> ResourceSettings | None:
    """Return what a worker needs that holds several models at once; None without models.

    Their memory adds up. Of everything else the largest counts, and of `concurrency` the smallest.
    """
    given = [each.model_dump(exclude_none=True) for each in models]
    rule: dict[str, Callable[[list[float]], float]] = {"memory_gb": sum, "gpu_memory_gb": sum, "concurrency": min}
    names = dict.fromkeys(name for each in given for name in each)
    merged = {name: rule.get(name, max)([each[name] for each in given if name in each]) for name in names}
    return ResourceSettings(**merged) if given else None
