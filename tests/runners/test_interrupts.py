"""The first signal asks, the second ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ffpdata.runners.interrupts import Stop
from tests.media import hostile_images


class Busy:
    """A stream that a signal found in the middle of a line."""

    def write(self, text: str) -> int:
        raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")

    def flush(self) -> None:
        raise RuntimeError("reentrant call")


def test_a_signal_may_come_while_a_line_is_written(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with Stop() as stop:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", Busy())
            signal.raise_signal(signal.SIGTERM)
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            stop.check()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert capfd.readouterr().err.count("Stopping once what is running is finished") == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_two_signals_end_the_decoding_of_an_image_at_once(tmp_path: Path, number: signal.Signals) -> None:
    """The image would decode for ten seconds more; its helper ends with the run."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bomb.jpg").write_bytes(hostile_images.scan_bomb())
    command = [sys.executable, "-m", "ffpdata", "run", "stylization", "--input", str(tmp_path / "in")]
    command += ["--run", str(tmp_path / "run"), "--stages", "..ingest", "--runner", "inline"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        while not (helpers := helpers_of(run.pid)):
            assert run.poll() is None
            time.sleep(0.05)
        time.sleep(0.5)
        run.send_signal(number)
        assert any("Stopping once what is running is finished" in line for line in iter(run.stderr.readline, ""))
        sent = time.monotonic()
        run.send_signal(number)
        run.stderr.read()
        assert run.wait(20) == 130
        assert time.monotonic() - sent < 8
    assert not any(Path(f"/proc/{pid}").exists() for pid in helpers)


def helpers_of(pid: int) -> list[int]:
    """The image decoders that a process has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    found = [int(word) for word in children.read_text().split()] if children.exists() else []
    return [child for child in found if b"image_decoder" in Path(f"/proc/{child}/cmdline").read_bytes()]
