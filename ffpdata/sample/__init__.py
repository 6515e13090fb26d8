"""The sample folder: real clips, scenes with known ground truth, and images for stylization, all from wheels."""

from ffpdata.sample.folder import write_samples

__all__ = ["write_samples"]
