"""Compares the simplified model with the one that was exported, on the user's own samples.

``graph/prepare.py`` checks each of its steps on random inputs; a step that is right there need not be so on values that
only the user's data has. Every row is compared with the simplified model, so it must answer as the exported one does.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

from edgepack.base.stage import stage
from edgepack.data.samples import read_samples
from edgepack.graph.compare import run_model
from edgepack.specs.data import SampleSet
from edgepack.specs.model import OnnxModel, TensorSpec
from edgepack.specs.types import Progress, no_progress
from edgepack.verify.distance import distances
from edgepack.verify.tolerance import tolerance

_COMPARED = 4  # samples


@dataclass(frozen=True)
class Simplified:
    """``differs`` says which output of the simplified model is not its source's, and by how much; empty for none."""

    differs: str


def _take_the_same(source: OnnxModel, model: OnnxModel) -> bool:
    """Say whether what feeds one feeds the other: simplifying gives free sizes names, and may find out what one is."""

    def known(size: int | str) -> int | None:
        return size if isinstance(size, int) else None

    def alike(one: TensorSpec, other: TensorSpec) -> bool:
        sizes = list(zip(map(known, one.shape), map(known, other.shape), strict=False))
        same = (one.name, one.dtype, len(one.shape)) == (other.name, other.dtype, len(other.shape))
        return same and all(a is None or b is None or a == b for a, b in sizes)

    pairs = zip(source.inputs, model.inputs, strict=False)
    return len(source.inputs) == len(model.inputs) and all(alike(one, other) for one, other in pairs)


@stage("compare", host="numbers")
def compare_simplified(
    source: OnnxModel,
    model: OnnxModel,
    samples: SampleSet,
    out: Path,  # noqa: ARG001
    progress: Progress = no_progress,
) -> Simplified:
    """Compute the first samples by ``source`` and by ``model``, operator by operator; they may differ as engines may.

    A source that ONNX Runtime does not run as it stands is not compared.
    """
    if not _take_the_same(source, model):
        raise ValueError("the simplified model takes other inputs than its source")
    expected, found = [], []
    for i, feeds in enumerate(itertools.islice(read_samples(samples, model.inputs), _COMPARED)):
        try:
            expected.append(run_model(source, feeds, optimize=False))
        except Exception:  # ONNX Runtime's errors have no common base
            return Simplified("")
        found.append(run_model(model, feeds, optimize=False))
        progress("simplified", i + 1, min(_COMPARED, len(samples.indices)))
    allowed = {name: tolerance("fp32") for name in expected[0]}
    for distance in distances(expected, found, allowed):
        if not distance.passed:
            off = distance.note or (f"{distance.sqnr_db:.1f} dB" if distance.sqnr_db is not None else "other values")
            return Simplified(f"{distance.name!r}: {off}")
    return Simplified("")
