"""The GPU benchmark's arithmetic; where torch is installed, its counting too."""

import json

import pytest

from benchmarks.gpu import report
from benchmarks.gpu.shapes import FULL_CLIP, WAN, Clip

COUNTED = {
    "weights_by_part_gib": {"text": 10.0, "vae": 0.5, "dit": 26.0, "vace": 6.0},
    "live_by_phase_gib": {"other": 1.0, "text": 0.5, "vae_encode": 7.0, "forward": 18.0, "vae_decode": 11.0},
    "largest_layer_gib": 0.75,
    "tflop": {"text": 5.0, "vae_encode": 400.0, "forward": 8000.0, "vae_decode": 600.0},
    "runs": {"text": 2, "vae_encode": 2, "forward": 4, "vae_decode": 1},
}


def test_tokens_of_a_clip():
    assert FULL_CLIP.tokens() == 21 * 45 * 80 == 75600
    assert FULL_CLIP.tokens(references=1) == 79200
    assert Clip(64, 64, 9).tokens() == 48


def test_published_layers_of_vace():
    assert WAN["vace_1_3b"]["vace"]["vace_layers"] == (0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28)
    assert WAN["vace_14b"]["vace"]["vace_layers"] == (0, 5, 10, 15, 20, 25, 30, 35)
    assert "vace" not in WAN["i2v_14b"]


def test_first_run_is_a_warm_up():
    assert report.median([9.0, 2.0, 3.0, 4.0]) == 3.0
    assert report.median([9.0]) == 9.0


def test_clip_seconds():
    # Four forward passes of which the first took 3 s longer: the 3 s are paid once per clip, not once per pass.
    fixed = report.fixed_seconds(30.0, [8.0, 5.0, 5.0, 5.0])
    assert fixed == 10.0
    assert report.clip_seconds(fixed, 5.0, 50, guided=True) == 510.0
    assert report.projections(fixed, 5.0) == {"50 steps, cfg": 510.0, "8 steps, no cfg": 50.0, "4 steps, no cfg": 30.0}


def test_fits():
    assert report.fits(22.9) == ["24 GB", "80 GB"]
    assert report.fits(61.0) == ["80 GB"]
    assert report.fits(79.0) == []
    assert report.fits(None) == []


def test_memory_by_way_of_keeping_weights():
    needs = report.memory_needs(COUNTED)
    assert needs == {"resident": 42.5 + 18.0, "models": 26.0 + 6.0 + 18.0, "layers": 18.75}


def test_work_of_a_clip():
    assert report.clip_tflop(COUNTED, 50, guided=True) == (800_000.0, 1410.0)
    found = report.computed(COUNTED, tflops=400.0)
    assert found["step_s"] == 40.0
    assert found["fits"] == {"resident": ["80 GB"], "models": ["80 GB"], "layers": ["24 GB", "80 GB"]}
    assert found["clip_s"]["4 steps, no cfg"] == pytest.approx((32_000 + 1410) / 400)
    assert report.computed({"tflop": {"frame": 2.0}}, tflops=100.0) == {"seconds": {"frame": 0.02}}


def test_table_leaves_out_what_has_no_numbers():
    rows = [{"case": "a", "m": {"s": 0.5}}, {"case": "b"}, {"case": "c", "m": {"s": 12.34}, "fits": ["24 GB"]}]
    text = report.table(rows, {"case": "case", "s": "m.s", "fits": "fits"})
    assert text.splitlines() == ["| case | s | fits |", "|---|---|---|", "| a | 0.500 |  |", "| c | 12.3 | 24 GB |"]


def test_rounded():
    assert json.dumps(report.rounded({"a": [1.23456, (2, None)], "b": "x"})) == '{"a": [1.235, [2, null]], "b": "x"}'


def test_counting_a_layer():
    torch = pytest.importorskip("torch")
    from benchmarks.gpu.count import counting

    layer = torch.nn.Linear(256, 512, bias=False, device="meta")
    with torch.no_grad(), counting() as counter:
        with counter.phase("layer"):
            x = torch.empty(1024, 256, device="meta")
            y = layer(x)
            del x
            z = y + 1
        found = counter.memory()
    assert found["tflop"]["layer"] == pytest.approx(2 * 1024 * 256 * 512 / 1e12)
    # 1 MiB in and 2 MiB out, then 2 MiB and 2 MiB: the weights are not live tensors.
    assert found["live_by_phase_gib"]["layer"] == pytest.approx(4 / 1024)
    assert z.shape == (1024, 512)


def test_counting_in_inference_mode_and_of_attention():
    torch = pytest.importorskip("torch")
    from benchmarks.gpu.count import counting

    layer = torch.nn.Linear(64, 64, bias=False, device="meta")
    with torch.inference_mode(), counting() as counter:
        with counter.phase("layer"):
            layer(torch.empty(32, 64, device="meta"))
        with counter.phase("attention"):
            query = torch.empty(1, 4, 4096, 32, device="meta")
            torch.nn.functional.scaled_dot_product_attention(query, query, query)
        found = counter.memory()
    assert found["tflop"]["layer"] == pytest.approx(2 * 32 * 64 * 64 / 1e12)
    assert found["tflop"]["attention"] == pytest.approx(4 * 4 * 4096 * 4096 * 32 / 1e12)
    assert found["live_by_phase_gib"]["attention"] < 10 / 1024  # not the 256 MiB of scores
