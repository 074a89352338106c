"""ONNX Runtime's hardware-independent optimizations ("basic"), offline: the result is an ONNX file again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepack.graph.captured import leave_out
from edgepack.graph.load import load_model
from edgepack.graph.wire import read_named

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edgepack.specs.model import OnnxModel

# Above this, folding a constant costs more memory and file than it can save time.
FOLD_LIMIT_BYTES = 64 << 20


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
    return load_model(path)
