"""Near-duplicates by perceptual hash: first clips that look alike, then pairs whose two sides look alike."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ffpdata.media.phash import HASHED_FRAMES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Words = NDArray[np.uint64]
    Positions = NDArray[np.int64]

TILE_ROWS, TILE_COLUMNS = 64, 4096
"""Tile of the comparison of all with all: its buffers of 2.5 MB stay in a core's cache."""


class ClipHashes(NamedTuple):
    """Hashes of n clips.

    Attributes:
        plain: uint64 (n, 3), first, middle and last frame.
        mirrored: uint64 (n, 3), the same flipped left to right.
        known: bool (n,), False where a clip has no hashes; its numbers mean nothing then.
    """

    plain: Words
    mirrored: Words
    known: NDArray[np.bool_]


class LookAlikes(NamedTuple):
    """Pairs of positions that look alike: i[k] < j[k], mirrored[k] where one is the other's mirror image."""

    i: Positions
    j: Positions
    mirrored: NDArray[np.bool_]


def parse(column: Iterable[Sequence[str] | None]) -> ClipHashes:
    """Read a hash column of the manifest, as `media.phash.clip_hashes` makes it."""
    rows = list(column)
    words = np.zeros((len(rows), 2 * HASHED_FRAMES), np.uint64)
    known = np.zeros(len(rows), bool)
    for position, hashes in enumerate(rows):
        if hashes is not None and len(hashes) == 2 * HASHED_FRAMES:
            known[position] = True
            words[position] = [int(h, 16) for h in hashes]
    return ClipHashes(words[:, :HASHED_FRAMES], words[:, HASHED_FRAMES:], known)


def alike(hashes: ClipHashes, bits: int) -> LookAlikes:
    """Find all clips that look alike: on average at most `bits` of 64 differ per frame, as they are or mirrored.

    Every clip is compared with every other: at this radius (10 of 64 bits) hashes allow no exact index.

    Args:
        hashes: of n clips; a clip without hashes is like no other.
        bits: 0..64.
    """
    chosen = np.flatnonzero(hashes.known)
    both = np.concatenate([hashes.plain[chosen], hashes.mirrored[chosen]], axis=1)
    unique, group = np.unique(both, axis=0, return_inverse=True)
    plain, mirrored = (np.ascontiguousarray(words.T) for words in np.split(unique, 2, axis=1))
    same = np.arange(len(unique))
    i, j = _near(plain, plain, HASHED_FRAMES * bits)
    k, m = _near(plain, mirrored, HASHED_FRAMES * bits)
    edges, first, second = _expand(np.concatenate([same, i, k]), np.concatenate([same, j, m]), group.ravel())
    first, second = chosen[first], chosen[second]
    return LookAlikes(np.minimum(first, second), np.maximum(first, second), edges >= len(same) + len(i))


def components(count: int, i: Positions, j: Positions) -> Positions:
    """Label the connected parts of a graph of `count` nodes: int64 (count,), the smallest node of each part."""
    labels = np.arange(count)
    while True:
        before = labels.copy()
        least = np.minimum(labels[i], labels[j])
        np.minimum.at(labels, before[i], least)
        np.minimum.at(labels, before[j], least)
        labels = labels[labels]
        if np.array_equal(labels, before):
            return labels


def near_duplicates(
    pairs: Sequence[Mapping[str, Any]], order: Sequence[int], sources: LookAlikes, targets: ClipHashes, bits: int
) -> dict[int, int]:
    """Position of every pair that a better one makes superfluous, to the position of that one.

    Duplicates have the same task, and both their sources and their targets look alike. Two edits of one clip are never
    duplicates, nor are two styles, nor two objects of one source file, which differ in a small part of the picture.

    Args:
        pairs: the finished pairs.
        order: the positions of those that are still in, from the best to the worst.
        sources: which of the pairs' source videos look alike.
        targets: hashes of their target videos.
        bits: as for `alike`.
    """
    place = np.full(len(pairs), -1)
    place[list(order)] = np.arange(len(order))
    task, clip, source, thing = (
        codes([tuple(pair.get(name) for name in names) for pair in pairs])
        for names in (("task", "style_id"), ("track", "parent_id"), ("source_id",), ("object",))
    )
    i, j, mirrored = sources
    keep = (place[i] >= 0) & (place[j] >= 0) & (task[i] == task[j]) & (clip[i] != clip[j])
    keep &= (source[i] != source[j]) | (thing[i] == thing[j])
    keep &= targets.known[i] & targets.known[j]
    i, j, mirrored = i[keep], j[keep], mirrored[keep]
    other = np.where(mirrored[:, None], targets.mirrored[j], targets.plain[j])
    near = np.bitwise_count(targets.plain[i] ^ other).sum(axis=1, dtype=int) <= HASHED_FRAMES * bits
    better = np.minimum(place[i], place[j])[near]
    worse = np.maximum(place[i], place[j])[near]
    lost: dict[int, int] = {}
    for edge in np.lexsort((better, worse)):  # by the worse pair: whether the better one stays is known by then
        winner, loser = int(better[edge]), int(worse[edge])
        if winner not in lost:
            lost.setdefault(loser, winner)
    return {order[loser]: order[winner] for loser, winner in lost.items()}


def codes(values: Sequence[Any]) -> Positions:
    """Number equal values alike: int64 (n,)."""
    known: dict[Any, int] = {}
    return np.array([known.setdefault(value, len(known)) for value in values], dtype=np.int64)


def _near(one: Words, other: Words, limit: int) -> tuple[Positions, Positions]:
    """Positions i < j where one[:, i] and other[:, j], (3, n) each, differ in at most `limit` bits of 192."""

    def rows_from(top: int) -> list[tuple[Positions, Positions]]:
        rows = one[:, top : top + TILE_ROWS, None]
        words = np.empty((rows.shape[1], TILE_COLUMNS), np.uint64)
        first, second = (np.empty(words.shape, np.uint8) for _ in range(2))
        found = []
        for left in range(top, other.shape[1], TILE_COLUMNS):
            columns = other[:, None, left : left + TILE_COLUMNS]
            tile = np.s_[:, : columns.shape[2]]
            # Two of the three words rule out nearly everything.
            np.bitwise_count(np.bitwise_xor(rows[0], columns[0], out=words[tile]), out=first[tile])
            np.bitwise_count(np.bitwise_xor(rows[1], columns[1], out=words[tile]), out=second[tile])
            i, j = np.nonzero(np.add(first[tile], second[tile], out=first[tile]) <= limit)
            if len(i):
                i, j = i + top, j + left
                bits = np.bitwise_count(one[:, i] ^ other[:, j]).sum(axis=0, dtype=int)
                keep = (bits <= limit) & (i < j)
                found.append((i[keep], j[keep]))
        return found

    count = one.shape[1]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # numpy computes outside the interpreter's lock
        tiles = [tile for found in pool.map(rows_from, range(0, count, TILE_ROWS)) for tile in found]
    none = np.empty(0, np.int64)
    return np.concatenate([none, *(i for i, _ in tiles)]), np.concatenate([none, *(j for _, j in tiles)])


def _expand(u: Positions, v: Positions, group: Positions) -> tuple[Positions, Positions, Positions]:
    """Turn edges between groups into edges between their members: the edge that each came from, and the two members.

    An edge of a group with itself gives every two different members once.
    """
    members = np.argsort(group, kind="stable")
    sizes = np.bincount(group, minlength=int(u.max(initial=-1)) + 1)
    starts = np.cumsum(sizes) - sizes
    count = sizes[u] * sizes[v]
    edge = np.repeat(np.arange(len(u)), count)
    within = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
    first = members[starts[u[edge]] + within // sizes[v[edge]]]
    second = members[starts[v[edge]] + within % sizes[v[edge]]]
    keep = (u[edge] != v[edge]) | (first < second)
    return edge[keep], first[keep], second[keep]
