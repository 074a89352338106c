"""Takes the float model out of a quantized one: what its integers stand for, without the rounding between layers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.base.stage import stage
from edgepack.errors import ConfigError, ModelError
from edgepack.graph.clean.view import View
from edgepack.quantize.imported import as_pairs, counted, raised
from edgepack.quantize.imported.clips import float_clips, keep_clip
from edgepack.specs.model import OnnxModel

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

    from edgepack.specs.types import Array

NOTE = "edgepack.requantize"
_FLOAT = 1  # onnx.TensorProto.FLOAT


@stage("float")
def take_float(model: OnnxModel, out: Path) -> OnnxModel:
    """Write the float model of a quantized one into ``out``.

    Weights are what their integers stand for. Where a quantized activation cannot be below zero, or above 6, a Relu or
    a Clip keeps that: quantizers leave these out of the graph because the type clips as they do. Inputs and outputs
    that were integers become float, in the numbers that the integers stood for. The metadata entry
    ``edgepack.requantize`` says what was done. Raises ``ConfigError`` when the model is not quantized, ``ModelError``
    when it has operators on integers whose float form is not known.
    """
    from edgepack.graph import passes
    from edgepack.graph.load import read_proto, save_proto

    proto = read_proto(model)
    if not passes.is_quantized(proto):
        raise ConfigError(
            "the model is not quantized: there is no float model to take out", hint="leave --requantize out"
        )
    passes.constants_to_initializers(proto)
    done = [counted(count, words) for words, count in _counts(proto) if count]
    _refuse_rest(proto)
    passes.drop_unused_initializers(proto)
    passes.set_versions(proto)
    passes.name_nodes(proto)
    passes.set_metadata(proto, NOTE, ", ".join(done))
    return save_proto(raised(proto), out)


def _counts(proto: onnx.ModelProto) -> Iterator[tuple[str, int]]:
    """Take the steps one after another; yield what each did and how often."""
    from edgepack.graph import passes

    yield "product of integers made float", float_products(proto)
    list(as_pairs(proto))
    float_clips(proto)
    passes.fold_dequantized_weights(proto)
    borders = sum(1 for _ in float_borders(proto))
    pairs, kept = drop_pairs(proto)
    yield "pair taken out", pairs
    yield "activation clipped as by its type", kept
    yield "border in float", borders
    drop_dead(proto)


# --- dynamic quantization ---------------------------------------------------------------------------------------------


def float_products(proto: onnx.ModelProto) -> int:
    """Write, in place, products whose input is quantized while it runs as float ones; return how many.

    The form is that of ONNX Runtime's quantize_dynamic: DynamicQuantizeLinear, MatMulInteger or ConvInteger, Cast, and
    Mul with the product of both scales.
    """
    count = 0
    for node in list(View(proto).nodes("MatMulInteger", "ConvInteger")):
        count += _float_product(View(proto), node)
    drop_dead(proto)
    return count


def _float_product(view: View, node: onnx.NodeProto) -> bool:
    import onnx

    dynamic = view.producers.get(node.input[0])
    cast = view.only_user(node.output[0])
    scaled = view.only_user(cast.output[0]) if cast is not None and cast.op_type == "Cast" else None
    if dynamic is None or dynamic.op_type != "DynamicQuantizeLinear" or scaled is None or scaled.op_type != "Mul":
        return False
    other = next((name for name in scaled.input if name != cast.output[0]), "")  # type: ignore[union-attr]
    scale = _weight_scale(view, other, dynamic.output[1])
    weight = view.value(node.input[1])
    zero = view.value(node.input[3]) if len(node.input) > 3 and node.input[3] else np.int64(0)
    if scale is None or weight is None or zero is None:
        return False
    axis = 0 if node.op_type == "ConvInteger" else weight.ndim - 1
    real = (weight.astype(np.float64) - _along(zero, axis, weight.ndim)) * _along(scale, axis, weight.ndim)
    name = view.add_constant(np.asarray(real, np.float32), node.input[1])
    kind = "Conv" if node.op_type == "ConvInteger" else "MatMul"
    made = onnx.helper.make_node(kind, [dynamic.input[0], name], [scaled.output[0]], name=node.name)
    made.attribute.extend(node.attribute)
    view.insert_after(scaled, made)
    view.remove(scaled)
    return True


def _weight_scale(view: View, product: str, dynamic: str) -> Array | None:
    """Return the constant that is multiplied with a dynamic scale."""
    producer = view.producers.get(product)
    if producer is None or producer.op_type != "Mul" or dynamic not in producer.input:
        return None
    return view.floats(next((name for name in producer.input if name != dynamic), ""))


def _along(values: Any, axis: int, rank: int) -> Any:
    if np.size(values) == 1:
        return np.reshape(values, ()).astype(np.float64)
    shape = [1] * rank
    shape[axis] = -1
    return np.reshape(values, shape).astype(np.float64)


# --- pairs ------------------------------------------------------------------------------------------------------------


def float_borders(proto: onnx.ModelProto) -> Iterator[str]:
    """Let inputs that are only dequantized, and outputs that are quantized last, be float; yield their names."""
    view = View(proto)
    for value in (*proto.graph.input, *proto.graph.output):
        readers = view.users.get(value.name, [])
        producer = view.producers.get(value.name)
        if (
            value in list(proto.graph.output)
            and producer is not None
            and producer.op_type == "QuantizeLinear"
            and not readers
        ):
            source = producer.input[0]
            view.remove(producer)
            _rename(view, source, value.name)
        elif producer is None and readers and all(r.op_type == "DequantizeLinear" for r in readers):
            for reader in readers:
                view.replace(reader.output[0], value.name)
                view.remove(reader)
        else:
            continue
        value.type.tensor_type.elem_type = _FLOAT
        yield value.name


def _rename(view: View, old: str, new: str) -> None:
    """Give what a node makes the name of an output, which nothing else makes any more."""
    producer = view.producers[old]
    for index, name in enumerate(producer.output):
        if name == old:
            producer.output[index] = new
    view.replace(old, new)
    view.producers[new] = producer


def drop_pairs(proto: onnx.ModelProto) -> tuple[int, int]:
    """Take every QuantizeLinear with its DequantizeLinear out, in place; return how many, and how many left a clip."""
    view, pairs, kept = View(proto), 0, 0
    outputs = view.outputs
    for node in list(view.nodes("QuantizeLinear")):
        readers = view.users.get(node.output[0], [])
        if not readers or not view.is_free(node.output[0]) or any(r.op_type != "DequantizeLinear" for r in readers):
            continue
        source = node.input[0]
        if (clipped := keep_clip(view, node)) is not None:
            source, kept = clipped, kept + 1
        for reader in readers:
            _bypass(view, reader, source, outputs)
        view.remove(node)
        pairs += 1
    return pairs, kept


def _bypass(view: View, reader: onnx.NodeProto, source: str, outputs: set[str]) -> None:
    import onnx

    result = reader.output[0]
    if result in outputs:  # the name of an output stays
        view.insert_after(reader, onnx.helper.make_node("Identity", [source], [result], name=result))
    for user in view.users.get(result, []):
        for index, name in enumerate(user.input):
            if name == result:
                user.input[index] = source
    view.users.setdefault(source, []).extend(view.users.get(result, []))
    view.remove(reader)


# --- the rest ---------------------------------------------------------------------------------------------------------


def drop_dead(proto: onnx.ModelProto) -> None:
    """Remove nodes of the main graph that nothing reads."""
    while True:
        view = View(proto)
        dead = [
            node for node in proto.graph.node
            if not any(name in view.users or not view.is_free(name) for name in node.output if name)
        ]  # fmt: skip
        if not dead:
            return
        for node in dead:
            view.remove(node)


def _refuse_rest(proto: onnx.ModelProto) -> None:
    from edgepack.graph import passes
    from edgepack.graph.walk import all_nodes

    if not passes.is_quantized(proto):
        return
    left = sorted({node.op_type for node in all_nodes(proto) if passes.marks_quantized(node)})
    raise ModelError(
        f"no float model can be taken out of this one: the float form of its {', '.join(left)} is not known",
        hint="give the model from before its quantization, or keep it with --precision as-is",
    )
