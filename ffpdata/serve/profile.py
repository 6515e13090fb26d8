"""The server that a profile's vision-language model needs: what it must take, and the sum of its memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ffpdata.core.config import load_pipeline, pipeline_names
from ffpdata.core.held import SERVED
from ffpdata.core.pipeline import Pipeline, thaw
from ffpdata.core.pipeline_check import stage_class
from ffpdata.core.prompt import Prompt
from ffpdata.core.stage import ModelSpec, of_role
from ffpdata.models.settings import parse_runtime, parse_settings
from ffpdata.models.vlm.settings import ServerRuntime, VisionRuntime, VisionSettings
from ffpdata.serve.memory import CONTEXT_GIB, ServerMemory, Share, batch_tokens, server_memory
from ffpdata.serve.model_shape import GIB, ModelShape, find_shape
from ffpdata.serve.questions import Demand, demand


@dataclass(frozen=True)
class Serving:
    """A served model of a profile.

    Attributes:
        spec: the role's entry.
        settings: its settings.
        served_model: the name that its client calls it by.
        server: the GPUs that the profile gives a server; None where it says nothing of them.
        shape: sizes of the model; None for one that is neither published in `PUBLISHED` nor on this machine.
        wanted: what the profile's questions ask of it; None without `shape`.
        workers_gib: memory of the largest set of workers that one card takes, GiB; with a CUDA process each.
    """

    spec: ModelSpec
    settings: VisionSettings
    served_model: str
    server: ServerRuntime | None
    shape: ModelShape | None
    wanted: Demand | None
    workers_gib: float

    def memory(self, share: Share | None = None) -> ServerMemory | None:
        """Return the sum for `share`, by default the profile's; None where sizes or cards are not known."""
        share = share or self.share()
        if share is None or self.shape is None or self.wanted is None:
            return None
        length = self.wanted.length
        return server_memory(self.shape, share, length=length, batch=batch_tokens(self.shape, self.wanted, length))

    def share(self) -> Share | None:
        """Return what the profile gives a server."""
        one = self.server
        if one is None:
            return None
        return Share(one.cards, one.card_gib, one.utilization, one.sequences, self.workers_gib if one.shared else 0.0)

    def resizing(self) -> str:
        """Return what is wrong where the server would resize every frame; empty where it would not."""
        multiple = self.shape.multiple if self.shape else 1
        if self.settings.multiple % multiple == 0:
            return ""
        return (
            f"its frames' sides are multiples of {self.settings.multiple}, the model's patches want {multiple}: the "
            f"server resizes every frame; set settings.multiple to {multiple}"
        )


def serving(pipelines: Sequence[Pipeline]) -> Serving | None:
    """Return the served vision-language model of pipelines under one profile; None where it is not served."""
    models = {role: spec for pipeline in pipelines for role, spec in pipeline.models.items()}
    spec = models.get(SERVED)
    if spec is None or not spec.runtime.get("endpoint"):
        return None
    settings, runtime = parse_settings(VisionSettings, spec), parse_runtime(VisionRuntime, spec)
    shape = find_shape(spec.model, spec.revision)
    wanted = demand(prompts_of(pipelines), settings, shape) if shape else None
    served = runtime.served_model or spec.model
    return Serving(spec, settings, served, runtime.server, shape, wanted, workers_gib(beside(pipelines)))


def shipped_pipelines(profile: str = "") -> list[Pipeline]:
    """Return every pipeline that comes with ffpdata, under a profile; by default under the one that it names."""
    return [load_pipeline(name, profile or None) for name in pipeline_names()]


def prompts_of(pipelines: Iterable[Pipeline]) -> list[Prompt]:
    """Return all questions that the stages of the pipelines ask."""
    return [thaw(data) for pipeline in pipelines for data in pipeline.prompts.values()]


def beside(pipelines: Iterable[Pipeline]) -> dict[str, ModelSpec]:
    """Return the models whose workers run while the server does: of the pipelines that ask it, those that are used."""
    found: dict[str, ModelSpec] = {}
    for pipeline in pipelines:
        roles = {role for entry in pipeline.stages for role in stage_class(entry.use).models}
        if SERVED in roles:
            for role in roles:
                found |= of_role(pipeline.models, role)
    return found


def workers_gib(models: Mapping[str, ModelSpec]) -> float:
    """Return the memory of the largest set of equal workers that one card takes, GiB, a CUDA process each counted.

    A worker takes its `resources.gpus` of a card: four of a quarter share it, and one of a whole card has it alone.
    """
    largest = 0.0
    for spec in models.values():
        needs = spec.resources
        if needs and needs.gpus and needs.gpu_memory_gb:
            workers = max(1, int(1 / needs.gpus + 1e-6))
            largest = max(largest, workers * (needs.gpu_memory_gb * 1e9 / GIB + CONTEXT_GIB))
    return largest
