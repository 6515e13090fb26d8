"""Running a pipeline from Python, and what can be asked of a run."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ffpdata.core.config import Pipeline, load_pipeline
from ffpdata.core.entries import assign, assignment, validate
from ffpdata.core.errors import ConfigError, FfpdataWarning, UsageError, nearest
from ffpdata.core.from_classes import override_texts
from ffpdata.core.sections import ExportSettings
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.models.settings import check
from ffpdata.refine.overruled import overruled
from ffpdata.runners.session import StartOptions, Status, start, status

if TYPE_CHECKING:
    import pyarrow as pa

    from ffpdata.export.dataset import Dataset
    from ffpdata.export.layouts.layout import LayoutPair
    from ffpdata.export.loader import Pair
    from ffpdata.manifests.run_check import RunReport
    from ffpdata.report.sample_pack import SamplePack
    from ffpdata.takedown.request import Takedown

Runner = Literal["inline", "ray"]
RUNNERS = ("inline", "ray")


def run(
    pipeline: str | Path | Pipeline,
    input: str | Path,  # noqa: A002 - `--input` of the command
    run_folder: str | Path,
    *,
    profile: str | None = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    models: Mapping[str, Any] | None = None,
    runner: Runner = "inline",
    limit: int | None = None,
    stages: str = "",
    quiet: bool = True,
) -> Run:
    """Run a pipeline on an input. The same call again resumes: what is done is kept.

    Args:
        pipeline: name, path, or a `Pipeline`.
        input: folder, glob, or table with a `path` column (CSV, TSV, JSON lines, Parquet); local or `s3://`.
        run_folder: where manifests and artifacts go; local or `s3://`.
        profile: which models; by default the pipeline's.
        overrides: settings, as `load_pipeline` takes them: `["clip.frames=49"]` or `{"clip": {"frames": 49}}`.
        models: roles to fill by a back end of one's own: `{"remover": MyRemover}`.
        runner: `inline`: in this process. `ray`: on all cores, or on the cluster of `RAY_ADDRESS`.
        limit: take only the first so many entries of the input.
        stages: compute only these stages: `a..b`, `a..`, `..b` or `a`.
        quiet: show no progress.

    Returns:
        The run; its `result` says what came of this start.

    Raises:
        ConfigError: the pipeline, the profile or a setting is wrong.
        FatalError: the run cannot go on; what is finished is kept.
        RunLockedError: another process writes this folder.
        KeyboardInterrupt: SIGINT or SIGTERM; finished items are committed.
    """
    _check_runner(runner)
    if isinstance(pipeline, Pipeline):
        if profile or overrides or models:
            raise UsageError(
                "a Pipeline is complete: give profile, overrides and models to load_pipeline or Pipeline.of"
            )
    else:
        pipeline = load_pipeline(pipeline, profile, overrides, models=models)
        _check_models(pipeline, override_texts(overrides))
    folder = RunFolder(run_folder)
    if warning := overruled(folder, pipeline):
        warnings.warn(warning, FfpdataWarning, stacklevel=2)
    options = StartOptions(runner=runner, limit=limit, stages=stages, quiet=quiet)
    return Run(folder, start(folder, pipeline, str(input), options))


def open_run(path: str | Path) -> Run:
    """Open a run that was started before, also while it goes on.

    Raises:
        FatalError: there is no run.
    """
    return Run(RunFolder.existing(path))


class Run:
    """A run: what came out of it, and what can be done with that.

    Attributes:
        folder: its files and manifests.
        result: where it stood at the end of the start that this object made; None where it was opened.
    """

    def __init__(self, folder: RunFolder, result: Status | None = None) -> None:
        self.folder = folder
        self.result = result

    def __repr__(self) -> str:
        return f"Run({self.path!r})"

    @property
    def path(self) -> str:
        """The run folder, absolute, or its URL."""
        return self.folder.store.root

    @property
    def pipelines(self) -> dict[str, Pipeline]:
        """Per track the pipeline of its newest start."""
        return self.folder.pipelines()

    def status(self) -> Status:
        """Count where the items stand, per stage; works while the run goes on."""
        return status(self.folder)

    def sql(self, query: str, *, unsafe: bool = False) -> pa.Table:
        """Query the manifests: a view per stage, `<stage>_history` with all rows, `items` and `yields`.

        Args:
            query: DuckDB's SQL. It can read the manifests of this run; it can write nothing and open no other file.
            unsafe: let it read and write files and use extensions, as DuckDB does by itself.

        Returns:
            An Arrow table; `.to_pylist()` makes dicts of it and, where pandas is installed, `.to_pandas()` a frame.
            Of several columns of one name the second is called `<name>_2`.

        Raises:
            UsageError: the query is wrong, or does what needs `unsafe`.
            FatalError: the manifests cannot be read.
        """
        import duckdb
        import pyarrow as pa

        from ffpdata.manifests.connection import NEEDS_UNSAFE, check_query
        from ffpdata.manifests.views import about_manifests

        with self.folder.reading(unsafe=unsafe) as connection:
            try:
                if not unsafe:
                    check_query(connection, query)
                found = connection.sql(query)
                return pa.table({}) if found is None else _own_names(found.to_arrow_table())
            except duckdb.PermissionException as err:
                raise UsageError(f"SQL: {err}. {NEEDS_UNSAFE}") from err
            except duckdb.Error as err:
                if about_manifests(err):
                    raise
                raise UsageError(f"SQL: {err}") from err

    def pairs(self, split: str | None = None) -> Iterator[Pair]:
        """Read the accepted pairs, as of the end of the last start or export, without exporting them.

        Each is a mapping as `ffpdata.pairs` gives it: the entries of the record, and `source`, `target`, `mask` and
        `edited_first_frame` as arrays, decoded when they are asked for.

        Args:
            split: one split; all of them by default.
        """
        from ffpdata.export.run_pairs import run_pairs

        return run_pairs(self.folder, split)

    def export(
        self,
        out: str | Path,
        *,
        shard_size_mb: float = 1000,
        overrides: Sequence[str] = (),
        progress: Callable[[int, int], None] | None = None,
    ) -> Dataset:
        """Write the accepted pairs as WebDataset shards with an index and a dataset card.

        Curation decides anew before: verdicts that reviewers gave meanwhile count.

        Args:
            out: folder or URL: new, empty, or an earlier export, which is brought up to date.
            shard_size_mb: largest size of a shard.
            overrides: entries of the `export` section of every track, for this export: `["export.inverse=true"]`.
            progress: called after each shard with the number of pairs done and of pairs in all.

        Raises:
            FatalError: there is nothing to export, or `out` cannot take it.
            UsageError: an override names what is no entry of the section.
            RunLockedError: the run is going on.
        """
        from ffpdata.export.shards import export

        sections = self._export_sections(overrides)
        self._curate()
        return export(self.folder, out, shard_size_mb=shard_size_mb, sections=sections, progress=progress)

    def _export_sections(self, overrides: Sequence[str]) -> dict[str, ExportSettings] | None:
        """Return the `export` section of every track with these entries; None where there are none."""
        if not overrides:
            return None
        found = {}
        for track, pipeline in self.folder.pipelines().items():
            data = {"export": pipeline.export.model_dump()}
            for text in overrides:
                path, value = assignment(text)
                if path[0] != "export" or len(path) < 2:
                    raise UsageError(f"--set {text!r}: an export has entries of `export` alone, as export.inverse=true")
                assign(data, path, value, text)
            try:
                found[track] = validate(ExportSettings, data["export"], ("export",), {}, "--set")
            except ConfigError as err:
                raise UsageError(str(err)) from err
        return found

    def sample_pack(self, out: str | Path, count: int, *, seed: int = 0) -> SamplePack:
        """Write a random uncurated sample of the pairs, accepted and rejected, as pictures on one page.

        Args:
            out: local folder, new or empty, or an earlier pack, which is replaced.
            count: how many pairs at most.
            seed: the same one draws the same pairs.

        Raises:
            FatalError: the run has no pair, or `out` cannot take it.
        """
        from ffpdata.report.sample_pack import write_sample_pack

        return write_sample_pack(self.folder, Path(out), count, seed)

    def export_files(
        self,
        out: str | Path,
        layouts: Sequence[str],
        *,
        overrides: Sequence[str] = (),
        progress: Callable[[int, int], None] | None = None,
    ) -> list[LayoutPair]:
        """Write the accepted pairs as plain files, with the metadata that trainers of other projects read.

        Args:
            out: folder or URL: new, empty, or an earlier export of this kind, which is brought up to date.
            layouts: `diffsynth`, `kiwi`, `musubi`, `videox-fun`, or import paths of classes of your own
                (`export/layouts/layout.py`).
            overrides: as of `export`.
            progress: called with the number of pairs done and of pairs in all.

        Raises:
            UsageError: there is no such layout.
            FatalError: there is nothing to export, or `out` cannot take it.
            RunLockedError: the run is going on.
        """
        from ffpdata.export.layouts.folder import export_files
        from ffpdata.export.layouts.layout import load_layouts

        made, sections = load_layouts(layouts), self._export_sections(overrides)
        self._curate()
        return export_files(self.folder, out, made, sections=sections, progress=progress)

    def _curate(self) -> None:
        from ffpdata.curate.curation import curate
        from ffpdata.storage.lock import run_lock

        with run_lock(self.folder.store) as lock:
            curate(self.folder, guard=lock.check)

    def verify(self, *, progress: Callable[[int, int], None] | None = None) -> RunReport:
        """Read every part of the manifests and every file that current rows name, and list what is gone or damaged.

        Nothing is changed; `retry(lost=True)` makes lost files anew.

        Args:
            progress: called with the number of files done and of files in all.
        """
        from ffpdata.manifests.run_check import check_run

        return check_run(self.folder, progress)

    def takedown(self, *sources: str, reason: str = "") -> Takedown:
        """Take sources out of the run: what was made of them is deleted, and never made again.

        An export of the run is brought up to date by `export`, or by `ffpdata.takedown` where the run is not at hand;
        shards that hold nothing of them keep every byte.

        Args:
            sources: source ids, items or paths; none completes a takedown that was interrupted.
            reason: for the log.

        Raises:
            UsageError: the run has no such source.
            RunLockedError: the run is going on.
        """
        from ffpdata.takedown.of_run import take_down

        return take_down(self.folder, sources, reason)

    def report(self) -> Path | str:
        """Write the report page and return where it is: a path, or the URL where the run is not local."""
        from ffpdata.report.page import write_report

        return write_report(self.folder)

    def retry(
        self,
        *,
        stage: str | None = None,
        reason: str | None = None,
        lost: bool = False,
        runner: Runner = "inline",
        quiet: bool = True,
    ) -> Status:
        """Try failed items again as the run was set up, and what else is asked for.

        Args:
            stage: also items that this stage rejected.
            reason: also items that were rejected for this reason.
            lost: also outcomes whose files are gone or damaged; every file is read once before the start.
            runner: `inline` or `ray`.
            quiet: show no progress.

        Raises:
            UsageError: the run has no such stage or reason.
        """
        from ffpdata.runners.retry import retry

        _check_runner(runner)
        self.result = retry(self.folder, stage=stage, reason=reason, lost=lost, runner=runner, quiet=quiet)
        return self.result


def _check_models(pipeline: Pipeline, texts: Sequence[str]) -> None:
    """Check the models whose entries an override sets, so that an error names it; a start checks all others."""
    roles = {text: path[1] for text in texts if len(path := assignment(text)[0]) > 1 and path[0] == "models"}
    used = {role: spec for stage in pipeline.build() for role, spec in stage.specs.items()} if roles else {}
    for text, role in roles.items():
        if role in used:
            try:
                check(used[role])
            except ConfigError as err:
                raise ConfigError(f"--set {text}: {err}") from err


def _own_names(table: pa.Table) -> pa.Table:
    """Return a table whose columns have names of their own: `n`, `n_2`."""
    names: list[str] = []
    for name in table.column_names:
        number, own = 2, name
        while own in names:
            number, own = number + 1, f"{name}_{number}"
        names.append(own)
    return table.rename_columns(names)


def _check_runner(runner: str) -> None:
    if runner not in RUNNERS:
        raise UsageError(f"runner {runner!r}: no such runner{nearest(runner, RUNNERS)}")
