"""Damages models at random: at the level of bytes, and at the level of protobuf fields."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from graph_models import model, small_conv, value
from onnx import TensorProto, helper
from onnx.parser import parse_model


def seeds() -> list[bytes]:
    """Serialized models to damage: a convolutional network, control flow with a function, and Q/DQ."""
    return [m.SerializeToString() for m in (small_conv(), with_control_flow(), quantized())]


def with_control_flow() -> onnx.ModelProto:
    return parse_model("""
        <ir_version: 8, opset_import: ["": 17, "local": 1]>
        graph (float[N,4] x, bool c) => (float[N,4] y)
        <float[4] w = {1.0, 2.0, 3.0, 4.0}, int64[2] s = {-1, 4}>
        {
            r = Reshape(x, s)
            d = local.double(r)
            b = If (c) <then_branch = t () => (float[N,4] t1) { t1 = Add(d, w) },
                        else_branch = e () => (float[N,4] e1) { e1 = Mul(d, w) }>
            y = Relu(b)
        }
        <domain: "local", opset_import: ["": 17]>
        double (a) => (z) { z = Add(a, a) }
    """)


def quantized() -> onnx.ModelProto:
    weights = {
        "scale": np.float32(0.1),
        "zero": np.uint8(3),
        "w": np.arange(-8, 8, dtype=np.int8).reshape(4, 4),
        "ws": np.full(4, 0.05, np.float32),
        "wz": np.zeros(4, np.int8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], name="q"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"], name="d"),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], name="wd", axis=1),
        helper.make_node("MatMul", ["d", "wd"], ["y"], name="product"),
    ]
    return model(nodes, [value("x", ["N", 4])], [value("y", ["N", 4])], weights)


def damage_bytes(data: bytes, random: np.random.Generator) -> bytes:
    """Change, insert, delete, repeat or swap up to 8 pieces."""
    result = bytearray(data)
    for _ in range(random.integers(1, 9)):
        at = int(random.integers(0, len(result)))
        match random.integers(0, 6):
            case 0:
                result[at] = int(random.integers(0, 256))
            case 1:
                result[at] ^= 1 << int(random.integers(0, 8))
            case 2:
                result[at:at] = random.bytes(int(random.integers(1, 9)))
            case 3:
                del result[at : at + int(random.integers(1, 9))]
            case 4:
                other = int(random.integers(0, len(result)))
                result[at:at] = result[other : other + int(random.integers(1, 65))]
            case _:
                result[at : at + 8] = (b"\xff" * 8, b"\x00" * 8, b"\x7f" * 8)[int(random.integers(0, 3))]
        if not result:
            result.append(0)
    return bytes(result)


def damage_structure(data: bytes, random: np.random.Generator) -> bytes:
    """Parse, change up to 3 fields so that the file stays protobuf, and serialize."""
    proto = onnx.ModelProto.FromString(data)
    for _ in range(random.integers(1, 4)):
        _CHANGES[int(random.integers(0, len(_CHANGES)))](proto, random)
    return bytes(proto.SerializeToString())


_SIZES = (0, -1, 1, 7, 1 << 20, 1 << 31, 1 << 40, 1 << 62, -(1 << 63))
_OPERATORS = ("Conv", "Gemm", "Reshape", "Loop", "If", "Scan", "Resize", "Expand", "ConstantOfShape", "LSTM", "Einsum")


def _pick(items: list[object], random: np.random.Generator) -> object | None:
    return items[int(random.integers(0, len(items)))] if len(items) else None


def _names(proto: onnx.ModelProto) -> list[str]:
    graph = proto.graph
    made = [name for node in graph.node for name in (*node.input, *node.output)]
    return ["", "nowhere", *made, *(tensor.name for tensor in graph.initializer)]


def _type(proto: onnx.ModelProto, random: np.random.Generator) -> None:
    item = _pick([*proto.graph.input, *proto.graph.output], random)
    if item is not None:
        item.type.tensor_type.elem_type = int(random.integers(0, 28))


def _weight_type(proto: onnx.ModelProto, random: np.random.Generator) -> None:
    item = _pick(list(proto.graph.initializer), random)
    if item is not None:
        item.data_type = int(random.integers(0, 28))


def _dim(proto: onnx.ModelProto, random: np.random.Generator) -> None:
    item = _pick([*proto.graph.input, *proto.graph.output], random)
    if item is not None:
        item.type.tensor_type.shape.dim.add().dim_value = _SIZES[int(random.integers(0, len(_SIZES)))]


def _weight_dim(proto: onnx.ModelProto, random: np.random.Generator) -> None:
    item = _pick(list(proto.graph.initializer), random)
    if item is not None:
        item.dims.append(_SIZES[int(random.integers(0, len(_SIZES)))])


def _weight_lost(proto: onnx.ModelProto, random: np.random.Generator) -> None:
    if len(proto.graph.initializer):
        del proto.graph.initializer[int(random.integers(0, len(proto.graph.initializer)))]


def _wire(proto: onnx.ModelProto, random: np.random.Generator) -> None:
    node = _pick([n for n in proto.graph.node if n.input], random)
    if node is not None:
        node.input[int(random.integers(0, len(node.input)))] = str(_pick(_names(proto), random))


def _made(proto: onnx.ModelProto, random: np.random.Generator) -> None:
    node = _pick([n for n in proto.graph.node if n.output], random)
    if node is not None:
        node.output[int(random.integers(0, len(node.output)))] = str(_pick(_names(proto), random))


def _operator(proto: onnx.ModelProto, random: np.random.Generator) -> None:
    node = _pick(list(proto.graph.node), random)
    if node is not None:
        node.op_type = _OPERATORS[int(random.integers(0, len(_OPERATORS)))]


def _attribute(proto: onnx.ModelProto, random: np.random.Generator) -> None:
    node = _pick(list(proto.graph.node), random)
    if node is not None:
        values = [_SIZES[int(random.integers(0, len(_SIZES)))] for _ in range(int(random.integers(0, 6)))]
        name = ("pads", "strides", "dilations", "axis", "group", "to", "perm")[int(random.integers(0, 7))]
        node.attribute.append(helper.make_attribute(name, values or 1))


def _order(proto: onnx.ModelProto, random: np.random.Generator) -> None:
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes[i] for i in random.permutation(len(nodes)))


def _external(proto: onnx.ModelProto, random: np.random.Generator) -> None:
    item = _pick(list(proto.graph.initializer), random)
    if item is not None:
        item.data_location = TensorProto.EXTERNAL
        place = ("../x", "/dev/zero", "x.data", "", "m.onnx")[int(random.integers(0, 5))]
        item.external_data.add(key="location", value=place)


def _nest(proto: onnx.ModelProto, _random: np.random.Generator) -> None:
    """Put the graph inside itself, many times."""
    for _ in range(30):
        inner = onnx.GraphProto.FromString(proto.graph.SerializeToString())
        if inner.ByteSize() > 200_000:
            return
        del proto.graph.node[1:]
        if len(proto.graph.node):
            proto.graph.node[0].attribute.append(helper.make_attribute("body", inner))


def _opset(proto: onnx.ModelProto, random: np.random.Generator) -> None:
    proto.opset_import.add(
        domain=("", "ai.onnx.ml", "x")[int(random.integers(0, 3))], version=int(random.integers(0, 40))
    )


_CHANGES: tuple[Callable[[onnx.ModelProto, np.random.Generator], None], ...] = (
    _type, _weight_type, _dim, _weight_dim, _weight_lost, _wire, _made, _operator, _attribute, _order, _external, _nest,
    _opset,
)  # fmt: skip
