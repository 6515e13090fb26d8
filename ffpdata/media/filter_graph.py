r"""ffmpeg's filter graphs as text: the one place that writes and escapes their syntax.

A filter is a name with options, a chain is filters joined by commas, a graph is chains joined by semicolons and
connected by labels in brackets. A value may contain any of these characters: it is escaped twice, as an option of its
filter and as a part of the graph (https://ffmpeg.org/ffmpeg-filters.html, "Notes on filtergraph escaping").
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

Value = str | int | float | Fraction

_NAME = re.compile(r"[A-Za-z0-9_]+")
_SPACE = " \t\r\n"
_IN_OPTION = re.compile(rf"[\\'=:{_SPACE}]")
_IN_GRAPH = re.compile(rf"[\\'\[\],;{_SPACE}]")


def video_filter(name: str, *values: Value, **options: Value) -> str:
    """Return one filter with its options, such as `scale=1280:720:flags=area`.

    Args:
        name: the filter's name.
        values: options without their names, in the order that the filter documents.
        options: options by name, kept in this order.

    Raises:
        ValueError: the filter or an option has a name that ffmpeg could not read.
    """
    for word in (name, *options):
        _check_name(word)
    words = [_escape(value) for value in values]
    words += [f"{option}={_escape(value)}" for option, value in options.items()]
    return f"{name}={':'.join(words)}" if words else name


def chain(*filters: str, inputs: Sequence[str] = (), outputs: Sequence[str] = ()) -> str:
    """Return filters of `video_filter` one after another, between the labels that they read and the ones they write.

    Args:
        filters: one or more.
        inputs: labels: `0:v` is the video of ffmpeg's first input, any other is an output of another chain.
        outputs: labels for another chain, or for ffmpeg's `-map`.
    """
    return f"{_labels(inputs)}{','.join(filters)}{_labels(outputs)}"


def graph(*chains: str) -> str:
    """Return chains of `chain` as one graph for ffmpeg's `-filter_complex`."""
    return ";".join(chains)


def _labels(names: Sequence[str]) -> str:
    for name in names:
        for word in name.split(":"):
            _check_name(word)
    return "".join(f"[{name}]" for name in names)


def _check_name(word: str) -> None:
    if not _NAME.fullmatch(word):
        raise ValueError(f"{word!r} is no name of a filter, an option or a label: use letters, digits and _")


def _escape(value: Value) -> str:
    in_option = _IN_OPTION.sub(r"\\\g<0>", str(value))
    return _IN_GRAPH.sub(r"\\\g<0>", in_option)
