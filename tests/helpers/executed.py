"""Asks an engine's own execution graph which layers really run in int8."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

from edgepack.engines.common.requested import ExecutedLayer
from edgepack.engines.int8 import MOVES
from edgepack.engines.onnxruntime.profile import INTEGER_OPERATORS
from edgepack.engines.openvino.ir import asked_of_ir, call_openvino, openvino_facts
from edgepack.quantize.requested import asked_of_onnx
from edgepack.specs.model import OnnxModel
from edgepack.specs.types import Ran


def executed_precision(model: OnnxModel | Path, backend: str) -> tuple[ExecutedLayer, ...]:
    """Return every operator of ``model`` but Q/DQ, in graph order, with the precision that ``backend`` runs it in.

    ``backend`` is "onnxruntime" (its optimized graph at the extended level) or "openvino" (its runtime model on the
    CPU, fp32 asked for); for OpenVINO, ``model`` may also be the path of an IR (``.xml``), whose operators then have
    OpenVINO's names. The engine runs in this process. Raises ``ToolchainError``
    when the engine is missing, ``CompileError`` when it refuses the model.
    """
    readers = {"onnxruntime": _read_onnxruntime, "openvino": _read_openvino}
    asked = asked_of_ir(model) if isinstance(model, Path) else asked_of_onnx(model)
    executed = readers[backend](model if isinstance(model, Path) else model.path)
    layers = []
    for one in asked:
        keys = (one.layer.name, *one.makes)
        found = next((executed[key] for key in keys if key in executed), ("fused", ""))
        layers.append(dataclasses.replace(one.layer, executed=found[0], kernel=found[1]))
    return tuple(layers)


def _read_onnxruntime(model: Path) -> dict[str, tuple[Ran, str]]:
    """Return by node name what stands in the graph that ONNX Runtime writes after its extended optimizations."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        options.optimized_model_filepath = str(path)
        # Large weights go to a file of their own, which is then not read.
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights.bin")
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
        onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        graph = onnx.load(str(path), load_external_data=False).graph
    integer = {t.name for t in graph.initializer if t.data_type in (2, 3)}  # UINT8, INT8
    found: dict[str, tuple[Ran, str]] = {}
    for node in graph.node:
        passes = node.op_type in MOVES and bool(node.input) and node.input[0] in integer
        makes = node.op_type == "QuantizeLinear" or node.op_type.startswith("QLinear") or passes
        if makes:
            integer.update(node.output)
        runs: Ran = "int8" if makes or node.op_type in INTEGER_OPERATORS else "fp32"
        for key in filter(None, (node.name, *node.output)):
            found.setdefault(key, (runs, node.op_type))
    return found


def _read_openvino(model: Path) -> dict[str, tuple[Ran, str]]:
    """Return by the name of an original node what OpenVINO's CPU plugin runs for it."""
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": "1"}
    compiled = call_openvino(model, lambda core: core.compile_model(str(model), "CPU", settings))
    found: dict[str, tuple[Ran, str]] = {}
    for operation in compiled.get_runtime_model().get_ordered_ops():
        ran, kernel, names = openvino_facts(operation)
        for name in names if kernel else ():
            found.setdefault(name, (ran, kernel))
    return found
