"""What the pairs of an export show, in numbers."""

import duckdb

from ffpdata.export.card import write
from ffpdata.export.contents import contents
from tests.export.test_card import ABOUT

ROWS = """
select * from (values
    ('removal', 'a', 'dog', 'Remove the dog.', 81, 16.0, 0.1::double, 2.0::double),
    ('removal', 'a', 'dog', 'Please take the small dog away now.', 81, 16.0, 0.3, 2.0),
    ('removal', 'b', 'cat | <b>', 'Remove  it.', 81, 16.0, 0.2, 4.0),
    ('stylization', 'b', null, 'Make it a poster.', 33, 16.0, null, null)
) t(task, source_id, object, instruction, frames, fps, mask_area, motion)
"""


def test_by_task() -> None:
    found = contents(duckdb.connect().sql(ROWS))
    assert found == {
        "removal": {
            "sources": 2,
            "seconds": 15.2,
            "instruction_words": [2.2, 3.0, 6.2],
            "mask_area": [0.12, 0.2, 0.28],
            "motion": [2.0, 2.0, 3.6],
            "most_objects": {"dog": 2, "cat | <b>": 1},
            "objects": 2,
        },
        "stylization": {"sources": 1, "seconds": 2.1, "instruction_words": [4.0, 4.0, 4.0]},
    }


def test_columns_that_no_stage_wrote_are_left_out() -> None:
    plain = duckdb.connect().sql(f"select task, source_id, instruction, frames, fps from ({ROWS})")
    assert "mask_area" not in contents(plain)["removal"]
    assert "objects" not in contents(plain)["removal"]


def test_on_the_card() -> None:
    card = write(ABOUT | {"contents": contents(duckdb.connect().sql(ROWS))})
    assert "| removal | 2 | 0.00 | 2 | 3 (2-6) | 20.0 (12.0-28.0) | 2.0 (2.0-3.6) |\n" in card
    assert "| stylization | 1 | 0.00 | - | 4 (4-4) | - | - |\n" in card
    assert r"removal: dog (2), cat \| \<b\> (1)." in card
    assert "What the pairs show" not in write(ABOUT), "an export of an earlier release"
