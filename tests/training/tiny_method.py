"""A training that takes milliseconds: a line through points, by the loop that trains the large models."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from ffpdata.core.keys import digest
from ffpdata.core.stage import ModelSpec
from ffpdata.training.job import Job
from ffpdata.training.method import Method
from ffpdata.training.settings import LoopSettings


@dataclass(frozen=True)
class Point:
    """A point of the line; those right of 0.5 are of another size."""

    item_id: str
    x: float
    y: float

    @property
    def label(self) -> str:
        return self.item_id

    @property
    def bucket(self) -> bool:
        return self.x > 0.5

    def shown(self) -> Mapping[str, Any]:
        return {"point": np.full((3, 32, 32, 3), round(255 * self.x), np.uint8)}

    def record(self) -> Mapping[str, Any]:
        return asdict(self)


class Nothing:
    """The model that a line is laid over."""

    name, version = "nothing", 1


class LineJob(Job[Point, LoopSettings]):
    method = "tests.training.tiny_method:LineMethod"
    base_settings = ()

    @property
    def files(self) -> tuple[str, ...]:
        return ("slope", "height")

    def data(self) -> dict[str, Any]:
        return {name: [asdict(point) for point in getattr(self, name)] for name in ("samples", "held_out")}

    @classmethod
    def of(cls, data: Mapping[str, Any], spec: ModelSpec, folder: Path) -> Self:
        parts = (tuple(Point(**entry) for entry in data[name]) for name in ("samples", "held_out"))
        return cls(*parts, keys_of(data), spec, LoopSettings(**data["settings"]), folder)


def keys_of(data: Mapping[str, Any]) -> dict[str, str]:
    return {point["item_id"]: digest(point) for name in ("samples", "held_out") for point in data[name]}


def line_job(folder: Path, count: int = 10, **settings: Any) -> LineJob:
    rng = np.random.default_rng(0)
    points = [Point(f"p{n}", float(x), float(2 * x - 1)) for n, x in enumerate(rng.random(count + 2))]
    data = {"samples": [asdict(p) for p in points[:count]], "held_out": [asdict(p) for p in points[count:]]}
    given = {"gpus": 0, "learning_rate": 0.1, "measured": 2, "measure_draws": 2, "validation": 0, "save_every": 3}
    folder.mkdir(parents=True, exist_ok=True)
    spec = ModelSpec(backend="tests.training.tiny_method:Nothing", runtime={"device": "cpu"})
    return LineJob.of({**data, "settings": {**given, **settings}}, spec, folder)


class LineMethod(Method[Point]):
    libraries = ("torch", "accelerate")

    def preflight(self) -> None:
        self.process.report("a line fits everywhere")

    def latent_bytes(self, sample: Point) -> int:
        return 1000

    @contextlib.contextmanager
    def encoder(self) -> Iterator[Callable[[Point], Any]]:
        import torch

        yield lambda point: {"x": torch.tensor([point.x]), "y": torch.tensor([point.y])}

    @contextlib.contextmanager
    def learner(self) -> Iterator[Any]:
        import torch

        class Line(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.slope, self.height = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
                self.terms: dict[str, float] = {}

            def forward(self, latents, seed, window=(0.0, 1.0)):
                noise = torch.randn(1, generator=torch.Generator().manual_seed(seed)) * 0.01 * window[1]
                error = (self.slope * latents["x"] + self.height - latents["y"] + noise).square().sum()
                self.terms = {"error": float(error.detach())}
                if latents["x"] > 0.5:  # only some samples have it
                    self.terms["right"] = 1.0
                return error

            def learned(self):
                return dict(self.named_parameters())

            def parts(self):
                return {"slope": {"slope": self.slope}, "height": {"height": self.height}}

        yield Line()

    @contextlib.contextmanager
    def drawer(self, revision: str) -> Iterator[Callable[[Point], Any]]:
        level = 200 if revision else 50
        yield lambda point: (np.full((3, 32, 32, 3), level, np.uint8), 16.0)
