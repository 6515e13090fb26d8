"""What the stages know of each local task."""

from __future__ import annotations

from ffpdata.stages._tasks import TASKS, known


def test_removals_remove_and_are_graded() -> None:
    assert {name for name, task in TASKS.items() if task.removes} == {"removal", "text_removal"}
    assert all(task.screened and task.role == "remover" for task in TASKS.values() if task.removes)
    assert {name for name, task in TASKS.items() if task.around} == {"background"}


def test_of_a_task_that_others_made_nothing_is_known() -> None:
    task = known("modification")
    assert (task.role, task.removes, task.screened, task.around) == ("", False, False, False)
