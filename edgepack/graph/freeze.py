"""Fixes sizes of a model's inputs, for engines that compile for known shapes, and whole inputs to constants."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgepack.base.documents import suggestion
from edgepack.base.shapes import show_shape
from edgepack.base.stage import stage
from edgepack.errors import ConfigError
from edgepack.graph import passes
from edgepack.graph.load import read_proto, save_proto
from edgepack.specs.model import UNNAMED, OnnxModel, TensorSpec
from edgepack.specs.types import Array


@stage("freeze")
def freeze(model: OnnxModel, inputs: tuple[TensorSpec, ...], out: Path) -> OnnxModel:
    """Return ``model`` with the shapes of ``inputs`` as ``out/model.onnx``; an extent that is a name stays free.

    The other tensors' shapes follow; a size that a node does not take is left for the engine to refuse.
    """
    proto = read_proto(model)
    wanted = {spec.name: spec.shape for spec in inputs}
    for value in proto.graph.input:
        for dim, extent in zip(value.type.tensor_type.shape.dim, wanted.get(value.name, ()), strict=False):
            dim.Clear()
            if isinstance(extent, int):
                dim.dim_value = extent
            elif extent != UNNAMED:
                dim.dim_param = extent
    del proto.graph.value_info[:]
    for value in proto.graph.output:
        for dim in value.type.tensor_type.shape.dim:
            if not dim.HasField("dim_value"):
                dim.Clear()  # inference says what it is now; where it cannot, it stays unknown
    passes.infer_shapes(proto)
    return save_proto(proto, out)


@stage("set")
def set_inputs(model: OnnxModel, values: Mapping[str, str], out: Path) -> OnnxModel:
    """Return ``model`` with the inputs named in ``values`` fixed, as ``out/model.onnx``; they are inputs no more.

    A value is one number or several with commas between; it gets the input's type, and its shape where that is known.
    What an If decides by such an input, ``prepare`` then folds. Raises ``ConfigError`` for what cannot be meant.
    """
    import onnx

    known = {spec.name: spec for spec in model.inputs}
    for name in values:
        if name not in known:
            raise ConfigError(f"--set {name}: the model has no such input", hint=suggestion(name, known))
    if len(values) == len(known):
        raise ConfigError("--set fixes every input of the model", hint="leave one that is fed")
    proto = read_proto(model)
    for name, text in values.items():
        array = _parsed(known[name], text)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    passes.freeze_initializers(proto)
    return save_proto(proto, out)


def _parsed(spec: TensorSpec, text: str) -> Array:
    """Return the value that a text states for an input."""
    import numpy as np

    where = f"--set {spec.name}={text}"
    dtype = np.dtype(spec.dtype)
    parts = [part.strip() for part in text.split(",")]
    try:
        if dtype.kind == "b":
            array = np.array([_TRUTH[part.lower()] for part in parts])
        elif dtype.kind in "iu":
            array = np.array([int(part) for part in parts], dtype)
        else:
            array = np.array([float(part) for part in parts]).astype(dtype)
    except (ValueError, KeyError, OverflowError, TypeError):
        example = "true" if dtype.kind == "b" else "16000" if dtype.kind in "iu" else "0.5"
        raise ConfigError(f"{where} is not of type {spec.dtype}", hint=f"write it as {spec.name}={example}") from None
    sizes = [1 if isinstance(size, str) else size for size in spec.shape]
    free = [axis for axis, size in enumerate(spec.shape) if isinstance(size, str)]
    if len(free) == 1:
        others = int(np.prod(sizes, dtype=np.int64))
        sizes[free[0]] = max(len(parts) // max(others, 1), 1)
    count = int(np.prod(sizes, dtype=np.int64))
    if len(parts) not in (1, count):
        raise ConfigError(
            f"{where} has {len(parts)} values, and the input is {show_shape(spec.shape)}",
            hint=f"give 1 or {count} of them",
        )
    return np.broadcast_to(array, (count,)).reshape(sizes) if len(parts) == 1 else array.reshape(sizes)


_TRUTH = {"true": True, "1": True, "false": False, "0": False}
