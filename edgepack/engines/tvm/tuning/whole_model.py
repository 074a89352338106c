"""Measures what tuning brought to a whole model: code with the rule's tiles and with the chosen ones, in turns."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgepack.base.files import scratch_folder
from edgepack.engines.tvm import engine as tvm
from edgepack.engines.tvm.compile import compile_folder
from edgepack.engines.tvm.cost_model import chooser
from edgepack.engines.tvm.runner import load_runner
from edgepack.execution import child
from edgepack.specs.kernels import WholeModel
from edgepack.specs.model import OnnxModel, TensorSpec
from edgepack.specs.run import RunOptions
from edgepack.specs.target import Target
from edgepack.specs.types import Precision, Progress, no_progress

if TYPE_CHECKING:
    from edgepack.specs.types import Array

# The least and the largest of n paired ratios hold their median with probability 1 - 2^(1-n): 98.4 % for 7, whatever
# the noise's distribution.
TURNS = 7
_SECONDS = 1.0
_COMPILE_LIMIT_S = 600.0
_FEWEST_CALLS = 5


def measure_whole(
    model: OnnxModel, target: Target, precision: Precision, log: Path, progress: Progress = no_progress
) -> WholeModel:
    """Return what the records of a target bring to a model that this host can run.

    Raises ``CompileError`` or ``ChildError``.
    """
    with scratch_folder("edgepack-tuning-") as scratch:
        child.call(build_pair, model, target, precision, Path(scratch), limit_s=_COMPILE_LIMIT_S, log=log)
        threads = target.compute.cores or 1
        times: dict[str, list[float]] = {"rule": [], "tuned": []}
        for turn in range(TURNS):
            progress("the whole model", turn, TURNS)
            for name in ("rule", "tuned") if turn % 2 else ("tuned", "rule"):
                folder = scratch / name
                times[name].append(child.call(time_folder, folder, model, threads, limit_s=_COMPILE_LIMIT_S, log=log))
    ratios = sorted(after / before for before, after in zip(times["rule"], times["tuned"], strict=True))
    return WholeModel(
        ratio=statistics.median(ratios),
        low=ratios[0],
        high=ratios[-1],
        default_ns=statistics.median(times["rule"]),
        tuned_ns=statistics.median(times["tuned"]),
        turns=TURNS,
    )


def build_pair(model: OnnxModel, target: Target, precision: Precision, out: Path) -> tuple[str, ...]:
    """Compile a model with the rule's tiles into ``rule`` and with the chosen ones into ``tuned``."""
    known = tvm.versions()
    compile_folder(model, target, precision, known, out / "rule")
    return compile_folder(model, target, precision, known, out / "tuned", chooser(tvm.tuned_records(target, known)))


def time_folder(folder: Path, model: OnnxModel, threads: int) -> float:
    """Return the median nanoseconds of one call, of at least five calls and about a second."""
    runner = load_runner(folder, model.inputs, model.outputs, RunOptions(threads=threads))
    feeds = {spec.name: _feed(spec) for spec in model.inputs}
    clock = time.process_time_ns if threads == 1 else time.perf_counter_ns
    for _ in range(2):
        runner.infer(feeds)
    times: list[int] = []
    end = time.monotonic() + _SECONDS
    while len(times) < _FEWEST_CALLS or time.monotonic() < end:
        begin = clock()
        runner.infer(feeds)
        times.append(clock() - begin)
    return float(statistics.median(times))


def _feed(spec: TensorSpec) -> Array:
    shape = tuple(size if isinstance(size, int) else 1 for size in spec.shape)
    if np.dtype(spec.dtype).kind == "f":
        return np.random.default_rng(0).standard_normal(shape).astype(spec.dtype)
    return np.ones(shape, spec.dtype)
