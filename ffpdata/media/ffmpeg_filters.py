"""Arguments for ffmpeg to read one foreign clip safely, and its filter chain to the dataset's frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ffpdata.core.errors import Reject
from ffpdata.media import codec, ffmpeg
from ffpdata.media.geometry import Geometry
from ffpdata.media.probe import CONTAINERS, DECODERS, HDR_TRANSFERS, MAX_PIXELS, Probe

BLACK_LEVEL = 24 / 255
"""Mean luma of a line, as a part of full scale, up to which it counts as a black bar; video black is 16 / 255."""
_MATRIX = {"bt709": "bt709", "bt470bg": "bt470bg", "smpte170m": "smpte170m", "smpte240m": "smpte240m", "fcc": "fcc"}
_MATRIX |= {"bt2020nc": "bt2020", "bt2020c": "bt2020"}
_SCALER = "force_original_aspect_ratio=increase:flags=lanczos+accurate_rnd+full_chroma_int"


@dataclass(frozen=True)
class Crop:
    """The part of the source's displayed picture inside its black bars, in pixels."""

    width: int
    height: int
    x: int
    y: int


def input_args(src: Path, probe: Probe, *, start_s: float, seconds: float) -> list[str]:
    """Return ffmpeg's arguments to read `seconds` of one stream of one file, and to stop at the first damage."""
    offset = max(0.0, probe.start_offset_s)  # ffmpeg counts from the first sound or frame, we from the first frame
    if start_s:
        start_s += offset
    else:
        seconds += offset
    return [
        *("-protocol_whitelist", "file", "-format_whitelist", CONTAINERS, "-codec_whitelist", DECODERS),
        *("-max_pixels", str(MAX_PIXELS), "-err_detect", "explode", "-xerror", "-threads", "2"),
        *(("-ss", f"{start_s:.6f}") if start_s else ()),
        *("-t", f"{seconds:.6f}", "-i", ffmpeg.file_url(src), "-map", f"0:{probe.stream_index}", "-an", "-sn", "-dn"),
    ]


def filter_chain(geometry: Geometry, probe: Probe, crop: Crop | None) -> str:
    """Return ffmpeg's filter chain from the source's frames to the clip's."""
    width, height = geometry.size_for(*((crop.width, crop.height) if crop else (probe.width, probe.height)))
    chain = ["bwdif=mode=send_frame:deint=interlaced"] if probe.interlaced else []
    chain += ["setpts=PTS-STARTPTS"]
    chain += ["format=rgb24"] if probe.pix_fmt.startswith("gbr") else []  # or cropdetect would choose a format
    chain += [f"cropdetect=limit={BLACK_LEVEL:.4f}:round=2:skip=0"]  # logs when each frame is shown and what is black
    chain += [f"fps={geometry.rate}:start_time=0:round=near", f"trim=end_frame={geometry.frames}"]
    if probe.sar != 1:  # force_original_aspect_ratio takes pixels for squares
        chain += [f"scale=w={probe.width}:h={probe.height}", "setsar=1"]
    if crop:
        chain += [f"crop={crop.width}:{crop.height}:{crop.x}:{crop.y}"]
    if probe.is_hdr or probe.color_primaries == "bt2020":
        chain += [f"scale={width}:{height}:{_SCALER}", f"crop={width}:{height}", *_to_bt709(probe)]
    else:
        matrix = _MATRIX.get(probe.color_space or "", "auto")
        if probe.color_space is None:  # untagged: what players take it for
            matrix = "bt709" if max(probe.width, probe.height) >= 1280 else "smpte170m"
        colours = f"in_color_matrix={matrix}:out_color_matrix=bt709:out_range=tv:{codec.CHROMA_SITE}"
        chain += [f"scale={width}:{height}:{_SCALER}:{colours}", f"crop={width}:{height}"]
    return ",".join([*chain, "format=yuv420p", "setsar=1", f"setparams={codec.BT709}"])


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
    given = f"tin={transfer}:pin=2020:min={matrix}"
    tonemap = ["tonemap=mobius:param=0.7:desat=0"] if probe.is_hdr else []
    return [
        f"zscale={given}:t=linear:npl=203",
        "format=gbrpf32le",
        "zscale=p=709",
        *tonemap,
        "zscale=t=709:m=709:r=limited",
    ]
