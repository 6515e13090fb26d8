"""The sample folder: real clips, scenes with ground truth, and images for stylization, all from installed packages."""

from ffpdata.sample.folder import write_samples

__all__ = ["write_samples"]
