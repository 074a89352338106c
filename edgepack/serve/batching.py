"""Says which queries may be run at once: those of a bundle whose samples were seen not to touch each other here.

The same sample is run in a batch of one size beside other neighbours: quiet ones, the golden vectors' own, and loud
ones. Kernels depend on shapes alone, so its answer must be the same to the last bit; and it must be the answer that
it gets alone, within the bundle's own tolerance, since other kernels may run another batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from edgepack.bundle.archive import read_member
from edgepack.errors import EdgepackError
from edgepack.specs.types import Array
from edgepack.verify.distance import distances
from edgepack.verify.golden import GOLDEN, Golden, batched_inputs, copied, joined, read_golden

if TYPE_CHECKING:
    from edgepack.runtime.load import LoadedModel
    from edgepack.specs.bundle import Manifest

_LOUD = 100.0


def why_not_batched(model: LoadedModel, most: int) -> str | None:
    """Return why queries of a loaded bundle are run one by one; None when up to ``most`` samples may be run at once."""
    if most < 2:
        return "batching was not asked for"
    if reason := no_free_batch(model.manifest):
        return reason
    vectors = read_golden(read_member(model.bundle, GOLDEN))
    try:
        return next(filter(None, (_seen(model, vectors, size) for size in sorted({2, most}))), None)
    except EdgepackError as error:
        return f"it does not run several samples at once: {error.message}"


def no_free_batch(manifest: Manifest) -> str | None:
    """Return why a model takes no more samples than its shapes say; None where the first extents are free."""
    names = {spec.name for spec in manifest.inputs}
    if batched_inputs(manifest.inputs) != names:
        return "the first extent of an input is fixed"
    if not all(spec.batched for spec in manifest.outputs):
        return "the first extent of an output is fixed"
    return None


def _seen(model: LoadedModel, vectors: Golden, size: int) -> str | None:
    """Return what was seen of ``size`` samples at once that must not be; None for nothing."""
    sample = _first_row(vectors.inputs[0])
    alone = copied(model.infer(sample))
    names = frozenset(sample)
    for place in (0, size - 1):
        answers = []
        for neighbour in _neighbours(sample, vectors):
            feeds = joined([sample if i == place else neighbour for i in range(size)], names)
            whole = copied(model.infer(feeds))
            if any(value.shape[:1] != (size,) for value in whole.values()):
                return f"an output of {size} samples does not have {size} rows"
            answers.append({name: value[place : place + 1] for name, value in whole.items()})
        if not all(_same(answers[0], other) for other in answers[1:]):
            return "the answer to a sample depends on the others that are run with it"
        if not all(found.passed for found in distances([alone], answers[:1], vectors.tolerance)):
            return f"the answer to a sample in a batch of {size} is another one than alone"
    return None


def _first_row(feeds: Mapping[str, Array]) -> dict[str, Array]:
    return {name: array[:1] for name, array in feeds.items()}


def _neighbours(sample: Mapping[str, Array], vectors: Golden) -> list[Mapping[str, Array]]:
    """Return samples of the same shapes: itself, all zeros, one of the golden vectors, and one that is much larger."""
    others = [_first_row(feeds) for feeds in vectors.inputs[1:]]
    alike = [feeds for feeds in others if all(feeds[name].shape == sample[name].shape for name in sample)]
    quiet = {name: np.zeros_like(array) for name, array in sample.items()}
    loud = {name: (array * _LOUD).astype(array.dtype) if array.dtype.kind == "f" else array[..., ::-1] if array.ndim > 1
            else array for name, array in (alike[-1] if alike else sample).items()}  # fmt: skip
    return [sample, quiet, *alike[:1], loud]


def _same(one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    return all(np.array_equal(one[name], other[name], equal_nan=one[name].dtype.kind == "f") for name in one)
