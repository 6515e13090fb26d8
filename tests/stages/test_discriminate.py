"""`discriminate`: a swap is called what it became."""

from __future__ import annotations

from typing import Any

import pytest

from ffpdata.core.stage import Reject
from ffpdata.stages.discriminate import Discriminate
from tests.stages.alone import Alone, asking


def test_a_swap_is_called_what_it_became(alone: Alone, pair: dict[str, Any]) -> None:
    assert asking(Discriminate, {}).applies({"task": "swap"})
    assert not asking(Discriminate, {}).applies({"task": "removal"})
    for task in ("swap", "modification"):
        stage = asking(Discriminate, {"reason": "Seen.", "task": task})
        assert alone.process(stage, **pair, task="swap") == {"task": task, "discriminate_reason": "Seen."}
    with pytest.raises(Reject, match="answer_breaks_rules"):
        alone.process(asking(Discriminate, {"reason": "Seen.", "task": "removal"}), **pair, task="swap")
