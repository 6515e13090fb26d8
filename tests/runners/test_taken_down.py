"""A source that was taken down is never made again, whatever changes and under whatever path it comes back."""

from __future__ import annotations

from pathlib import Path

from ffpdata.core.keys import digest
from ffpdata.core.stage import Child, Item, Row, Stage
from ffpdata.manifests.manifest import ManifestWriter
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.manifests.tombstones import Tombstone, Tombstones
from ffpdata.manifests.views import connect, records
from ffpdata.runners.inline import run_inline
from ffpdata.runners.interrupts import Stop
from ffpdata.runners.progress import Progress
from ffpdata.runners.session import make_flow
from tests import toys

STAGES = {"t": ["read", "upper", "styles", "use"]}


def sha(text: str) -> str:
    return digest(text)[:16]


class Read(toys.Read):
    writes = {"text": str, "style_ids": list[str], "style_paths": list[str]}

    def expand(self, row: Row) -> list[Child]:
        text = Path(row["path"]).read_text()
        styles = {"style_ids": [sha("ink"), sha("oil")], "style_paths": ["ink", "oil"]}
        return [Child(f"{sha(text)}", {"text": text, **styles}, source_id=sha(text))]


class Styles(Stage):
    name, version = "styles", 1
    reads = ("style_ids", "text")
    uses = ("style_paths",)
    writes = {"style_id": str, "style": str}
    fan_out = True
    seen: list[list[str]] = []

    def expand(self, row: Row) -> list[Child]:
        self.seen.append(row["style_paths"])
        both = zip(row["style_ids"], row["style_paths"], strict=True)
        return [Child(f"style/{path}", {"style_id": name, "style": path}) for name, path in both]


class Use(Stage):
    name, version = "use", 1
    reads = ("style", "text")
    writes = {"length": int}
    calls: list[str] = []

    def process(self, row: Row) -> dict[str, int]:
        self.calls.append(row["style"])
        return {"length": len(row["style"])}


def go(run: RunFolder, paths: list[Path], mark: str = "!") -> list[tuple[str, ...]]:
    toys.Upper.calls.clear()
    Styles.seen.clear()
    Use.calls.clear()
    items = [Item(f"input/{path.name}", {"path": str(path)}) for path in paths]
    stages = [Read(), toys.Upper(toys.UpperSettings(mark=mark)), Styles(), Use()]
    with ManifestWriter(run.manifest) as writer, Progress(run.store, quiet=True) as progress, Stop() as stop:
        run_inline(make_flow(stages, items, writer, progress, track="t"), run.store, stop)
    found = records(connect(run.store, STAGES), "select item_id, stage, coalesce(reason, '') as reason from items")
    return sorted(tuple(row.values()) for row in found)


def test_a_source_and_a_style_that_were_taken_down_are_not_made_again(tmp_path: Path) -> None:
    run, paths = RunFolder(tmp_path / "run"), [tmp_path / "a", tmp_path / "b"]
    for path, text in zip(paths, ("alpha", "beta"), strict=True):
        path.write_text(text)
    go(run, paths[:1])
    stones = [Tombstone(sha("beta"), "b", "asked", "2026-01-02T00:00:00", done=True)]
    stones.append(Tombstone(sha("oil"), "oil", "", "2026-01-02T00:00:00", done=True))
    Tombstones(stones).save(run.store)
    assert go(run, paths) == sorted(  # the finished input is not walked: `takedown` itself ends its items
        [
            (f"{sha('alpha')}/style/ink", "use", ""),
            (f"{sha('alpha')}/style/oil", "use", ""),
            (sha("beta"), "upper", "taken_down"),
        ]
    )
    copy = tmp_path / "c"
    copy.write_text("beta")
    again = go(run, [*paths, copy], mark="?")
    assert ("beta" in toys.Upper.calls, toys.Upper.calls) == (False, ["alpha"])
    assert (sha("beta"), "upper", "taken_down") in again
    assert (f"{sha('alpha')}/style/oil", "use", "taken_down") in again
    assert "oil" not in Use.calls
    new = tmp_path / "d"
    new.write_text("gamma")
    go(run, [*paths, new], mark="?")
    assert Styles.seen == [["ink"]]
    assert Use.calls == ["ink"]
    parts = run.manifest.parts("upper")
    go(run, [*paths, new], mark="?")
    assert run.manifest.parts("upper") == parts
