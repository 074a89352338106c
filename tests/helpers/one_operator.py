"""Models of one operator each, and whether the parser or builder of TensorRT's family takes them.

``refused`` is what tensorrt-rtx 1.7.1 did with each on a CPU for SM 8.6, which ``test_proxy.py`` asks again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, HALF, INT32, INT64, BOOL, UINT8 = (
    TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL, TensorProto.UINT8,
)  # fmt: skip
_KINDS = {"float": FLOAT, "half": HALF, "int32": INT32, "int64": INT64, "bool": BOOL, "uint8": UINT8}
_OF_FLOATS = (
    *("Acos", "Ceil", "Erf", "Exp", "Floor", "HardSigmoid", "LeakyRelu", "Log", "Round", "Sigmoid", "Softmax", "Sqrt"),
    "Tanh",
)
_SHAPE = (1, 3, 4, 4)


@dataclass(frozen=True)
class Case:
    """A model, the node to blame, and whether it was refused."""

    name: str
    proto: onnx.ModelProto
    refused: bool


def model(
    nodes: Sequence[Any],
    inputs: Sequence[tuple[str, int, Sequence[int]]],
    weights: Mapping[str, Any],
    outputs: Sequence[str] = ("y",),
    opset: int = 18,
) -> onnx.ModelProto:
    """Return a model with the shapes and types of its outputs inferred; nodes are named by their order."""
    for number, node in enumerate(nodes):
        node.name = node.name or f"node{number}"
    graph = helper.make_graph(
        list(nodes),
        "one",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    return onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)


def disputed() -> Iterator[tuple[Case, bool]]:
    """Yield models with which tensorrt-rtx does not keep to the document, and whether the check refuses them."""
    pair = [("x", UINT8, _SHAPE), ("z", UINT8, _SHAPE)]
    grid = [("x", FLOAT, (1, 3, 4, 4, 4)), ("g", FLOAT, (1, 4, 4, 4, 3))]
    yield Case("relu-int32", model([helper.make_node("Relu", ["x"], ["y"])], [("x", INT32, _SHAPE)], {}), True), False
    yield Case("equal-uint8", model([helper.make_node("Equal", ["x", "z"], ["y"])], pair, {}, opset=19), False), True
    sampled = helper.make_node("GridSample", ["x", "g"], ["y"], mode="linear")
    yield Case("gridsample-5", model([sampled], grid, {}, opset=20), False), True


def _weights(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def _one(operator: str, inputs: Sequence[Any], weights: Mapping[str, Any], **attributes: Any) -> onnx.ModelProto:
    """Return a model of one node that reads its inputs, then its weights, in this order."""
    opset, names = attributes.pop("opset", 18), attributes.pop("names", None)
    outputs = attributes.pop("outputs", ["y"])
    read = names if names is not None else [*(name for name, *_ in inputs), *weights]
    node = helper.make_node(operator, read, outputs, **attributes)
    return model([node], inputs, weights, outputs[:1], opset)


def of_types() -> Iterator[Case]:
    """Yield operators with inputs of every type that ONNX allows for them."""
    x, z, floats = "x", "z", ("float", "half")
    whole, every = (*floats, "int32", "int64"), (*floats, "int32", "int64", "bool")
    taken: dict[str, Sequence[str]] = {
        **dict.fromkeys(["Abs", "Neg", "Sign"], whole),
        **dict.fromkeys(_OF_FLOATS, floats),
        **dict.fromkeys(["Transpose", "Flatten", "Trilu"], every),
        **dict.fromkeys(["ArgMax", "ArgMin"], whole),
        **dict.fromkeys(["Identity", "Shape", "Size"], tuple(_KINDS)),
    }  # fmt: skip
    for operator, kinds in taken.items():
        yield from _typed(operator, kinds, lambda kind, op=operator: _one(op, [(x, kind, _SHAPE)], {}))
    pairs: dict[str, Sequence[str]] = {
        **dict.fromkeys(["Add", "Sub", "Mul", "Div", "Max", "Min", "Greater", "Less"], whole),
        **dict.fromkeys(["PRelu", "MatMul"], floats),
        **dict.fromkeys(["And", "Or", "Xor"], ("bool",)),
    }
    for operator, kinds in pairs.items():
        yield from _typed(
            operator, kinds, lambda kind, op=operator: _one(op, [(x, kind, _SHAPE), (z, kind, _SHAPE)], {})
        )
    for name in ("Sum", "Max", "L1", "L2", "LogSum", "LogSumExp"):
        kinds = floats if name in ("L2", "LogSum", "LogSumExp") else whole
        yield from _typed(
            f"Reduce{name}", kinds, lambda kind, n=name: _one(f"Reduce{n}", [(x, kind, _SHAPE)], {"a": np.array([1])})
        )
    flat = {"s": np.array([1, -1])}
    yield from _typed("Reshape", every, lambda kind: _one("Reshape", [(x, kind, _SHAPE)], flat))
    yield from _typed("Gather", every, lambda kind: _one("Gather", [(x, kind, _SHAPE)], {"i": np.array([0])}))
    twice = {"s": np.float32([1, 1, 2, 2])}
    yield from _typed("Resize", floats, lambda kind: _one("Resize", [(x, kind, _SHAPE)], twice, names=[x, "", "s"]))
    yield from _typed("Concat", every, lambda kind: _one("Concat", [(x, kind, _SHAPE)] * 1, {}, names=[x, x], axis=1))
    deep = (1, 4, 4, 4)
    yield from _typed("DepthToSpace", whole, lambda kind: _one("DepthToSpace", [(x, kind, deep)], {}, blocksize=2))
    square = lambda kind: [(x, kind, (3, 3)), (z, kind, (3, 3))]  # noqa: E731
    yield from _typed("Gemm", floats, lambda kind: _one("Gemm", square(kind), {}))
    yield from _typed("Einsum", floats, lambda kind: _one("Einsum", square(kind), {}, equation="ij,jk->ik"))
    yield from _typed("Pow", whole, lambda kind: _one("Pow", square(kind), {}))
    yield from _typed("Where", every, lambda kind: _one("Where", [("c", BOOL, (3, 3)), *square(kind)], {}))
    yield from _typed(
        "TopK", whole, lambda kind: _one("TopK", [(x, kind, (1, 30))], {"k": np.array([4])}, outputs=["y", "i"])
    )


def _typed(operator: str, taken: Sequence[str], build: Any) -> Iterator[Case]:
    for name, kind in _KINDS.items():
        try:
            proto = build(kind)
            onnx.checker.check_model(proto, full_check=True)
        except Exception:  # ONNX itself has no such type for it; its errors have no common base
            continue
        yield Case(f"{operator}-{name}", proto, name not in taken)


def of_kinds() -> Iterator[Case]:
    """Yield operators of other ranks, attributes and sizes, taken ones beside refused ones."""
    yield from _spatial()
    yield from _deconvolutions()
    yield from _attributes()
    yield from _bytes()
    yield from _branches()


def _spatial() -> Iterator[Case]:
    for rank in (3, 4, 5, 6):
        shape, kernel = (1, 2, *(6,) * (rank - 2)), (2,) * (rank - 2)
        x = [("x", FLOAT, shape)]
        w = {"w": _weights(2, 2, *kernel)}
        yield Case(f"conv-rank{rank}", _one("Conv", x, w), rank > 5)
        yield Case(f"deconv-rank{rank}", _one("ConvTranspose", x, w), rank > 5)
        yield Case(f"maxpool-rank{rank}", _one("MaxPool", x, {}, kernel_shape=kernel), rank > 5)
        yield Case(f"avgpool-rank{rank}", _one("AveragePool", x, {}, kernel_shape=kernel), rank > 5)
        yield Case(f"lppool-rank{rank}", _one("LpPool", x, {}, kernel_shape=kernel), rank not in (4, 5))
        yield Case(f"lrn-rank{rank}", _one("LRN", x, {}, size=3), rank < 4)
        names = ["x", "", "s"]
        for mode, last in (("nearest", 9), ("linear", 3), ("cubic", 2)):
            for axes in (rank - 2, rank):
                scales = {"s": np.float32([1] * (rank - axes) + [2] * axes)}
                proto = _one("Resize", x, scales, names=names, mode=mode)
                yield Case(f"resize-{mode}-{axes}of{rank}", proto, axes > last)
    for rank in (8, 9):
        yield Case(f"relu-rank{rank}", _one("Relu", [("x", FLOAT, (1,) * rank)], {}), rank > 8)


def _deconvolutions() -> Iterator[Case]:
    x = [("x", FLOAT, (1, 4, 7, 7))]
    w = {"w": _weights(4, 2, 3, 3)}
    for strides, dilations in (((1, 1), (2, 2)), ((2, 2), (1, 1)), ((2, 2), (2, 2)), ((1, 2), (2, 1))):
        proto = _one("ConvTranspose", x, w, strides=strides, dilations=dilations)
        yield Case(f"deconv-{strides}-{dilations}", proto, max(strides) > 1 and max(dilations) > 1)
    for size in (14, 20):
        proto = _one("ConvTranspose", x, w, strides=[2, 2], output_shape=[size, size])
        yield Case(f"deconv-to-{size}", proto, size > 15)


def _attributes() -> Iterator[Case]:
    picture, row = [("x", FLOAT, (1, 2, 7, 7))], [("x", FLOAT, (1, 8400))]
    for k in (3840, 3841):
        yield Case(f"topk-{k}", _one("TopK", row, {"k": np.array([k])}, outputs=["y", "i"]), k > 3840)
    for pool in ("MaxPool", "AveragePool"):
        for size in (1, 2):
            proto = _one(pool, picture, {}, kernel_shape=[2, 2], dilations=[size, size], opset=19)
            yield Case(f"{pool}-dilation{size}", proto, size > 1)
    for pad in (1, 2):
        proto = _one("AveragePool", picture, {}, kernel_shape=[2, 2], pads=[0, 0, pad, pad])
        yield Case(f"AveragePool-pad{pad}", proto, pad > 1)
    for p in (2, 3):
        yield Case(f"lppool-p{p}", _one("LpPool", picture, {}, kernel_shape=[2, 2], p=p), p > 2)
    scattered = [("x", FLOAT, (3, 5)), ("i", INT64, (3, 2)), ("u", FLOAT, (3, 2))]
    for reduction in ("none", "add", "max"):
        proto = _one("ScatterElements", scattered, {}, axis=1, reduction=reduction)
        yield Case(f"scatter-{reduction}", proto, reduction != "none")
    square = [("x", FLOAT, (2, 3)), ("z", FLOAT, (3, 4))]
    for equation in ("ij,jk->ik", "IJ,JK->IK"):
        yield Case(f"einsum-{equation}", _one("Einsum", square, {}, equation=equation), equation.isupper())
    for names, refused in ((("Tanh", "Tanh"), False), (("Tanh", "Relu"), True), (("Affine", "Affine"), True)):
        gates = {"w": _weights(2, 4, 8), "r": _weights(2, 4, 4)}
        rnn = [("x", FLOAT, (5, 2, 8))]
        proto = _one("RNN", rnn, gates, hidden_size=4, direction="bidirectional", activations=names)
        yield Case(f"rnn-{'-'.join(names)}", proto, refused)
    norm = [("x", FLOAT, (2, 8))]
    for outputs in (["y"], ["y", "m"]):
        proto = _one("LayerNormalization", norm, {"s": _weights(8)}, outputs=outputs)
        yield Case(f"layernorm-{len(outputs)}", proto, len(outputs) > 1)
    table = [("x", FLOAT, (4, 3))]
    for ends in ([3], [3, 3]):
        proto = _one("Slice", table, {"b": np.zeros(len(ends), np.int64), "e": np.array(ends)})
        yield Case(f"slice-{len(ends)}", proto, len(ends) < 2)
    three = [("x", FLOAT, (3,)), ("z", FLOAT, (3,))]
    yield Case("mod-fmod", _one("Mod", three, {}, fmod=1), refused=False)


def _bytes() -> Iterator[Case]:
    x, node = [("x", FLOAT, (3,))], helper.make_node
    to, back = node("Cast", ["x"], ["u"], to=UINT8), node("Cast", ["u"], ["y"], to=FLOAT)
    yield Case("uint8-within", model([to, back], x, {}), refused=True)
    yield Case("uint8-out", model([node("Cast", ["x"], ["y"], to=UINT8)], x, {}), refused=False)
    yield Case("uint8-in", model([node("Cast", ["x"], ["y"], to=FLOAT)], [("x", UINT8, (3,))], {}), refused=False)
    nodes = [node("Shape", ["x"], ["s"]), node("ConstantOfShape", ["s"], ["y"], value=_scalar(np.uint8))]
    yield Case("uint8-filled", model(nodes, x, {}), refused=True)


def _scalar(kind: Any) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array([1], kind))


def _branches() -> Iterator[Case]:
    """Yield If nodes whose branches give the same and different numbers of axes, by a condition that is computed."""
    for name, other in (("same", (4, 3)), ("other", (1, 3, 4))):
        branches = {
            key: helper.make_graph(
                [helper.make_node("Reshape", ["x", f"{key}_s"], [key], name=f"{key}_reshape")],
                key,
                [],
                [helper.make_tensor_value_info(key, FLOAT, shape)],
                [numpy_helper.from_array(np.array(shape), f"{key}_s")],
            )
            for key, shape in (("then_branch", (3, 4)), ("else_branch", other))
        }
        nodes = [
            helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
            helper.make_node("Greater", ["sum", "zero"], ["c"]),
            helper.make_node("If", ["c"], ["y"], "if", **branches),
        ]
        graph = helper.make_graph(
            nodes, "g", [helper.make_tensor_value_info("x", FLOAT, (3, 4))],
            [helper.make_tensor_value_info("y", FLOAT, None)], [numpy_helper.from_array(np.float32(0), "zero")],
        )  # fmt: skip
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        yield Case(f"if-{name}", proto, name == "other")
