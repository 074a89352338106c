"""ONNX Runtime's hardware-independent optimizations ("basic"), offline: the result is an ONNX file again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepack.graph.captured import leave_out
from edgepack.graph.load import load_model, read_proto
from edgepack.graph.walk import all_graphs
from edgepack.graph.wire import read_named

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import onnx

    from edgepack.specs.model import OnnxModel

# Above this, folding a constant costs more memory and file than it can save time.
FOLD_LIMIT_BYTES = 64 << 20
_MADE = "_made"


def optimize_basic(model: OnnxModel, folder: Path, sizes: Mapping[str, int] | None = None) -> OnnxModel:
    """Return the optimized model as a file in ``folder``; ``sizes`` fixes free dimensions by name.

    Raises what ONNX Runtime raises when it does not load the model, and ``ModelError`` when the result is not valid.
    """
    import onnxruntime

    path = folder / "optimized.onnx"
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 4
    entries = {
        "session.disable_prepacking": "1",
        "session.optimized_model_external_initializers_file_name": path.name + ".data",
        "session.optimized_model_external_initializers_min_size_in_bytes": "4096",
        "optimization.constant_folding_max_output_size_in_bytes": str(FOLD_LIMIT_BYTES),
    }
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    leave_out(options, read_named(model.path))
    for name, size in (sizes or {}).items():
        options.add_free_dimension_override_by_name(name, size)
    onnxruntime.InferenceSession(str(model.path), options, providers=["CPUExecutionProvider"])
    _rename_made(model, path)
    return load_model(path)


def _rename_made(model: OnnxModel, path: Path) -> None:
    """Give the constants that ONNX Runtime made other names than it would give those of the next session.

    It does not look whether a name is taken: where Reshapes are joined, it refuses the model for that (1.31.1).
    """
    import onnx

    known = set(_names(read_proto(model, weights=False)))
    proto = onnx.load(str(path), load_external_data=False)
    taken = known | set(_names(proto))
    made: dict[str, str] = {}
    for graph in all_graphs(proto.graph):
        for tensor in graph.initializer:
            if tensor.name not in known:
                made[tensor.name] = _fresh(tensor.name + _MADE, taken)
                tensor.name = made[tensor.name]
    if not made:
        return
    for graph in all_graphs(proto.graph):
        for node in graph.node:
            for place, name in enumerate(node.input):
                node.input[place] = made.get(name, name)
        for value in (*graph.output, *graph.value_info):
            value.name = made.get(value.name, value.name)
    path.write_bytes(proto.SerializeToString())


def _names(proto: onnx.ModelProto) -> Iterator[str]:
    """Yield the names of all tensors."""
    for graph in all_graphs(proto.graph):
        yield from (named.name for named in (*graph.input, *graph.initializer))
        for node in graph.node:
            yield from node.output


def _fresh(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name
