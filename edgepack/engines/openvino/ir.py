"""What an OpenVINO IR asks for, by node, and the names that OpenVINO gives to a model's nodes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgepack.engines.common.requested import LEFT_KEY, AskedLayer, ExecutedLayer, left_in_float
from edgepack.errors import CompileError, ToolchainError
from edgepack.specs.types import Asked, Ran

OPENVINO_PRECISIONS: dict[str, Ran] = {"i8": "int8", "u8": "int8", "f32": "fp32", "f16": "fp16", "bf16": "bf16"}
# Operators of an OpenVINO IR, operation set 16: those with weights, and those that are not a layer of their own.
_IR_WEIGHTED = frozenset(
    {"Convolution", "ConvolutionBackpropData", "GroupConvolution", "GroupConvolutionBackpropData", "MatMul"}
)
_IR_HELPERS = frozenset({"Constant", "Convert", "FakeQuantize", "Parameter", "ReadValue", "Result"})
# What a DequantizeLinear becomes in an IR: (convert(integers) - zero point) * scale, reshaped for several channels.
_IR_DEQUANTIZES = frozenset({"Convert", "Multiply", "Reshape", "Subtract", "Transpose"})
_IR_FLOATS: dict[str, Asked] = {"f16": "fp16", "bf16": "bf16"}
_IR_INTEGERS = ("u8", "i8", "i32")
_DEQUANTIZE_STEPS = 6


def asked_of_ir(path: Path) -> list[AskedLayer]:
    """Return the operators of an OpenVINO IR that stand for a node of the model, in graph order.

    OpenVINO names an operator that makes an output of the model after that output.
    """
    graph = call_openvino(path, lambda core: core.read_model(str(path)))
    try:
        left = left_in_float(str(graph.get_rt_info(["framework", LEFT_KEY]).astype(str)))
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


def call_openvino(model: Path, call: Callable[[Any], Any]) -> Any:
    """Return ``call(core)`` for a model file. Raises ``ToolchainError``, or ``CompileError`` when refused."""
    try:
        import openvino
    except ImportError as error:
        raise ToolchainError("OpenVINO is not installed", hint="pip install 'edgepack[openvino]'") from error
    try:
        return call(openvino.Core())
    except RuntimeError as error:
        raise CompileError(f"OpenVINO refused {model.name}: {str(error)[:500]}") from error
