"""Stage `object_references`: one item per picture of an object."""

from __future__ import annotations

import numpy as np
import pytest

from ffpdata.core.stage import Reject
from ffpdata.media.codec import write_image
from ffpdata.stages.object_references import ObjectReferences, ObjectReferencesSettings
from tests.stages.alone import Alone


def test_one_item_per_picture(alone: Alone) -> None:
    write_image(alone.folder / "a.png", np.full((256, 300, 3), (10, 200, 10), np.uint8))
    (alone.folder / "bad.png").write_bytes(b"no picture")
    stage = ObjectReferences(ObjectReferencesSettings())
    row = {"sha": "f" * 16, "root": str(alone.folder), "width": 64, "height": 48}
    ids = ["1" * 16, "1" * 16, "2" * 16]
    [child] = alone.expand(stage, reference_ids=ids, reference_paths=["a.png", "a.png", "bad.png"], **row)
    assert (child.suffix, child.columns["reference_id"]) == ("reference/11111111", "1" * 16)
    for given, said in (({}, "put images into reference/"), ({"reference_ids": ids[2:]}, "bad.png: not_an_image")):
        paths = {"reference_paths": ["bad.png"]} if given else {}
        with pytest.raises(Reject, match=said) as caught:
            alone.expand(stage, **given, **paths, **row)
        assert caught.value.reason == "no_reference"
