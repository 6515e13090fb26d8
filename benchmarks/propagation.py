"""Does FreeProp learn from what ffpdata makes? A small model of the real blocks, trained from random weights on a CPU.

    python -m benchmarks.propagation [--seeds 3] [--steps 900] [--folder DIR] [--sheet FILE.png]

Pairs are made by two runs of ffpdata on its sample scenes at a tiny size, local edits and stylizations, exported and
read back. One scene of each kind of camera is held out of training whole. The model is diffsynth's WanModel with blocks
and positions as they are, 1 million weights; in the VAE's place stands a folding of four frames into channels, which
can be undone exactly and encodes the first frame alone, as Wan's does. What is trained, and how it is asked, is
`models.propagation`.

The first half of the steps stands for Fun-Control and is the same for all rows of a seed; on it the heads are
classified. The rows of the paper's Table 3 (baseline, +AST-RoPE, full) take the second half, with the same pairs, noise
and timesteps. Errors are on held-out scenes, beside three ways without a model: copying the source, repeating the
edited frame, and warping the edited frame by the source's optical flow to its first frame, at the pairs' own size. The
bound: the error of `full` is below all three on at least half of the scenes.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.timing import verdict
from ffpdata.core.keys import SOURCE_CHARS
from ffpdata.export.loader import pairs
from ffpdata.media.flow import gray
from ffpdata.media.geometry import Geometry
from ffpdata.models.propagation.settings import PRESETS, preset
from ffpdata.sample import write_samples
from ffpdata.storage.digests import file_facts

CLIP = Geometry(width=160, height=96, fps=16, frames=33)
"""Of the runs."""
GAINS = (1.0, 4.0, 4.0, 4.0)
"""Of the mean of four frames and of their differences in the latent, whose deviations are then about 1, as Wan's VAE
makes them."""
FOLDING = np.array([[1, 1, 1, 1], [1, 1, -1, -1], [1, -1, -1, 1], [1, -1, 1, -1]], np.float32) / 2
"""Hadamard's, which is its own inverse but for the order: four frames to their mean and three differences."""
HELD_OUT = ("crate_static", "coin_pan", "cup_handheld")
"""One scene of each kind of camera."""
MODEL = {"dim": 128, "num_heads": 4, "num_layers": 4, "ffn_dim": 256}
RATE, STEPS, SHARED = 3e-3, 900, 1 / 2
SAMPLING_STEPS = 8
CLIPS = 10
"""Clips that vote on the heads."""
EVEN_SHARE = 1.0
"""Of an even weight, below which a token does not count. The paper's 1e-6 is 1/13 of it at 75,600 tokens; by that all
heads here were temporal, because attention of so small a model is diffuse."""
SAID = 100
"""Steps between two lines of the log."""


@dataclass
class Size:
    """Of what the model sees: a sixth of the runs' clips each way, and every second of their frames."""

    height: int = 16
    width: int = 24
    frames: int = 17
    stride: int = 2


SEEN = Size()


@dataclass(frozen=True)
class Clip:
    """A pair of an export.

    Attributes:
        scene: name of its source clip.
        task: of the edit.
        source: uint8 (T, H, W, 3).
        target: likewise.
    """

    scene: str
    task: str
    source: np.ndarray
    target: np.ndarray


# --- pairs ---


def make_pairs(folder: Path, frames: int, limit: int) -> None:
    """Run both tracks on the sample scenes, and export them.

    Args:
        folder: for samples, runs and exports; what is there already is not made again.
        frames: of a clip.
        limit: clips of each track.
    """
    if not (folder / "sample").is_dir():
        geometry = Geometry(width=CLIP.width, height=CLIP.height, fps=CLIP.fps, frames=frames)
        write_samples(folder / "sample", geometry=geometry, quick=True)
        shutil.copytree(folder / "sample" / "style", folder / "styled" / "style")
        shutil.copytree(folder / "sample" / "clips", folder / "styled" / "content")
    size = f"clip={{width: {CLIP.width}, height: {CLIP.height}, fps: {CLIP.fps}, frames: {frames}}}"
    tracks = {
        "local_editing": (folder / "sample" / "clips.csv", []),
        "stylization": (folder / "styled", ["--set", "references.most=4", "--set", "curate.variants=all"]),
    }
    for track, (given, more) in tracks.items():
        run = folder / "runs" / track
        ffpdata(
            *("run", track, "--profile", "cpu", "--input", given, "--run", run, "--limit", limit, "--quiet"),
            *("--set", size, "--set", "ingest.min_side=64", *more),
        )
        ffpdata("export", run, folder / "exports" / track)


def ffpdata(*arguments: Any) -> None:
    subprocess.run([sys.executable, "-m", "ffpdata", *map(str, arguments)], check=True, stdout=sys.stderr)


def read_pairs(exports: list[Path], samples: Path) -> list[Clip]:
    """Read the pairs of exports, each with the name of its scene, or the hash of its source where that is another."""
    files = sorted((samples / "clips").glob("*.mp4"))
    names = {file_facts(path)["sha256"][:SOURCE_CHARS]: path.stem for path in files}
    return [
        Clip(names.get(pair["source_id"], pair["source_id"]), pair["task"], pair["source"], pair["target"])
        for out in exports
        for pair in pairs(out)
    ]


def held_out(clips: list[Clip]) -> list[str]:
    """Return the scenes that are held out; of other clips than the sample's every third."""
    scenes = sorted({clip.scene for clip in clips})
    return [scene for scene in scenes if scene in HELD_OUT] or scenes[::3]


# --- what the model is shown ---


def fold(frames: np.ndarray) -> Any:
    """Fold frames into a latent: the first alone, then four at a time, as channels.

    Args:
        frames: uint8 (4n + 1, H, W, 3), or one frame.

    Returns:
        float32 (1, 12, n + 1, H, W).
    """
    import torch

    values = torch.from_numpy(np.ascontiguousarray(frames)).float() / 127.5 - 1
    values = torch.cat([values[:1].expand(3, -1, -1, -1), values]).unflatten(0, (-1, 4))  # n + 1, 4, H, W, 3
    folding = torch.from_numpy(FOLDING) * torch.tensor(GAINS)[:, None]
    return torch.einsum("kt,ntyxc->kcnyx", folding, values).flatten(0, 1)[None].contiguous()


def unfold(latent: Any) -> np.ndarray:
    """Undo `fold`: uint8 (4n + 1, H, W, 3); of the first frame's four copies the mean."""
    import torch

    folding = torch.from_numpy(FOLDING) / torch.tensor(GAINS)[:, None]
    values = torch.einsum("kt,kcnyx->ntyxc", folding, latent[0].unflatten(0, (4, 3)))
    frames = np.concatenate([values[0].mean(0, keepdim=True).numpy(), values[1:].flatten(0, 1).numpy()])
    return np.clip((frames + 1) * 127.5 + 0.5, 0, 255).astype(np.uint8)


def encoded(source: np.ndarray, target: np.ndarray) -> dict[str, Any]:
    """Return the latents of a pair, as `training.PropagationEncoding` does; there is no text."""
    import torch

    words = torch.zeros(1, 1, 16)
    latents = {"source": fold(source), "target": fold(target), "first_frame": fold(target[:1])}
    return latents | {"context": words, "empty_context": words, "context_length": torch.tensor(1)}


def small(frames: np.ndarray) -> np.ndarray:
    size = SEEN.width, SEEN.height
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames])


def span(stride: int) -> int:
    """Return the frames of a clip from the first to the last that the model sees."""
    return (SEEN.frames - 1) * stride + 1


def varied(clip: Clip, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return a pair for training, as the model sees it: another time, speed, part, side, direction and colours."""
    strides = [n for n in range(1, SEEN.stride + 1) if span(n) <= len(clip.source)]
    stride = int(rng.choice(strides))
    start = int(rng.integers(0, len(clip.source) - span(stride) + 1))
    there = slice(start, start + span(stride), stride)
    both = np.stack([clip.source[there], clip.target[there]])
    share = rng.uniform(0.6, 1)
    height, width = (round(share * side) for side in both.shape[2:4])
    top, left = (
        int(rng.integers(0, side - part + 1)) for side, part in zip(both.shape[2:4], (height, width), strict=True)
    )
    both = both[:, :, top : top + height, left : left + width]
    both = both[:, :: rng.choice([-1, 1]), :, :: rng.choice([-1, 1])][..., rng.permutation(3)]
    source, target = (small(np.ascontiguousarray(frames)) for frames in (both if rng.random() < 0.5 else 255 - both))
    return source, target


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
    there = slice(0, span(SEEN.stride), SEEN.stride)
    answers = {
        "copy the source": clip.source[there],
        "repeat the edited frame": np.repeat(clip.target[:1], SEEN.frames, 0),
        "warp the edited frame": warped(clip.source[: there.stop], clip.target[0])[:: SEEN.stride],
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


def train(model: Trained, clips: list[Clip], steps: range, *, whole: int, seed: int) -> None:
    """Take some steps of a schedule: a short rise, then a cosine over the whole of it.

    Args:
        model: is trained.
        clips: to learn from.
        steps: numbers of the steps.
        whole: steps of the whole schedule.
        seed: of order, variations, noise and timesteps: every row sees the same.
    """
    import torch

    learned = list(model.module.learned().values())
    optimizer = torch.optim.AdamW(learned, lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)
    seen: list[dict[str, float]] = []
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
        seen.append(model.module.terms)
        if (step + 1) % SAID == 0 or step + 1 == steps.stop:
            print(f"    step {step + 1}: {described(seen)}", flush=True)
            seen = []
    model.seconds = (time.process_time() - began) / max(1, len(steps))


def described(seen: list[dict[str, float]]) -> str:
    names = sorted({name for terms in seen for name in terms} - {"timestep", "identity"})
    means = {name: statistics.fmean(terms[name] for terms in seen if name in terms) for name in names}
    return ", ".join(f"{name} {value:.4f}" for name, value in means.items())


def answer(model: Trained, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Ask a model for a pair as it sees it; of the target it is shown the first frame."""
    from ffpdata.models.propagation.sampling import Positions, Sampling, sample

    positions = Positions(model.module.predictor, model.heads) if model.heads is not None else None
    latents = encoded(source, np.repeat(target[:1], len(target), 0))
    sampling = Sampling(SAMPLING_STEPS, guidance=1.0)
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


def trained_rows(clips: list[Clip], rows: list[str], steps: int, seed: int) -> dict[str, Trained]:
    """Train the shared half, classify its heads, and train every row on from there."""
    shared = round(SHARED * steps)
    print(f"seed {seed}, the shared half", flush=True)
    base = build("baseline", seed)
    train(base, clips, range(shared), whole=steps, seed=seed)
    heads = classes(base, clips, seed)
    print(f"    {heads.share:.0%} of the heads are temporal {heads.temporal} {heads.warning()}", flush=True)
    state = {name: value.clone() for name, value in base.pipe.dit.state_dict().items()}
    found = {}
    for row in rows:
        print(f"seed {seed}, {row}", flush=True)
        found[row] = build(row, seed, heads.temporal, state)
        train(found[row], clips, range(shared, steps), whole=steps, seed=seed)
    return found


# --- what comes out ---


def measured(models: dict[str, Trained], clips: list[Clip], answers: dict[str, list[np.ndarray]]) -> dict[str, dict]:
    """Return the mean error per way and scene, over the held-out pairs; what was answered goes to `answers`."""
    found: dict[str, dict[str, list[float]]] = {}
    for clip in clips:
        there = slice(0, span(SEEN.stride), SEEN.stride)
        source, target = small(clip.source[there]), small(clip.target[there])
        ways = without_model(clip) | {row: answer(model, source, target) for row, model in models.items()}
        for way, frames in ways.items():
            found.setdefault(way, {}).setdefault(clip.scene, []).append(error(frames, target))
        for name, frames in {"source": source, "target": target, **ways}.items():
            answers.setdefault(name, []).append(frames)
    return {way: {scene: statistics.fmean(errors) for scene, errors in scenes.items()} for way, scenes in found.items()}


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


def table(found: list[dict[str, dict[str, float]]]) -> dict[str, int]:
    """Print errors per way and scene, means over the seeds; returns for each row on how many scenes it is the best."""
    scenes = sorted(found[0]["copy the source"])
    plain = [way for way in found[0] if way not in PRESETS]
    print(f"\n{'error, levels of 255':<24}" + "".join(f"{scene:>16}" for scene in scenes) + f"{'mean':>10}  seeds")
    wins = {}
    for way in found[0]:
        means = {scene: statistics.fmean(one[way][scene] for one in found) for scene in scenes}
        seeds = [statistics.fmean(one[way].values()) for one in found]
        spread = " ".join(f"{value:.2f}" for value in seeds) if way in PRESETS else ""
        cells = "".join(f"{means[scene]:>16.2f}" for scene in scenes)
        print(f"{way:<24}{cells}{statistics.fmean(seeds):>10.2f}  {spread}")
        if way in PRESETS:
            wins[way] = sum(means[scene] < min(found[0][other][scene] for other in plain) for scene in scenes)
    for row, count in wins.items():
        print(f"{row}: below all three on {count} of {len(scenes)} scenes")
    return wins


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=STEPS, help="of each model")
    parser.add_argument("--rows", nargs="+", choices=list(PRESETS), default=list(PRESETS))
    parser.add_argument("--frames", type=int, default=CLIP.frames, help="of a clip")
    parser.add_argument("--limit", type=int, default=99, help="clips of each track")
    parser.add_argument("--folder", type=Path, help="keep samples, runs and exports here, and use what is there")
    parser.add_argument("--exports", type=Path, nargs="+", help="read these in place of making pairs")
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
    apart = held_out(clips)
    learned, kept = ([c for c in clips if (c.scene in apart) == side] for side in (False, True))
    print(f"{len(learned)} pairs to learn from, {len(kept)} of {', '.join(apart)} held out", flush=True)
    found, answers = [], dict[str, list[np.ndarray]]()
    for seed in range(given.seeds):
        models = trained_rows(learned, given.rows, given.steps, seed)
        found.append(measured(models, kept, answers if seed == 0 else {}))
        for row, model in models.items():
            mean = statistics.fmean(found[-1][row].values())
            print(f"seed {seed}, {row}: {model.seconds:.3f} CPU s a step, error {mean:.2f}", flush=True)
        if seed == 0 and given.sheet:
            write_sheet(given.sheet, answers)
    wins = table(found)
    print(f"{(time.monotonic() - began) / 60:.1f} min")
    row = given.rows[-1]
    missed = len(apart) - wins[row]
    good = verdict(f"scenes on which {row} is not the best", missed, len(apart) / 2, f"of {len(apart)}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
