"""Invents inputs for a model: seeded, of the right names, types and shapes, for comparing two models."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from edgepack.errors import ModelError
from edgepack.graph.check import UNKNOWN_RANK
from edgepack.graph.input_ranges import draw, is_whole, plain_range
from edgepack.specs.model import UNNAMED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgepack.graph.input_ranges import InputRange
    from edgepack.specs.model import TensorSpec
    from edgepack.specs.types import Array


def random_feeds(
    inputs: tuple[TensorSpec, ...],
    *,
    seed: int = 0,
    batch: int = 1,
    dims: Mapping[str, int] | None = None,
    size: int = 1,
    ranges: Mapping[str, InputRange] | None = None,
) -> dict[str, Array]:
    """Return one feed: floats from the standard normal distribution, whole numbers, booleans, by name.

    Whole numbers are of the input's range, which ``input_ranges`` finds in a model; without one they are 0 and 1, those
    of 8 and 16 bits of the whole range of their type. A symbolic first dimension is ``batch`` unless it is a length,
    another one ``dims[name]`` or else ``size``; equal names get equal sizes. Raises ``ModelError`` for an input of
    strings or of unknown rank.
    """
    known = dict(dims or {})
    for spec in inputs:
        if spec.batched and spec.shape[0] not in (UNKNOWN_RANK, UNNAMED):
            known.setdefault(str(spec.shape[0]), batch)
    return {
        spec.name: _values(spec, _shape(spec, known, size, batch), seed, (ranges or {}).get(spec.name))
        for spec in inputs
    }


def _shape(spec: TensorSpec, dims: Mapping[str, int], size: int, batch: int) -> tuple[int, ...]:
    if UNKNOWN_RANK in spec.shape:
        raise ModelError(f"the input {spec.name!r} has no shape", hint="export the model with input shapes")
    sizes = [dim if isinstance(dim, int) else dims.get(dim, size) for dim in spec.shape]
    if spec.shape[:1] == (UNNAMED,) and UNNAMED not in dims:
        sizes[0] = batch
    return tuple(sizes)


def _values(spec: TensorSpec, shape: tuple[int, ...], seed: int, found: InputRange | None) -> Array:
    import numpy as np

    generator = np.random.default_rng([seed, zlib.crc32(spec.name.encode())])
    if spec.dtype.startswith(("float", "bfloat")):
        if spec.dtype == "bfloat16":
            import ml_dtypes

            return generator.standard_normal(shape).astype(ml_dtypes.bfloat16)
        return generator.standard_normal(shape).astype(spec.dtype)
    if is_whole(spec):
        return draw(found or plain_range(spec), spec, shape, generator)
    raise ModelError(f"cannot generate values for the input {spec.name!r} of type {spec.dtype}", hint="give samples")
