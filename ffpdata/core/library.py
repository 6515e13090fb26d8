"""Where pipelines, profiles and prompts are found: those that come with ffpdata, and files of the user's own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ffpdata.core.errors import ConfigError, UsageError, nearest

SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class Library:
    """The files that come with ffpdata: beside the package in a checkout, inside it in an installed wheel."""

    root: Path

    @classmethod
    def find(cls) -> Library:
        """Locate the files that come with ffpdata."""
        package = Path(__file__).resolve().parents[1]
        for root in (package.parent, package / "_data"):
            if (root / "pipelines").is_dir() and (root / "prompts").is_dir():
                return cls(root)
        raise ConfigError(f"no pipelines/ and prompts/ beside {package}: reinstall ffpdata")

    def file(self, kind: str, name: str) -> Path:
        """Resolve a name or path: `local_editing`, `pipelines/local_editing.yaml` or a file of the user's own."""
        given = Path(name)
        if given.suffix in SUFFIXES:
            for path in (given, self.root / given):
                if path.is_file():
                    return path
        path = self.root / kind / f"{name}.yaml"
        if path.is_file():
            return path
        known = self.names(kind)
        raise UsageError(f"no {kind.rsplit('/', 1)[-1].removesuffix('s')} {name!r}{nearest(given.stem, known)}")

    def own(self, files: Iterable[Path]) -> list[Path]:
        """Those of `files` that do not come with ffpdata."""
        shipped = {self.root / "pipelines", self.root / "pipelines/profiles"}
        return [file for file in files if file.resolve().parent not in shipped]

    def names(self, kind: str) -> list[str]:
        """What comes with ffpdata in `pipelines`, `pipelines/profiles` or `prompts`."""
        return sorted(path.stem for path in (self.root / kind).glob("*.yaml"))

    def prompt(self, name: str, given: str, folders: Sequence[Path]) -> Path:
        """Find the file of a question.

        Args:
            name: what the stage calls it.
            given: what the pipeline's `prompts` has for it: a file, or another name; "" for nothing.
            folders: of the pipeline, of the profiles, of the stage's module, and the working directory. A file is
                relative to one of them. A name is a file of ffpdata's or else `<folder>/prompts/<name>.yaml` or
                `<folder>/<name>.yaml`, the first there is.

        Raises:
            UsageError: there is none; with where it was sought and the nearest name.
        """
        wanted = given or name
        if Path(wanted).suffix in SUFFIXES:
            found = _first(root / wanted for root in (*folders, self.root))
        else:
            own = (folder / part for folder in folders for part in (f"prompts/{wanted}.yaml", f"{wanted}.yaml"))
            found = _first((self.root / "prompts" / f"{wanted}.yaml", *own))
        if found is None:
            known = {*self.names("prompts"), *(file.stem for root in folders for file in root.glob("prompts/*.yaml"))}
            hint = nearest(Path(wanted).stem, known)
            place = ", ".join(map(str, folders))
            raise UsageError(f"no prompt {wanted!r}: it does not come with ffpdata, and it is not in {place}{hint}")
        return found


def _first(paths: Iterable[Path]) -> Path | None:
    return next((path for path in paths if path.is_file()), None)
