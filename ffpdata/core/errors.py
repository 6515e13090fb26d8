"""Errors whose class is the policy: reject the item, try it again, fail it, or stop the run."""

from __future__ import annotations

import difflib
import errno
import reprlib
from collections.abc import Iterable
from typing import TypeGuard


class FfpdataError(Exception):
    """Base of every error that ffpdata raises on purpose. Its text says what was wrong, the value and what to do."""


class FfpdataWarning(UserWarning):
    """Something that a person may not have meant; nothing stops."""


class Reject(FfpdataError):
    """A decision against an item, not a fault: the item ends as `rejected` with `reason` and is never tried again.

    Args:
        reason: a short snake_case word that statistics count by, e.g. `mask_too_small`.
        detail: the measured value and the limit, for the manifest's `error` column.
        facts: columns that were measured before the decision and are worth keeping in the row.
    """

    def __init__(self, reason: str, detail: str = "", facts: dict[str, object] | None = None) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
        self.facts = dict(facts or {})

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        """Pickle by the constructor's arguments (the default passes the message alone)."""
        return type(self), (self.reason, self.detail, self.facts)


class RetryableError(FfpdataError):
    """A passing fault (time-out, busy service, broken connection): tried again up to `max_attempts`, then failed."""


class FatalError(FfpdataError):
    """Nothing can go on (bad credentials, missing model, full disk): the run stops with this one message, exit 1."""


class DamagedError(FatalError):
    """A file is gone or is not as ffpdata wrote it; the message names it and says how it is made again."""


class ConfigError(FatalError):
    """A pipeline, profile, prompt or `--set` that does not say something valid; exit 2 where the command named it."""


class UsageError(ConfigError):
    """A command line that asks for something that is not there, or names a file that is wrong: exit 2."""


class RunLockedError(FatalError):
    """Another process is writing this run folder."""


_FULL = {errno.ENOSPC, errno.EDQUOT}
NO_SPACE = "no space left on the device. Free some space and start the same command again: finished items are kept."


def disk_full(err: BaseException) -> bool:
    """Say whether an error means that a disk or its quota is full."""
    return isinstance(err, OSError) and err.errno in _FULL


def disk_unusable(err: BaseException) -> TypeGuard[OSError]:
    """Say whether an error means that nothing can be written there: the disk is full or read-only."""
    return disk_full(err) or (isinstance(err, OSError) and err.errno == errno.EROFS)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100
LONGEST_NAME = 200
"""Characters of a name that are compared with others: the comparison of long texts takes minutes."""


def shown(value: object) -> str:
    """Return a value as a message shows it: as Python writes it, and short, however large or deep the value is."""
    try:
        return _SHORT.repr(value)
    except (ValueError, RecursionError):  # a whole number of thousands of digits
        return f"a value of type {type(value).__name__} that is too large to show"


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` with the closest valid name, or the list of valid names where none is close."""
    names = sorted(valid)
    close = difflib.get_close_matches(name[:LONGEST_NAME], names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; valid names: {', '.join(names)}" if names else ""
