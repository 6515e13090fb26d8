"""Imports point one way, from the contract up to the commands, and rooms form no circle."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path

import pytest

import ffpdata

ROOT = Path(ffpdata.__file__).parent
LEVEL = {
    "core": 0,
    "storage": 1,
    "processes": 1,
    "inputs": 2,
    "manifests": 2,
    "media": 3,
    "models": 4,
    "metrics": 4,
    "sample": 4,
    "stages": 5,
    "training": 5,
    "serve": 5,
    "doctor": 5,
    "curate": 6,
    "review": 7,
    "export": 7,
    "report": 7,
    "runners": 7,
    "refine": 8,
    "propagation": 8,
    "evaluation": 8,
    "takedown": 8,
    "planning": 8,
    "api": 9,
    "cli": 10,
    "__main__": 10,
}
HEAVY = {
    "torch",
    "transformers",
    "diffsynth",
    "ray",
    "vllm",
    "onnxruntime",
    "ai_edge_litert",
    "fastapi",
    "uvicorn",
    "starlette",
}
ON_DEMAND = {
    "runners/ray.py",
    "runners/worker_pools.py",
    "runners/faults.py",
    "runners/prometheus.py",
    "review/connections.py",
    "review/routes.py",
    "models/wan/fp8.py",
    "models/wan/training.py",
    "models/loraedit/conditioning.py",
    "models/loraedit/engine.py",
    "models/loraedit/training.py",
    "models/propagation/alpha_predictor.py",
    "models/propagation/ast_rope.py",
    "models/propagation/conditioning.py",
    "models/propagation/distillation.py",
    "models/propagation/engine.py",
    "models/propagation/head_density.py",
    "models/propagation/patch_embedding.py",
    "models/propagation/sampling.py",
    "models/propagation/training.py",
    "training/master_weights.py",
}
"""Modules that are imported where a command asks for them: they may say at the top what they need."""
FILES = sorted(p for p in ROOT.rglob("*.py") if p.name != "__init__.py" or p.parent != ROOT)


def imports(path: Path) -> list[tuple[str, bool]]:
    """Imported modules of a file, and whether the import stands at the top level."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        found += [(name, node.col_offset == 0) for name in names]
    return found


def room_of(path: Path) -> str:
    """The top-level folder, or the module, that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def room_graph() -> dict[str, dict[str, Path]]:
    """Per room the other rooms that it imports, each with a file that does."""
    graph: dict[str, dict[str, Path]] = {}
    for path in FILES:
        rooms = graph.setdefault(room_of(path), {})
        for name, _ in imports(path):
            parts = name.split(".")
            if parts[0] == "ffpdata" and len(parts) > 1 and parts[1] != room_of(path):
                rooms.setdefault(parts[1], path)
    return graph


def circle(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """A path through the graph that ends where it begins; empty where there is none."""
    done: set[str] = set()

    def follow(room: str, path: list[str]) -> list[str]:
        if room in path:
            return [*path[path.index(room) :], room]
        if room in done:
            return []
        for other in sorted(graph.get(room, ())):
            if found := follow(other, [*path, room]):
                return found
        done.add(room)
        return []

    return next((found for room in sorted(graph) if (found := follow(room, []))), [])


def test_rooms_form_no_circle() -> None:
    graph = room_graph()
    rooms = circle(graph)
    steps = [f"{a} imports {b} in {graph[a][b].relative_to(ROOT)}" for a, b in pairwise(rooms)]
    assert not rooms, "; ".join(steps)


def test_a_circle_is_found_with_its_path() -> None:
    assert circle({"a": ["b", "d"], "b": ["c"], "c": ["d"], "d": ["b"], "e": ["a"]}) == ["b", "c", "d", "b"]
    assert circle({"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}) == []


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    level = LEVEL[room_of(path)]
    for name, top in imports(path):
        parts = name.split(".")
        if parts[0] == "ffpdata" and len(parts) > 1:
            assert LEVEL[parts[1]] <= level, f"{path.name} imports {name}"
        heavy = top and parts[0] in HEAVY and path.relative_to(ROOT).as_posix() not in ON_DEMAND
        assert not heavy, f"{path.name} imports {name} at the top level"


def test_a_run_in_this_process_loads_no_engine() -> None:
    engines = "{'ray', 'torch', 'fastapi'}"
    code = f"import sys, ffpdata.runners.session, ffpdata.cli; sys.exit(bool({engines} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
