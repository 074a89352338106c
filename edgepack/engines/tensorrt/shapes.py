"""The shapes an engine is built for where a model leaves them open: its optimization profile."""

from __future__ import annotations

from edgepack.engines.tensorrt.recipe import InputShapes
from edgepack.errors import CompileError
from edgepack.specs.model import TensorSpec

# An edge device runs single samples most of the time; a free batch may grow to this.
LARGEST_BATCH = 8
# Any other free axis, such as the length of a text: 512 is the most that BERT and its relatives take.
LARGEST_AXIS = 512
_PREFERRED_AXIS = 128


def input_shapes(inputs: tuple[TensorSpec, ...], *, fixed: bool = False) -> tuple[InputShapes, ...]:
    """Return the profile of each input; ``fixed`` sets a free batch to 1, for accelerators that take one shape only.

    A free first axis is a batch: 1 to 8, 1 preferred. Another free axis goes from 1 to 512, 128 preferred. Raises
    ``CompileError`` for an input of unknown rank, and with ``fixed`` for a free axis that is not the batch.
    """
    return tuple(_shapes(spec, fixed=fixed) for spec in inputs)


def _shapes(spec: TensorSpec, *, fixed: bool) -> InputShapes:
    if "..." in spec.shape:
        raise CompileError(
            f"TensorRT must know how many dimensions the input {spec.name!r} has",
            hint=f"export the model with a shape: --shape {spec.name}=1x3x224x224",
        )
    triples = [_axis(size, index, spec, fixed=fixed) for index, size in enumerate(spec.shape)]
    minimum, optimum, maximum = (tuple(triple[i] for triple in triples) for i in range(3))
    return InputShapes(spec.name, minimum, optimum, maximum)


def _axis(size: int | str, index: int, spec: TensorSpec, *, fixed: bool) -> tuple[int, int, int]:
    if isinstance(size, int):
        return size, size, size
    if index == 0 and spec.batched:
        return (1, 1, 1) if fixed else (1, 1, LARGEST_BATCH)
    if fixed:
        raise CompileError(
            f"a DLA takes fixed shapes only, and axis {index} ({size}) of the input {spec.name!r} is free",
            hint='export the model with its sizes, as --shape NAME=1x3x224x224, or use device = "GPU"',
        )
    return 1, _PREFERRED_AXIS, LARGEST_AXIS
