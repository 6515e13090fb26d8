"""Candidates for a comparison of hashes without comparing all with all: locality-sensitive hashing on sampled bits.

A table puts clips together that agree in some bits chosen at random. Two clips that differ in d of 192 bits agree in b
chosen ones with probability (1 - d/192)^b, so so many tables are made that clips at the limit meet in one of them with
probability `RECALL`, and clips that are more alike nearly surely: at half the limit less than one in 10^9 is missed.
What meets is compared in full. The bits follow from fixed seeds, so whether two clips meet depends on them alone.
(Indyk and Motwani, Approximate nearest neighbors, STOC 1998, bit sampling for the Hamming distance.)
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from ffpdata.media.phash import HASHED_FRAMES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Words = NDArray[np.uint64]
    Positions = NDArray[np.int64]
    Pairs = tuple[Positions, Positions]

RECALL = 0.99
"""Probability that two clips at the very limit are compared."""

WIDTH = 64 * HASHED_FRAMES
"""Bits of a clip's hashes."""

CROWDED = 256
"""Rows in one bucket from which on they are told apart by more bits."""

_ODD = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)
"""Odd numbers that spread the chosen bits over a 64-bit word, one per frame."""


def tables_for(count: int, limit: int) -> tuple[int, int]:
    """Number of bits of a table, and of tables.

    Args:
        count: of rows; as many buckets as rows keep the chance meetings of a table few.
        limit: of differing bits.
    """
    bits = max(8, round(math.log2(max(count, 2))))
    meet = (1 - limit / WIDTH) ** bits
    return bits, max(1, math.ceil(math.log(1 - RECALL) / math.log1p(-meet))) if meet < 1 else 1


def close_by_buckets(plain: Words, mirrored: Words, limit: int, *, meeting: int | None = None) -> tuple[Pairs, Pairs]:
    """Positions i < j of clips that differ in at most `limit` bits: plain from plain, and plain i from mirrored j.

    Args:
        plain: uint64 (3, n).
        mirrored: uint64 (3, n), the same clips mirrored; (3, 0) where that means nothing.
        limit: of 192 bits.
        meeting: differing bits at which two clips meet with probability `RECALL`; `limit` where it is left out. Those
            between the two are found more seldom, and cost no tables.
    """
    count = plain.shape[1]
    rows = np.concatenate([plain, mirrored], axis=1)
    bits, tables = tables_for(count, limit if meeting is None else meeting)

    def table(number: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        same, turned = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)]
        for first, second in _meetings(rows, np.random.default_rng((number, bits)), bits):
            one, other = np.minimum(first, second), np.maximum(first, second)
            for mirror, found in ((False, same), (True, turned)):
                # The second half of the rows is the mirrored clips; two of these say nothing that is not said already.
                mine = (one < count) & ((other >= count) == mirror)
                i, j = one[mine], other[mine] - count * mirror
                i, j = np.minimum(i, j), np.maximum(i, j)
                against = mirrored if mirror else plain
                far = np.bitwise_count(plain[0, i] ^ against[0, j]).astype(np.uint8)
                for word in range(1, HASHED_FRAMES):
                    far += np.bitwise_count(plain[word, i] ^ against[word, j])
                keep = (far <= limit) & (i < j)
                found.append((i[keep].astype(np.uint64) << np.uint64(32)) | j[keep].astype(np.uint64))
        return np.unique(np.concatenate(same)), np.unique(np.concatenate(turned))

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # numpy computes outside the interpreter's lock
        found = [np.empty(0, np.uint64), np.empty(0, np.uint64)]
        for pair in pool.map(table, range(tables)):
            found = [np.union1d(known, new) if len(new) else known for known, new in zip(found, pair, strict=True)]
    same, turned = ((f >> np.uint64(32)).astype(np.int64) for f in found), ((f & np.uint64(0xFFFFFFFF)) for f in found)
    (i, k), (j, m) = same, (half.astype(np.int64) for half in turned)
    return (i, j), (k, m)


def _meetings(rows: Words, chance: np.random.Generator, bits: int) -> list[Pairs]:
    """Positions of rows that share a bucket of one table; crowded buckets are told apart by more bits."""
    order = chance.permutation(WIDTH)
    found: list[Pairs] = []
    these: Positions | None = None
    while these is None or len(these):
        here = rows if these is None else rows[:, these]
        position_bits = np.uint64(max(1, (here.shape[1] - 1).bit_length()))
        key = np.zeros(here.shape[1], np.uint64)
        for frame in range(HASHED_FRAMES):
            mask = sum(1 << int(bit - 64 * frame) for bit in order[:bits] if bit // 64 == frame)
            key ^= (here[frame] & np.uint64(mask)) * _ODD[frame]
            key ^= key >> np.uint64(29)
        key = (key >> position_bits << position_bits) | np.arange(here.shape[1], dtype=np.uint64)
        key.sort()
        place = (key & ((np.uint64(1) << position_bits) - np.uint64(1))).astype(np.int64)
        place = place if these is None else these[place]
        key >>= position_bits
        edges = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
        sizes = np.diff(np.append(edges, len(key)))
        crowded = np.repeat((sizes > CROWDED) & (bits < WIDTH), sizes)
        at = np.flatnonzero(~crowded)
        for step in range(1, len(key)):
            at = at[at + step < len(key)]
            at = at[key[at + step] == key[at]]
            if not len(at):
                break
            found.append((place[at], place[at + step]))
        these, bits = place[crowded], min(WIDTH, 2 * bits)
    return found
