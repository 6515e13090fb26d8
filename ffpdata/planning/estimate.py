"""From what is asked for to a plan: pipelines are read, a pilot is laid over what is assumed, the run is simulated."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ffpdata.core.config import load_pipeline
from ffpdata.core.errors import UsageError, nearest
from ffpdata.core.pipeline import Pipeline
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.planning.assumed import AssumedModel
from ffpdata.planning.cluster import Cluster, idle, misfits, wall_time
from ffpdata.planning.draws import Sampler
from ffpdata.planning.flow_model import Arrivals, Expected, TrackModel, expect, inputs
from ffpdata.planning.measured import MeasuredModel, arrivals_left
from ffpdata.planning.pilot import Pilot, read_pilot
from ffpdata.planning.plan import Plan, TrackPlan
from ffpdata.planning.settings import NO_PRESET, PlanSettings, Preset, load_preset, load_settings, take_out
from ffpdata.planning.simulation import StartTimes

FEW_SOURCES = 20


@dataclass(frozen=True)
class Request:
    """What a plan is asked for.

    Attributes:
        pipelines: names or files.
        clips: inputs of each pipeline.
        pairs: accepted pairs that are wanted in place of `clips`: of all pipelines together, or by track.
        gpus: of the cluster, those of model servers included.
        cpus: cores of the cluster; by default those of usual machines with so many GPUs, or this machine's.
        memory_gb: main memory of the cluster, likewise.
        node_gpus: GPUs of one machine.
        disk_gb: room for the run folder and the export; by default what is free where the pilot's run is.
        profile: which models.
        preset: a name or a file: profile, pairs and assumptions together.
        overrides: `a.b=c` texts; those of `plan.` change assumptions.
        run: a pilot, finished or half finished.
        price: US dollars for an hour of a GPU.
    """

    pipelines: Sequence[str]
    clips: float | None = None
    pairs: float | Mapping[str, float] | None = None
    gpus: int = 0
    cpus: float | None = None
    memory_gb: float | None = None
    node_gpus: int | None = None
    disk_gb: float | None = None
    profile: str | None = None
    preset: str = ""
    overrides: Sequence[str] = ()
    run: str | Path | None = None
    price: float | None = None


def make_plan(request: Request) -> Plan:
    """Make a plan.

    Raises:
        UsageError: what is asked for is wrong, or says too little.
        ConfigError: a pipeline, profile, preset or setting is wrong; with file, line and the nearest valid name.
        FatalError: the manifests of the pilot cannot be read.
    """
    return _Planner(request).plan()


@dataclass
class _Track:
    """A pipeline, and what a pilot measured of it."""

    pipeline: Pipeline
    assumed: AssumedModel
    pilot: Pilot | None

    @property
    def track(self) -> str:
        """Its track."""
        return self.pipeline.track


@dataclass
class _Work:
    """What a pipeline has to do.

    Attributes:
        ahead: sources that are to come.
        measured: stages whose numbers the pilot measured.
        not_measured: the others.
        rest: whether it is what is left of the pilot's run.
    """

    of: _Track
    model: TrackModel
    arrivals: Arrivals
    expected: Expected
    ahead: float = 0.0
    measured: list[str] = field(default_factory=list)
    not_measured: list[str] = field(default_factory=list)
    rest: bool = False


class _Planner:
    """Makes one plan."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.preset: Preset = load_preset(request.preset) if request.preset else NO_PRESET
        mine, self.overrides = take_out(request.overrides)
        self.overrides = [*self.preset.set, *self.overrides]
        if request.price is not None:
            mine.append(f"plan.price.usd_per_gpu_hour={request.price}")
        self.settings: PlanSettings = load_settings(self.preset, mine, named=f"preset {request.preset}")
        self.sampler = Sampler()
        self.run = RunFolder.existing(request.run) if request.run is not None else None
        if not request.pipelines:
            raise UsageError("name a pipeline: ffpdata plan local_editing --clips 1000 --gpus 8")

    def plan(self) -> Plan:
        """Return the plan."""
        tracks = [self._track(name) for name in self.request.pipelines]
        names = [track.track for track in tracks]
        if len(set(names)) < len(names):
            raise UsageError(f"two of the pipelines have the same track: {', '.join(names)}; plan them one by one")
        wanted = self._wanted(names)
        works = [self._work(track, wanted) for track in tracks]
        cluster = self._cluster(works)
        warnings: list[str] = []
        planned = [self._simulated(work, cluster, warnings) for work in works]
        used = set().union(*(track.assumed.used for track in tracks)) | {"price.usd_per_gpu_hour", "start.worker"}
        used |= {"start.model"} if cluster.worker_gpus else set()
        price = self.settings.price
        plan = Plan(
            title=self._title(tracks),
            tracks=planned,
            cluster=cluster,
            settings=self.settings,
            price=self.sampler.draw("price.usd_per_gpu_hour", price.usd_per_gpu_hour),
            cpu_price=self.sampler.draw("price.usd_per_cpu_hour", price.usd_per_cpu_hour),
            assumptions=[(path, number) for path, number in self.settings.numbers() if path in used],
            warnings=list(dict.fromkeys(warnings)),
        )
        return replace(plan, warnings=[*plan.warnings, *self._storage(plan)])

    def _track(self, name: str) -> _Track:
        """Read a pipeline, and the pilot of its track."""
        request, profile = self.request, self.request.profile or self.preset.profile or None
        now = load_pipeline(name, profile, self.overrides)
        base = load_pipeline(name, profile)
        pilot = read_pilot(self.run, now.track) if self.run else None
        if pilot and not profile and not request.overrides and not request.preset:
            now = base = pilot.pipeline  # as it was started, its own settings included
        return _Track(now, AssumedModel(now, base, self.settings, self.sampler), pilot)

    def _wanted(self, tracks: Sequence[str]) -> dict[str, float] | None:
        """Pairs that are wanted of each track; None where clips are given, or the rest of a run is asked for."""
        request = self.request
        if request.clips is not None and request.pairs is not None:
            raise UsageError("give --clips or --pairs, not both: one follows from the other")
        if request.clips is not None:
            _at_least("--clips", request.clips)
            return None
        pairs = request.pairs
        if isinstance(pairs, Mapping):
            for track in pairs:
                if track not in tracks:
                    raise UsageError(
                        f"--pairs {track}=...: no pipeline has the track {track!r}{nearest(track, tracks)}"
                    )
            missing = [track for track in tracks if track not in pairs]
            if missing:
                raise UsageError(f"--pairs says nothing of the track {missing[0]!r}: give {missing[0]}=N, too")
            for track, count in pairs.items():
                _at_least(f"--pairs {track}", count)
            return dict(pairs)
        known = {track: self.preset.pairs[track] for track in tracks if track in self.preset.pairs}
        if pairs is not None:
            _at_least("--pairs", pairs)
            shares = known if len(known) == len(tracks) else dict.fromkeys(tracks, 1.0)
            return {track: pairs * share / sum(shares.values()) for track, share in shares.items()}
        if len(known) == len(tracks):
            return known
        if self.run is None:
            raise UsageError("say how much: --clips N inputs, or --pairs N accepted pairs")
        return None

    def _work(self, track: _Track, wanted: Mapping[str, float] | None) -> _Work:
        """Work out the amounts of a track."""
        clips, pilot = self.request.clips, track.pilot
        arrivals = inputs(clips if clips is not None else 1.0)
        if pilot is None:
            model = track.assumed.build()
            work = _Work(track, model, arrivals, expect(model, arrivals))
        else:
            rest = clips is None and wanted is None
            ahead = clips if clips is not None else sum((wanted or {}).values())
            if rest:
                waiting = sum(sum(tasks.values()) for tasks in pilot.waiting.values())
                arrivals, ahead = arrivals_left(pilot), float(pilot.not_fed + min(waiting, pilot.sources))
            found = MeasuredModel(track.assumed, pilot, ahead).build()
            expected = expect(found.model, arrivals)
            work = _Work(track, found.model, arrivals, expected, ahead, found.stages, found.assumed, rest)
        if wanted is None:
            return work
        one = work.expected.all_pairs
        if one[0] <= 0:
            raise UsageError(f"track {track.track!r} makes no pairs, so that none can be asked for")
        needed = wanted[track.track] / np.maximum(one, 1e-9)
        count = float(needed[0])
        return replace(work, expected=work.expected.scaled(needed), arrivals=inputs(count), ahead=count)

    def _cluster(self, works: Sequence[_Work]) -> Cluster:
        request = self.request
        _at_least("--gpus", request.gpus, zero=True)
        for name in ("cpus", "memory_gb", "node_gpus", "disk_gb"):
            if (value := getattr(request, name)) is not None:
                _at_least(f"--{name.replace('_', '-')}", value)
        cluster = Cluster.of(
            request.gpus,
            self.settings.node,
            cpus=request.cpus,
            memory_gb=request.memory_gb,
            node_gpus=request.node_gpus,
        )
        total = {str(number): work.expected.total for number, work in enumerate(works)}
        stages = [stage for work in works for stage in work.of.assumed.stages]
        return cluster.with_servers(stages, Expected(works[0].expected.fed, total, {}))

    def _simulated(self, work: _Work, cluster: Cluster, warnings: list[str]) -> TrackPlan:
        """Simulate a track, and say what will not go as hoped."""
        track, pilot = work.of, work.of.pilot
        stages = track.assumed.stages
        start = StartTimes(self.settings.start.worker.value, self.settings.start.model.value)
        spread = pilot.spread if pilot else {}
        wall = wall_time(work.model, stages, cluster, work.arrivals, expected=work.expected, start=start, spread=spread)
        problems = [*misfits(stages, cluster), *idle(wall, cluster), *self._doubts(work)]
        if wall.run.stuck:
            problems.append(f"the simulated run did not end: no worker came to {', '.join(wall.run.stuck)}")
        if cluster.gpus > self.request.gpus:
            problems.append(
                f"the model server needs {cluster.server_gpus} GPUs of its own beside the {self.request.gpus} of --gpus"
            )
        warnings += [f"{track.pipeline.name}: {problem}" for problem in problems]
        return TrackPlan(
            track.pipeline.name,
            track.track,
            work.expected,
            wall,
            seen=pilot.sources if pilot else 0,
            ahead=work.ahead,
            measured=work.measured,
            rest=work.rest,
        )

    def _doubts(self, work: _Work) -> Iterator[str]:
        """Say what the numbers of a track do not rest on."""
        track = work.of
        if track.assumed.unknown:
            names, seconds = ", ".join(dict.fromkeys(track.assumed.unknown)), self.settings.other_seconds.value
            yield (
                f"nobody says how long an item takes at {names}: {seconds:g} s are assumed. "
                "Set resources.STAGE.seconds, or plan from a pilot"
            )
        if track.pilot and track.pilot.sources < FEW_SOURCES:
            yield f"the pilot has {track.pilot.sources} sources: its intervals are rough"
        if work.not_measured:
            yield f"not measured by the pilot, so assumed: {', '.join(work.not_measured)}"

    def _storage(self, plan: Plan) -> list[str]:
        """Say whether the files fit."""
        room, where = self.request.disk_gb, "--disk-gb"
        if room is None and self.run is not None and self.run.store.local:
            room, where = shutil.disk_usage(str(self.run.store.root)).free / 1e9, str(self.run.store.root)
        needed = plan.quantities["storage_gb"]
        _, high = plan.interval(needed)
        if room is None or high <= room:
            return []
        sure = "does not" if needed[0] > room else "may not"
        return [f"storage {sure} suffice: {needed[0]:,.0f} GB, up to {high:,.0f}; {room:,.0f} GB are free ({where})"]

    def _title(self, tracks: Sequence[_Track]) -> str:
        profile = tracks[0].pipeline.profile or "no profile"
        given = [*([f"preset {self.request.preset}"] if self.request.preset else []), f"profile {profile}"]
        return ", ".join([*given, *self.request.overrides])


def _at_least(name: str, value: float, *, zero: bool = False) -> None:
    if value < 0 or (value == 0 and not zero) or not np.isfinite(value):
        raise UsageError(f"{name} {value:g}: give a number above 0" + (", or 0" if zero else ""))


def given_pairs(texts: Sequence[str]) -> float | dict[str, float] | None:
    """Read `--pairs`: one number for all pipelines, or `TRACK=N` for each.

    Raises:
        UsageError: a text is neither.
    """
    if not texts:
        return None
    by_track: dict[str, float] = {}
    for text in texts:
        track, sign, count = text.rpartition("=")
        try:
            number = float(count)
        except ValueError:
            raise UsageError(f"--pairs {text!r}: give a number, or TRACK=N") from None
        if not sign and len(texts) == 1:
            return number
        if not sign or not track:
            raise UsageError(f"--pairs {text!r}: of several each is TRACK=N, e.g. --pairs local=1000 --pairs style=500")
        by_track[track] = number
    return by_track
