"""Says how a batch of any size can be run: sample by sample, or only all at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepack.graph import passes
from edgepack.graph.compare import differences, relative_distance, run_model
from edgepack.graph.feeds import random_feeds
from edgepack.graph.load import read_proto

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgepack.engines.tvm.interface import Batch
    from edgepack.specs.model import OnnxModel
    from edgepack.specs.types import Array

_SAMPLES = 3
# Standardized inputs, and then some like pixels beside small ones: a model may decide by the largest of a batch.
_SCALES = (1.0, 100.0)
# A sum that ONNX Runtime adds in another order for another batch may round to the next step of 1/255 in a quantized
# model, and later layers carry that on; samples that depend on each other differ by about the outputs themselves.
_QUANTIZED_DISTANCE = 0.1


def batch_kind(model: OnnxModel) -> Batch:
    """Return how to compile a model for its batch, the first extents where they are free.

    "looped": only first extents are free, and three random samples, small and large, give in ONNX Runtime what each
    of them gives alone, nor was anything else seen on the user's. "free": they do not, but the model takes three.
    "fixed": the batch is not free, or only one sample is taken.
    """
    if not any(isinstance(extent, str) for spec in model.inputs for extent in spec.shape):
        return "fixed"
    looped = _has_batch(model) and not model.mixes_batch
    for scale in _SCALES if looped else _SCALES[:1]:
        try:
            feeds = _distinct(model, random_feeds(model.inputs, batch=_SAMPLES, seed=1), scale)
            whole = run_model(model, feeds)
        except Exception:  # ONNX Runtime's errors have no common base: it does not take three samples
            return "fixed"
        looped = looped and _are_independent(model, feeds, whole)
    return "looped" if looped else "free"


def _are_independent(model: OnnxModel, feeds: Mapping[str, Array], whole: Mapping[str, Array]) -> bool:
    quantized = passes.is_quantized(read_proto(model, weights=False))
    batched = {spec.name for spec in model.inputs if spec.batched}
    if any(array.shape[:1] != (_SAMPLES,) for array in whole.values()):
        return False
    for i in range(_SAMPLES):
        single = {name: array[i : i + 1] if name in batched else array for name, array in feeds.items()}
        part = {name: array[i : i + 1] for name, array in whole.items()}
        try:
            alone = run_model(model, single)
        except Exception:  # as above
            return False
        if quantized and all(relative_distance(part[name], alone[name]) <= _QUANTIZED_DISTANCE for name in part):
            continue
        if differences(alone, part):
            return False
    return True


def _has_batch(model: OnnxModel) -> bool:
    """Say whether of the inputs only first extents are free; exporters may give one batch several names.

    What the outputs' extents are is seen by running: inference often leaves names that stand for numbers.
    """
    free = [p for spec in model.inputs for p, extent in enumerate(spec.shape) if isinstance(extent, str)]
    return set(free) == {0} and len(free) == sum(spec.batched for spec in model.inputs)


def _distinct(model: OnnxModel, feeds: Mapping[str, Array], scale: float) -> dict[str, Array]:
    """Return floats scaled differently for each sample: samples alike would hide that they depend on each other."""
    import numpy as np

    factors = np.linspace(scale / 100, 1.5 * scale, _SAMPLES) if scale > 1 else np.linspace(0.5, 1.5, _SAMPLES)
    result = {}
    for spec in model.inputs:
        array = feeds[spec.name]
        if spec.batched and array.dtype.kind == "f":
            array = (array * factors.reshape(-1, *([1] * (array.ndim - 1)))).astype(array.dtype)
        result[spec.name] = array
    return result
