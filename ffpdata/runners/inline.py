"""The inline runner: one stage after another, one item after another, in this process. For small runs and debugging."""

from __future__ import annotations

from ffpdata.core.errors import FatalError
from ffpdata.core.stage import Stage
from ffpdata.runners.execute import execute_task
from ffpdata.runners.flow import Flow
from ffpdata.runners.interrupts import Stop
from ffpdata.storage.store import Store


def run_inline(flow: Flow, store: Store, stop: Stop, *, max_attempts: int = 3) -> None:
    """Take all items through all stages.

    Raises:
        KeyboardInterrupt: it was asked to stop; the running item was finished first.
    """
    flow.feed()
    for number, stage in enumerate(flow.stages):
        ready = False
        try:
            while flow.resolve(number):
                pass
            while tasks := flow.take(number):
                stop.check()
                if not ready:
                    ready = True  # also a set-up that fails half-way is torn down
                    set_up(stage)
                [task] = tasks
                flow.finish(task, execute_task(stage, task, store, max_attempts))
        finally:
            if ready:
                stage.teardown()
        flow.progress.leave(stage.name)


def set_up(stage: Stage) -> None:
    """Set a stage up.

    Raises:
        FatalError: it failed, for whatever reason; the message names the stage.
    """
    try:
        stage.setup()
    except FatalError:
        raise
    except ModuleNotFoundError as err:
        hint = f"{err.name!r} is not installed. The large models need: pip install 'ffpdata[models,vlm]'"
        raise FatalError(f"stage {stage.name!r} could not start: {hint}") from err
    except Exception as err:
        raise FatalError(f"stage {stage.name!r} could not start: {type(err).__name__}: {err}") from err
