"""Asks an engine's own execution graph which layers really run in int8."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgepack.documents import suggestion
from edgepack.errors import CompileError, ConfigError, ToolchainError
from edgepack.quantize.index import GraphIndex, index_graph
from edgepack.quantize.rules import MOVES, WEIGHTED
from edgepack.specs import OnnxModel

LEFT_KEY = "edgepack_left_in_float"  # in the model's metadata: JSON, node name -> reason
Asked = Literal["int8", "fp32"]
Ran = Literal["int8", "fp32", "fp16", "bf16", "fused", "unknown"]

_INTEGER_OPERATORS = frozenset(
    {
        "QGemm",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "ConvInteger",
        "DynamicQuantizeMatMul",
        "QEmbedLayerNormalization",
    }
)
_OPENVINO_PRECISIONS: dict[str, Ran] = {"i8": "int8", "u8": "int8", "f32": "fp32", "f16": "fp16", "bf16": "bf16"}


@dataclass(frozen=True)
class ExecutedLayer:
    """One operator of a model: the precision asked for by its Q/DQ and the one that the engine runs.

    ``executed`` is "fused" when the engine has no such node any more: it is computed inside another, or was folded
    away. ``kernel`` is the engine's own name for what it runs. ``reason`` says why a layer was left in float.
    """

    name: str
    operator: str
    weighted: bool
    asked: Asked
    executed: Ran
    kernel: str
    reason: str | None = None


def executed_precision(model: OnnxModel, backend: str) -> tuple[ExecutedLayer, ...]:
    """Return every operator of ``model`` but Q/DQ, in graph order, with the precision that ``backend`` runs it in.

    ``backend`` is "onnxruntime" (its optimized graph at the extended level) or "openvino" (its runtime model on the
    CPU, fp32 asked for). The engine runs in this process. Raises ``ConfigError`` for another backend,
    ``ToolchainError`` when the engine is missing, ``CompileError`` when it refuses the model.
    """
    from edgepack.graph.load import read_proto

    readers = {"onnxruntime": _read_onnxruntime, "openvino": _read_openvino}
    if backend not in readers:
        raise ConfigError(f"{backend!r} does not tell what it executes", hint=suggestion(backend, readers))
    proto = read_proto(model, weights=False)
    executed = readers[backend](model)
    left = _left(proto)
    index = index_graph(proto)
    layers = []
    for node in proto.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear", "Constant"):
            continue
        found = next((executed[key] for key in (node.name, *node.output) if key in executed), ("fused", ""))
        weighted = node.op_type in WEIGHTED
        layers.append(
            ExecutedLayer(node.name, node.op_type, weighted, _asked(index, node), *found, left.get(node.name))
        )
    return tuple(layers)


def _asked(index: GraphIndex, node: Any) -> Asked:
    """int8 when every activation, and the weight where there is one, comes out of a DequantizeLinear."""
    names = list(node.input[:2] if node.op_type in WEIGHTED else node.input)
    activations = [name for name in names if name and not index.is_constant(name)]
    if node.op_type in MOVES:
        activations = activations[:1]
    makers = [index.nodes[index.producer[name]].op_type if name in index.producer else "" for name in activations]
    return "int8" if makers and all(maker == "DequantizeLinear" for maker in makers) else "fp32"


def _left(proto: Any) -> dict[str, str]:
    for item in proto.metadata_props:
        if item.key == LEFT_KEY:
            try:
                found = json.loads(item.value)
            except ValueError:
                return {}
            return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}
    return {}


def _read_onnxruntime(model: OnnxModel) -> dict[str, tuple[Ran, str]]:
    """Return by node name what stands in the graph that ONNX Runtime writes after its extended optimizations."""
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise ToolchainError("ONNX Runtime is not installed", hint="pip install 'edgepack[onnxruntime]'") from error
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
        try:
            onnxruntime.InferenceSession(str(model.path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no base class
            raise CompileError(f"ONNX Runtime refused {model.path.name}: {str(error)[:500]}") from error
        graph = onnx.load(str(path), load_external_data=False).graph
    integer = {t.name for t in graph.initializer if t.data_type in (2, 3)}  # UINT8, INT8
    found: dict[str, tuple[Ran, str]] = {}
    for node in graph.node:
        passes = node.op_type in MOVES and bool(node.input) and node.input[0] in integer
        makes = node.op_type == "QuantizeLinear" or node.op_type.startswith("QLinear") or passes
        if makes:
            integer.update(node.output)
        runs: Ran = "int8" if makes or node.op_type in _INTEGER_OPERATORS else "fp32"
        for key in filter(None, (node.name, *node.output)):
            found.setdefault(key, (runs, node.op_type))
    return found


def _read_openvino(model: OnnxModel) -> dict[str, tuple[Ran, str]]:
    """Return by the name of an original node what OpenVINO's CPU plugin runs for it."""
    try:
        import openvino
    except ImportError as error:
        raise ToolchainError("OpenVINO is not installed", hint="pip install 'edgepack[openvino]'") from error
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": "1"}
    try:
        runtime = openvino.Core().compile_model(str(model.path), "CPU", settings).get_runtime_model()
    except RuntimeError as error:
        raise CompileError(f"OpenVINO refused {model.path.name}: {str(error)[:500]}") from error
    found: dict[str, tuple[Ran, str]] = {}
    for operation in runtime.get_ordered_ops():
        facts = operation.get_rt_info()
        keys = ("runtimePrecision", "layerType", "primitiveType", "originalLayersNames")
        precision, kind, primitive, names = (str(facts[key].astype(str)) if key in facts else "" for key in keys)
        if kind in ("Const", "Input", "Output"):
            continue
        kernel = f"{kind} {primitive}".strip()
        for name in names.split(","):
            original = name.removesuffix("/DequantizationMultiply").removesuffix("/WithoutBiases")
            found.setdefault(original, (_OPENVINO_PRECISIONS.get(precision, "unknown"), kernel))
    return found
