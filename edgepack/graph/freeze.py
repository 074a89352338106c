"""Fixes sizes of a model's inputs, for engines that compile for known shapes."""

from __future__ import annotations

from pathlib import Path

from edgepack.base.stage import stage
from edgepack.graph import passes
from edgepack.graph.load import read_proto, save_proto
from edgepack.specs.model import UNNAMED, OnnxModel, TensorSpec


@stage("freeze")
def freeze(model: OnnxModel, inputs: tuple[TensorSpec, ...], out: Path) -> OnnxModel:
    """Return ``model`` with the shapes of ``inputs`` as ``out/model.onnx``; an extent that is a name stays free.

    The other tensors' shapes follow. Raises ``ModelError`` when the model does not take them.
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
