"""A stage as a user writes it: files and columns of every type, for some items only."""

from __future__ import annotations

import numpy as np

from ffpdata.core.stage import Artifact, Row, Stage
from ffpdata.media.codec import read_video, write_image, write_video


class Edges(Stage):
    """Horizontal edges of the source, where the depth is pseudo and the clip was animated."""

    name, version = "edges", 1
    reads = ("source_video",)
    uses = ("fps", "content_image")
    writes = {
        "edge_map": Artifact("npy"),
        "edge_video": Artifact("mp4"),
        "edge_image": Artifact("png"),
        "edge_mean": float,
        "edge_count": int,
        "edge_strong": bool,
        "edge_name": str,
        "edge_rows": list[float],
        "edge_words": list[str],
        "edge_facts": dict,
    }

    def applies(self, row):
        """Stills only."""
        return bool(row.get("content_image"))

    def process(self, row: Row):
        """Return the map of the first frame and numbers of it."""
        frames = read_video(row.file("source_video"))
        edges = np.abs(np.diff(frames[0].astype(np.int16), axis=1)).max(-1).astype(np.uint8)
        files = {name: row.new_file(name) for name in ("edge_map", "edge_video", "edge_image")}
        with files["edge_map"].open("wb") as stream:
            np.save(stream, edges)
        write_video(files["edge_video"], 255 - frames[:5], row["fps"])
        write_image(files["edge_image"], edges)
        return files | {
            "edge_mean": float(edges.mean()),
            "edge_count": int((edges > 40).sum()),
            "edge_strong": bool(edges.max() > 200),
            "edge_name": "horizontal \u2194",
            "edge_rows": [float(mean) for mean in edges.mean(axis=1)[:2]],
            "edge_words": ["a", "b"],
            "edge_facts": {"max": int(edges.max())},
        }
