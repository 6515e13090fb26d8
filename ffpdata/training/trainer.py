"""The processes of a training: latents, drawings before, the steps, drawings after.

`python -m ffpdata.training.trainer job.json`. Each part skips what earlier starts have made, so a training that was
killed resumes. Several processes share samples and drawings among them, and each step takes samples of all.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ffpdata.core.errors import FatalError, FfpdataError
from ffpdata.core.keys import digest
from ffpdata.media.codec import write_video
from ffpdata.models.gpu_memory import GpuMemoryError
from ffpdata.training.atomic_files import make_atomically, write_atomically
from ffpdata.training.job import TRAINED, Job, imported, read_job
from ffpdata.training.latents import LatentCache
from ffpdata.training.launch import report_error
from ffpdata.training.loop import TrainingLoop
from ffpdata.training.process import TrainingProcess
from ffpdata.training.removal_sample import file_digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ffpdata.training.checkpoints import Progress
    from ffpdata.training.method import Learner, Method

LONGEST_WAIT = timedelta(hours=12)
"""How long processes wait for one another: one may still draw a clip when the others have finished."""


def main(config: Path) -> int:
    """Do a job and return the exit status; errors of ffpdata are reported to the process that waits in `launch`."""
    try:
        Trainer(read_job(config)).run()
    except GpuMemoryError as err:
        report_error(config, FatalError(str(err)))
        return 1
    except FfpdataError as err:
        report_error(config, err)
        return 1
    return 0


def revision_of(job: Job[Any, Any]) -> str:
    """Digest of the trained weights: of the one file, or of those of all."""
    files = [file_digest(job.weights_file(stem)) for stem in job.files]
    return files[0] if len(files) == 1 else digest("weights", files)


class Trainer:
    """Does a job in one of its processes."""

    def __init__(self, job: Job[Any, Any]) -> None:
        self.job, self.process = job, TrainingProcess(job)
        self.method: Method[Any] = imported(job.method)(job, self.process)

    def run(self) -> None:
        """Do all parts, each after the other."""
        self.method.preflight()
        latents = LatentCache(self.job, self.method, self.process)
        latents.make()
        self.draw("")
        revision = self.train(latents)
        self.draw(revision)

    def draw(self, revision: str) -> None:
        """Write the clips that the model makes of held-out samples.

        Args:
            revision: of the trained weights, which are used; "" draws without them.
        """
        missing = [s for s in self.process.share(self.job.drawn) if not self.job.drawing(s, revision).is_file()]
        if not missing:
            return
        with self.method.drawer(revision) as draw:
            for count, sample in enumerate(missing, 1):
                self.process.report(f"drawing {'after' if revision else 'before'}: {count} of {len(missing)}")
                frames, fps = draw(sample)
                make_atomically(self.job.drawing(sample, revision), partial(write_video, frames=frames, fps=fps))

    def train(self, latents: LatentCache) -> str:
        """Take the steps that are missing, write the weights and `trained.json`, and return the weights' revision."""
        from accelerate import Accelerator
        from accelerate.utils import InitProcessGroupKwargs

        from ffpdata.training.master_weights import MasterWeights

        job, settings = self.job, self.job.settings
        patience = InitProcessGroupKwargs(timeout=LONGEST_WAIT)
        on_cpu = self.process.device.type == "cpu"
        accelerator = Accelerator(cpu=on_cpu, mixed_precision="no", kwargs_handlers=[patience])
        self.process.wait()
        steps = job.steps
        with self.method.learner() as learner:
            weights = MasterWeights(
                learner.learned(), lambda step: settings.rate(step, steps), settings.weight_decay, settings.clip_norm
            )
            loop = TrainingLoop(
                job, self.process, accelerator=accelerator, learner=learner, weights=weights, latents=latents
            )
            progress = loop.run()
            if self.process.rank == 0:
                self._write_weights(learner)
                self._write_result(progress)
        self.process.wait()
        return revision_of(job)

    def _write_weights(self, learner: Learner) -> None:
        from safetensors.torch import save

        parts: Mapping[str, Any] = learner.parts()
        for stem in self.job.files:
            state = {name: value.detach().to("cpu").contiguous() for name, value in parts[stem].items()}
            write_atomically(self.job.weights_file(stem), save(state, metadata={"format": "pt"}))
        self.method.write_beside()

    def _write_result(self, progress: Progress) -> None:
        import torch

        device = self.process.device
        result = {
            "fingerprint": self.job.fingerprint,
            "revision": revision_of(self.job),
            **vars(progress),
            "versions": {name: importlib.metadata.version(name) for name in self.method.libraries},
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        }
        write_atomically(self.job.folder / TRAINED, json.dumps(result).encode())


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
