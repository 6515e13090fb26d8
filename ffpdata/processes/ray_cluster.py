"""The Ray cluster that a command works on."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ffpdata.core.errors import FatalError


@contextmanager
def ray_cluster(**options: Any) -> Iterator[None]:
    """Connect to Ray for the length of a with block: the cluster of `RAY_ADDRESS`, or a local one.

    An existing connection is used and left open.

    Args:
        **options: further arguments of `ray.init`.

    Raises:
        FatalError: the cluster cannot be reached or started.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    try:
        ray.init(logging_level=logging.WARNING, include_dashboard=False, **options)
    except Exception as err:  # Ray has no specific type for this
        where = os.environ.get("RAY_ADDRESS")
        raise FatalError(f"Ray could not be {f'reached at {where}' if where else 'started'}: {err}") from err
    try:
        yield
    finally:
        ray.shutdown()
