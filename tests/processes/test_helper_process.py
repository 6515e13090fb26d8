"""A helper answers within its limits, is replaced where it ended, and dies with whoever asked it."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ffpdata.core.errors import FatalError, FfpdataError, Reject, RetryableError
from ffpdata.processes import helper_process
from ffpdata.processes.helper_process import CpuLimitError, CrashError, Helper, Limits, MemoryLimitError

ENTRY = "tests.processes.helper_entries:answer"


@pytest.fixture
def helper() -> Iterator[Helper]:
    made = Helper(ENTRY, Limits(cpu_s=1, wall_s=20, memory=256 << 20))
    yield made
    made.close()


def ask(helper: Helper, do: str, value: object = 0) -> int:
    """Return the process id of the helper that answered."""
    return int(helper.ask({"do": do, "value": value})[0]["pid"])


def gone(pid: int, seconds: float = 30) -> bool:
    """Whether a process ends within so many seconds; one that waits to be reaped has ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


def test_one_process_answers_all_requests_of_a_thread(helper: Helper) -> None:
    first = ask(helper, "say")
    assert [ask(helper, "say") for _ in range(3)] == [first] * 3
    assert first != os.getpid()
    others: list[int] = []
    thread = threading.Thread(target=lambda: others.append(ask(helper, "say")))
    thread.start()
    thread.join()
    assert others != [first]
    gc.collect()
    assert gone(others[0]), "it ends with the thread that asked it"
    assert ask(helper, "say") == first


def test_data_and_odd_names_arrive_as_they_were_sent(helper: Helper) -> None:
    answer, data = helper.ask({"do": "data", "value": 12_000})
    assert bytes(data) == bytes(range(256)) * 12_000
    assert helper.ask({"do": "say", "value": "caf\udce9 \n \0"})[0]["said"] == "caf\udce9 \n \0"
    assert ask(helper, "print", 1 << 20) == answer["pid"], "what it prints is no answer and fills no pipe"


def test_each_request_has_its_own_cpu_seconds(helper: Helper) -> None:
    first = ask(helper, "work", 0.6)
    assert [ask(helper, "work", 0.6) for _ in range(2)] == [first] * 2
    with pytest.raises(CpuLimitError, match="more than 1 CPU seconds"):
        helper.ask({"do": "work", "value": 60})
    assert gone(first)
    assert ask(helper, "say") != first


def test_memory_is_limited(helper: Helper) -> None:
    first = ask(helper, "say")
    with pytest.raises(MemoryLimitError, match=r"0\.25 GB"):
        helper.ask({"do": "eat", "value": 1 << 30})
    assert ask(helper, "eat", 1 << 20) == first


@pytest.mark.parametrize(
    ("do", "value", "error", "text"),
    [
        ("signal", "SIGSEGV", CrashError, "Segmentation fault"),
        ("signal", "SIGKILL", RetryableError, "killed from outside"),
        ("exit", 3, FfpdataError, "exit code 3"),
        ("exit", 0, RetryableError, "ends before it is asked"),
        ("raise", 1, FfpdataError, "ZeroDivisionError: division by zero"),
        ("reject", "it is \udce9", Reject, "too_blue: it is \udce9"),
    ],
)
def test_what_ends_a_request_has_a_class(
    helper: Helper, do: str, value: object, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        helper.ask({"do": do, "value": value})
    assert ask(helper, "say"), "the next one is answered"


def test_it_writes_no_file(helper: Helper, tmp_path: Path) -> None:
    with pytest.raises(FfpdataError, match="File too large"):
        helper.ask({"do": "write", "value": str(tmp_path / "a")})
    assert not (tmp_path / "a").stat().st_size


def test_an_answer_that_does_not_come_is_not_waited_for() -> None:
    helper = Helper(ENTRY, Limits(wall_s=4))
    pid = ask(helper, "say")
    with pytest.raises(RetryableError, match="no answer after 4 s"):
        helper.ask({"do": "sleep", "value": 60})
    assert gone(pid)


def test_a_helper_is_replaced_after_its_requests() -> None:
    helper = Helper(ENTRY, Limits(requests=2))
    pids = [ask(helper, "say") for _ in range(4)]
    assert pids[0] == pids[1] != pids[2] == pids[3]
    assert gone(pids[0])
    helper.close()


def test_a_helper_that_is_idle_ends_and_is_replaced() -> None:
    helper = Helper(ENTRY, Limits(idle_s=0.3))
    pid = ask(helper, "say")
    assert gone(pid)
    assert ask(helper, "say") != pid
    helper.close()


def test_a_missing_library_stops_the_run() -> None:
    with pytest.raises(FatalError, match=r"No module named 'tests\.processes\.nothing'"):
        Helper("tests.processes.nothing:answer", Limits()).ask({})


def test_its_cpu_seconds_are_counted_once(helper: Helper) -> None:
    def all_seconds() -> float:
        usage = os.times()
        return usage.children_user + usage.children_system + helper_process.cpu_seconds()

    before = all_seconds()
    ask(helper, "work", 0.5)
    while_alive = all_seconds() - before
    helper.close()
    # Of processes that ended the system counts user and system time in steps of 10 ms each.
    assert 0.5 <= while_alive <= all_seconds() - before + 0.021
    assert all_seconds() - before < while_alive + 0.3


def test_an_interrupt_ends_it_at_once(helper: Helper) -> None:
    pid = ask(helper, "say")
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        helper.ask({"do": "sleep", "value": 100})
    assert time.monotonic() - start < 60
    assert gone(pid)


OWNER = """
import threading
from ffpdata.processes.helper_process import Helper, Limits
helper = Helper("tests.processes.helper_entries:answer", Limits(cpu_s=200))
print(helper.ask({"do": "say"})[0]["pid"], flush=True)
helper.ask({"do": "work", "value": 150})
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_busy_helper_dies_with_its_owner(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        time.sleep(0.2)
        owner.send_signal(number)
        owner.wait(60)
    assert gone(pid)
