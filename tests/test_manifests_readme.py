"""manifests/README.md and the sample tables are what the code does."""

import re
from pathlib import Path

import pytest

from ffpdata.core.config import load_pipeline
from ffpdata.core.sections import InputSettings
from ffpdata.curate import verdicts
from ffpdata.curate.curation import WRITES
from ffpdata.export.shard_index import INDEX
from ffpdata.inputs.listing import KNOWN_COLUMNS, list_inputs
from ffpdata.manifests.manifest import COMMON
from ffpdata.manifests.views import CURATE, OF_EACH, connect
from ffpdata.metrics.vector import VECTOR
from ffpdata.storage.store import Store

FOLDER = Path(__file__).parents[1] / "manifests"
TEXT = (FOLDER / "README.md").read_text(encoding="utf-8")


def documented(heading: str) -> list[str]:
    """Names in the first column of the first table below a heading."""
    section = TEXT.partition(f"\n{heading}\n")[2]
    assert section, f"no section {heading!r}"
    section = re.split(r"\n#+ ", section)[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("|")]
    return [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]


def test_the_common_columns_the_input_and_the_index() -> None:
    assert documented("### Columns of every stage") == COMMON.names
    assert set(documented("## The input table")) == set(KNOWN_COLUMNS)
    assert documented("## The index of an export") == INDEX.names
    assert set(documented("### `curate`")) == set(WRITES)
    assert set(documented("### `review`")) == set(verdicts.WRITES)


def test_every_verdict_and_every_reason_is_named() -> None:
    section = TEXT.partition("\n### `review`\n")[2].partition("\n### ")[0]
    assert {*verdicts.VERDICTS, *verdicts.REASONS} <= set(re.findall(r"`(\w+)`", section))


@pytest.mark.parametrize(
    "pipeline",
    [
        "local_editing",
        "stylization",
        "background",
        "text_removal",
        "reference_swap",
        "propagate",
        "propagation",
        "loraedit",
        "evaluation",
    ],
)
def test_every_column_of_every_stage(pipeline: str) -> None:
    shared = {
        "draft": "### `draft`, `draft_style`",
        "draft_style": "### `draft`, `draft_style`",
        "synthesize": "### `synthesize`, `stylize`",
        "stylize": "### `synthesize`, `stylize`",
        "instruct": "### `instruct`, `instruct_style`",
        "instruct_style": "### `instruct`, `instruct_style`",
        "propose": "### `propose`, `propose_task`",
        "propose_task": "### `propose`, `propose_task`",
        "removal_caption": "### `removal_caption`, `background_caption`",
        "background_caption": "### `removal_caption`, `background_caption`",
    }
    for stage in load_pipeline(pipeline).build():
        if stage.name.endswith("_scores"):  # one model each of those of `assess`
            assert set(stage.writes) < set(documented("### `assess`")), stage.name
            continue
        if stage.name == "pair_metrics":  # and metrics of `measure`
            assert set(stage.writes) - set(documented("### `measure`")) == set(documented("### `pair_metrics`"))
            continue
        assert set(documented(shared.get(stage.name, f"### `{stage.name}`"))) == set(stage.writes), stage.name


def test_every_metric_has_its_unit_side_range_and_meaning() -> None:
    section = TEXT.partition("\n### `measure`\n")[2].partition("\n### ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if "|" in line]
    written = {name.strip("`"): rest for name, *rest in rows}
    for metric in VECTOR:
        kind, unit, better, bounds, meaning = written[metric.name]
        assert (kind, unit, better) == ("double", metric.unit, metric.better), metric.name
        assert bounds == f"{metric.low:g}..{metric.high:g}", metric.name
        assert meaning.lower() == metric.meaning.rstrip(".").lower(), metric.name


def test_items_has_every_column_under_its_name(tmp_path: Path) -> None:
    """DuckDB calls the second of two columns of one name `name_1`."""
    pipelines = [load_pipeline(name) for name in ("local_editing", "stylization")]
    tracks = {pipeline.track: [stage.name for stage in pipeline.stages] for pipeline in pipelines}
    columns = {s.name: dict.fromkeys(s.writes, "varchar") for pipeline in pipelines for s in pipeline.build()}
    written = {name for names in columns.values() for name in names}
    with connect(Store(tmp_path), tracks, columns) as connection:
        found = set(connection.view("items").columns)
    per_stage = {f"{stage}_{name}" for stage in (*columns, CURATE) for name in OF_EACH}
    assert per_stage <= found
    assert written - found == set()
    assert found - written - per_stage == {
        *("track", "item_id", "parent_id", "source_id", "stage", "status", "reason", "error"),
        "ingest_source_seconds",
    }


def test_the_sample_tables_are_valid_input() -> None:
    clips = list_inputs(str(FOLDER / "clips.csv"), InputSettings())
    assert [item.values.get("problem") for item in clips] == [None] * 3
    assert clips[0].values["given_box"] == [212, 88, 560, 690]
    assert clips[0].values["meta"] == {"camera": "tripod"}
    styled = list_inputs(str(FOLDER / "stylization.csv"), InputSettings(kind="styled"))
    assert [len(item.values.get("style_paths", [])) for item in styled] == [2, 1, 0]
    assert [item.values.get("problem") for item in styled] == [None] * 3
