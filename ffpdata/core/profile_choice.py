"""Which profile a pipeline runs with where none is named, and the packaged networks that profiles need.

A pipeline may name alternatives, `profile: ["cpu,pretrained", cpu]`: it takes the first whose networks are on this
machine. A profile names its networks as `needs: [u2netp]`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ffpdata.core.entries import read
from ffpdata.core.errors import ConfigError
from ffpdata.core.library import Library
from ffpdata.core.networks import find_network, install_command, missing_networks


class Choice(NamedTuple):
    """The profiles to lay over a pipeline in turn, and a line for the user where there were alternatives."""

    names: list[str]
    told: str = ""


def choose(given: str | None, default: Any, library: Library, where: str) -> Choice:
    """Choose a pipeline's profile.

    Args:
        given: what the user named; taken as it is.
        default: the pipeline's `profile`: names with commas between, or a list of such alternatives.
        library: where profiles are.
        where: the pipeline, for messages.

    Raises:
        ConfigError: `default` is something else, or there is no such profile.
    """
    if given or not isinstance(default, list):
        return Choice(_split(given or default or ""))
    if not default or not all(isinstance(text, str) and _split(text) for text in default):
        raise ConfigError(f"{where}: `profile` is a profile's name or a list of alternatives, found {default!r}")
    lacking: dict[str, list[str]] = {}
    for text in default:
        names = _split(text)
        if not (needs := [need for name in names for need in _needs(name, library)]):
            break
        if not missing_networks(needs):
            return Choice(names, f"profile {text}: its networks are on this machine")
        lacking[text] = needs
    if not lacking:
        return Choice(names)
    first, needs = next(iter(lacking.items()))
    how = install_command(needs)
    return Choice(names, f"profile {text}: what {first} needs is not on this machine. To have it: {how}")


def check_needs(needs: Any, spot: str) -> list[str]:
    """Check a profile's `needs`; raises ConfigError where they are no names of packaged networks."""
    if not isinstance(needs, list) or not all(isinstance(name, str) for name in needs):
        raise ConfigError(f"{spot}: `needs` lists names of packaged networks, found {needs!r}")
    for name in needs:
        try:
            find_network(name)
        except ConfigError as err:
            raise ConfigError(f"{spot}: needs: {err}") from err
    return needs


def _needs(name: str, library: Library) -> list[str]:
    """The networks that a profile names."""
    file = library.file("pipelines/profiles", name)
    return check_needs(read(file)[0].get("needs") or [], str(file))


def _split(text: Any) -> list[str]:
    return [name.strip() for name in str(text).split(",") if name.strip()]
