"""One writer per run folder, and a killed one leaves no lock behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ffpdata.core.errors import RunLockedError
from ffpdata.core.lock import is_locked, run_lock
from ffpdata.core.store import Store

HOLD = (
    "import sys, time; from ffpdata.core.lock import run_lock; from ffpdata.core.store import Store\n"
    "with run_lock(Store(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)"
)


def test_a_second_writer_is_refused_and_a_kill_frees_the_folder(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert not is_locked(store)
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert is_locked(store)
        with pytest.raises(RunLockedError, match=f"process {holder.pid} on .* since"), run_lock(store):
            pass
        holder.send_signal(signal.SIGKILL)
    assert not is_locked(store)
    with run_lock(store):
        pass
