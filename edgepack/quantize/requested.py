"""Asks an engine's own execution graph which layers really run in int8."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgepack.base.documents import suggestion
from edgepack.errors import CompileError, ConfigError, ToolchainError
from edgepack.quantize.graph.index import GraphIndex, index_graph
from edgepack.quantize.rules import MOVES, WEIGHTED
from edgepack.specs import OnnxModel

LEFT_KEY = "edgepack_left_in_float"  # in the model's metadata: JSON, node name -> reason
Asked = Literal["int8", "fp32", "fp16", "bf16"]
Ran = Literal["int8", "fp32", "fp16", "bf16", "fused", "unknown"]

INTEGER_OPERATORS = frozenset(
    {
        "QGemm",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "ConvInteger",
        "DynamicQuantizeMatMul",
        "QEmbedLayerNormalization",
    }
)
OPENVINO_PRECISIONS: dict[str, Ran] = {"i8": "int8", "u8": "int8", "f32": "fp32", "f16": "fp16", "bf16": "bf16"}
# Operators of an OpenVINO IR, operation set 16: those with weights, and those that are no layer of their own.
_IR_WEIGHTED = frozenset(
    {"Convolution", "ConvolutionBackpropData", "GroupConvolution", "GroupConvolutionBackpropData", "MatMul"}
)
_IR_HELPERS = frozenset({"Constant", "Convert", "FakeQuantize", "Parameter", "ReadValue", "Result"})
# What a DequantizeLinear becomes in an IR: (convert(integers) - zero point) * scale, reshaped for several channels.
_IR_DEQUANTIZES = frozenset({"Convert", "Multiply", "Reshape", "Subtract", "Transpose"})
_IR_FLOATS: dict[str, Asked] = {"f16": "fp16", "bf16": "bf16"}
_IR_INTEGERS = ("u8", "i8", "i32")
_DEQUANTIZE_STEPS = 6


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


@dataclass(frozen=True)
class AskedLayer:
    """An operator of which only the file was asked: what executes is "unknown"; with the tensors it reads and makes."""

    layer: ExecutedLayer
    reads: tuple[str, ...]
    makes: tuple[str, ...]


def executed_precision(model: OnnxModel | Path, backend: str) -> tuple[ExecutedLayer, ...]:
    """Return every operator of ``model`` but Q/DQ, in graph order, with the precision that ``backend`` runs it in.

    ``backend`` is "onnxruntime" (its optimized graph at the extended level) or "openvino" (its runtime model on the
    CPU, fp32 asked for); for OpenVINO, ``model`` may also be the path of an IR (``.xml``), whose operators then have
    OpenVINO's names. The engine runs in this process. Raises ``ConfigError`` for another backend, ``ToolchainError``
    when the engine is missing, ``CompileError`` when it refuses the model.
    """
    readers = {"onnxruntime": _read_onnxruntime, "openvino": _read_openvino}
    if backend not in readers or (isinstance(model, Path) and backend != "openvino"):
        raise ConfigError(f"{backend!r} does not tell what it executes", hint=suggestion(backend, readers))
    asked = asked_of_ir(model) if isinstance(model, Path) else asked_of_onnx(model)
    executed = readers[backend](model if isinstance(model, Path) else model.path)
    layers = []
    for one in asked:
        keys = (one.layer.name, *one.makes)
        found = next((executed[key] for key in keys if key in executed), ("fused", ""))
        layers.append(dataclasses.replace(one.layer, executed=found[0], kernel=found[1]))
    return tuple(layers)


def asked_of_onnx(model: OnnxModel) -> list[AskedLayer]:
    """Return every operator of an ONNX model but Q/DQ, in graph order."""
    from edgepack.graph.load import read_proto

    proto = read_proto(model, weights=False)
    left = _left({item.key: item.value for item in proto.metadata_props}.get(LEFT_KEY, ""))
    index = index_graph(proto)
    layers: list[AskedLayer] = []
    for node in proto.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear", "Constant"):
            continue
        weighted = node.op_type in WEIGHTED
        layer = ExecutedLayer(
            node.name, node.op_type, weighted, _asked(index, node), "unknown", "", left.get(node.name)
        )
        layers.append(AskedLayer(layer, tuple(node.input), tuple(node.output)))
    return layers


def _asked(index: GraphIndex, node: Any) -> Asked:
    """int8 when every activation, and the weight where there is one, comes out of a DequantizeLinear."""
    names = list(node.input[:2] if node.op_type in WEIGHTED else node.input)
    activations = [name for name in names if name and not index.is_constant(name)]
    if node.op_type in MOVES:
        activations = activations[:1]
    makers = [index.nodes[index.producer[name]].op_type if name in index.producer else "" for name in activations]
    return "int8" if makers and all(maker == "DequantizeLinear" for maker in makers) else "fp32"


def _left(text: str) -> dict[str, str]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def asked_of_ir(path: Path) -> list[AskedLayer]:
    """Return the operators of an OpenVINO IR that stand for a node of the model, in graph order.

    OpenVINO names an operator that makes an output of the model after that output.
    """
    graph = _openvino_call(path, lambda core: core.read_model(str(path)))
    try:
        left = _left(str(graph.get_rt_info(["framework", LEFT_KEY]).astype(str)))
    except RuntimeError:  # the model has no such metadata
        left = {}
    layers: dict[str, AskedLayer] = {}
    for operation in graph.get_ordered_ops():
        kind, name = operation.get_type_name(), original_name(operation.get_friendly_name())
        if kind in _IR_HELPERS or "#" in name or name in layers or operation.get_output_size() == 0:
            continue  # a bias has the name of its layer
        weighted = kind in _IR_WEIGHTED
        if kind in _IR_DEQUANTIZES and _is_dequantized(operation):
            continue
        asked = _asked_of_ir(operation)
        layer = ExecutedLayer(name, kind, weighted, asked, "unknown", "", left.get(name))
        sources = (port.get_source_output().get_node().get_friendly_name() for port in operation.inputs())
        layers[name] = AskedLayer(layer, tuple(map(original_name, sources)), (name,))
    return list(layers.values())


def _asked_of_ir(operation: Any) -> Asked:
    """int8 when every float that the operation reads comes out of integers, else the type of what it makes."""
    sources = [port.get_source_output() for port in operation.inputs()]
    floats = [s.get_node() for s in sources if s.get_element_type().get_type_name() in ("f32", "f16", "bf16")]
    if operation.get_type_name() not in _IR_WEIGHTED:  # what a Pad fills with, say
        floats = [node for node in floats if node.get_type_name() != "Constant"]
    if floats and all(map(_is_dequantized, floats)):
        return "int8"
    return _IR_FLOATS.get(operation.get_output_element_type(0).get_type_name(), "fp32")


def _is_dequantized(operation: Any) -> bool:
    """Say whether a value of an IR comes straight out of integers, which are biases where they have 32 bits."""
    for _ in range(_DEQUANTIZE_STEPS):
        if operation.get_output_size() and operation.get_output_element_type(0).get_type_name() in _IR_INTEGERS:
            return True
        if operation.get_type_name() not in _IR_DEQUANTIZES:
            return False
        operation = operation.input(0).get_source_output().get_node()
    return False


def _read_onnxruntime(model: Path) -> dict[str, tuple[Ran, str]]:
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
            onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no base class
            raise CompileError(f"ONNX Runtime refused {model.name}: {str(error)[:500]}") from error
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
    compiled = _openvino_call(model, lambda core: core.compile_model(str(model), "CPU", settings))
    found: dict[str, tuple[Ran, str]] = {}
    for operation in compiled.get_runtime_model().get_ordered_ops():
        ran, kernel, names = openvino_facts(operation)
        for name in names if kernel else ():
            found.setdefault(name, (ran, kernel))
    return found


def openvino_facts(operation: Any) -> tuple[Ran, str, tuple[str, ...]]:
    """Return of a runtime model's operation: precision, kernel ("" for what only stores), the original nodes in it."""
    facts = operation.get_rt_info()
    keys = ("runtimePrecision", "layerType", "primitiveType", "originalLayersNames")
    precision, kind, primitive, names = (str(facts[key].astype(str)) if key in facts else "" for key in keys)
    originals = tuple(original_name(name) for name in names.split(",") if name)
    if kind in ("Const", "Input", "Output"):
        return "unknown", "", originals
    return OPENVINO_PRECISIONS.get(precision, "unknown"), f"{kind} {primitive}".strip(), originals


def original_name(name: str) -> str:
    """Return the name of the node that an operator of OpenVINO stands for."""
    return name.removesuffix("/DequantizationMultiply").removesuffix("/WithoutBiases")


def _openvino_call(model: Path, call: Callable[[Any], Any]) -> Any:
    try:
        import openvino
    except ImportError as error:
        raise ToolchainError("OpenVINO is not installed", hint="pip install 'edgepack[openvino]'") from error
    try:
        return call(openvino.Core())
    except RuntimeError as error:
        raise CompileError(f"OpenVINO refused {model.name}: {str(error)[:500]}") from error
