"""What a start of a run does otherwise than the start before it, and which stages compute anew because of that.

Two entries of `run.yaml` are compared. Nothing is asked: a changed setting is what somebody wanted, or one that was
left out of the command, and the lines that come of it say which.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ffpdata.core.stage import Artifact, Stage
from ffpdata.core.wording import counted

UNSET = "(unset)"
LONGEST_VALUE = 48
"""Characters of a value that are shown."""
NAMED = 3
"""So many stages are called by their names; of more the number is told."""
AT_START = ("curate", "export", "input")
"""Sections that no stage reads: they are applied at every start or export."""

Entry = Mapping[str, Any]
Changes = dict[str, set[str]]
"""Line to the stages that it changes themselves."""


def changes(starts: Sequence[Entry], stages: Sequence[Stage], only: Collection[str]) -> list[str]:
    """Compare the newest start with the one before it; one line for each change.

    Args:
        starts: of one track, as `run.yaml` has them; the newest one last.
        stages: of the newest start.
        only: names of the stages that it computes.
    """
    if len(starts) < 2:
        return []
    before, now = starts[-2], starts[-1]
    found: Changes = {line: set() for line in _input(before, now)}
    found |= _stages(before, now, stages)
    return [line + _effect(direct, starts, stages, only) for line, direct in found.items()]


def _input(before: Entry, now: Entry) -> Iterator[str]:
    for name in ("input", "limit"):
        if before[name] != now[name]:
            yield f"{name} {_show(before[name])} -> {_show(now[name])}"
    was, is_ = before.get("entries"), now.get("entries")
    if was and is_ and was["count"] != is_["count"]:
        yield f"{counted(was['count'], 'input')} -> {is_['count']}"
    elif was and is_ and was["digest"] != is_["digest"]:
        yield f"{counted(is_['count'], 'input')} as before, but not the same ones, or with other hints"
    for section in AT_START:
        for path, old, new in _differences(before["pipeline"].get(section, {}), now["pipeline"].get(section, {})):
            yield f"{section}.{path} {_show(old)} -> {_show(new)}"


def _stages(before: Entry, now: Entry, stages: Sequence[Stage]) -> Changes:
    """What differs in stages, models and questions. Without a changed key a difference is one in writing alone."""
    old, new = before["pipeline"], now["pipeline"]
    was, is_ = before.get("keys", {}), now.get("keys", {})
    found: Changes = {}
    if old["profile"] != new["profile"]:
        found[_profile(old, new)] = set()
    gone = {entry["name"] for entry in old["stages"]} - {stage.name for stage in stages}
    for name in sorted(gone):
        written = set(before.get("columns", {}).get(name, {}))
        found[f"stage {name} is gone"] = {stage.name for stage in stages if written & set(stage.reads)}
    same = {stage.name for stage in stages if stage.name in was and was[stage.name] == is_[stage.name]}
    for line, direct in (*_settings(old, new), *_models(old, new, stages), *_prompts(old, new, stages)):
        if direct - same:
            found.setdefault(line, set()).update(direct - same)
    told = set[str]().union(*found.values())
    for stage in stages:
        if stage.name in was and stage.name not in same | told:
            found[f"{stage.name}: another version of its code, or of a model's"] = {stage.name}
    return found


def _settings(old: Entry, new: Entry) -> Iterator[tuple[str, set[str]]]:
    """Lines about settings, and the stage that each is of; one of the pipeline's `clip` is told once for all stages."""
    before = {entry["name"]: entry["settings"] for entry in old["stages"]}
    shared = {f"clip.{path}" for path, _, _ in _differences(old["clip"], new["clip"])}
    for entry in new["stages"]:
        name = entry["name"]
        if name not in before:
            yield f"stage {name} is new", {name}
            continue
        for path, was, is_ in _differences(before[name], entry["settings"]):
            yield f"{path if path in shared else f'{name}.{path}'} {_show(was)} -> {_show(is_)}", {name}


def _models(old: Entry, new: Entry, stages: Sequence[Stage]) -> Iterator[tuple[str, set[str]]]:
    """Lines about models, and the stages that use each; another profile is one line, whatever models it brings."""
    for role in sorted({*old["models"], *new["models"]}):
        users = {stage.name for stage in stages if role.partition("/")[0] in stage.models}
        for path, was, is_ in _differences(_model(old, role), _model(new, role)):
            line = f"models.{role}.{path} {_show(was)} -> {_show(is_)}"
            yield line if old["profile"] == new["profile"] else _profile(old, new), users


def _prompts(old: Entry, new: Entry, stages: Sequence[Stage]) -> Iterator[tuple[str, set[str]]]:
    for name, text in new["prompts"].items():
        if text != old["prompts"].get(name, text):
            yield f"prompt {name} is another text", {stage.name for stage in stages if name in stage.prompts}


def _profile(old: Entry, new: Entry) -> str:
    return f"profile {_show(old['profile'])} -> {_show(new['profile'])}"


def _model(pipeline: Entry, role: str) -> dict[str, Any]:
    """The part of a role that counts in keys."""
    spec = pipeline["models"].get(role, {})
    return {name: spec.get(name) for name in ("backend", "model", "revision", "settings") if spec}


def _differences(old: Entry, new: Entry, above: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Entries with two values: dotted path, old, new."""
    for name in [*old, *(name for name in new if name not in old)]:
        was, is_ = old.get(name, UNSET), new.get(name, UNSET)
        if isinstance(was, Mapping) and isinstance(is_, Mapping):
            yield from _differences(was, is_, f"{above}{name}.")
        elif was != is_:
            yield f"{above}{name}", was, is_


def _effect(direct: set[str], starts: Sequence[Entry], stages: Sequence[Stage], only: Collection[str]) -> str:
    """`: 14 stages anew`, or which earlier start did all of it already; empty where no stage computes anew."""
    anew = [name for name in _anew(direct, stages) if name in only]
    if not anew:
        return ""
    now = starts[-1].get("keys", {})
    for start in reversed(starts[:-1]):
        if now and start.get("keys") == now:
            return f": as at {start['started_at'][:19].replace('T', ' ')} UTC, whose results are used again"
    return f": {', '.join(anew) if len(anew) <= NAMED else counted(len(anew), 'stage')} anew"


def _anew(direct: set[str], stages: Sequence[Stage]) -> Iterator[str]:
    """Names of the stages that a change reaches: those of `direct`, and whoever reads a file that one of them writes.

    A file counts by the key that it was made under, so that its readers follow for certain; a plain column may well
    have the same value again.
    """
    files = set[str]()
    for stage in stages:
        written = {name for name, kind in stage.writes.items() if isinstance(kind, Artifact)}
        if stage.idle:
            continue
        if stage.name in direct or files & set(stage.reads):
            files |= written
            yield stage.name
        else:
            files -= written


def _show(value: Any) -> str:
    text = UNSET if value in (None, "", UNSET) else str(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."
