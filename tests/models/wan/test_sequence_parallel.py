"""Processes that work on one call together; what they compute is the pipeline's own tests' business."""

import os
import subprocess
import sys
import time

import pytest

from ffpdata.core.errors import ConfigError, RetryableError
from ffpdata.models.wan.sequence_parallel import Ranks


class Worker:
    """Stands for a pipeline: knows its rank and can do what a bad one does."""

    def __init__(self, base):
        self.base = base
        self.rank = int(os.environ["RANK"])
        if base == "unbuildable":
            raise ConfigError("cannot be built")

    def generate(self, what):
        if what == "die" and self.rank == 1:
            os._exit(9)
        if what == "raise" and self.rank == 1:
            raise ConfigError(f"rank {self.rank} says no")
        if what == "bug" and self.rank == 1:
            return {}["nothing"]
        if what == "hang":
            os.write(1, b"hangs\n")  # one write: both ranks share the pipe
        if what in ("die", "raise", "bug", "hang"):
            time.sleep(60)  # as in an operation that waits for the other rank
        if what == "group":
            return [os.environ[name] for name in ("WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR")]
        return self.base + what

    def close(self):
        pass


@pytest.fixture
def ranks():
    made = Ranks(Worker, ["answer to "], 2)
    yield made
    made.close()


def test_the_first_ranks_answer_counts(ranks):
    assert ranks.call("all") == "answer to all"
    assert ranks.call("group") == ["2", "0", "127.0.0.1"]


def test_one_that_dies_ends_the_call_at_once_and_the_next_call_works(ranks):
    start = time.monotonic()
    with pytest.raises(RetryableError, match=r"rank 1 of 2 died \(exit code 9\)"):
        ranks.call("die")
    assert time.monotonic() - start < 20
    assert ranks.call("all") == "answer to all"


def test_one_that_died_between_calls_is_noticed_and_the_next_call_works(ranks):
    ranks._processes[1].kill()
    ranks._processes[1].join()
    with pytest.raises(RetryableError, match=r"rank 1 of 2 died \(exit code -9\)"):
        ranks.call("all")
    assert ranks.call("all") == "answer to all"


def test_none_outlives_a_worker_that_was_killed():
    code = f"from {__name__} import Ranks, Worker; Ranks(Worker, [''], 2).call('hang')"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as worker:
        assert [worker.stdout.readline() for _ in range(2)] == [b"hangs\n"] * 2
        worker.kill()
        worker.communicate(timeout=20)  # the pipe ends when no rank holds it any more


def test_errors_come_through(ranks):
    with pytest.raises(ConfigError, match="rank 1 says no"):
        ranks.call("raise")
    with pytest.raises(RuntimeError, match=r"rank 1 failed:\n(.|\n)*KeyError"):
        ranks.call("bug")
    assert ranks.call("again") == "answer to again"


def test_one_that_cannot_be_built():
    with pytest.raises(ConfigError, match="cannot be built"):
        Ranks(Worker, ["unbuildable"], 2)


def test_close_leaves_no_process(ranks):
    processes = list(ranks._processes)
    ranks.close()
    assert not any(process.is_alive() for process in processes)


def test_more_ranks_than_gpus_are_refused():
    pytest.importorskip("torch", reason="the extra `models` is not installed")
    from ffpdata.models.wan.checkpoint_files import Parts
    from ffpdata.models.wan.loading import LoadPlan
    from ffpdata.models.wan.sequence_parallel import RankedEngine

    with pytest.raises(ConfigError, match="sequence_parallel is 64, but this process sees"):
        RankedEngine(LoadPlan(Parts((), ""), "bfloat16", "cuda", ranks=64))
