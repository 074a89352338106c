"""Runs and verifies bundles in a child process with a time limit: a model may never end, and its engine may crash."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgepack.base.files import scratch_folder
from edgepack.bundle.archive import open_bundle
from edgepack.engines import ENGINES
from edgepack.execution import child
from edgepack.runtime.run import Answer, run, with_answer
from edgepack.runtime.verify import verify
from edgepack.specs.run import RunOptions, Verification
from edgepack.specs.task import Frame
from edgepack.specs.types import Progress, no_progress

_OPTION = "--limit"
_LIMIT_S = 600.0
_BUILDING_LIMIT_S = 7200.0  # building an engine takes tens of minutes on a small board
_OUTPUTS = "outputs.npz"


@dataclass(frozen=True)
class Written:
    """The outputs of a run, by name, as arrays 0, 1, ... of a file; with the best classes, whose scores follow.

    ``frame`` is where the one thing that it ran on lies in the inputs.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...] | None
    notes: tuple[str, ...] = ()
    frame: Frame | None = None


def default_limit_s() -> float:
    """Return the limit where none is given: longer where an engine is installed that devices build their models for."""
    building = [engine.package for _, engine in ENGINES.all() if engine.built_on_device]
    return _BUILDING_LIMIT_S if any(importlib.util.find_spec(name) for name in building) else _LIMIT_S


def verify_within(
    bundle: Path, options: RunOptions, limit_s: float | None = None, progress: Progress = no_progress
) -> Verification:
    """``verify``, within ``limit_s`` seconds. Raises ``ChildError`` when it takes longer, or the engine crashes."""
    limit = limit_s if limit_s is not None else default_limit_s()
    return child.call(verify, bundle.absolute(), options, limit_s=limit, progress=progress, limit_option=_OPTION)


def run_within(bundle: Path, source: Path | str, options: RunOptions | None, limit_s: float | None = None) -> Answer:
    """``run``, within ``limit_s`` seconds. Raises ``ChildError`` when it takes longer, or the engine crashes."""
    limit = limit_s if limit_s is not None else default_limit_s()
    with scratch_folder() as folder:
        written: Written = child.call(
            run_into,
            bundle.absolute(),
            _absolute(source),
            options,
            folder,
            limit_s=limit,
            limit_option=_OPTION,
            title="run",
        )
        with np.load(folder / _OUTPUTS, allow_pickle=False) as arrays:
            values = [arrays[f"arr_{i}"] for i in range(len(arrays.files))]
    outputs = dict(zip(written.names, values, strict=False))
    top5 = None
    if written.classes is not None:
        top5 = tuple(zip(written.classes, values[len(outputs)].tolist(), strict=True))
    found = Answer(outputs, top5, written.notes, frame=written.frame)
    return found if written.frame is None else with_answer(found, open_bundle(bundle).manifest)


def _absolute(source: Path | str) -> str:
    """Return a path that a child process finds too, where there is a file; else ``source``, which may be a text."""
    return os.path.abspath(source) if os.path.exists(source) else str(source)  # noqa: PTH100, PTH110 (long sentences)


def run_into(bundle: Path, source: str, options: RunOptions | None, folder: Path) -> Written:
    """Do what ``run`` says, in a child process, and leave the arrays in ``folder``."""
    answer = run(bundle, source, options)
    scores = [] if answer.top5 is None else [np.array([score for _, score in answer.top5], np.float64)]
    np.savez(folder / _OUTPUTS, *answer.outputs.values(), *scores)
    classes = None if answer.top5 is None else tuple(name for name, _ in answer.top5)
    return Written(tuple(answer.outputs), classes, answer.notes, answer.frame)
