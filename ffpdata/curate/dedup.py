"""Near-duplicates: first clips that look alike, by perceptual hash, then pairs whose source and target look alike."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ffpdata.curate.buckets import close_by_buckets
from ffpdata.media.phash import HASHED_FRAMES

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    Words = NDArray[np.uint64]
    Positions = NDArray[np.int64]

EXACT = 20_000
"""Most different clips that are compared each with each, in 3 CPU seconds."""

TILE_ROWS, TILE_COLUMNS = 64, 4096
"""Tile of the comparison of all hashes with all: its buffers of 2.5 MB fit into a core's cache."""


class ClipHashes(NamedTuple):
    """Hashes of n clips.

    Attributes:
        plain: uint64 (n, 3), first, middle and last frame.
        mirrored: uint64 (n, 3), the same flipped left to right.
        known: bool (n,), False where a clip has no hashes; its entries are then meaningless.
    """

    plain: Words
    mirrored: Words
    known: NDArray[np.bool_]


class LookAlikes(NamedTuple):
    """Pairs of clips that look alike, as int64 (n,) positions i[k] < j[k]; mirrored[k] where one is mirrored."""

    i: Positions
    j: Positions
    mirrored: NDArray[np.bool_]


def parse_hashes(column: Iterable[Sequence[str] | None]) -> ClipHashes:
    """Parse a hash column of the manifest (`media.phash.clip_hashes`): per clip hex texts, or None."""
    import pyarrow as pa

    return parse_hash_column(
        pa.array([list(row) if row is not None else None for row in column], pa.list_(pa.string()))
    )


def parse_hash_column(column: pa.Array | pa.ChunkedArray) -> ClipHashes:
    """Parse a hash column as Arrow holds it, a list of hex texts per clip, without making Python objects of it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    texts = pc.list_flatten(whole)
    sizes = pc.fill_null(pc.list_value_length(whole), 0).to_numpy(zero_copy_only=False)
    known = sizes == 2 * HASHED_FRAMES
    kept = pc.utf8_lpad(pc.filter(texts, pa.array(np.repeat(known, sizes))), 16, "0")
    digits = bytes.fromhex(_characters(kept)) if len(kept) else b""
    words = np.zeros((len(sizes), 2 * HASHED_FRAMES), np.uint64)
    words[known] = np.frombuffer(digits, ">u8").reshape(-1, 2 * HASHED_FRAMES)
    return ClipHashes(words[:, :HASHED_FRAMES], words[:, HASHED_FRAMES:], known)


def joined(several: Sequence[ClipHashes]) -> ClipHashes:
    """The clips of several, behind each other."""
    empty = parse_hashes([])
    return ClipHashes(*(np.concatenate(parts) for parts in zip(empty, *several, strict=True)))


def _characters(texts: pa.Array) -> str:
    """All texts of an array behind each other."""
    offsets = np.frombuffer(texts.buffers()[1], np.int32)
    return bytes(texts.buffers()[2])[offsets[texts.offset] : offsets[texts.offset + len(texts)]].decode()


def find_look_alikes(hashes: ClipHashes, bits: int) -> LookAlikes:
    """Find all clips that look alike: on average at most `bits` of 64 bits differ per frame, plain or mirrored.

    Up to `EXACT` different clips are compared each with each: at this radius (10 of 64 bits) hashes allow no exact
    index. More are compared where some table of `curate/buckets` puts them together, which misses one pair in a hundred
    of those at the very limit, and fewer the more alike they are.

    Args:
        hashes: of n clips; one without hashes matches no other.
        bits: 0..64.
    """
    chosen = np.flatnonzero(hashes.known)
    both = np.concatenate([hashes.plain[chosen], hashes.mirrored[chosen]], axis=1)
    unique, group = np.unique(both, axis=0, return_inverse=True)
    plain, mirrored = (np.ascontiguousarray(words.T) for words in np.split(unique, 2, axis=1))
    same = np.arange(len(unique))
    if len(unique) <= EXACT:
        i, j = close_words(plain, plain, HASHED_FRAMES * bits)
        k, m = close_words(plain, mirrored, HASHED_FRAMES * bits)
    else:
        (i, j), (k, m) = close_by_buckets(plain, mirrored, HASHED_FRAMES * bits)
    edges, first, second = expand_groups(np.concatenate([same, i, k]), np.concatenate([same, j, m]), group.ravel())
    first, second = chosen[first], chosen[second]
    return LookAlikes(np.minimum(first, second), np.maximum(first, second), edges >= len(same) + len(i))


def connected_components(count: int, i: Positions, j: Positions) -> Positions:
    """Label the connected components of a graph of `count` nodes by their smallest node: int64 (count,)."""
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
    pairs: Sequence[Mapping[str, Any]],
    order: Sequence[int],
    sources: LookAlikes,
    targets: ClipHashes,
    bits: int,
    *,
    also: Callable[[Positions, Positions], NDArray[np.bool_]] | None = None,
) -> dict[int, int]:
    """Return the position of every duplicate to the position of the better pair that replaces it.

    Duplicates have the same task, and both their sources and their targets look alike. Two edits of one clip are never
    duplicates, nor are two styles or two pictures, nor two objects of one source file, which differ in a small part
    of the frame.

    Args:
        pairs: the finished pairs.
        order: positions of the remaining pairs, from the best to the worst.
        sources: which of the pairs' source videos look alike.
        targets: hashes of their target videos.
        bits: as for `find_look_alikes`.
        also: says of positions i, j of pairs, int64 (n,) each, where their targets look alike by something else.
    """
    rank = np.full(len(pairs), -1)
    rank[list(order)] = np.arange(len(order))
    task, clip, source, thing = (
        number_values([tuple(pair.get(name) for name in names) for pair in pairs])
        for names in (("task", "style_id", "reference_id"), ("track", "parent_id"), ("source_id",), ("object",))
    )
    i, j, mirrored = sources
    keep = (rank[i] >= 0) & (rank[j] >= 0) & (task[i] == task[j]) & (clip[i] != clip[j])
    keep &= (source[i] != source[j]) | (thing[i] == thing[j])
    i, j, mirrored = i[keep], j[keep], mirrored[keep]
    other = np.where(mirrored[:, None], targets.mirrored[j], targets.plain[j])
    close = np.bitwise_count(targets.plain[i] ^ other).sum(axis=1, dtype=int) <= HASHED_FRAMES * bits
    close &= targets.known[i] & targets.known[j]
    close |= also(i, j) if also else False
    better = np.minimum(rank[i], rank[j])[close]
    worse = np.maximum(rank[i], rank[j])[close]
    replaced: dict[int, int] = {}
    for edge in np.lexsort((better, worse)):  # by the worse pair: the better one has been decided on before
        winner, loser = int(better[edge]), int(worse[edge])
        if winner not in replaced:
            replaced.setdefault(loser, winner)
    return {order[loser]: order[winner] for loser, winner in replaced.items()}


def together(one: LookAlikes, other: LookAlikes) -> LookAlikes:
    """Return the pairs of clips of both; one that both have stays as it is in the first."""
    i, j = np.concatenate([one.i, other.i]), np.concatenate([one.j, other.j])
    mirrored = np.concatenate([one.mirrored, other.mirrored])
    new = np.ones(len(i), bool)
    size = int(j.max(initial=0)) + 1
    new[len(one.i) :] = ~np.isin(other.i * size + other.j, one.i * size + one.j)
    return LookAlikes(i[new], j[new], mirrored[new])


def number_values(values: Sequence[Any]) -> Positions:
    """Return a number per value, the same for equal values: int64 (n,)."""
    numbers: dict[Any, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], dtype=np.int64)


def close_words(one: Words, other: Words, limit: int, two: int | None = None) -> tuple[Positions, Positions]:
    """Return positions i < j where one[:, i] and other[:, j], uint64 (3, n), differ in at most `limit` of 192 bits.

    `two` is the limit of the first 128 of these bits, `limit` itself where it is left out.
    """
    two = limit if two is None else two

    def rows_from(top: int) -> list[tuple[Positions, Positions]]:
        rows = one[:, top : top + TILE_ROWS, None]
        words = np.empty((rows.shape[1], TILE_COLUMNS), np.uint64)
        first, second = (np.empty(words.shape, np.uint8) for _ in range(2))
        found = []
        for left in range(top, other.shape[1], TILE_COLUMNS):
            columns = other[:, None, left : left + TILE_COLUMNS]
            tile = np.s_[:, : columns.shape[2]]
            # Two of the three words exclude nearly all candidates.
            np.bitwise_count(np.bitwise_xor(rows[0], columns[0], out=words[tile]), out=first[tile])
            np.bitwise_count(np.bitwise_xor(rows[1], columns[1], out=words[tile]), out=second[tile])
            i, j = np.nonzero(np.add(first[tile], second[tile], out=first[tile]) <= two)
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


def expand_groups(u: Positions, v: Positions, group: Positions) -> tuple[Positions, Positions, Positions]:
    """Turn edges between groups into edges between their members.

    Args:
        u: first group of each edge; an edge of a group with itself gives every two different members once.
        v: second group of each edge.
        group: group of each member.

    Returns:
        For each new edge the position of the old one, and its two members.
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
