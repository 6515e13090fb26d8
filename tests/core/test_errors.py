"""Errors: what their class says, and the names that they propose."""

from __future__ import annotations

import errno
import pickle

import pytest

from ffpdata.core.errors import (
    ConfigError,
    FatalError,
    FfpdataError,
    Reject,
    RetryableError,
    RunLockedError,
    UsageError,
    disk_full,
    disk_unusable,
    nearest,
)


def test_a_rejection_keeps_its_parts_between_processes() -> None:
    err = pickle.loads(pickle.dumps(Reject("too_short", "0.4 s, at least 1", {"seconds": 0.4})))  # noqa: S301
    assert (err.reason, err.detail, err.facts) == ("too_short", "0.4 s, at least 1", {"seconds": 0.4})
    assert str(err) == "too_short: 0.4 s, at least 1"
    assert str(Reject("too_short")) == "too_short"
    facts: dict[str, object] = {"a": 1}
    held = Reject("x", facts=facts)
    facts["a"] = 2
    assert held.facts == {"a": 1}, "facts are those of the moment"


def test_what_stops_the_run_is_fatal_and_what_passes_is_not() -> None:
    assert all(issubclass(kind, FatalError) for kind in (ConfigError, UsageError, RunLockedError))
    assert not issubclass(RetryableError, FatalError)
    assert not issubclass(Reject, FatalError | RetryableError)
    assert issubclass(Reject, FfpdataError)


@pytest.mark.parametrize(
    ("code", "full", "unusable"),
    [
        (errno.ENOSPC, True, True),
        (errno.EDQUOT, True, True),
        (errno.EROFS, False, True),
        (errno.EACCES, False, False),
        (errno.EIO, False, False),
    ],
)
def test_a_disk_that_takes_nothing_more(code: int, full: bool, unusable: bool) -> None:
    assert disk_full(OSError(code, "")) is full
    assert disk_unusable(OSError(code, "")) is unusable
    assert not disk_unusable(ValueError(code))


@pytest.mark.parametrize(
    ("name", "valid", "said"),
    [
        ("segmnt", ["segment", "source"], "; did you mean 'segment'?"),
        ("zzz", ["b", "a"], "; valid names: a, b"),
        ("zzz", [], ""),
        ("a", {"a": 1}, "; did you mean 'a'?"),
    ],
)
def test_the_nearest_name_or_all_of_them(name: str, valid: object, said: str) -> None:
    assert nearest(name, valid) == said  # type: ignore[arg-type]
