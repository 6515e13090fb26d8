"""Does FreeProp learn from what ffpdata makes? A small model of the real blocks, trained from random weights on a CPU.

    python -m benchmarks.propagation [--seeds 3] [--steps 6500] [--jobs 2] [--folder DIR] [--sheet FILE.png]

Pairs are made by two runs of ffpdata at a tiny size, local edits and stylizations, on its sample scenes and on further
ones that are composed of the same actors and photographs, exported and read back (`propagation_pairs`). One scene of
each kind of camera is held out of training whole, with its background and its object. The model is diffsynth's WanModel
with blocks and positions as they are, 1.7 million weights; in the VAE's place stands a transform of four frames and of
blocks of pixels into channels, which can be undone exactly and encodes the first frame alone, as Wan's does
(`propagation_view`). What is trained, and how it is asked, is `models.propagation`.

The first part of the steps stands for Fun-Control and is the same for all rows of a seed; on it the heads are
classified. The rows of the paper's Table 3 (baseline, +AST-RoPE, full) take the rest, with the same pairs, noise and
timesteps. Errors are on held-out scenes, beside three ways without a model: copying the source, repeating the edited
frame, and warping the edited frame by the source's optical flow to its first frame, at the pairs' own size. The bound:
the error of `full` is below all three on at least half of the scenes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.propagation_pairs import CLIP, Clip, held_out, make_pairs, read_pairs
from benchmarks.propagation_view import SEEN, encoded, seen, small, span, unfold, varied
from benchmarks.timing import verdict
from ffpdata.media.flow import gray
from ffpdata.models.propagation.settings import PRESETS, preset

MODEL = {"dim": 192, "num_heads": 6, "num_layers": 3, "ffn_dim": 384}
RATE, STEPS, SHARED = 2e-3, 6500, 3 / 4
SHIFT = 100.0
"""Of the timesteps that training draws and sampling takes. Nearly all lie where the noise hides the target, so that it
must be told from source and first frame: the one step of sampling asks just that. By Wan's 5 the model learns to look
through the noise instead, and what it takes for a picture in pure noise is added to its answer."""
SAMPLING_STEPS = 1
"""From pure noise to the mean of what the clip may be, whose squared error is the least."""
CLIPS = 10
"""Clips that vote on the heads."""
EVEN_SHARE = 1.0
"""Of an even weight, below which a token does not count. The paper's 1e-6 is 1/13 of it at 75,600 tokens; by that all
heads here were temporal, because attention of so small a model is diffuse."""
SAID = 100
"""Steps between two lines of the log."""


# --- without a model ---


def warped(source: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return the edited first frame, moved as the source moves, uint8 (T, H, W, 3)."""
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    height, width = first.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    before, flow, found = gray(source[0]), None, [first]
    for frame in source[1:]:
        flow = dis.calc(gray(frame), before, flow)
        where = x + flow[..., 0], y + flow[..., 1]
        found.append(cv2.remap(first, *where, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
    return np.stack(found)


def without_model(clip: Clip) -> dict[str, np.ndarray]:
    """Return what the three ways without a model answer, as the model sees it; the flow is that of every frame."""
    answers = {
        "copy the source": seen(clip.source),
        "repeat the edited frame": np.repeat(clip.target[:1], SEEN.frames, 0),
        "warp the edited frame": seen(warped(clip.source[: span(SEEN.stride)], clip.target[0])),
    }
    return {name: small(frames) for name, frames in answers.items()}


def error(answer: np.ndarray, target: np.ndarray) -> float:
    """Return the root of the mean squared difference of all frames after the first, levels of 255."""
    return float(np.sqrt(np.mean(np.square(answer[1:].astype(np.float32) - target[1:]))))


# --- training ---


def network(seed: int) -> Any:
    """Return a pipeline with a transformer of random weights: Fun-Control's layout, without text and CLIP."""
    import torch
    from diffsynth.models.wan_video_dit import WanModel
    from diffsynth.pipelines.wan_video import WanVideoPipeline

    pipe = WanVideoPipeline(device="cpu", torch_dtype=torch.float32)
    torch.manual_seed(seed)
    pipe.dit = WanModel(
        **MODEL,
        in_dim=36,
        out_dim=12,
        text_dim=16,
        freq_dim=64,
        eps=1e-6,
        patch_size=(1, 2, 2),
        has_image_input=False,
        require_clip_embedding=False,
    )
    return pipe


def settings_of(row: str) -> Any:
    """Return the settings of a row of Table 3 at this size: every weight is trained, for there is no base."""
    return preset(
        row,
        frames=SEEN.frames,
        rank=0,
        clip_embedding="zero",
        gradient_checkpointing="off",
        pool=2,
        predictor_patch=8,
        predictor_width=48,
        predictor_layers=1,
        predictor_heads=2,
        learning_rate=RATE,
        shift=SHIFT,
    )


@dataclass
class Trained:
    """A model of a row.

    Attributes:
        pipe: with its transformer.
        module: that it was trained by.
        heads: classes of its heads; None without AST-RoPE.
        seconds: of CPU time for a step.
    """

    pipe: Any
    module: Any
    heads: Any
    seconds: float = 0.0


def build(row: str, seed: int, heads: Any = None, state: Any = None) -> Trained:
    from ffpdata.models.propagation.training import PropagationTraining

    pipe = network(seed)
    settings = settings_of(row)
    module = PropagationTraining(pipe, settings=settings, heads=heads if settings.ast_rope else None, seed=seed)
    if state is not None:
        pipe.dit.load_state_dict(state)
    return Trained(pipe, module, heads if settings.ast_rope else None)


def train(model: Trained, clips: list[Clip], steps: range, *, whole: int, seed: int, name: str = "") -> None:
    """Take some steps of a schedule: a short rise, then a cosine over the whole of it.

    Args:
        model: is trained.
        clips: to learn from.
        steps: numbers of the steps.
        whole: steps of the whole schedule.
        seed: of order, variations, noise and timesteps: every row sees the same.
        name: what the log says of it.
    """
    import torch

    learned = list(model.module.learned().values())
    optimizer = torch.optim.AdamW(learned, lr=RATE, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    terms: list[dict[str, float]] = []
    began = time.process_time()
    for step in steps:
        rise, done = min(1.0, (step - steps.start + 1) / 50), step / whole
        for group in optimizer.param_groups:
            group["lr"] = RATE * rise * (0.5 + 0.5 * np.cos(np.pi * done))
        rng = np.random.default_rng([seed, step])
        source, target = varied(clips[int(rng.integers(len(clips)))], rng)
        model.module(encoded(source, target), seed * 1_000_003 + step).backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        terms.append(model.module.terms)
        if (step + 1) % SAID == 0 or step + 1 == steps.stop:
            print(f"{name} step {step + 1}: {described(terms)}", flush=True)
            terms = []
    model.seconds = (time.process_time() - began) / max(1, len(steps))


def described(steps: list[dict[str, float]]) -> str:
    names = sorted({name for terms in steps for name in terms} - {"timestep", "identity"})
    means = {name: statistics.fmean(terms[name] for terms in steps if name in terms) for name in names}
    return ", ".join(f"{name} {value:.4f}" for name, value in means.items())


def answer(model: Trained, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Ask a model for a pair as it sees it; of the target it is shown the first frame."""
    from ffpdata.models.propagation.sampling import Positions, Sampling, sample

    positions = Positions(model.module.predictor, model.heads) if model.heads is not None else None
    latents = encoded(source, np.repeat(target[:1], len(target), 0))
    sampling = Sampling(SAMPLING_STEPS, guidance=1.0, shift=SHIFT)
    model.module.close()  # hooks of training; the sampler sets its own
    found, _ = sample(model.pipe, latents, model.module.settings, seed=1, sampling=sampling, positions=positions)
    return unfold(found)


def classes(model: Trained, clips: list[Clip], seed: int) -> Any:
    """Return the classes of a model's heads, as `ffpdata heads` makes them."""
    from ffpdata.models.propagation.head_study import StudyOptions, latent_densities, vote

    height, width, frames = SEEN.height, SEEN.width, SEEN.frames
    tokens = height * width * (frames + 3) // 16
    options = StudyOptions(epsilon=EVEN_SHARE / tokens, seed=seed)
    rng = np.random.default_rng([seed, 0])
    chosen = [clips[int(rng.integers(len(clips)))] for _ in range(CLIPS)]
    found = [
        latent_densities(model.pipe, encoded(*varied(clip, rng)), model.module.settings, options) for clip in chosen
    ]
    return vote(found, [clip.scene for clip in chosen], (frames, height, width), base="shared", options=options)


# --- tasks, each in a process of its own ---


@dataclass(frozen=True)
class Task:
    """What a process trains: the shared part of a seed, or a row from there on.

    Attributes:
        seed: of weights, order, variations, noise and timesteps.
        steps: of a model, shared ones included.
        learned: pairs to learn from.
        kept: pairs to measure on.
        size: of what the model sees.
        row: of Table 3; empty for the shared part.
        base: what the shared part left: weights and classes of heads.
    """

    seed: int
    steps: int
    learned: list[Clip]
    kept: list[Clip]
    size: dict[str, int]
    row: str = ""
    base: tuple[dict[str, Any], Any] | None = None

    @property
    def name(self) -> str:
        """What the log says of it."""
        return f"seed {self.seed}, {self.row or 'shared'}:"


@dataclass(frozen=True)
class Done:
    """What comes back of a task: the answers to `kept` by way, CPU seconds a step, and of the shared part its base."""

    answers: dict[str, list[np.ndarray]]
    seconds: float
    base: tuple[dict[str, Any], Any] | None = None


def done(task: Task) -> Done:
    """Train, and answer the pairs that are kept; the shared part is asked before it learns anything, too."""
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    vars(SEEN).update(task.size)
    border = round(SHARED * task.steps)
    how = {"whole": task.steps, "seed": task.seed, "name": task.name}
    if task.base is not None:
        state, heads = task.base
        state = {name: torch.from_numpy(value) for name, value in state.items()}
        model = build(task.row, task.seed, heads, state)
        train(model, task.learned, range(border, task.steps), **how)
        return Done({task.row: answered(model, task.kept)}, model.seconds)
    model = build("baseline", task.seed)
    answers = {"before learning": answered(model, task.kept)}
    train(model, task.learned, range(border), **how)
    heads = classes(model, task.learned, task.seed)
    print(f"{task.name} {heads.share:.0%} of the heads are temporal {heads.temporal} {heads.warning()}", flush=True)
    # As arrays: tensors would be handed on by shared memory, of which a container may have little.
    state = {name: value.numpy() for name, value in model.pipe.dit.state_dict().items()}
    return Done(answers | {"shared part": answered(model, task.kept)}, model.seconds, (state, heads.temporal))


def answered(model: Trained, clips: list[Clip]) -> list[np.ndarray]:
    return [answer(model, small(seen(clip.source)), small(seen(clip.target))) for clip in clips]


def all_done(shared: list[Task], rows: list[str], jobs: int) -> Iterator[tuple[Task, Done]]:
    """Yield tasks as they end: the shared part of every seed, and behind it the rows. One job stays in this process."""
    after = [lambda base, task=task: [replace(task, row=row, base=base) for row in rows] for task in shared]
    if jobs == 1:
        for task, then in zip(shared, after, strict=True):
            found = done(task)
            yield task, found
            yield from ((one, done(one)) for one in then(found.base))
        return
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        running: dict[Future[Done], Task] = {pool.submit(done, task): task for task in shared}
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                task, found = running.pop(future), future.result()
                yield task, found
                if not task.row:
                    running |= {pool.submit(done, one): one for one in after[shared.index(task)](found.base)}


# --- what comes out ---


def by_scene(answers: list[np.ndarray], clips: list[Clip]) -> dict[str, float]:
    """Return the mean error per scene."""
    found: dict[str, list[float]] = {}
    for frames, clip in zip(answers, clips, strict=True):
        found.setdefault(clip.scene, []).append(error(frames, small(seen(clip.target))))
    return {scene: statistics.fmean(errors) for scene, errors in found.items()}


def write_sheet(path: Path, answers: dict[str, list[np.ndarray]]) -> None:
    """Write the first, a middle and the last frame of every held-out pair by every way, one way a row."""
    rows = []
    for name, clips in answers.items():
        strip = np.concatenate([frames[[0, len(frames) // 2, -1]] for frames in clips])
        strip = np.concatenate([frame.repeat(3, 0).repeat(3, 1) for frame in strip], axis=1)
        line = np.full((16, strip.shape[1], 3), 255, np.uint8)
        cv2.putText(line, name, (4, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
        rows += [line, strip]
    cv2.imwrite(str(path), cv2.cvtColor(np.concatenate(rows), cv2.COLOR_RGB2BGR))


def table(plain: dict[str, dict[str, float]], found: dict[str, list[dict[str, float]]]) -> dict[str, int]:
    """Print errors per way and scene, means over the seeds; returns for each row on how many scenes it is the best.

    Args:
        plain: of the ways without a model, by scene.
        found: of the others, by scene, one per seed.
    """
    scenes = sorted(plain["copy the source"])
    print(f"\n{'error, levels of 255':<24}" + "".join(f"{scene:>16}" for scene in scenes) + f"{'mean':>10}  seeds")
    wins = {}
    for way, errors in ({way: [scenes_] for way, scenes_ in plain.items()} | found).items():
        means = {scene: statistics.fmean(one[scene] for one in errors) for scene in scenes}
        spread = " ".join(f"{statistics.fmean(one.values()):.2f}" for one in errors) if way in found else ""
        cells = "".join(f"{means[scene]:>16.2f}" for scene in scenes)
        print(f"{way:<24}{cells}{statistics.fmean(means.values()):>10.2f}  {spread}")
        if way in PRESETS:
            wins[way] = sum(means[scene] < min(one[scene] for one in plain.values()) for scene in scenes)
    for row, count in wins.items():
        print(f"{row}: below all three on {count} of {len(scenes)} scenes")
    return wins


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=STEPS, help="of each model")
    parser.add_argument("--rows", nargs="+", choices=list(PRESETS), default=list(PRESETS))
    parser.add_argument(
        "--jobs", type=int, default=min(2, os.cpu_count() or 1), help="trainings at a time, a core each"
    )
    parser.add_argument("--frames", type=int, default=CLIP.frames, help="of a clip")
    parser.add_argument("--limit", type=int, default=99, help="clips of each track")
    parser.add_argument("--folder", type=Path, help="keep samples, runs and exports here, and use what is there")
    parser.add_argument("--exports", type=Path, nargs="+", help="read these in place of making pairs")
    parser.add_argument(
        "--held-out", nargs="+", help="scenes to measure on, and not to learn from, in place of the three"
    )
    parser.add_argument("--sheet", type=Path, help="picture of what the first seed's models answer")
    parser.add_argument("--seen", help="height,width,frames,stride that the model sees: even sides, 4n+1 frames")
    given = parser.parse_args(argv)
    if given.seen:
        SEEN.height, SEEN.width, SEEN.frames, SEEN.stride = map(int, given.seen.split(","))
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temp:
        folder = given.folder or Path(temp)
        if not given.exports:
            make_pairs(folder, given.frames, given.limit)
        clips = read_pairs(given.exports or sorted((folder / "exports").iterdir()), folder / "sample")
    # Those that are held out by default are never learned from, whatever else is measured.
    apart = given.held_out or held_out(clips)
    kept = [clip for clip in clips if clip.scene in apart]
    learned = [clip for clip in clips if clip.scene not in {*apart, *held_out(clips)}]
    print(f"{len(learned)} pairs to learn from, {len(kept)} of {', '.join(apart)} held out", flush=True)
    answers: dict[str, list[np.ndarray]] = {"source": [small(seen(clip.source)) for clip in kept]}
    answers["target"] = [small(seen(clip.target)) for clip in kept]
    for clip in kept:
        for way, frames in without_model(clip).items():
            answers.setdefault(way, []).append(frames)
    plain = {way: by_scene(answers[way], kept) for way in list(answers)[2:]}
    by_seed: dict[str, dict[int, dict[str, float]]] = {}
    shared = [Task(seed, given.steps, learned, kept, vars(SEEN)) for seed in range(given.seeds)]
    for task, end in all_done(shared, given.rows, given.jobs):
        for way, frames in end.answers.items():
            here = by_seed.setdefault(way, {})[task.seed] = by_scene(frames, kept)
            errors = ", ".join(f"{scene} {value:.2f}" for scene, value in here.items())
            mean = statistics.fmean(here.values())
            print(f"{task.name} {end.seconds:.3f} CPU s a step, error {mean:.2f} {way} ({errors})", flush=True)
        if task.seed == 0:
            answers |= end.answers
        if given.sheet:
            write_sheet(given.sheet, answers)
    wins = table(plain, {way: [seeds[n] for n in sorted(seeds)] for way, seeds in by_seed.items()})
    print(f"{(time.monotonic() - began) / 60:.1f} min")
    row = given.rows[-1]
    missed = len(apart) - wins[row]
    good = verdict(f"scenes on which {row} is not the best", missed, len(apart) / 2, f"of {len(apart)}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
