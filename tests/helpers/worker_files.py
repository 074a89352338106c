"""The files of ``export/workers`` in this process, and what they answer compared as edgepack does it."""

from __future__ import annotations

import functools
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import joblib
import onnxruntime

from edgepack.base.resources import package_folder
from edgepack.graph.compare import differences

WORKERS = package_folder() / "export" / "workers"


@functools.cache
def _main() -> ModuleType:
    spec = importlib.util.spec_from_file_location("worker_main", WORKERS / "main.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = before  # it takes its own folder away, which is none of ours
    return module


def worker_file(name: str) -> ModuleType:
    """Return a file of the workers as a module."""
    return _main().load(WORKERS / f"{name}.py")


def job_of(source: Path, folder: Path) -> Any:
    """Return a worker's job for a source, whose answer goes to ``folder``."""
    job = _main().Job({"source": str(source), "shapes": {}, "options": {"trust_code": True}})
    job.folder = folder
    return job


def refused() -> type[Exception]:
    """Return what a worker raises where it cannot convert."""
    return _main().Refused


def far_pairs(model: object, folder: Path) -> list[str]:
    """Convert a model of scikit-learn, and return what its graph computes otherwise than the model, for each pair."""
    joblib.dump(model, folder / "m.joblib")
    job = job_of(folder / "m.joblib", folder)
    worker_file("sklearn_pipeline").convert(job)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(job.model), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    lines: list[str] = []
    for number in range(job._count):
        pair: dict[str, dict[str, Any]] = {"in": {}, "out": {}}
        for key, values in job._pairs.items():
            of, kind, name = key.split("/", 2)
            if int(of) == number:
                pair[kind][name] = values.astype(object) if values.dtype.kind == "U" else values
        lines += differences(pair["out"], dict(zip(names, session.run(None, pair["in"]), strict=True)))
    return lines
