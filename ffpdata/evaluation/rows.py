"""Rows of means to paste into a README or a paper."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ffpdata.evaluation.metric_names import name_of, ordered, printed
from ffpdata.evaluation.published import PublishedRow
from ffpdata.evaluation.statistics import Summary


def markdown(summaries: Sequence[Summary], rows: Sequence[PublishedRow] = ()) -> str:
    """Return a Markdown table: a row per method, a column per metric; the printed rows below, marked as such.

    A mean over fewer clips than the method's best covered metric names its own n.

    Args:
        summaries: of `statistics.summarise`.
        rows: printed ones.
    """
    head, body = _cells(summaries, rows)
    lines = [head, ["---", "--:", *["--:"] * (len(head) - 3), "---"], *body]
    return "".join("| " + " | ".join(map(_markdown_text, line)) + " |\n" for line in lines)


def latex(summaries: Sequence[Summary], rows: Sequence[PublishedRow] = ()) -> str:
    r"""Return the same as a LaTeX `tabular`, which needs the package `booktabs`."""
    head, body = _cells(summaries, rows)
    lines = [rf"\begin{{tabular}}{{l{'r' * (len(head) - 2)}l}}", r"\toprule"]
    lines += [" & ".join(map(_latex_text, head)) + r" \\", r"\midrule"]
    lines += [" & ".join(map(_latex_text, line)) + r" \\" for line in body]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _cells(summaries: Sequence[Summary], rows: Sequence[PublishedRow]) -> tuple[list[str], list[list[str]]]:
    metrics = ordered(list(dict.fromkeys(one.metric for one in summaries)))
    found = {(one.method, one.metric): one for one in summaries}
    body = []
    for method in dict.fromkeys(one.method for one in summaries):
        of_method = [found[method, metric] for metric in metrics]
        most = max((one.n for one in of_method), default=0)
        missing = min((one.missing for one in of_method), default=0)
        means = [printed(one.metric, one.mean) + (f" (n={one.n})" if 0 < one.n < most else "") for one in of_method]
        body.append([method, str(most), *means, f"ours, {missing} missing" if missing else "ours"])
    for row in rows:
        means = [row.printed(metric) for metric in metrics]
        note = f"published: {row.source}" + (f"; judge {row.judge}" if row.judge else "")
        body.append([row.method, "\u2013" if row.n is None else str(row.n), *means, note])
    return ["Method", "n", *(name_of(metric).words for metric in metrics), "Source"], body


def _markdown_text(text: str) -> str:
    """A cell that stays one cell, whatever a method is called: no bar, line, tag, link or emphasis of its own."""
    return text if text in ("---", "--:") else re.sub(r"([\\|`*_\[\]<>])", r"\\\1", _line(text)).replace("&", "&amp;")


_LATEX = {
    **{sign: "\\" + sign for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\u2013": "--",
}


def _latex_text(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in _line(text))


def _line(text: str) -> str:
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
