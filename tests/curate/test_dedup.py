from typing import Any

import numpy as np

from ffpdata.curate import dedup
from ffpdata.curate.dedup import connected_components, find_look_alikes, near_duplicates, parse_hashes
from ffpdata.curate.select import rank


def hashes(seed: int, flip: int = 0) -> list[str]:
    """Six hashes of a random clip, with `flip` bits of each changed."""
    rng = np.random.default_rng(seed)
    words = [int(w) for w in rng.integers(0, 2**63, 6, dtype=np.uint64)]
    changed = sum(1 << int(b) for b in np.random.default_rng(seed + 99).choice(64, flip, replace=False))
    return [f"{word ^ changed:016x}" for word in words]


def mirror(six: list[str]) -> list[str]:
    return six[3:] + six[:3]


def edges(found: dedup.LookAlikes) -> set[tuple[int, int, bool]]:
    return set(zip(found.i.tolist(), found.j.tolist(), found.mirrored.tolist(), strict=True))


def test_the_limit_is_the_mean_over_the_frames() -> None:
    clips = [hashes(1), hashes(1, flip=10), hashes(1, flip=11), hashes(2)]
    assert (0, 1, False) in edges(find_look_alikes(parse_hashes(clips), 10))
    assert (0, 2, False) not in edges(find_look_alikes(parse_hashes(clips), 10))
    uneven = hashes(1)[:1] + hashes(1, flip=15)[1:]  # 0 + 15 + 15 bits: the mean is 10
    assert edges(find_look_alikes(parse_hashes([hashes(1), uneven]), 10)) == {(0, 1, False)}


def test_mirrored_copies_are_found_either_way_round() -> None:
    assert edges(find_look_alikes(parse_hashes([hashes(1), hashes(2), mirror(hashes(1))]), 10)) == {(0, 2, True)}
    assert edges(find_look_alikes(parse_hashes([mirror(hashes(1)), hashes(1, flip=3)]), 10)) == {(0, 1, True)}


def test_equal_clips_are_all_alike_and_unhashed_ones_are_not() -> None:
    found = edges(find_look_alikes(parse_hashes([hashes(1), None, hashes(1), hashes(1), ["00"]]), 0))
    assert {(i, j) for i, j, _ in found} == {(0, 2), (0, 3), (2, 3)}
    assert edges(find_look_alikes(parse_hashes([None, None]), 10)) == set()
    assert edges(find_look_alikes(parse_hashes([]), 10)) == set()


def test_many_clips_give_what_comparing_one_by_one_gives() -> None:
    rng = np.random.default_rng(0)
    count = 9000  # several tiles
    words = rng.integers(0, 2**63, (count, 6), dtype=np.uint64)
    pairs = {(int(a), int(b)) for a, b in rng.integers(0, count, (60, 2)) if a < b}
    for a, b in pairs:
        words[b] = words[a] ^ np.uint64(0b1011 << int(rng.integers(0, 50)))
    found = find_look_alikes(dedup.ClipHashes(words[:, :3], words[:, 3:], np.ones(count, bool)), 10)
    slow = set()
    for a in range(count):
        near = np.bitwise_count(words[a, :3] ^ words[a + 1 :, :3]).sum(axis=1, dtype=int) <= 30
        slow |= {(a, a + 1 + int(b)) for b in np.flatnonzero(near)}
    assert {(i, j) for i, j, mirrored in edges(found) if not mirrored} == slow
    assert len(slow) >= len(pairs)


def test_components_join_chains() -> None:
    labels = connected_components(8, np.array([6, 1, 3]), np.array([3, 0, 5]))
    assert labels.tolist() == [0, 0, 2, 3, 4, 3, 3, 7]


def pair(item_id: str, source: int, target: int, score: float, **more: Any) -> dict[str, Any]:
    given = {"track": "local", "item_id": item_id, "parent_id": item_id, "source_id": item_id, "task": "removal"}
    return given | {"score": score, "source_hash": hashes(source), "target_hash": hashes(target)} | more


def copies(*pairs: dict[str, Any]) -> dict[str, str]:
    order = rank(pairs)
    sources = find_look_alikes(parse_hashes(p["source_hash"] for p in pairs), 10)
    found = near_duplicates(pairs, order, sources, parse_hashes(p["target_hash"] for p in pairs), 10)
    return {pairs[loser]["item_id"]: pairs[winner]["item_id"] for loser, winner in found.items()}


def test_both_sides_must_look_alike_at_the_same_task() -> None:
    assert copies(pair("a", 1, 2, 0.9), pair("b", 1, 2, 0.5)) == {"b": "a"}
    assert copies(pair("a", 1, 2, 0.9), pair("b", 1, 3, 0.5)) == {}
    assert copies(pair("a", 1, 2, 0.9), pair("b", 4, 2, 0.5)) == {}
    assert copies(pair("a", 1, 2, 0.9), pair("b", 1, 2, 0.5, task="modification")) == {}


def test_a_mirrored_pair_is_a_copy_only_if_both_sides_are_mirrored() -> None:
    both = pair("b", 1, 2, 0.5) | {"source_hash": mirror(hashes(1)), "target_hash": mirror(hashes(2))}
    one = pair("b", 1, 2, 0.5) | {"source_hash": mirror(hashes(1))}
    assert copies(pair("a", 1, 2, 0.9), both) == {"b": "a"}
    assert copies(pair("a", 1, 2, 0.9), one) == {}


def test_edits_of_one_clip_styles_and_objects_of_one_source_are_no_copies() -> None:
    assert copies(pair("a", 1, 2, 0.9, parent_id="clip"), pair("b", 1, 2, 0.5, parent_id="clip")) == {}
    assert copies(pair("a", 1, 2, 0.9, style_id="x"), pair("b", 1, 2, 0.5, style_id="y")) == {}
    dog, ball = {"source_id": "s", "object": "dog"}, {"source_id": "s", "object": "ball"}
    assert copies(pair("a", 1, 2, 0.9, **dog), pair("b", 1, 2, 0.5, **ball)) == {}
    assert copies(pair("a", 1, 2, 0.9, **dog), pair("b", 1, 2, 0.5, **dog)) == {"b": "a"}


def test_what_resembles_only_a_dropped_copy_stays() -> None:
    near = [[f"{int(h, 16) ^ changed:016x}" for h in hashes(2)] for changed in (0, 0xFF, 0xFFFF)]
    chain = [pair(n, 1, 2, s) | {"target_hash": h} for n, s, h in zip("abc", (0.9, 0.8, 0.7), near, strict=True)]
    assert copies(*chain[1:]) == {"c": "b"}
    assert copies(*chain) == {"b": "a"}
