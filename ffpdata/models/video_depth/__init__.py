"""Video Depth Anything (Chen et al. 2025) on modules of transformers: temporally consistent depth of a whole clip.

`backend` is the model of a profile, `windows` splits a clip into windows and joins their maps, `network` is the forward
pass, `weight_names` maps official weight names to it.
"""

from ffpdata.models.video_depth.backend import VideoDepthAnything

__all__ = ["VideoDepthAnything"]
