"""Lets a model read a camera's bytes: uint8 [batch, height, width, channels] in the order R, G, B."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edgepack.embed.operators import constant_array
from edgepack.graph.clean.view import View
from edgepack.quantize.byte_inputs import BYTE_STEP
from edgepack.specs.data import Preprocessing

if TYPE_CHECKING:
    import onnx

    from edgepack.specs.types import Array

_UINT8, _FLOAT = 2, 1  # TensorProto.UINT8 and FLOAT of onnx.proto
_BYTE = 255
_TO_NCHW = (0, 3, 1, 2)


def take_pixels(proto: onnx.ModelProto, made: Preprocessing, *, integers: str = "dequantized") -> str:
    """Make a model's one float32 input bytes, in place; return what was done, in words.

    ``made`` is how that input is made of pixels. What of it is left (order of colours, scale, mean, std) becomes
    operators. Where nothing is left but 256ths and the input is quantized in these, so that every pixel is its own
    integer, the bytes are that integer, and no float is computed before the first layer. ``integers`` says how the
    engine sees that.
    """
    view = View(proto)
    value = proto.graph.input[0]
    name, inner = value.name, view.new_name("pixels_as_float")
    view.replace(name, inner)
    users = view.users.pop(name, [])
    view.users[inner] = users
    front: list[onnx.NodeProto] = []
    given = _in_layout(view, front, name, made)
    plain = _is_plain(made)
    moved = _reads_bytes(view, inner) if plain and integers else None
    if moved is not None:
        _bytes_through(view, moved, inner, given)
        if integers == "dequantized":
            _take_out(proto, view, moved[1])
        else:
            _let_round(proto, view, moved[1])
        done = "the bytes are the integers of the first layer's input"
    else:
        given = _plain(view, front, given) if plain else _affine(view, front, given, made)
        _read_instead(users, inner, given)
        done = "they become float32 in the graph" + ("" if plain else ", where scale, mean and std are operators")
    _put_first(proto, front)
    _state(value, made)
    view.forget(name)
    return f"uint8 pixels in the order {'of grey' if made.color == 'L' else 'R, G, B'}, rows first: {done}"


def bytes_of(array: Array, made: Preprocessing) -> Array:
    """Return the pixels [batch, height, width, channels] that an input was made of; exact, as there are 256 values."""
    pixels = array if made.layout == "NHWC" else array.transpose(0, 2, 3, 1)
    channels = pixels.shape[-1]
    mean, std = (np.asarray(v[:channels], np.float64) for v in (made.mean, made.std))
    found = np.clip(np.rint((pixels.astype(np.float64) * std + mean) / made.scale), 0, _BYTE).astype(np.uint8)
    return np.ascontiguousarray(found[..., ::-1] if made.color == "BGR" else found)


def left_outside(made: Preprocessing) -> Preprocessing:
    """Return what of a preprocessing stays outside the model: resizing, cropping and padding."""
    ones, zeros = (1.0,) * len(made.std), (0.0,) * len(made.mean)
    color: Literal["RGB", "L"] = "L" if made.color == "L" else "RGB"
    return dataclasses.replace(made, color=color, layout="NHWC", dtype="uint8", scale=1.0, mean=zeros, std=ones)


def _is_plain(made: Preprocessing) -> bool:
    return made.scale == BYTE_STEP and not any(made.mean) and set(made.std) == {1.0}


def _in_layout(view: View, front: list[onnx.NodeProto], name: str, made: Preprocessing) -> str:
    """Append what arranges pixels as the model reads them; return the tensor."""
    if made.color == "BGR":
        order = view.add_constant(np.array([2, 1, 0], np.int64), "order_of_colors")
        name = _node(view, front, "Gather", [name, order], axis=3)
    return _node(view, front, "Transpose", [name], perm=_TO_NCHW) if made.layout == "NCHW" else name


def _plain(view: View, front: list[onnx.NodeProto], name: str) -> str:
    step = view.add_constant(np.array(BYTE_STEP, np.float32), "pixel_scale")
    return _node(view, front, "DequantizeLinear", [name, step, view.add_constant(np.array(0, np.uint8), "pixel_zero")])


def _affine(view: View, front: list[onnx.NodeProto], name: str, made: Preprocessing) -> str:
    channels = 1 if made.color == "L" else 3
    shape = (1, channels, 1, 1) if made.layout == "NCHW" else (1, 1, 1, channels)
    mean, std = (np.asarray(v[:channels], np.float64).reshape(shape) for v in (made.mean, made.std))
    name = _node(view, front, "Cast", [name], to=_FLOAT)
    factor = view.add_constant((made.scale / std).astype(np.float32), "pixel_scale")
    scaled = _node(view, front, "Mul", [name, factor])
    if not mean.any():
        return scaled
    return _node(view, front, "Add", [scaled, view.add_constant((-mean / std).astype(np.float32), "pixel_offset")])


def _node(view: View, front: list[onnx.NodeProto], operator: str, inputs: list[str], **attributes: Any) -> str:
    from onnx import helper

    name = view.new_name(f"pixels_{operator.lower()}")
    front.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
    return name


def _reads_bytes(view: View, name: str) -> tuple[list[onnx.NodeProto], onnx.NodeProto] | None:
    """Return the nodes before the QuantizeLinear that each pixel goes through unchanged, and it; None without it."""
    before: list[onnx.NodeProto] = []
    while (node := view.only_user(name)) is not None and node.op_type in ("Transpose", "Pad"):
        value = constant_array(view, node.input[2]) if node.op_type == "Pad" and len(node.input) > 2 else np.zeros(1)
        if value is None or value.size != 1 or not _is_byte(float(value.ravel()[0])):
            return None
        before.append(node)
        name = node.output[0]
    return (before, node) if node is not None and _is_identity(view, node) else None


def _is_byte(value: float) -> bool:
    return 0 <= value / BYTE_STEP <= _BYTE and (value / BYTE_STEP).is_integer()


def _is_identity(view: View, node: onnx.NodeProto) -> bool:
    """Say whether a QuantizeLinear makes of each pixel in 256ths the uint8 that it is."""
    if node.op_type != "QuantizeLinear" or len(node.input) < 3:
        return False
    scale, zero = constant_array(view, node.input[1]), constant_array(view, node.input[2])
    known = scale is not None and zero is not None and scale.size == zero.size == 1
    return bool(known and scale.ravel()[0] == BYTE_STEP and zero.ravel()[0] == 0 and zero.dtype == np.uint8)  # type: ignore[union-attr]


def _bytes_through(view: View, moved: tuple[list[onnx.NodeProto], onnx.NodeProto], inner: str, given: str) -> None:
    """Let bytes go through what stands before a QuantizeLinear."""
    before, quantize = moved
    _read_instead([*before, quantize][:1], inner, given)
    for node in before:
        if node.op_type == "Pad" and len(node.input) > 2:
            value = constant_array(view, node.input[2])
            assert value is not None, "it was read a moment ago"
            node.input[2] = view.add_constant(np.rint(value / BYTE_STEP).astype(np.uint8), "pixel_pad")
        view.forget(node.output[0])


def _take_out(proto: onnx.ModelProto, view: View, quantize: onnx.NodeProto) -> None:
    """Let what reads the integers of a QuantizeLinear read the bytes themselves."""
    view.replace(quantize.output[0], quantize.input[0])
    proto.graph.node.remove(quantize)


def _read_instead(users: list[onnx.NodeProto], old: str, new: str) -> None:
    for node in users:
        node.input[:] = [new if item == old else item for item in node.input]


def _let_round(proto: onnx.ModelProto, view: View, quantize: onnx.NodeProto) -> None:
    """Give a QuantizeLinear the bytes and a quarter of a step, which it rounds away again."""
    front: list[onnx.NodeProto] = []
    quarter = view.add_constant(np.array(BYTE_STEP / 4, np.float32), "quarter_step")
    step = view.add_constant(np.array(BYTE_STEP, np.float32), "pixel_scale")
    scaled = _node(view, front, "Mul", [_node(view, front, "Cast", [quantize.input[0]], to=_FLOAT), step])
    quantize.input[0] = _node(view, front, "Add", [scaled, quarter])
    position = next(i for i, node in enumerate(proto.graph.node) if node is quantize)
    for node in reversed(front):
        proto.graph.node.insert(position, node)


def _put_first(proto: onnx.ModelProto, front: list[onnx.NodeProto]) -> None:
    nodes = [*front, *proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


def _state(value: onnx.ValueInfoProto, made: Preprocessing) -> None:
    """Give the input its new type and shape."""
    from onnx import TensorShapeProto

    kind = value.type.tensor_type
    kind.elem_type = _UINT8
    if made.layout == "NCHW":
        dims = [TensorShapeProto.Dimension.FromString(kind.shape.dim[i].SerializeToString()) for i in (0, 2, 3, 1)]
        del kind.shape.dim[:]
        kind.shape.dim.extend(dims)
