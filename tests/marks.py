"""What a test needs that is slow to load or to start, read from the imports of its file, its helpers and its fixtures.

    models   a large model's library: torch, transformers, diffusers, ...
    ray      a Ray cluster
    browser  Chromium
    slow     more than a few seconds: whole pipelines, processes that are killed; by fixture, or said by the file

`pytest --fast` leaves all of these out without importing their files.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MARKS = ("models", "ray", "browser", "slow")
"""As pyproject.toml registers them."""
LIBRARIES = dict.fromkeys(("torch", "transformers", "diffsynth", "diffusers", "peft", "accelerate", "sam2"), "models")
LIBRARIES |= {"ray": "ray", "playwright": "browser"}
FIXTURES = {"browser": "browser", "samples": "slow", "finished": "slow", "material": "slow"}


def of_file(path: Path) -> frozenset[str]:
    """What every test of a file needs."""
    return _needs(path, top_only=True) | _said(path)


def of_item(item: pytest.Item) -> frozenset[str]:
    """What one test needs: its file, its own imports, and those of its fixtures."""
    found = set(of_file(item.path)) | {mark.name for mark in item.iter_markers() if mark.name in MARKS}
    functions = [(item.path, getattr(item, "originalname", item.name))]
    for name, definitions in item._fixtureinfo.name2fixturedefs.items():  # type: ignore[attr-defined]
        found |= {FIXTURES[name]} if name in FIXTURES else set()
        for one in definitions:
            where = Path(one.func.__code__.co_filename)
            if where.is_relative_to(ROOT / "tests"):
                functions.append((where, one.func.__name__))
    for where, name in functions:
        found |= _of_functions(where).get(name, frozenset())
    return frozenset(found)


@cache
def _of_functions(path: Path) -> dict[str, frozenset[str]]:
    """What the functions of a file import when they are called."""
    functions = [node for node in ast.walk(_tree(path)) if isinstance(node, ast.FunctionDef)]
    return {node.name: _of_imports(node) for node in functions}


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def _needs(path: Path, *, top_only: bool) -> frozenset[str]:
    """What the imports of a file ask for: all of them, or those that run when the file is imported."""
    return _of_imports(_tree(path), top_only=top_only)


def _said(path: Path) -> frozenset[str]:
    """The marks that a file gives to all its tests: `pytestmark = pytest.mark.slow`, or several in a list."""
    for node in _tree(path).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "pytestmark" for t in node.targets):
            return frozenset(n.attr for n in ast.walk(node.value) if isinstance(n, ast.Attribute) and n.attr in MARKS)
    return frozenset()


def _of_imports(tree: ast.AST, *, top_only: bool = False) -> frozenset[str]:
    found: set[str] = set()
    for name in _imported(tree, top_only):
        package = name.partition(".")[0]
        if package in LIBRARIES:
            found.add(LIBRARIES[package])
        elif package in {"tests", "ffpdata", "benchmarks"} and (file := _file(name)):
            # A helper's functions are there to be called; the product loads what is heavy where it is used.
            found |= _needs(file, top_only=package == "ffpdata")
    return frozenset(found)


def _file(module: str) -> Path | None:
    """The file of a module, or of the module that a name is taken from; tests that share a fixture share no mark."""
    for name in (module, module.rpartition(".")[0]):
        file = ROOT / f"{name.replace('.', '/')}.py"
        if file.exists():
            return None if file.name.startswith("test_") else file
    return None


def _imported(tree: ast.AST, top_only: bool) -> Iterator[str]:
    """Names of imported modules, and of what is taken from them; `pytest.importorskip` imports too."""
    waiting = list(getattr(tree, "body", []))
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "importorskip":
            yield from (arg.value for arg in node.args if isinstance(arg, ast.Constant))
        elif isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            continue
        elif not (top_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            waiting.extend(ast.iter_child_nodes(node))
