"""README, docs/ and CONTRIBUTING say what the program does: blocks are run or checked, names and links exist.

What a fenced block is for stands in its info string, behind the language that it is coloured as:

    bash run        every line is an `ffpdata` command and is run, in order, in a scratch folder of the page
    bash check      every command and option is held against the command line interface, nothing is run
    python run      is executed there; with `file=NAME` it is written to that file instead, `run file=NAME` is both
    yaml pipeline, profile, prompt, settings    with `file=NAME`: is written and loaded as what it is
    yaml overlay    is written: a profile for a pipeline of the same page, which a command of the page then loads
    text            is shown and not read

A block without such a word fails. `CODE` spans are checked, too: commands, options, `make` targets, paths.
"""

from __future__ import annotations

import functools
import importlib.util
import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
import typer.main

import ffpdata
from ffpdata import cli
from ffpdata.core.config import load_pipeline
from ffpdata.core.prompt import Prompt
from ffpdata.core.stage import ResourceSettings
from ffpdata.curate.curation import curate
from ffpdata.export.shards import export
from ffpdata.inputs.listing import KNOWN_COLUMNS
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.media.geometry import Geometry
from ffpdata.refine.settings import load as load_refinement
from ffpdata.review.assignments import Assignments, GivenVerdict
from ffpdata.review.pairs import PairFilter
from ffpdata.sample import write_samples
from tests.fixture_run import make_run
from tests.openai_server import Say, Server
from tests.review.many_pairs import clips, make_pairs

REPOSITORY = Path(__file__).parents[1]
PACKAGE = Path(ffpdata.__file__).parent
PAGES = sorted(
    path.relative_to(REPOSITORY).as_posix()
    for path in (
        *REPOSITORY.glob("*.md"),
        *REPOSITORY.glob("docs/*.md"),
        *REPOSITORY.glob("[!.]*/README.md"),
    )
    if path.name != "CHANGELOG.md" and path.parent.name not in ("demo", "dataset")
)
COMMANDS: dict[str, Any] = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
CommandError: Any = typer.BadParameter.__mro__[2]
"""ClickException, of the click that this typer is built on: its own copy or the package."""

SMALL = ["clip={width: 320, height: 192, fps: 16, frames: 17}", "ingest.min_side=96"]
"""Laid over every run of a block, so that it takes seconds."""

STANDS_FOR = {
    "PIPELINE": "local_editing",
    "FILE": "calibrated.yaml",
    "RUN/refine/promoted.yaml": "calibrated.yaml",
    "COMMAND": "run",
}
"""What a placeholder or a file that a person would have stands for where a command is checked and not run."""

OVERLAY = "stages:\n  screen: {min_score: 6}\n"

PROGRAMS = {
    *(".", "cd", "export", "git", "python3", "ssh", "apt-get"),
    *("ray", "docker", "kubectl", "sbatch", "squeue", "scancel", "hf", "curl"),
}
"""Other programs that blocks may call; their options are not ours to check."""

FOREIGN_OPTIONS = {
    *("--head", "--port", "--address", "--num-cpus", "--num-gpus", "--working-dir", "--metrics-export-port"),
    *("--gpu-memory-utilization", "--trust-request-mm-kwargs"),
    *("--dataset_metadata_path", "--data_file_keys", "--dataset_config", "--train_data_meta"),
    *("--vid_dataset_metadata_path", "--vid_ref_dataset_metadata_path"),
    "--fit",
}
"""Options of other programs that the text names."""

FENCE = re.compile(r"^(```+)([^\n]*)\n(.*?)^\1[ \t]*$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the words behind it, its text and where it begins."""

    language: str
    words: tuple[str, ...]
    text: str
    line: int

    @property
    def file(self) -> str:
        return next((word.removeprefix("file=") for word in self.words if word.startswith("file=")), "")

    @property
    def kind(self) -> str:
        return next((word for word in self.words if "=" not in word), "")


@functools.cache
def text_of(page: str) -> str:
    """A page without its HTML comments, line numbers kept."""
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    return re.sub(r"<!--.*?-->", lambda found: "\n" * found[0].count("\n"), text, flags=re.DOTALL)


@functools.cache
def blocks(page: str) -> tuple[Block, ...]:
    found = []
    for fence in FENCE.finditer(text_of(page)):
        language, *words = fence[2].split() or [""]
        found.append(Block(language, tuple(words), fence[3], text_of(page)[: fence.start()].count("\n") + 1))
    return tuple(found)


def prose(page: str) -> str:
    """A page without its blocks."""
    return FENCE.sub("", text_of(page))


def commands(text: str) -> Iterator[list[str]]:
    """The commands of a shell block as lists of words; comments, continued lines and `&&` are understood."""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        words: list[str] = []
        for word in [*shlex.split(line, comments=True), "&&"]:
            if word != "&&":
                words.append(word)
            elif words:
                yield words
                words = []


def kinds(language: str) -> set[str]:
    return {
        "bash": {"run", "check"},
        "python": {"run", ""},
        "yaml": {"pipeline", "profile", "prompt", "settings", "overlay"},
        "text": {""},
    }.get(language, set())


# --- every block says what it is ---


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_how_it_is_checked(page: str) -> None:
    for block in blocks(page):
        where = f"{page}:{block.line}: ```{block.language} {' '.join(block.words)}"
        assert block.kind in kinds(block.language), f"{where}: expected {kinds(block.language) or 'another language'}"
        assert block.kind or block.file or block.language == "text", f"{where}: neither run nor written to a file"
        assert block.language != "yaml" or block.file, f"{where}: give it file=NAME"


# --- commands and options ---


def check_command(words: list[str], where: str) -> None:
    """Hold the words of one command against the programs of this repository."""
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):  # the environment of one command
        words = words[1:]
    program, *rest = words
    if program == "ffpdata":
        check_ffpdata(rest, where)
    elif program == "make":
        assert {word for word in rest if "=" not in word} <= targets(), f"{where}: {words}: no such target"
    elif program in ("pip", "uv"):
        for extras in re.findall(r"ffpdata\[([\w,]+)\]", " ".join(rest)):
            assert set(extras.split(",")) <= set(project()["optional-dependencies"]), f"{where}: no extra in {extras}"
    elif program == "python" and rest[0] == "-m":
        assert rest[1] == "pytest" or importlib.util.find_spec(rest[1]), f"{where}: no module {rest[1]}"
    else:
        assert program in PROGRAMS, f"{where}: unknown program {program!r}"
        if "ffpdata" in rest:  # `ray job submit ... -- ffpdata run ...`
            check_ffpdata(rest[rest.index("ffpdata") + 1 :], where)
    for word in words:
        if re.match(r"(docker|pipelines|prompts|manifests|tests|docs)/", word):
            assert (REPOSITORY / word).exists(), f"{where}: no file {word}"


def check_ffpdata(words: list[str], where: str) -> None:
    """Parse an `ffpdata` command as the program would, and load the pipeline and profile that it names."""
    if not words or words[0] in ("--help", "--version"):
        return
    name, *rest = [STANDS_FOR.get(words[0], words[0]), *words[1:]]
    assert name in COMMANDS, f"{where}: no command {name!r}"
    command = COMMANDS[name]
    if rest and (inner := getattr(command, "commands", {})):
        assert rest[0] in inner, f"{where}: no command {name} {rest[0]!r}"
        command, rest = inner[rest[0]], rest[1:]
    try:
        context = command.make_context(name, list(rest))
    except CommandError as err:
        pytest.fail(f"{where}: ffpdata {shlex.join(words)}: {err.format_message()}")
    except typer.Exit:  # --help
        return
    given = context.params
    profile = ",".join(STANDS_FOR.get(part, part) for part in (given.get("profile") or "").split(","))
    overrides = [STANDS_FOR.get(text, text) for text in given.get("overrides") or []]
    pipeline = STANDS_FOR.get(str(given.get("pipeline")), str(given.get("pipeline")))
    if any(part.endswith(".yaml") and not Path(part).exists() for part in (pipeline, *profile.split(","))):
        return  # a file that the page has the reader write
    if name == "run":
        load_pipeline(pipeline, profile or None, overrides)
    elif name == "refine":
        load_refinement("refinement", overrides)
    elif profile:
        load_pipeline("local_editing", profile)


@functools.cache
def project() -> dict[str, Any]:
    return dict(tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"])


@functools.cache
def targets() -> frozenset[str]:
    """What the Makefile makes by name."""
    names = re.search(r"^\.PHONY:(.*)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert names
    return frozenset(names[1].split())


@pytest.fixture
def with_overlay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "calibrated.yaml").write_text(OVERLAY)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("with_overlay")
@pytest.mark.parametrize("page", PAGES)
def test_commands_of_blocks_are_valid(page: str) -> None:
    for block in blocks(page):
        if block.language != "bash":
            continue
        for words in commands(block.text):
            if block.kind == "check":
                check_command(words, f"{page}:{block.line}")
            else:
                assert words[0] == "ffpdata", f"{page}:{block.line}: {words[0]} in a block that is run"
                check_ffpdata(words[1:], f"{page}:{block.line}")


@pytest.mark.usefixtures("with_overlay")
@pytest.mark.parametrize("page", PAGES)
def test_commands_and_options_in_the_text_are_valid(page: str) -> None:
    inner = [one for command in COMMANDS.values() for one in getattr(command, "commands", {}).values()]
    options = {name for one in [*COMMANDS.values(), *inner] for parameter in one.params for name in parameter.opts}
    for span in SPAN.findall(prose(page)):
        where = f"{page}: `{span}`"
        if span.startswith("ffpdata ") and "..." not in span:
            words = shlex.split(span)
            if len(words) > 2:  # with arguments: as it would be typed
                check_ffpdata(words[1:], where)
            else:
                assert words[1] in COMMANDS or words[1].startswith("-"), f"{where}: no such command"
        elif span.startswith("python -m ") and "NAME" not in span:
            check_command(shlex.split(span), where)
        elif span.startswith("make "):
            assert set(span.split()[1:2]) <= targets(), f"{where}: no such target"
        elif span.startswith("--set "):
            load_pipeline("local_editing", overrides=[STANDS_FOR.get(span[6:], span[6:])])
        elif span.startswith("--"):
            assert {re.split(r"[ =]", span)[0]} <= options | FOREIGN_OPTIONS | {"--help", "--version"}, where


def table(page: str, heading: str) -> list[list[str]]:
    """Cells of the first table below a heading, without its head."""
    section = re.split(r"^#+ ", f"\n{prose(page)}".partition(f"\n{heading}\n")[2], flags=re.MULTILINE)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    assert len(lines) > 2, f"{page} has no table below {heading!r}"
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def test_the_table_of_commands_is_complete() -> None:
    listed = [SPAN.findall(row[0])[0].split()[1] for row in table("README.md", "## Commands")]
    assert listed == list(COMMANDS)


def test_the_exit_codes_are_those_of_the_program() -> None:
    codes = {int(SPAN.findall(row[0])[0]) for row in table("README.md", "### Exit codes")}
    assert codes == set(cli.ExitCode)


def test_tables_of_settings_are_complete() -> None:
    given = {name for row in table("docs/cluster.md", "## What a stage asks for") for name in SPAN.findall(row[0])}
    assert given == set(ResourceSettings.model_fields) - {"gpu_memory_gb"}
    assert {name for row in table("README.md", "## Your own clips") for name in SPAN.findall(row[0])} == set(
        KNOWN_COLUMNS
    )


def test_all_make_targets_are_explained() -> None:
    told = set(re.findall(r"`make ([\w-]+)`", text_of("CONTRIBUTING.md")))
    assert told == targets() - {"help"}


# --- links, paths and modules ---


def anchors(page: str) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_links_and_pictures_exist(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)|src(?:set)?=\"([^\"]+)\"", prose(page)):
        link = "".join(target)
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        found = (REPOSITORY / page).parent / path if path else REPOSITORY / page
        assert found.exists(), f"{page}: no file {link}"
        if anchor:
            other = found.resolve().relative_to(REPOSITORY).as_posix()
            assert anchor in anchors(other), f"{page}: {other} has no heading for #{anchor}"


@pytest.mark.parametrize("page", PAGES)
def test_paths_in_the_text_exist(page: str) -> None:
    for span in SPAN.findall(prose(page)):
        if re.fullmatch(r"(ffpdata|pipelines|prompts|docker|docs|tests|requirements|benchmarks)/[\w./-]*", span):
            assert "NAME" in span or (REPOSITORY / span).exists(), f"{page}: `{span}` is not there"
        elif re.fullmatch(r"ffpdata(\.\w+)+(:\w+)?", span):
            first = span.split(".")[1]
            if not (PACKAGE / first).is_dir() and hasattr(ffpdata, first):
                continue  # of `import ffpdata`
            module, _, name = span.partition(":")
            module = module if importlib.util.find_spec(module) else module.rpartition(".")[0]
            assert importlib.util.find_spec(module), f"{page}: no module {span}"
            source = Path(importlib.util.find_spec(module).origin or "").read_text()  # type: ignore[union-attr]
            assert not name or re.search(rf"\b{name}\b", source), f"{page}: {module} has no {name}"


def test_the_page_of_rooms_names_every_module() -> None:
    page = "docs/rooms.md"
    listed: dict[str, set[str]] = {}
    for room, names, *_ in table(page, "# Rooms: every module"):
        listed[SPAN.findall(room)[0].strip("/")] = set(SPAN.findall(names))
    there: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        if path.name[0] != "_" and "_data" not in path.parts:
            there.setdefault(path.parent.relative_to(PACKAGE.parent).as_posix(), set()).add(path.stem)
    where = {f"ffpdata/{room}".removesuffix("/ffpdata"): names for room, names in listed.items()}
    for room in sorted({*where, *there}):
        assert where.get(room, set()) == there.get(room, set()), f"{page}: {room}"
    known = {f"{room.removeprefix('ffpdata/')}/{name}" for room, names in there.items() for name in names}
    for other in (page, "docs/architecture.md"):
        for span in SPAN.findall(prose(other)):
            if re.fullmatch(r"[a-z_]+(/[a-z_]+)+", span) and (PACKAGE / span.split("/")[0]).is_dir():
                assert span in known, f"{other}: no module `{span}`"


# --- blocks that run ---


@dataclass
class Material:
    """What the pages take for granted: sample clips, a run, a dataset, a run with verdicts."""

    sample: Path
    run: Path
    dataset: Path
    judged: Path


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    """Built once: clips of 320x192x17, a run of both tracks as a runner leaves it, its export, and 40 judged pairs."""
    folder = tmp_path_factory.mktemp("docs")
    write_samples(folder / "sample", geometry=Geometry(width=320, height=192, fps=16, frames=17), quick=True)
    run = make_run(folder / "run")
    curate(run)
    export(run, folder / "dataset")
    judged = make_pairs(folder / "judged", 40, clips(folder))
    judge(judged)
    return Material(folder / "sample", folder / "run", folder / "dataset", folder / "judged")


def judge(run: RunFolder) -> None:
    """Have two people judge every pair: those of a high score are accepted."""
    reviewing = Assignments(run, overlap=1)
    for reviewer in ("ann", "ben"):
        for pair in reviewing.lease(reviewer, PairFilter(order="worst"), 40):
            good = (pair.score or 0) >= 7.5
            reviewing.submit(
                reviewer, pair.key, GivenVerdict("accept") if good else GivenVerdict("reject", ("flicker",))
            )


def furnish(folder: Path, material: Material, page: str) -> None:
    """Lay out what the page's commands name: CLIPS, clips.csv, IMAGES, RUN, demo/."""
    (folder / "CLIPS").mkdir()
    for name in ("ball_static", "coin_pan"):
        shutil.copy(material.sample / "clips" / f"{name}.mp4", folder / "CLIPS")
    lines = (material.sample / "clips.csv").read_text().splitlines()
    kept = [lines[0], *(line for line in lines if "ball_static" in line or "coin_pan" in line)]
    (folder / "clips.csv").write_text("\n".join(kept).replace("clips/", "CLIPS/") + "\n")
    for part, name in (("content", "bigbuckbunny.mp4"), ("style", "woodcut.png")):
        (folder / "IMAGES" / part).mkdir(parents=True)
        shutil.copy(material.sample / part / name, folder / "IMAGES" / part)
    shutil.copytree(material.judged if page == "docs/review.md" else material.run, folder / "RUN")
    shutil.copytree(material.dataset, folder / "demo/dataset")
    (folder / "demo/run").symlink_to(folder / "RUN")


PAGES_THAT_RUN = [page for page in PAGES if any(block.kind not in ("", "check") for block in blocks(page))]


@pytest.mark.parametrize("page", PAGES_THAT_RUN)
def test_blocks_run(
    page: str,
    material: Material,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    furnish(tmp_path, material, page)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    known = set(sys.modules)
    names: dict[str, Any] = {"__name__": "__main__"}
    with Server(lambda _: ANSWER) as server:
        for block in blocks(page):
            where = f"{page}:{block.line}"
            text = block.text.replace("http://127.0.0.1:8000/v1", server.url)
            if block.file:
                Path(block.file).parent.mkdir(parents=True, exist_ok=True)
                Path(block.file).write_text(text, encoding="utf-8")
            if block.language == "yaml":
                load(block, where)
            elif block.language == "python" and block.kind == "run":
                exec(compile(text, where, "exec"), names)  # noqa: S102
            elif block.language == "bash" and block.kind == "run":
                for words in commands(text):
                    run_command(words[1:], where, monkeypatch, capsys)
    for name in set(sys.modules) - known:  # modules of the page's own must not be another page's
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "") or ""):
            del sys.modules[name]


ANSWER = Say('{"reason": "A ball on grass.", "weather": "sunny", "score": 8}')
"""What the served model of the pages answers."""


def load(block: Block, where: str) -> None:
    """Load a file as what the block says that it is."""
    path = str(Path(block.file).resolve())
    if block.kind == "pipeline":
        assert load_pipeline(path).build(), where
    elif block.kind == "profile":
        assert load_pipeline("local_editing", f"cpu,{path}").build(), where
    elif block.kind == "prompt":
        assert Prompt.load(Path(path)).text, where
    elif block.kind == "settings":
        assert load_refinement(path), where


def run_command(
    words: list[str], where: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run one `ffpdata` command in this process."""
    small = [word for setting in SMALL for word in ("--set", setting)] if words[0] == "run" else []
    monkeypatch.setattr(sys, "argv", ["ffpdata", *words, *small])
    try:
        cli.main()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    said = capsys.readouterr()
    assert code == 0, f"{where}: ffpdata {shlex.join(words)} exited with {code}:\n{said.out}\n{said.err}"
    assert said.out.strip(), f"{where}: ffpdata {shlex.join(words)} printed nothing"


def test_nothing_is_left_over() -> None:
    """The tables of this file name what the pages name."""
    everything = "\n".join(text_of(page) for page in PAGES)
    for name in (*FOREIGN_OPTIONS, *STANDS_FOR):
        assert name in everything, f"{name!r} stands in no page any more"
