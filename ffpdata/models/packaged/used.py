"""The packaged networks of a run's stages, and the check that they are on this machine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ffpdata.core.networks import network_names
from ffpdata.models.packaged.location import MissingModelError, missing

if TYPE_CHECKING:
    from ffpdata.core.stage import Stage


def networks_of(stages: Iterable[Stage]) -> dict[str, list[str]]:
    """Return the networks of stages, each with the roles (or the stage's own name) that run it."""
    found: dict[str, list[str]] = {}
    for stage in stages:
        own = [(stage.name, name) for name in stage.packaged()]
        models = [(role, name) for role, spec in stage.specs.items() for name in network_names(spec.load_class(), spec)]
        for user, name in own + models:
            users = found.setdefault(name, [])
            if user not in users:
                users.append(user)
    return found


def require(stages: Iterable[Stage], more: Iterable[str] = ()) -> None:
    """Check that all networks of stages, and `more`, are on this machine.

    Raises:
        MissingModelError: names each that is not, its package and the command that installs it.
    """
    if why := missing((*more, *networks_of(stages))):
        raise MissingModelError(why)
