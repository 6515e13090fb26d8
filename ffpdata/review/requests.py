"""Pairs that another part of the project waits to have judged; today the refinement loop alone asks."""

from __future__ import annotations

import json
from collections.abc import Iterable

from ffpdata.core.errors import FatalError
from ffpdata.storage.store import Store

REQUESTS = "refine/asked.json"
"""File in the run folder: a JSON list of pair keys (`curate.verdicts.pair_key`), sorted."""


def request_verdicts(store: Store, pairs: Iterable[str]) -> None:
    """Write which pairs are waited for, in place of all earlier requests.

    Args:
        store: the run folder.
        pairs: their keys; none takes the requests back.
    """
    store.write(REQUESTS, json.dumps(sorted(pairs)).encode())


def requested_pairs(store: Store) -> set[str]:
    """Return the keys of the pairs that are waited for; empty where nothing was requested.

    Raises:
        FatalError: the file is damaged.
    """
    if not store.exists(REQUESTS):
        return set()
    try:
        keys = json.loads(store.read(REQUESTS))
    except (ValueError, RecursionError) as err:
        keys, why = None, f" ({err})"
    else:
        why = ""
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise FatalError(f"{store.root}/{REQUESTS} holds no list of pairs{why}: delete it, `ffpdata refine` asks again")
    return set(keys)
