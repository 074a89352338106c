"""Samples, preprocessing, observers and ranges."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.base.files import sha256_json
from edgepack.base.stage import stage
from edgepack.errors import DataError
from edgepack.specs.data import Ranges, SampleSet
from edgepack.specs.model import OnnxModel
from edgepack.specs.types import Progress, no_progress

if TYPE_CHECKING:
    import onnx

    from edgepack.calibrate.statistics import Statistics
    from edgepack.specs.calibration import Plan

# Part of a checkpoint's key: to be raised whenever the statistics of the same samples come out differently.
_VERSION = 1
# The measured tensors of one pass over the samples hold at most this much for one sample; more take further passes.
_BYTES_A_PASS = 256 << 20


@stage("calibrate")
def calibrate(
    model: OnnxModel,
    samples: SampleSet,
    observer: str,
    percentile: float,
    out: Path,
    progress: Progress = no_progress,
) -> Ranges:
    """Return the ranges of the model's float32 activations over ``samples``.

    ``observer`` is one of ``OBSERVERS``; ``percentile`` matters to those that take it. ``out`` keeps a checkpoint while
    samples are counted: called again with the same arguments after an interruption, it goes on, with the same result
    bit for bit. The order of the samples does not matter. A tensor that never holds a value has no range, nor has one
    that holds infinities, as masks do: 8 bits cannot store them. Raises ``DataError`` for no samples and for NaN,
    naming tensor and sample; ``ModelError`` for a model that is quantized already.
    """
    return measure_ranges(model, samples, observer, percentile, out, progress)


def measure_ranges(
    model: OnnxModel,
    samples: SampleSet,
    observer: str,
    percentile: float,
    out: Path,
    progress: Progress = no_progress,
    wanted: Callable[[str], bool] | None = None,
) -> Ranges:
    """Return what ``calibrate`` does, of those tensors alone that are ``wanted`` by their names, which costs less."""
    from edgepack.calibrate.choice import choose_ranges
    from edgepack.calibrate.observers import OBSERVERS, choose_range
    from edgepack.calibrate.tensors import make_plan, part_of_plan, read_structure
    from edgepack.data.recipes import check_percentile

    if not samples.indices:
        raise DataError("no samples to calibrate with", hint="give at least one; a few hundred are typical")
    check_percentile(percentile, "calibrate")
    chosen = OBSERVERS.get(observer)
    proto = read_structure(model)
    plan = make_plan(proto)
    if wanted is not None:
        plan = part_of_plan(plan, wanted)
    statistics = all_statistics(model, proto, plan, samples, chosen.needs_counts, out, progress)
    seen = {name: found for name, found in statistics.items() if found.is_usable}
    tensors = {name: choose_range(chosen, found, percentile) for name, found in seen.items()}
    if chosen.among:
        ranges = {
            name: {other: choose_range(OBSERVERS.get(other), found, percentile) for other in chosen.among}
            for name, found in seen.items()
        }
        best = choose_ranges(model, proto, samples, ranges, out, progress)
        tensors = {name: dataclasses.replace(found, chosen=other) for name, (other, found) in best.items()}
    for derivation in plan.derived:  # in the order in which sources come first
        if derivation.is_copy and derivation.sources[0] in tensors:
            tensors[derivation.tensor] = tensors[derivation.sources[0]]
    return Ranges(
        model_sha256=model.sha256,
        data_sha256=samples.sha256,
        observer=observer,
        percentile=percentile if "percentile" in chosen.parameters else None,
        samples=len(samples.indices),
        tensors=dict(sorted(tensors.items())),
        tools=tools(),
    )


def tools() -> dict[str, str]:
    """Return the package that computes activations, with its version."""
    import onnxruntime

    return {"onnxruntime": onnxruntime.__version__}


def all_statistics(
    model: OnnxModel,
    structure: onnx.ModelProto | None,
    plan: Plan,
    samples: SampleSet,
    histogram: bool,
    out: Path,
    progress: Progress,
) -> dict[str, Statistics]:
    """Return the statistics of every observed tensor, sources before what is derived from them.

    ``structure`` is as ``instrument.open_session`` takes it.
    """
    import onnxruntime

    from edgepack.calibrate.checkpoint import CHECKPOINT, Checkpoint
    from edgepack.calibrate.measure import Job, measure
    from edgepack.calibrate.statistics import derive

    parts = _parts(plan) if histogram else [(plan.measured, sum(plan.sizes))]
    total = len(samples.indices)
    statistics: dict[str, Statistics] = {}
    checkpoints = []
    for place, (measured, size) in enumerate(parts):
        inputs = plan.inputs if place == 0 else ()
        job = Job(model, structure, samples, inputs, measured, size, histogram)
        tensors = (*inputs, *measured)
        key = sha256_json(
            {
                "version": _VERSION,
                "model": model.sha256,
                "data": samples.sha256,
                "histogram": histogram,
                "tensors": tensors,
                "onnxruntime": onnxruntime.__version__,
            }
        )
        checkpoint = Checkpoint(out / f"{CHECKPOINT}{key[:16]}.npz", key, tensors)

        def tell(what: str, done: int, _total: int, /, before: int = place * total) -> None:
            progress(what, before + done, total * len(parts))

        statistics.update(measure(job, checkpoint, out, tell))
        checkpoints.append(checkpoint)
        if len(parts) > 1:
            checkpoint.save(total, {name: statistics[name] for name in tensors})
    for derivation in plan.derived:
        statistics[derivation.tensor] = derive(derivation, [statistics[name] for name in derivation.sources])
    for checkpoint in checkpoints:
        checkpoint.remove()
    return statistics


def _parts(plan: Plan) -> list[tuple[tuple[str, ...], int]]:
    """Return the measured tensors in parts whose values, for one sample, fit together in memory; with their bytes."""
    parts: list[tuple[list[str], int]] = [([], 0)]
    for name, size in zip(plan.measured, plan.sizes, strict=True):
        if parts[-1][1] + size > _BYTES_A_PASS and parts[-1][0]:
            parts.append(([], 0))
        names, known = parts[-1]
        parts[-1] = ([*names, name], known + size)
    return [(tuple(names), size) for names, size in parts]
