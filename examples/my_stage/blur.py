"""A stage of one's own: the edit is a blur, so every clip that is sharp enough becomes a pair."""

import cv2
import numpy as np

from ffpdata import Artifact, Reject, Stage, StageSettings
from ffpdata.media.codec import read_video, write_video


class Blur(Stage):
    name, version = "blur", 1
    reads, uses = ("source_video",), ("fps",)
    writes = {"target_video": Artifact("mp4"), "task": str, "instruction": str, "sharpness": float}

    class Settings(StageSettings):
        radius: int = 9

    def process(self, row):
        frames = read_video(row.file("source_video"))  # uint8 (T, H, W, 3) RGB
        sharpness = cv2.Laplacian(frames[0], cv2.CV_64F).std()
        if sharpness < 2:
            raise Reject("too_smooth", f"sharpness {sharpness:.1f}, at least 2", {"sharpness": sharpness})
        target, size = row.new_file("target_video"), (self.settings.radius, self.settings.radius)
        write_video(target, np.stack([cv2.blur(frame, size) for frame in frames]), row["fps"])
        words = {"task": "stylization", "instruction": "Make the whole picture softly blurred"}
        return {"target_video": target, "sharpness": sharpness, **words}
