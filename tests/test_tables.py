"""The tables that are extended by one line: every row can be had, and its name stands nowhere else in the package."""

from __future__ import annotations

import ast
import functools
from pathlib import Path
from typing import Any

import pytest

import edgepack
from edgepack.base.extensions import Table
from edgepack.calibrate.observers import OBSERVERS
from edgepack.data.samples import SOURCES
from edgepack.export import FRAMEWORKS
from edgepack.lint import CHECKS
from edgepack.tasks import TASKS
from edgepack.tasks.decoders import DECODERS
from edgepack.verify.metrics import METRICS

ROOT = Path(edgepack.__file__).resolve().parent
TABLES: dict[str, Table[Any]] = {
    "calibrate/observers": OBSERVERS,
    "verify/metrics": METRICS,
    "lint": CHECKS,
    "export": FRAMEWORKS,
    "data": SOURCES,
    "tasks": TASKS,
    "tasks/decoders": DECODERS,
}
ROWS = [(place, name) for place, table in TABLES.items() for name in table.own]

# Where else a name may stand, and why. Names that are also figures of every evaluation (agreement, sqnr, cosine), of
# settings (percentile) or plain words cannot be looked for.
ELSEWHERE = {
    "minmax": {},
    "entropy": {},
    "mse": {},
    "top1": {"demo/job.py": "what the demonstration asks for"},
    "top5": {"runtime/run.py": "a key of its JSON"},
    "torch_program": {},
    "torch_module": {},
    ".onnx": {  # files of bundles, not sources
        "api.py": "what it exports a module to",
        "bundle/archive.py": "what a model that is given for a bundle is called",
        "engines/onnxruntime/facts.py": "the engine's files",
        "engines/onnxruntime/oldest.py": "the engine's files",
        "engines/tensorrt/facts.py": "the engine's files",
        "profiling/describe.py": "a name that lacks its suffix",
        "profiling/layers.py": "the engine's files",
    },
    ".pt2": {},
    "same_encoding": {},
    "first_layer": {},
    "stability": {},
}


@pytest.mark.parametrize(("place", "name"), ROWS, ids=str)
def test_every_row_can_be_had_and_stands_below_its_table(place: str, name: str) -> None:
    table = TABLES[place]
    found = table.get(name)
    assert isinstance(found, table.of) if table.of is not None else callable(found)
    assert table.own[name].startswith(f"edgepack.{place.replace('/', '.')}.")


def test_every_module_beside_a_table_that_makes_a_row_is_in_it() -> None:
    for place, table in TABLES.items():
        listed = {reference.partition(":")[0].rpartition(".")[2] for reference in table.own.values()}
        kind = table.of.__name__ if table.of is not None else "check"
        for path in (ROOT / place).glob("*.py"):
            tree = ast.parse(path.read_text())
            makes = any(
                (isinstance(node, ast.FunctionDef) and node.name == kind)
                or (isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and called(node.value) == kind)
                for node in tree.body
            )
            assert makes == (path.stem in listed), f"{path} and its table do not agree"


def called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else ""


@functools.cache
def constants() -> dict[str, set[str]]:
    """Return the string constants of each file of the package in which one of the words stands."""
    return {
        path.relative_to(ROOT).as_posix(): {
            node.value
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        for path in ROOT.rglob("*.py")
        if any(word in path.read_text() for word in ELSEWHERE)
    }


@pytest.mark.parametrize("word", list(ELSEWHERE))
def test_a_name_stands_in_its_table_and_module_only(word: str) -> None:
    where = {path for path, words in constants().items() if word in words}
    others = {name for name in where if not any(name.startswith(f"{place}/") for place in TABLES)}
    assert others == set(ELSEWHERE[word])
