"""Probe a source, find its shots and conform the best windows to clips of one size, rate and length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import SerializerFunctionWrapHandler, model_serializer

from ffpdata.core.stage import Artifact, Child, Reject, Row, Stage, StageSettings
from ffpdata.media.conform import Conformed, check_source, conform
from ffpdata.media.cuts import find_shots
from ffpdata.media.geometry import Geometry
from ffpdata.media.images import conform_image, is_image
from ffpdata.media.probe import Probe, probe


class IngestSettings(StageSettings):
    """Geometry, number and limits of the clips of a source."""

    clip: Geometry = Geometry()
    clips_per_source: int = 1
    scan_seconds: float = 60.0
    """Seconds at the beginning of a source that are searched for shots."""
    shot_margin_s: float = 0.1
    """Distance of a clip's start from the cut before it, in seconds: transitions may take longer than one frame."""
    images: bool = False
    """Accept still images too (stylization); otherwise an image is rejected as `not_a_video`."""
    crop_bars: bool = True
    min_side: int = 240
    """Shortest side of a source in pixels, without black bars."""
    timeout_s: float = 180.0
    """Wall-clock limit of each ffmpeg process."""
    from_start: bool = False
    """Take the one clip that begins with the source's first frame, to which something given belongs."""

    @model_serializer(mode="wrap")
    def _without_default(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is as if there were no choice: what was made before there was one keeps its keys."""
        found: dict[str, Any] = dump(self)
        return {name: value for name, value in found.items() if (name, value) != ("from_start", False)}


class Ingest(Stage):
    """Write `source_video` (or `content_image` for a still) for each clip of a source."""

    name, version = "ingest", 1
    reads = ("sha", "kind", "given_box")
    uses = ("root", "path")
    writes = {
        "source_video": Artifact("mp4"),
        "content_image": Artifact("png"),
        "width": int,
        "height": int,
        "fps": float,
        "frames": int,
        "start_s": float,
        "box": list[float],
        "source_width": int,
        "source_height": int,
        "source_fps": float,
        "source_seconds": float,
        "codec": str,
    }
    fan_out = True
    Settings = IngestSettings

    def expand(self, row: Row) -> list[Child]:
        """Return one child per clip, named `00`, `01`, ..."""
        path = row.input(row["path"])
        if row["kind"] == "image" or is_image(path):  # whatever it is called
            return [self._image(row, path)]
        info = probe(path)
        check_source(info, min_side=self.settings.min_side)
        clips: list[Child] = []
        paused: list[Reject] = []
        settings = self.settings
        for start in self._starts(path, info, first_only=settings.from_start or bool(row.get("given_box"))):
            if len(clips) == settings.clips_per_source:
                break
            try:
                clips.append(self._clip(row, path, info, start, f"{len(clips):02d}"))
            except Reject as err:
                if err.reason != "fps_too_low":
                    raise
                paused.append(err)  # the picture stands still for a while: the next window may be better
        if paused and not clips:
            raise paused[0]
        return clips

    def _starts(self, path: Path, info: Probe, *, first_only: bool) -> list[float]:
        """Return where clips may start, in seconds: one window after the other of the shots that are long enough."""
        settings = self.settings
        clip_seconds = settings.clip.seconds
        if first_only:  # the user's box, or edited frame, belongs to the first frame of the source
            return [0.0]
        shots = find_shots(path, info, scan_seconds=settings.scan_seconds)
        if not shots:
            raise Reject("no_picture", f"the first {settings.scan_seconds:g} s hold nothing but black or blank frames")
        starts: list[float] = []
        for begin, end in shots:
            start = begin + (settings.shot_margin_s if begin > 0 else 0.0)
            # The rate conversion may need the last frame, hence the tolerance of half an output frame.
            while start + clip_seconds <= end + 0.5 / settings.clip.fps:
                starts.append(round(start, 3))
                start += clip_seconds
        if not starts:
            longest = max(end - begin for begin, end in shots)
            raise Reject(
                "too_short",
                f"the longest shot has {longest:.2f} s, {settings.clip.frames} frames at {settings.clip.fps:g} "
                f"fps need {clip_seconds:.2f} s: lower clip.frames, or raise clip.fps if the source has more",
            )
        return starts

    def _clip(self, row: Row, path: Path, info: Probe, start: float, suffix: str) -> Child:
        settings = self.settings
        target = row.new_file("source_video", suffix)
        conformed = conform(
            path,
            target,
            settings.clip,
            info,
            start_s=start,
            crop_bars=settings.crop_bars,
            min_side=settings.min_side,
            timeout_s=settings.timeout_s,
        )
        columns: dict[str, Any] = {
            "source_video": target,
            "width": conformed.width,
            "height": conformed.height,
            "fps": settings.clip.fps,
            "frames": settings.clip.frames,
            "start_s": round(conformed.start_s, 3),
            "source_width": info.width,
            "source_height": info.height,
            "source_fps": info.fps,
            "source_seconds": info.duration_s,
            "codec": info.codec,
        }
        if row.get("given_box"):
            columns["box"] = _map_box(row["given_box"], info, conformed)
        return Child(suffix, columns)

    def _image(self, row: Row, path: Path) -> Child:
        settings = self.settings
        if not settings.images:
            raise Reject(
                "not_a_video",
                f"{path.name} is an image: use the stylization pipeline, which animates stills, "
                "or convert an animation to a video",
            )
        target = row.new_file("content_image", "00")
        image = conform_image(path, target, settings.clip, min_side=settings.min_side)
        columns = {
            "content_image": target,
            "width": image.size[0],
            "height": image.size[1],
            "fps": settings.clip.fps,
            "frames": settings.clip.frames,
            "source_width": image.source_size[0],
            "source_height": image.source_size[1],
        }
        return Child("00", columns)


def _map_box(box: list[float], info: Probe, conformed: Conformed) -> list[float]:
    """Map a box from the source's displayed pixels to the clip's: the picture was scaled to cover and cropped."""
    crop = conformed.crop
    left, top = (crop.x, crop.y) if crop else (0, 0)
    width, height = (crop.width, crop.height) if crop else (info.width, info.height)
    scale = max(conformed.width / width, conformed.height / height)
    shift_x, shift_y = (width * scale - conformed.width) / 2, (height * scale - conformed.height) / 2
    mapped = [
        min(max((box[0] - left) * scale - shift_x, 0), conformed.width),
        min(max((box[1] - top) * scale - shift_y, 0), conformed.height),
        min(max((box[2] - left) * scale - shift_x, 0), conformed.width),
        min(max((box[3] - top) * scale - shift_y, 0), conformed.height),
    ]
    if mapped[2] - mapped[0] < 2 or mapped[3] - mapped[1] < 2:
        raise Reject("bad_box", f"box {box} lies outside the {info.width}x{info.height} picture, or in what is cropped")
    return [round(v, 1) for v in mapped]
