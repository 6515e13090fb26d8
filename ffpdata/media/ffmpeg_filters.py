"""The filters of ffmpeg from a foreign clip's frames to the dataset's."""

from __future__ import annotations

from dataclasses import dataclass

from ffpdata.core.errors import Reject
from ffpdata.media import codec, ffmpeg
from ffpdata.media.filter_graph import chain, video_filter
from ffpdata.media.geometry import Geometry
from ffpdata.media.probe import HDR_TRANSFERS, Probe
from ffpdata.media.window import Window, window_filter

BLACK_LEVEL = 24 / 255
"""Mean luma of a line, as a fraction of full scale, up to which it counts as a black bar; video black is 16 / 255."""
_MATRIX = {"bt709": "bt709", "bt470bg": "bt470bg", "smpte170m": "smpte170m", "smpte240m": "smpte240m", "fcc": "fcc"}
_MATRIX |= {"bt2020nc": "bt2020", "bt2020c": "bt2020"}
_COVER = {"force_original_aspect_ratio": "increase", "flags": "lanczos+accurate_rnd+full_chroma_int"}
"""For ffmpeg's `scale`: the smallest size that covers the target."""


@dataclass(frozen=True)
class Crop:
    """The part of the source's displayed picture inside its black bars, pixels."""

    width: int
    height: int
    x: int
    y: int


def detection_chain(geometry: Geometry, probe: Probe, window: Window) -> str:
    """Return the filters that log each source frame's time and black borders, and resample to the clip's frames.

    `cropdetect` writes to ffmpeg's log: see `bars.CroppedFrame`.
    """
    filters = [video_filter("bwdif", mode="send_frame", deint="interlaced")] if probe.interlaced else []
    filters += [video_filter("format", "rgb24")] if probe.pix_fmt.startswith("gbr") else []  # or cropdetect picks one
    return chain(
        window_filter(probe, window),
        *filters,
        video_filter("cropdetect", limit=f"{BLACK_LEVEL:.4f}", round=2, skip=0),
        *_resample(geometry, probe),
        video_filter("trim", end_frame=geometry.frames),
    )


def _resample(geometry: Geometry, probe: Probe) -> list[str]:
    """Return the filters from the source's frames to the clip's; the clip's first is the source's first.

    ffmpeg's `fps` takes the last of several source frames that are nearest to the same frame of the clip. That is the
    nearest one up to twice the clip's rate; faster sources are moved later by what the last one is too late.
    """
    half = 1 / (2 * geometry.fps)  # of a frame of the clip, seconds
    shift = max(0.0, half - 1 / (2 * probe.fps)) if probe.fps > 2 * geometry.fps else 0.0
    return [
        video_filter("setpts", f"PTS-STARTPTS+round({shift:.9f}/TB)" if shift else "PTS-STARTPTS"),
        video_filter("select", f"eq(n,0)+gte(t,{half:.9f})"),  # nothing else takes the place of the first frame
        video_filter("fps", geometry.rate, start_time=0, round="near"),
    ]


def conform_chain(geometry: Geometry, probe: Probe, window: Window, crop: Crop | None) -> str:
    """Return the filters from the source's frames to the clip's: those of `detection_chain`, then size and colours."""
    width, height = geometry.size_for(*((crop.width, crop.height) if crop else (probe.width, probe.height)))
    filters = [detection_chain(geometry, probe, window)]
    if probe.sar != 1:  # force_original_aspect_ratio takes pixels for squares
        filters += [video_filter("scale", w=probe.width, h=probe.height), video_filter("setsar", 1)]
    if crop:
        filters += [video_filter("crop", crop.width, crop.height, crop.x, crop.y)]
    if probe.is_hdr or probe.color_primaries == "bt2020":
        filters += [video_filter("scale", width, height, **_COVER), video_filter("crop", width, height)]
        filters += _to_bt709(probe)
    else:
        matrix = _MATRIX.get(probe.color_space or "", "auto")
        if probe.color_space is None:  # untagged: as players guess it
            matrix = "bt709" if max(probe.width, probe.height) >= 1280 else "smpte170m"
        colours = {"in_color_matrix": matrix, "out_color_matrix": "bt709", "out_range": "tv"}
        filters += [video_filter("scale", width, height, **_COVER, **colours, **codec.CHROMA_SITE)]
        filters += [video_filter("crop", width, height)]
    filters += [video_filter("format", "yuv420p"), video_filter("setsar", 1), video_filter("setparams", **codec.BT709)]
    return chain(*filters)


def _to_bt709(probe: Probe) -> list[str]:
    """Map wide gamut and high dynamic range to BT.709.

    203 cd/m2 is the diffuse white of HDR video (ITU-R BT.2408): it becomes SDR white, and `mobius` keeps everything
    below 0.7 of it as it is and bends only the highlights.
    """
    for name in ("zscale", "tonemap"):
        if not ffmpeg.has_filter(name):
            raise Reject(
                "hdr_not_supported",
                f"{probe.color_transfer} needs ffmpeg's filter {name}, which this build lacks: "
                "unset IMAGEIO_FFMPEG_EXE, or convert the clip to SDR",
            )
    transfer = probe.color_transfer if probe.color_transfer in HDR_TRANSFERS else "bt709"
    matrix = "2020_cl" if probe.color_space == "bt2020c" else "2020_ncl"
    tonemap = [video_filter("tonemap", "mobius", param=0.7, desat=0)] if probe.is_hdr else []
    return [
        video_filter("zscale", tin=transfer, pin="2020", min=matrix, t="linear", npl=203),
        video_filter("format", "gbrpf32le"),
        video_filter("zscale", p="709"),
        *tonemap,
        video_filter("zscale", t="709", m="709", r="limited"),
    ]
