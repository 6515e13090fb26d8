"""The sum of a server's GPU memory, before it is started: what vLLM finds out by starting, as arithmetic.

vLLM loads the weights, runs the largest batch that it may be given, and fills the rest of its share with the cache. It
refuses to start where the rest does not hold one sequence of `--max-model-len` tokens (vllm/v1/core/kv_cache_utils.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from ffpdata.serve.model_shape import GIB, ModelShape
from ffpdata.serve.questions import Demand, rounded

BATCH = 2048
"""Tokens that a server reads at once, at least: vLLM's default for smaller cards. A larger batch costs memory."""
VLLM_FRAMES = 14
"""Frames of the largest video that vLLM prepares for (vllm/model_executor/models/qwen2_vl.py)."""
SAMPLER_BYTES = 32
"""Per sequence and word of the vocabulary: scores in half and single precision, sorted with places, summed."""
CUDA_GIB = 1.0
"""CUDA graphs and memory beside torch's. Logs of 70B models on two and four GPUs show 0.3 to 0.5 GiB beside torch's
(vLLM's issues 15815 and 16570), and the graphs of few sequences are smaller."""
CONTEXT_GIB, TEAM_GIB = 0.5, 1.0
"""Memory outside the server's share: of a CUDA process, and of the connections between several GPUs."""
FRAGMENTS = 1.1
"""A tenth for fragmentation."""


@dataclass(frozen=True)
class Share:
    """The part of a machine that a server gets.

    Attributes:
        cards: GPUs over which the model is split.
        card_gib: memory of each, GiB.
        utilization: share of it that the server may fill.
        sequences: questions at the same time.
        workers_gib: memory of other processes on the same card, GiB.
    """

    cards: int
    card_gib: float
    utilization: float
    sequences: int
    workers_gib: float = 0.0


@dataclass(frozen=True)
class ServerMemory:
    """The memory of a server on each of its GPUs, GiB.

    Attributes:
        share: what it gets.
        weights: of the model.
        cache: keys and values of all sequences at full length.
        length: tokens of a sequence.
        work: peak of a forward pass, of the language model or of the vision encoder, whichever is larger.
        vision: peak of the vision encoder alone.
    """

    share: Share
    weights: float
    cache: float
    length: int
    work: float
    vision: float

    @property
    def total(self) -> float:
        """What it needs."""
        return self.weights + self.cache + self.work + CUDA_GIB

    @property
    def limit(self) -> float:
        """What it may fill."""
        return self.share.utilization * self.share.card_gib

    @property
    def outside(self) -> float:
        """Memory on the card that is not the server's share: CUDA's own, and the workers'."""
        return CONTEXT_GIB + (TEAM_GIB if self.share.cards > 1 else 0.0) + self.share.workers_gib

    @property
    def fits(self) -> bool:
        """Whether it starts, answers `sequences` questions at once, and leaves the workers their memory."""
        return self.total <= self.limit and self.limit + self.outside <= self.share.card_gib

    def __str__(self) -> str:
        share = self.share
        cards = f"{share.cards} x {share.card_gib:g} GiB" if share.cards > 1 else f"{share.card_gib:g} GiB"
        text = (
            f"{cards}: weights {self.weights:.1f} + cache {self.cache:.1f} ({share.sequences} sequences of "
            f"{self.length} tokens) + work {self.work:.1f} (vision {self.vision:.1f}) + CUDA {CUDA_GIB:.1f} = "
            f"{self.total:.1f} GiB {'<=' if self.total <= self.limit else '>'} {self.limit:.1f} "
            f"({share.utilization:g} of the card)"
        )
        whole = self.limit + self.outside
        if share.workers_gib:
            text += (
                f"; with CUDA {CONTEXT_GIB:.1f} and the largest worker {share.workers_gib:.1f} = {whole:.1f} GiB "
                f"{'<=' if whole <= share.card_gib else '>'} {share.card_gib:g}"
            )
        elif whole > share.card_gib:
            text += f"; with {self.outside:.1f} GiB outside its share {whole:.1f} > {share.card_gib:g}"
        return text

    def remedy(self) -> str:
        """Say what to change where it does not fit."""
        share, one = self.share, self.cache / self.share.sequences
        if self.limit + self.outside > share.card_gib:
            most = (share.card_gib - self.outside) / share.card_gib
            return f"lower server.utilization to {max(0.0, most - 0.005):.2f} or give the workers a card of their own"
        room = self.limit - (self.total - self.cache)
        ways = []
        if room >= one:
            ways.append(f"lower server.sequences to {int(room // one)}")
        needed = (self.total + 0.05) / share.card_gib
        if needed + self.outside / share.card_gib <= 1:
            ways.append(f"raise server.utilization to {needed + 0.005:.2f}")
        ways.append(f"use more cards (server.cards: {2 * share.cards}) or a checkpoint in 4 or 8 bit")
        return ", or ".join(ways)


def encoder_tokens(shape: ModelShape, wanted: Demand, length: int) -> int:
    """Return the tokens of the largest medium that vLLM prepares for, or that is asked about."""
    video = shape.clip_tokens(VLLM_FRAMES, wanted.clip_pixels) if wanted.videos else 0
    return max(wanted.medium, min(video, length))


def batch_tokens(shape: ModelShape, wanted: Demand, length: int) -> int:
    """Return `--max-num-batched-tokens`: a batch holds the largest medium, because vLLM encodes one at once."""
    return max(BATCH, rounded(encoder_tokens(shape, wanted, length)))


def server_memory(shape: ModelShape, share: Share, *, length: int, batch: int) -> ServerMemory:
    """Return the memory of a server.

    Args:
        shape: the model's.
        share: its GPUs.
        length: most tokens of a sequence.
        batch: most tokens of a batch, and of the media that are encoded at once.
    """
    kept = batch * shape.hidden * 2  # the encoder's output waits in a cache of this size
    patches = batch * shape.merge**2
    vision = patches * shape.vision_work_bytes(share.cards) + kept
    sampler = share.sequences * shape.vocabulary * SAMPLER_BYTES
    language = batch * shape.work_bytes(share.cards) + sampler + kept
    return ServerMemory(
        share=share,
        weights=shape.weights_gib(share.cards),
        cache=share.sequences * length * shape.cache_bytes(share.cards) / GIB,
        length=length,
        work=max(vision, language) * FRAGMENTS / GIB,
        vision=vision * FRAGMENTS / GIB,
    )
