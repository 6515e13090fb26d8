"""Hostile and odd files, made with the bundled ffmpeg: what a folder of clips from anywhere may hold.

`bad(folder)` writes files that must be refused with a typed reason, `odd(folder)` files that must be conformed in spite
of their oddity. All clips are 320x240 and 1.5 s long where nothing else is said, so that tests stay fast.
"""

from __future__ import annotations

import os
import random
import socket
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ffpdata.media.ffmpeg import ffmpeg_exe

SIZE = "320x240"
SECONDS = 1.5
X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")


@dataclass(frozen=True)
class BadInput:
    """A file that must end as a rejection with one of `reasons`: at the probe, or where `at` says so when conformed."""

    path: Path
    reasons: frozenset[str]
    at: str = "probe"


def ffmpeg(*args: object, timeout: float = 60) -> None:
    command = [ffmpeg_exe(), "-nostdin", "-v", "error", "-y", *map(str, args)]
    subprocess.run(command, check=True, timeout=timeout, stdin=subprocess.DEVNULL)


def pattern(size: str = SIZE, rate: object = 24, seconds: float = SECONDS) -> tuple[str, ...]:
    """Input arguments of a moving test picture."""
    return ("-f", "lavfi", "-i", f"testsrc2=s={size}:r={rate}:d={seconds}")


def good_clip(path: Path, size: str = SIZE, rate: object = 24, seconds: float = SECONDS) -> Path:
    ffmpeg(*pattern(size, rate, seconds), *X264, "-movflags", "+faststart", "-f", "mp4", f"file:{path}")
    return path


def bad(folder: Path) -> dict[str, BadInput]:
    """Write every bad file into `folder`, what they are made from beside it, and return them by name."""
    folder.mkdir(parents=True, exist_ok=True)
    scratch = folder.with_name(f"{folder.name}_made_from")
    scratch.mkdir(exist_ok=True)
    made: dict[str, BadInput] = {}

    def add(name: str, *reasons: str, at: str = "probe", ext: str = "mp4") -> Path:
        path = folder / f"{name}.{ext}"
        made[name] = BadInput(path, frozenset(reasons), at)
        return path

    good = good_clip(scratch / "good.mp4")
    tail = scratch / "moov_last.mp4"
    ffmpeg(*pattern(), *X264, tail)

    _plain_files(add, good.read_bytes(), tail.read_bytes())
    _text_that_points_elsewhere(add, good)
    _wrong_streams(add, scratch)
    _wrong_sizes_and_rates(add, scratch)
    _not_files(add, folder)
    return made


def _plain_files(add, good: bytes, moov_last: bytes) -> None:
    add("zero_bytes", "empty_file").write_bytes(b"")
    add("text", "not_a_video").write_text("this is a note, not a clip\n" * 200)
    add("random", "not_a_video").write_bytes(random.Random(0).randbytes(200_000))
    add("zeros", "not_a_video").write_bytes(bytes(100_000))
    add("truncated", "corrupt").write_bytes(good[: len(good) * 2 // 5])
    add("no_moov", "corrupt").write_bytes(moov_last[: moov_last.rindex(b"moov") - 4])
    add("only_ftyp", "corrupt").write_bytes(good[:32])
    damaged = bytearray(good)
    start, rng = good.index(b"mdat") + 4000, random.Random(1)
    for at in range(start, len(good) - 64, 997):
        damaged[at : at + 48] = rng.randbytes(48)
    add("corrupt_packets", "corrupt", at="conform").write_bytes(damaged)
    jpeg = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
    add("jpeg_header", "not_a_video", "container_not_allowed").write_bytes(jpeg + bytes(500))


def _text_that_points_elsewhere(add, other: Path) -> None:
    refused = ("container_not_allowed", "not_a_video")
    hls = f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile://{other}\n#EXT-X-ENDLIST\n"
    add("hls_file", *refused).write_text(hls)
    add("hls_network", *refused).write_text(hls.replace(f"file://{other}", "http://127.0.0.1:9/a.ts"))
    add("ffconcat", *refused).write_text(f"ffconcat version 1.0\nfile '{other}'\n")
    add("ffconcat_network", *refused).write_text("ffconcat version 1.0\nfile 'http://127.0.0.1:9/a.mp4'\n")
    sdp = (
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
    )
    add("sdp", *refused).write_text(sdp)
    dash = (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>http://127.0.0.1:9/</BaseURL></MPD>'
    )
    add("dash", *refused).write_text(dash)


def _wrong_streams(add, scratch: Path) -> None:
    sine = ("-f", "lavfi", "-i", "sine=d=1.5")
    ffmpeg(*sine, "-c:a", "aac", add("audio_only", "no_video_stream"))
    ffmpeg(*pattern(seconds=0.1), "-frames:v", 1, scratch / "cover.jpg")
    ffmpeg(
        *sine, "-i", scratch / "cover.jpg", "-map", 0, "-map", 1, "-c:v", "mjpeg", "-disposition:v", "attached_pic",
        add("cover_art", "no_video_stream"),
    )  # fmt: skip
    ffmpeg(*pattern(), "-c:v", "mpeg2video", add("mpeg2", "codec_not_allowed", ext="mkv"))
    ffmpeg(*pattern(), "-c:v", "ffv1", add("ffv1", "codec_not_allowed", ext="mkv"))
    ffmpeg(*pattern(), "-c:v", "ffv1", add("nut", "container_not_allowed", ext="nut"))
    ffmpeg(*pattern(), "-c:v", "flv", "-f", "flv", add("flv", "container_not_allowed"))


def _wrong_sizes_and_rates(add, scratch: Path) -> None:
    ffmpeg(*pattern(seconds=0.1), *X264, "-frames:v", 1, add("one_frame", "too_short", at="conform"))
    good_clip(add("short", "too_short", at="conform"), seconds=0.5)
    ffmpeg(*pattern("2x2"), "-vf", "scale=1:1", "-c:v", "mpeg4", add("1x1", "too_small", at="conform", ext="mkv"))
    good_clip(add("low", "too_small", at="conform"), size="320x96")
    _huge(scratch, add("16000x16000", "too_large", ext="mkv"))
    good_clip(add("1000fps", "fps_too_high", at="conform"), rate=1000, seconds=1.2)
    ffmpeg(
        *pattern(rate=1, seconds=8), "-vf", "setpts=1000*PTS", "-fps_mode", "passthrough", *X264,
        add("frame_per_1000_s", "fps_too_low", at="conform", ext="mkv"),
    )  # fmt: skip
    good_clip(add("4fps", "fps_too_low", at="conform"), rate=4, seconds=3)
    frozen = scratch / "frozen.mkv"  # 24 fps on average, but nothing for the second half of the window
    ffmpeg(
        *pattern(rate=120, seconds=2), "-vf", "select='lt(t,0.3)+gte(t,1.5)'", "-fps_mode", "passthrough", *X264, frozen
    )
    add("frozen", "fps_too_low", at="conform", ext="mkv").write_bytes(frozen.read_bytes())
    _resolution_change(scratch, add("resolution_change", "corrupt", at="conform", ext="ts"))


def _huge(scratch: Path, path: Path) -> None:
    """Write an mkv whose header and whose JPEG frames claim 16000x16000, without encoding such a frame."""
    small = scratch / "small.mkv"
    ffmpeg(*pattern("320x272", seconds=0.3), "-c:v", "mjpeg", "-pix_fmt", "yuvj420p", small)
    width, height, side = (struct.pack(">H", n) for n in (320, 272, 16000))
    data = small.read_bytes()
    data = data.replace(b"\xb0\x82" + width, b"\xb0\x82" + side).replace(b"\xba\x82" + height, b"\xba\x82" + side)
    data = data.replace(b"\xff\xc0\x00\x11\x08" + height + width, b"\xff\xc0\x00\x11\x08" + side + side)
    path.write_bytes(data)


def _resolution_change(scratch: Path, path: Path) -> None:
    """Join two transport streams of different size: each packet is fine, the clip is not."""
    parts = []
    for i, size in enumerate((SIZE, "400x300")):
        part = scratch / f"part{i}.ts"
        ffmpeg(*pattern(size, seconds=0.6), *X264, "-output_ts_offset", 0.6 * i, part)
        parts.append(part.read_bytes())
    path.write_bytes(b"".join(parts))


def _not_files(add, folder: Path) -> None:
    os.mkfifo(add("fifo", "not_a_regular_file"))
    add("directory", "not_a_regular_file").mkdir()
    add("device", "not_a_regular_file").symlink_to("/dev/zero")
    add("missing", "missing_file")
    add("dangling_link", "missing_file").symlink_to(folder / "nowhere.mp4")
    loop = add("link_loop", "unreadable", "missing_file")
    loop.symlink_to(loop)
    server = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    try:
        os.chdir(folder)  # a socket's path may have 107 bytes only
        server.bind(add("socket", "not_a_regular_file").name)
    finally:
        os.chdir(here)
        server.close()


def odd(folder: Path) -> dict[str, Path]:
    """Write files that are unusual but whole; every one of them must be conformed."""
    folder.mkdir(parents=True, exist_ok=True)
    made: dict[str, Path] = {}

    def clip(name: str, *args: object, source: tuple[str, ...] = pattern(), ext: str = "mp4") -> Path:
        made[name] = folder / f"{name}.{ext}"
        ffmpeg(*source, *args, f"file:{made[name]}")
        return made[name]

    plain = clip("plain", *X264)
    clip("portrait", *X264, source=pattern("240x320"))
    made["rotated"] = folder / "rotated.mp4"
    ffmpeg("-display_rotation", 90, "-i", plain, "-c", "copy", made["rotated"])
    clip("odd_size", "-vf", "scale=321:241", *X264[:-1], "yuv444p")
    clip("anamorphic", "-vf", "setsar=4/3", *X264)
    clip("ten_bit", *X264[:-1], "yuv420p10le")
    clip("rgb", "-c:v", "libx264rgb", "-preset", "ultrafast", "-pix_fmt", "rgb24")
    clip("full_range", "-vf", "scale=out_range=pc", *X264[:-1], "yuvj420p")
    clip("interlaced", "-vf", "interlace", *X264, "-flags", "+ildct+ilme", source=pattern(rate=50))
    variable = "select='not(mod(n\\,2))+gt(mod(n\\,7)\\,3)'"
    clip("variable_rate", "-vf", variable, "-fps_mode", "passthrough", *X264, source=pattern(rate=48))
    clip("sixty", *X264, source=pattern(rate=60))
    clip("ntsc", *X264, source=pattern(rate="30000/1001"))
    clip("av1", "-c:v", "libsvtav1", "-preset", "12", "-pix_fmt", "yuv420p")
    clip("vp9", "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", ext="webm")
    clip("hevc", "-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none")
    clip("transport", *X264, ext="ts")
    clip("mpeg4_avi", "-c:v", "mpeg4", "-q:v", "3", ext="avi")
    clip("prores", "-c:v", "prores_ks", ext="mov")
    clip("animation", "-vf", "split[a][b];[a]palettegen[p];[b][p]paletteuse", ext="gif")
    clip("letterbox", "-vf", "crop=480:270,pad=480:360:0:45", *X264, source=pattern("480x360"))
    late = ("-itsoffset", "0.5", *pattern())
    clip("shown_after_sound", *X264, "-c:a", "aac", "-map", "0:v", "-map", "1:a", source=(*late, *_sine()), ext="mkv")
    clip("-y leading dash", *X264)
    clip("http:%2F%03d concat: pipe:0 é", *X264)
    hdr(folder / "hdr10.mp4", "smpte2084")
    hdr(folder / "hlg.mp4", "arib-std-b67")
    made |= {"hdr10": folder / "hdr10.mp4", "hlg": folder / "hlg.mp4"}
    return made


def _sine() -> tuple[str, ...]:
    return ("-f", "lavfi", "-i", "sine=d=1.5")


def hdr(path: Path, transfer: str, source: tuple[str, ...] = pattern()) -> Path:
    """Write a 10-bit BT.2020 clip with an HDR transfer (`smpte2084` for HDR10, `arib-std-b67` for HLG)."""
    to_hdr = (
        f"format=gbrp,zscale=tin=bt709:pin=bt709:min=gbr:rin=pc:t={transfer}:p=bt2020:m=bt2020nc:r=tv:npl=203,"
        "format=yuv420p10le"
    )
    colours = f"colorprim=bt2020:transfer={transfer}:colormatrix=bt2020nc:range=limited"
    ffmpeg(
        *source, "-vf", to_hdr, "-c:v", "libx265", "-preset", "ultrafast", "-crf", 14,
        "-x265-params", f"log-level=none:{colours}", "-tag:v", "hvc1", path,
    )  # fmt: skip
    return path
