"""Video Depth Anything (Chen et al. 2025) on the blocks of transformers: depth that is steady over a whole clip.

`backend` is the model of a profile, `windows` the way through a clip, `network` the arithmetic, `names` how official
weights get there.
"""

from ffpdata.models.video_depth.backend import VideoDepthAnything

__all__ = ["VideoDepthAnything"]
