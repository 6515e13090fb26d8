"""Plans as they are asked for on the command line: the published dataset, its economy, and wrong questions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

import ffpdata
from ffpdata.cli import app
from ffpdata.core.errors import ConfigError, UsageError
from ffpdata.planning.estimate import Request, make_plan
from ffpdata.planning.settings import load_preset, load_settings, presets
from ffpdata.planning.shown import as_dict, as_text

BOTH = ["local_editing", "stylization"]


def asked(*words: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["plan", *words, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def published() -> dict[str, Any]:
    """The plan of FFP-300K beside its economy."""
    return asked(*BOTH, "--preset", "paper", "--against-preset", "economy", "--gpus", "512")


def test_the_published_dataset_costs_what_its_arithmetic_says(published: dict[str, Any]) -> None:
    assert published["pairs"] == pytest.approx(290_441)
    assert 225_000 < published["gpu_hours"] < 370_000
    low, high = published["intervals"]["gpu_hours"]
    assert low < published["gpu_hours"] < high
    assert published["tracks"]["local"]["pairs"] == pytest.approx(146_528)
    assert published["tasks"]["stylization"] == pytest.approx(143_913)
    assert published["wall_hours"] > published["gpu_hours"] / 512, "nothing is faster than all GPUs at work"
    by_hand = published["tracks"]["local"]["stages"]["synthesize"]["items"] * 3150 / 3600
    assert published["stages"]["synthesize"]["gpu_hours"] == pytest.approx(by_hand)


def test_the_economy_costs_a_twentieth(published: dict[str, Any]) -> None:
    economy = published["against"]
    assert economy["pairs"] == pytest.approx(290_441)
    assert economy["gpu_hours"] <= 18_000
    listed = {one["name"]: one for one in economy["assumptions"]}
    assert listed["drafts.caught"]["kind"] == "estimate"
    assert all(one["source"] for one in listed.values() if one["kind"] != "given")
    local = economy["tracks"]["local"]["stages"]
    assert 0 < local["draft"]["gpu_hours"] < 0.2 * local["synthesize"]["gpu_hours"]
    assert local["draft_check"]["passed"] == pytest.approx(local["synthesize"]["items"])
    assert "draft" not in published["tracks"]["local"]["stages"], "the paper has no drafts"


def test_json_has_what_scripts_rely_on(published: dict[str, Any]) -> None:
    for name in ("gpu_hours", "wall_hours", "storage_gb", "pairs", "requests", "prompt_tokens", "usd"):
        assert published[name] > 0, name
        assert len(published["intervals"][name]) == 2
    assert {"gpu_hours", "items"} <= set(published["stages"]["stylize"])
    total = sum(stage["gpu_hours"] for stage in published["stages"].values())
    assert total == pytest.approx(published["gpu_hours"])
    assert published["usd"] == pytest.approx(published["gpu_hours"] * published["price"]["usd_per_gpu_hour"])
    assert published["per_pair"]["gpu_hours"]["value"] == pytest.approx(published["gpu_hours"] / 290_441, rel=1e-3)
    assert published["price"]["date"]
    assert published["cluster"]["server_gpus"] >= 2
    assert all(count is None or count > 0 for count in published["pilot_clips_to_halve"].values())


def test_two_settings_side_by_side() -> None:
    words = ["plan", "stylization", "--clips", "40", "--gpus", "8", "--profile", "gpu", "--against", "plan.stills=0"]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    [line] = [line for line in done.stdout.splitlines() if line.startswith("GPU-hours  ")]
    assert float(line.split()[-1]) < 0.9, "clips need no animation"
    assert "B / A" in done.stdout


def test_fewer_steps_cost_less() -> None:
    def hours(*overrides: str) -> float:
        plan = make_plan(Request(["stylization"], clips=10, gpus=8, profile="gpu", overrides=overrides))
        return float(plan.stages["stylize"].gpu_seconds[0])

    assert hours("models.stylizer.settings.steps=25") / hours() == pytest.approx(0.5, abs=0.01)
    assert hours("models.stylizer.resources.seconds=343") / hours() == pytest.approx(0.1)


def test_warnings_name_what_will_not_go() -> None:
    few = make_plan(Request(["local_editing"], clips=20, gpus=2, profile="gpu", disk_gb=0.001))
    told = "\n".join(few.warnings)
    assert "the model server needs 2 GPUs of its own beside the 2" in told
    assert "storage does not suffice" in told
    small = ("plan.node.gpu_memory_gb=24",)
    assert "of GPU memory" in as_text(
        make_plan(Request(["local_editing"], clips=5, gpus=8, profile="gpu", overrides=small))
    )
    none = make_plan(Request(["local_editing"], clips=5, profile="gpu", cpus=8))
    assert any("'synthesize' needs 1 GPU" in line for line in none.warnings)
    json.dumps(as_dict(none))


def test_presets_and_their_numbers_load() -> None:
    assert presets() == ["economy", "paper"]
    for name in presets():
        load_settings(load_preset(name), named=name)
    assert load_settings(overrides=["plan.passes.screen.any=0.5"]).passes["screen"]["any"].low == 0.5


@pytest.mark.parametrize(
    ("request_", "error", "told"),
    [
        (Request(["local_editing"]), UsageError, "--clips N"),
        (Request(["local_editing"], clips=5, pairs=5), UsageError, "not both"),
        (Request(["local_editing"], clips=-5), UsageError, "--clips -5"),
        (Request(["local_editng"], clips=5), UsageError, "local_editing"),
        (Request(["local_editing", "local_editing"], clips=5), UsageError, "same track"),
        (Request(["local_editing"], clips=5, preset="papr"), UsageError, "paper"),
        (Request(BOTH, pairs={"local": 5}), UsageError, "'style'"),
        (Request(["local_editing"], pairs={"locl": 5}), UsageError, "'local'"),
        (Request(["local_editing"], clips=5, run="/nowhere"), Exception, "no run folder"),
        (Request(["local_editing"], clips=5, overrides=["plan.passes.screen.any=1.5"]), ConfigError, "1.5"),
        (Request(["local_editing"], clips=5, overrides=["plan.prise=2"]), ConfigError, "price"),
        (
            Request(["local_editing"], clips=5, overrides=["plan.duplicates={value: 2, low: 3, high: 1}"]),
            ConfigError,
            "duplicates",
        ),
    ],
)
def test_wrong_questions_are_one_message(request_: Request, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told.replace("'", ".")):
        make_plan(request_)


def test_wrong_pairs_on_the_command_line() -> None:
    done = CliRunner().invoke(app, ["plan", *BOTH, "--pairs", "many"])
    assert isinstance(done.exception, UsageError)
    assert "TRACK=N" in str(done.exception)


def test_drafts_of_a_cpu_are_planned_at_their_size() -> None:
    """A sixteenth of the pixels of 720p; of a clip that is smaller than a draft, all of them."""

    def seconds(*overrides: str) -> float:
        given = ["plan.seconds.draft=16", *overrides]
        plan = make_plan(Request(["local_editing"], clips=9, cpus=2, profile="cpu,drafts", overrides=given))
        draft = plan.stages["draft"]
        return float(draft.cpu_seconds[0] / draft.items[0])

    assert seconds() == pytest.approx(1)
    assert seconds("clip.width=320", "clip.height=176", "draft.height=176") == pytest.approx(
        16 * 320 * 176 / 1280 / 720
    )


def test_what_an_audit_lets_through_is_made_in_full() -> None:
    def made(audit: float) -> float:
        given = [f"draft_check.audit={audit}", "plan.drafts.lost=0", "plan.drafts.caught=0.5"]
        plan = make_plan(Request(["local_editing"], clips=9, cpus=2, profile="cpu,drafts", overrides=given))
        return float(plan.stages["synthesize"].items[0] / plan.stages["draft"].items[0])

    assert made(1) == pytest.approx(1)
    assert made(0) < 0.95
    assert made(0.5) == pytest.approx((made(0) + made(1)) / 2)


def test_the_python_api_plans_as_the_command_does() -> None:
    found = ffpdata.plan("stylization", clips=4, gpus=8, profile="gpu", overrides={"plan.duplicates": 0.0})
    told = asked("stylization", "--clips", "4", "--gpus", "8", "--profile", "gpu", "--set", "plan.duplicates=0.0")
    assert found.as_dict()["gpu_hours"] == told["gpu_hours"]
    assert "GPU-hours" in str(found)
    with pytest.raises(UsageError, match="--clips N"):
        ffpdata.plan("stylization")
