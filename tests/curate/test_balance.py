from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from ffpdata.core.sections import CAPPED, CurateSettings
from ffpdata.curate import dedup
from ffpdata.curate.balance import VALUES, over_caps
from ffpdata.curate.curation import decide
from ffpdata.curate.dedup import ClipHashes, connected_components, find_look_alikes
from ffpdata.curate.split import source_groups


def pair(number: int, **more: Any) -> dict[str, Any]:
    ids = {"item_id": f"{number:03d}", "parent_id": f"{number:03d}", "source_id": f"{number:03d}", "track": "t"}
    return ids | {"task": "removal", "score": 1 - number / 100} | more


def test_the_best_are_kept_up_to_each_cap() -> None:
    pairs = [pair(n, object="dog" if n % 3 else "cat", motion=0.1 if n < 6 else 5.0) for n in range(12)]
    decided = decide(pairs, CurateSettings(caps={"object": 3, "motion": 4}))
    kept = [n for n, decision in enumerate(decided) if decision["status"] == "ok"]
    assert kept == [0, 1, 2, 3, 6, 7]
    assert decided[4]["reason"] == "over_cap"
    assert decided[4]["error"] == "motion '0 to 0.5' has its 4 pairs, all of them better"
    assert decided[8]["error"] == "object 'dog' has its 3 pairs, all of them better"


def test_what_caps_count_by() -> None:
    assert set(VALUES) == set(CAPPED)
    wide, tall = {"width": 1280, "height": 720, "motion": 9.0}, {"width": 720, "height": 1280, "motion": 0.5}
    assert [VALUES["aspect"](p) for p in (wide, tall, {"width": 8, "height": 8}, {})] == [
        "landscape",
        "portrait",
        "square",
        None,
    ]
    assert [VALUES["motion"](p) for p in (wide, tall, {})] == ["8.0 and more", "0.5 to 1.0", None]
    assert over_caps([{}, {}], [0, 1], {"object": 1}) == {}


@pytest.mark.parametrize(("caps", "said"), [({"objekt": 3}, "did you mean 'object'"), ({"task": 0}, "at least 1")])
def test_a_wrong_cap_is_refused(caps: dict[str, int], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        CurateSettings(caps=caps)


def test_sources_with_one_style_image_share_a_split_where_asked() -> None:
    none = np.empty(0, np.int64)
    alone = dedup.LookAlikes(none, none, none.astype(bool))
    sources, styles = ["b", "a", "c", "d"], ["ink", "oil", "ink", None]
    assert source_groups(sources, alone) == sources
    assert source_groups(sources, alone, tied=styles) == ["b", "a", "b", "d"]
    pairs = [pair(n, style_id="same") for n in range(40)]
    settings = CurateSettings(splits={"train": 0.5, "test": 0.5})
    assert {decision["split"] for decision in decide(pairs, settings)} == {"train", "test"}
    together = decide(pairs, settings.model_copy(update={"together": ["style"]}))
    assert len({decision["split"] for decision in together}) == 1


def test_buckets_find_what_comparing_all_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    count, copies = 2500, 400
    words = rng.integers(0, 2**64, (count, 6), dtype=np.uint64)
    for copy in range(copies):
        one = words[copy].copy()
        for half in (0, 3):
            for bit in rng.choice(192, int(rng.integers(0, 31)), replace=False).tolist():
                one[half + bit // 64] ^= np.uint64(1 << (bit % 64))
        words[count - 1 - copy] = np.concatenate([one[3:], one[:3]]) if copy % 2 else one
    crowd = slice(copies, copies + 280)  # more than a bucket may hold
    words[crowd] = words[copies] ^ rng.integers(0, 2**5, (280, 6), dtype=np.uint64)
    hashes = ClipHashes(words[:, :3], words[:, 3:], np.ones(count, bool))

    def found() -> set[tuple[int, int, bool]]:
        alike = find_look_alikes(hashes, 10)
        return set(zip(alike.i.tolist(), alike.j.tolist(), alike.mirrored.tolist(), strict=True))

    exact = found()
    monkeypatch.setattr(dedup, "EXACT", 0)
    by_buckets = found()
    assert by_buckets <= exact
    inside = {edge for edge in exact if crowd.start <= edge[0] and edge[1] < crowd.stop}
    assert len(by_buckets - inside) >= 0.99 * len(exact - inside) >= 0.99 * copies
    i, j = (np.array([edge[end] for edge in by_buckets & inside]) for end in range(2))
    assert set(connected_components(count, i, j)[crowd].tolist()) == {crowd.start}
