"""Clips that look alike by the vectors of an embedder: crops, mirrored and recoloured copies that hashes miss.

Vectors are not compared all with all. Each is reduced to a sketch of 192 bits, on which side of 192 random planes it
lies (random hyperplane hashing; Charikar, 2002), and sketches are compared as the hashes are; cosines are computed of
the few clips whose sketches are near. Vectors at an angle differ in as many bits on the mean as the angle is of 180
degrees: those of copies (cosine .7 and more) in 48 and less, those of different clips (near 0) in 96.

Up to `dedup.EXACT` sketches are compared each with each, more by `curate/buckets`: of clips at cosine .7 about one in
fifteen is then missed, because sketches scatter, at .8 next to none, and of those at .5 most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ffpdata.curate.buckets import close_by_buckets
from ffpdata.curate.dedup import EXACT, LookAlikes, close_words, expand_groups
from ffpdata.media.clip_vector import parse_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.curate.dedup import Positions, Words

WORDS = 3
"""64-bit words of a sketch."""
FAR, FAR_TWO = 72, 49
"""Bits of 192, and of the first 128, up to which sketches are near: those of 999 of 1000 pairs at cosine .7, of 98 of
100 at .6, and of one of 10,000 at cosine 0."""
MEETING = 48
"""Differing bits of sketches, the mean of those at cosine .7, at which buckets find 99 of 100."""
_BATCH = 1 << 14
"""Cosines that are computed at a time: 64 MB."""


class ClipVectors:
    """Vectors of n clips, of which some may have none.

    Attributes:
        known: bool (n,), whether a clip has a vector; one of another length than most, of an embedder that the run had
            before, is none.
        values: float32 (n, D) of length 1; zeros where a clip has none.
    """

    def __init__(self, texts: Sequence[str | None]) -> None:
        written = [text or "" for text in texts]
        lengths = Counter(len(text) for text in written if text).most_common(1)
        usual = lengths[0][0] if lengths else -1
        self.known: NDArray[np.bool_] = np.array([len(text) == usual for text in written], np.bool_)
        found = parse_vectors([text for text in written if len(text) == usual])
        self.values: NDArray[np.float32] = np.zeros((len(texts), found.shape[1]), np.float32)
        self.values[self.known] = found

    def cosines(self, i: Positions, j: Positions) -> NDArray[np.float32]:
        """Return the cosines of clips i and j, float32 (m,); 0 where one has no vector."""
        if not self.values.shape[1]:
            return np.zeros(len(i), np.float32)
        parts = [slice(start, start + _BATCH) for start in range(0, len(i), _BATCH)]
        none = np.empty(0, np.float32)
        return np.concatenate([none, *(np.vecdot(self.values[i[p]], self.values[j[p]]) for p in parts)])


def find_look_alikes(vectors: ClipVectors, cosine: float) -> LookAlikes:
    """Find clips whose vectors have at least this cosine. `mirrored` is never told: an embedder does not care."""
    chosen = np.flatnonzero(vectors.known)
    none = np.empty(0, np.int64)
    if not len(chosen):
        return LookAlikes(none, none, np.empty(0, bool))
    _, first, group = np.unique(sketches(vectors.values[chosen]), axis=0, return_index=True, return_inverse=True)
    words = np.ascontiguousarray(sketches(vectors.values[chosen[first]]).T)
    same = np.arange(len(first))
    if len(first) <= EXACT:
        i, j = close_words(words, words, FAR, FAR_TWO)
    else:
        (i, j), _ = close_by_buckets(words, np.empty((WORDS, 0), np.uint64), FAR, meeting=MEETING)
    u, v = np.concatenate([same, i]), np.concatenate([same, j])
    _, one, other = expand_groups(u, v, group.ravel())
    one, other = chosen[np.minimum(one, other)], chosen[np.maximum(one, other)]
    near = vectors.cosines(one, other) >= cosine
    return LookAlikes(one[near], other[near], np.zeros(int(near.sum()), bool))


def sketches(vectors: NDArray[np.float32]) -> Words:
    """Return on which side of random planes vectors (n, D) lie, uint64 (n, 3); the planes are always the same."""
    planes = np.random.default_rng(0).standard_normal((vectors.shape[1], WORDS * 64), np.float32)
    bits = np.concatenate([vectors[a : a + _BATCH] @ planes > 0 for a in range(0, len(vectors), _BATCH)])
    return np.packbits(bits, axis=1).view(np.uint64)
