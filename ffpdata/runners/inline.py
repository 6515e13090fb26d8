"""The inline runner: stages in order, items in order, in this process. For small runs, tests and debugging."""

from __future__ import annotations

from collections.abc import Sequence

from ffpdata.core.errors import FatalError
from ffpdata.core.execute import execute, stage_key
from ffpdata.core.manifest import ManifestWriter
from ffpdata.core.stage import Item, Stage
from ffpdata.core.store import Store
from ffpdata.runners.ledger import Ledger, Redo
from ffpdata.runners.progress import Progress


def run_inline(
    stages: Sequence[Stage],
    items: Sequence[Item],
    store: Store,
    writer: ManifestWriter,
    progress: Progress,
    *,
    track: str,
    max_attempts: int = 3,
    redo: Redo | None = None,
) -> list[Item]:
    """Take the items through all stages and return those that passed the last one.

    Every item that enters a stage gets a row there. What is done already is taken from the manifest, whoever did it.
    """
    for stage in stages:
        waiting = [(item, stage_key(stage, item) if stage.applies(item.values) else "") for item in items]
        entering = [(item, key) for item, key in waiting if key]
        ledger = Ledger(stage, store, writer, track=track, redo=redo)
        ledger.load(entering)
        progress.enter(stage.name, len(entering))
        passed: list[Item] = []
        ready = False
        try:
            for item, key in waiting:
                if not key:  # not for this stage
                    passed.append(item)
                    continue
                outcome = ledger.known(key)
                if outcome is not None:
                    progress.kept(stage.name)
                    passed += ledger.settle(item, outcome, fresh=False)
                    continue
                if not ready:
                    ready = True  # also a set-up that fails half-way is torn down
                    set_up(stage)
                progress.begin(stage.name)
                begun, adopt = ledger.begin(item, key), not ledger.again(key)
                outcome = execute(stage, begun, store, key=key, max_attempts=max_attempts, adopt=adopt)
                progress.end(stage.name, outcome.status)
                passed += ledger.settle(item, outcome, fresh=True)
        finally:
            if ready:
                stage.teardown()
        progress.leave(stage.name)
        items = passed
    return list(items)


def set_up(stage: Stage) -> None:
    """Set a stage up; whatever goes wrong there is the run's error, with the stage named."""
    try:
        stage.setup()
    except FatalError:
        raise
    except Exception as err:
        raise FatalError(f"stage {stage.name!r} could not start: {type(err).__name__}: {err}") from err
