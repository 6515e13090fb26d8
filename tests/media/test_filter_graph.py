import re
from fractions import Fraction

import pytest

from ffpdata.media import ffmpeg
from ffpdata.media.filter_graph import chain, graph, video_filter

SOURCE = ("-f", "lavfi", "-i", "color=size=16x16:rate=1:duration=1")


def test_a_filter_is_its_name_and_its_options_in_order():
    assert video_filter("maskedmerge") == "maskedmerge"
    assert video_filter("scale", 1280, -1, flags="area+bitexact") == "scale=1280:-1:flags=area+bitexact"
    assert video_filter("fps", Fraction(30000, 1001), start_time=0) == "fps=30000/1001:start_time=0"
    assert video_filter("tonemap", "mobius", param=0.7) == "tonemap=mobius:param=0.7"


def test_chains_are_connected_by_labels():
    halves = chain(video_filter("hflip"), video_filter("split", 2), inputs=["0:v"], outputs=["a", "b"])
    assert graph(halves, chain(video_filter("hstack", 2), inputs=["a", "b"], outputs=["both"])) == (
        "[0:v]hflip,split=2[a][b];[a][b]hstack=2[both]"
    )


@pytest.mark.parametrize(
    "value",
    [
        "it's",
        "a:b=c",
        "x,y;z",
        "[in]",
        "back\\slash",
        "'quoted'",
        " spaces around ",
        "\\",
        "end\\",
        "\\'",
        "if(gt(a\\,b),1)",
    ],
)
@pytest.mark.parametrize("kind", ["-vf", "-filter_complex"])
def test_ffmpeg_reads_every_value_as_it_was_given(value, kind):
    """The `metadata` filter attaches the value to a frame and prints it again."""
    filters = [video_filter("metadata", "add", key="note", value=value), video_filter("metadata", "print", key="note")]
    text = chain(*filters) if kind == "-vf" else graph(chain(*filters, inputs=["0:v"], outputs=["out"]))
    output = ["-map", "[out]"] if kind == "-filter_complex" else []
    log = ffmpeg.run(
        ["-v", "level+info", "-nostats", *SOURCE, kind, text, *output, "-f", "null", "-"], timeout_s=30
    ).decode()
    found = re.search(r"\[info\] note=(.*)\n", log)
    assert found, log
    assert found[1] == value


def test_a_graph_of_two_inputs_runs(tmp_path):
    half = chain(video_filter("scale", 8, 16), video_filter("setsar", 1), video_filter("format", "gray"))
    joined = graph(
        chain(half, inputs=["0:v"], outputs=["left"]),
        chain(half, inputs=["1:v"], outputs=["right"]),
        chain(video_filter("hstack", 2), inputs=["left", "right"], outputs=["both"]),
    )
    raw = tmp_path / "frame.raw"
    white = ("-f", "lavfi", "-i", "color=white:size=16x16:rate=1:duration=1")
    output = ("-map", "[both]", "-f", "rawvideo", ffmpeg.file_url(raw))
    ffmpeg.run([*SOURCE, *white, "-filter_complex", joined, *output], timeout_s=30)
    row = raw.read_bytes()[:16]
    assert max(row[:8]) < 60
    assert min(row[8:]) > 200


@pytest.mark.parametrize("name", ["scale=1", "scale,crop", "", "a b"])
def test_names_that_ffmpeg_could_not_read_are_refused(name):
    with pytest.raises(ValueError, match="no name of a filter"):
        video_filter(name)
    with pytest.raises(ValueError, match="no name of a filter"):
        video_filter("scale", **{name: 1})
    with pytest.raises(ValueError, match="no name of a filter"):
        chain("hflip", outputs=[name])
