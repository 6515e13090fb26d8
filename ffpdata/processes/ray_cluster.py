"""The Ray cluster that a command works on."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ffpdata.core.errors import FatalError

CLUSTERS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray's own switch, an environment variable. Where it is 0, which is Ray's default on macOS, a Ray that is started has
the address 127.0.0.1, and all of its processes listen there alone; otherwise most of them listen on every interface."""


@contextmanager
def ray_cluster(**options: Any) -> Iterator[None]:
    """Connect to Ray for the length of a with block: the cluster of `RAY_ADDRESS`, or one that is started here.

    An existing connection is used and left open. Without `RAY_ADDRESS`, a cluster that somebody runs on this machine is
    left alone, which `ray.init` itself would join: it ends when its owner likes. A local Ray that is started here
    listens on the loopback interface alone, unless the environment has `RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=1`.

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
        address = None if os.environ.get("RAY_ADDRESS") else "local"
        with loopback_only():
            ray.init(address, logging_level=logging.WARNING, include_dashboard=False, **options)
    except Exception as err:  # Ray has no specific type for this
        where = os.environ.get("RAY_ADDRESS")
        raise FatalError(f"Ray could not be {f'reached at {where}' if where else 'started'}: {err}") from err
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def loopback_only() -> Iterator[None]:
    """Let a Ray that is started in a with block listen on 127.0.0.1 alone; a cluster of `RAY_ADDRESS` is as it is."""
    from ray._private import ray_constants  # it has read the variable when Ray was imported

    if CLUSTERS in os.environ or os.environ.get("RAY_ADDRESS", "local") not in ("", "local"):
        yield
        return
    before = ray_constants.ENABLE_RAY_CLUSTER
    os.environ[CLUSTERS], ray_constants.ENABLE_RAY_CLUSTER = "0", False  # the processes of Ray inherit the variable
    try:
        yield
    finally:
        del os.environ[CLUSTERS]
        ray_constants.ENABLE_RAY_CLUSTER = before
