"""What the core asks about packaged networks; `models.packaged`, imported by its path, answers.

A back end that runs such networks has a class method `packaged(spec) -> tuple[str, ...]` that names them, a stage that
runs one itself a method `packaged()`. Their versions count in keys.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ffpdata.core.plugins import import_object

_LOCATION, _CATALOGUE = "ffpdata.models.packaged.location", "ffpdata.models.packaged.catalogue"


def find_network(name: str) -> Any:
    """Return a network's entry in the catalogue; raises ConfigError with the nearest name where there is none."""
    return import_object(f"{_CATALOGUE}:packaged")(name)


def missing_networks(names: Iterable[str]) -> str:
    """Say which of these networks are not on this machine, and how to install them; empty where all are."""
    return str(import_object(f"{_LOCATION}:missing")(names))


def install_command(names: Iterable[str]) -> str:
    """Return the commands that bring these networks to this machine; empty where all are here."""
    return str(import_object(f"{_LOCATION}:remedy")(names))


def network_names(backend: type, spec: Any) -> tuple[str, ...]:
    """Return the names of the networks that a back end runs with the settings of `spec`, its ModelSpec."""
    return tuple(backend.packaged(spec)) if hasattr(backend, "packaged") else ()


def network_labels(names: Iterable[str]) -> list[str]:
    """Return `name@version` of networks, as keys and labels hold it."""
    return [f"{name}@{find_network(name).version}" for name in names]
