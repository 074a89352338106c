"""Queries from a bundle's own golden inputs: real samples, in turn, in the batch that a scenario asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgepack.base.shapes import show_shape
from edgepack.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgepack.specs.model import TensorSpec
    from edgepack.specs.types import Array, Feeds

_MOST_QUERIES = 32  # distinct ones; enough that data-dependent work varies, few enough to stay in memory
_MOST_BYTES = 256 << 20


def batch_is_dynamic(inputs: Sequence[TensorSpec]) -> bool:
    """Say whether every input's first dimension is a free one of the same name, so that samples can be joined."""
    first = {spec.shape[0] if spec.batched else 0 for spec in inputs}
    return len(first) == 1 and all(isinstance(size, str) for size in first)


def check_batch(inputs: Sequence[TensorSpec], batch: int, name: str) -> None:
    """Refuse a batch that the model cannot take. Raises ``ConfigError``."""
    if batch < 1:
        raise ConfigError(f"a batch of {batch} has no samples", hint="give a batch of 1 or more")
    if batch > 1 and not batch_is_dynamic(inputs):
        shapes = ", ".join(f"{spec.name} {show_shape(spec.shape)}" for spec in inputs)
        raise ConfigError(
            f"{name} was built for a fixed batch ({shapes}), not for {batch} samples at once",
            hint="leave the batch at 1, or export the model with a dynamic batch axis and build it again",
        )


def make_queries(samples: Sequence[Feeds], inputs: Sequence[TensorSpec], batch: int) -> tuple[dict[str, Array], ...]:
    """Return distinct queries of ``batch`` samples each, every sample in turn; arrays are contiguous.

    ``samples`` are feeds of one sample with a batch axis of 1. With batch 1 they are returned as they are.
    Raises ``DataError`` when there are none or they cannot be joined.
    """
    if not samples:
        raise DataError("the bundle holds no golden inputs to measure with", hint="build the bundle again with --data")
    if batch == 1:
        return tuple(
            {spec.name: _contiguous(sample[spec.name]) for spec in inputs} for sample in samples[:_MOST_QUERIES]
        )
    bytes_each = batch * sum(int(np.asarray(samples[0][spec.name]).nbytes) for spec in inputs)
    count = max(1, min(len(samples), _MOST_QUERIES, _MOST_BYTES // max(bytes_each, 1)))
    return tuple(_joined(samples, inputs, batch, start) for start in range(count))


def group_queries(queries: Sequence[Feeds], size: int) -> tuple[tuple[Feeds, ...], ...]:
    """Return queries of ``size`` feeds each, for a runner that takes one sample at a time."""
    count = len(queries)
    return tuple(tuple(queries[(start * size + i) % count] for i in range(size)) for start in range(count))


def _joined(samples: Sequence[Feeds], inputs: Sequence[TensorSpec], batch: int, start: int) -> dict[str, Array]:
    chosen = [samples[(start * batch + i) % len(samples)] for i in range(batch)]
    try:
        return {spec.name: np.concatenate([sample[spec.name] for sample in chosen]) for spec in inputs}
    except ValueError as error:
        raise DataError(
            f"the golden inputs cannot be joined to a batch: {error}", hint="leave the batch at 1"
        ) from None


def _contiguous(values: Array) -> Array:
    result: Array = np.ascontiguousarray(values) if values.ndim else values
    return result
