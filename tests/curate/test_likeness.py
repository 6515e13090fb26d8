from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ffpdata.core.sections import CurateSettings
from ffpdata.curate.curation import decide
from ffpdata.curate.dedup import LookAlikes, together
from ffpdata.curate.likeness import ClipVectors, find_look_alikes
from ffpdata.media.clip_vector import vector_text


def turned(vector: np.ndarray, cosine: float, seed: int) -> np.ndarray:
    """Return a vector of length 1 at an angle to one of length 1."""
    other = np.random.default_rng(seed).standard_normal(len(vector))
    other -= other @ vector * vector
    return cosine * vector + np.sqrt(1 - cosine**2) * other / np.linalg.norm(other)


def vectors(count: int, seed: int = 0) -> np.ndarray:
    made = np.random.default_rng(seed).standard_normal((count, 512))
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def edges(found: LookAlikes) -> set[tuple[int, int]]:
    return set(zip(found.i.tolist(), found.j.tolist(), strict=True))


def test_the_cosine_is_the_limit_and_equal_vectors_are_all_alike() -> None:
    [base] = vectors(1)
    made = [base, turned(base, 0.8, 1), turned(base, 0.4, 2), base, vectors(1, 9)[0]]
    texts = [None, *(vector_text(v) for v in made)]
    assert edges(find_look_alikes(ClipVectors(texts), 0.5)) == {(1, 2), (1, 4), (2, 4)}
    assert edges(find_look_alikes(ClipVectors(texts), 0.9)) == {(1, 4)}
    assert edges(find_look_alikes(ClipVectors([None, None]), 0.5)) == set()
    assert edges(find_look_alikes(ClipVectors([]), 0.5)) == set()


@pytest.mark.parametrize(("cosine", "least"), [(0.6, 0.94), (0.7, 0.99), (0.8, 1.0)])
def test_sketches_lose_next_to_nothing_and_find_nothing_that_is_not_there(cosine: float, least: float) -> None:
    count = 400
    made = vectors(3 * count)
    for k in range(count):
        made[count + k] = turned(made[k], cosine, k)
    found = edges(find_look_alikes(ClipVectors([vector_text(v) for v in made]), 0.5))
    wanted = {(k, count + k) for k in range(count)}
    assert found <= wanted
    assert len(found) >= least * count


@pytest.mark.parametrize(("cosine", "least"), [(0.7, 0.9), (0.8, 0.99)])
def test_many_clips_meet_in_buckets(cosine: float, least: float, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 300
    made = vectors(3 * count)
    for k in range(count):
        made[count + k] = turned(made[k], cosine, k)
    texts = ClipVectors([vector_text(v) for v in made])
    exact = edges(find_look_alikes(texts, 0.5))
    monkeypatch.setattr("ffpdata.curate.likeness.EXACT", 10)
    found = edges(find_look_alikes(texts, 0.5))
    assert found <= exact, "cosines decide, whatever brings two clips together"
    assert len(found) >= least * count


def test_a_vector_of_an_embedder_that_is_no_longer_used_is_none() -> None:
    texts = [vector_text(v) for v in vectors(3)] + [vector_text(vectors(1)[0][:8])]
    found = ClipVectors(texts)
    assert found.known.tolist() == [True, True, True, False]
    assert found.cosines(np.array([0]), np.array([3])).tolist() == [0.0]


def test_pairs_of_both_ways_stand_once() -> None:
    def alike(pairs: list[tuple[int, int]], *, mirrored: bool) -> LookAlikes:
        i, j = np.array(pairs, np.int64).reshape(-1, 2).T
        return LookAlikes(i, j, np.full(len(i), mirrored))

    both = together(alike([(0, 1), (2, 3)], mirrored=True), alike([(0, 1), (1, 3)], mirrored=False))
    assert list(zip(both.i.tolist(), both.j.tolist(), both.mirrored.tolist(), strict=True)) == [
        (0, 1, True),
        (2, 3, True),
        (1, 3, False),
    ]
    assert edges(together(alike([], mirrored=True), alike([], mirrored=False))) == set()


def pair(item: str, source: np.ndarray | None, target: np.ndarray | None, score: float) -> dict[str, Any]:
    told = {"track": "local", "item_id": item, "parent_id": item, "source_id": item, "task": "removal", "score": score}
    own = np.random.default_rng([ord(c) for c in item])
    hashes = [[f"{int(w):016x}" for w in own.integers(0, 2**63, 6, dtype=np.uint64)] for _ in range(2)]
    texts = [None if v is None else vector_text(v) for v in (source, target)]
    return told | dict(
        zip(("source_hash", "target_hash", "source_vector", "target_vector"), [*hashes, *texts], strict=True)
    )


def test_curation_drops_a_copy_that_hashes_miss_and_keeps_its_source_in_the_same_split() -> None:
    before, after, elsewhere = vectors(3)
    pairs = [
        pair("a", before, after, 0.9),
        pair("b", turned(before, 0.8, 1), turned(after, 0.8, 2), 0.5),
        pair("c", turned(before, 0.8, 3), elsewhere, 0.7),
        pair("d", None, None, 0.4),
    ]
    decided = decide(pairs, CurateSettings())
    assert [d["reason"] for d in decided] == [None, "near_duplicate", None, None]
    assert "a shows the same" in decided[1]["error"]
    assert [d["source_group"] for d in decided] == ["a", "a", "a", "d"]
    apart = decide(pairs, CurateSettings(duplicate_cosine=0.9))
    assert [d["reason"] for d in apart] == [None] * 4
