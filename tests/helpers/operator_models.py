"""Seeded models of one to six operators of every kind that an engine takes, with inputs to run them on.

Every operator is tried alone in ONNX Runtime as soon as it is drawn: what that refuses is left out of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]
Feeds = dict[str, Array]
BATCHES = (1, 2, 3)
_FREE = "N"
_FLOATS = (np.float32,)
_MOST_VALUES = 20_000


@dataclass(frozen=True)
class OperatorModel:
    """A model, whether its batch is free, and what it is run on: each of ``feeds`` by a name that says what is in it.

    ``positive`` says that it is meant for numbers between 0 and 1.
    """

    seed: int
    proto: onnx.ModelProto
    free: bool
    positive: bool
    feeds: Mapping[str, Feeds]

    @property
    def operators(self) -> tuple[str, ...]:
        return tuple(node.op_type for node in self.proto.graph.node)


def plain_session(proto: bytes) -> Any:
    """Return a session of ONNX Runtime without optimizations, on one thread."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(proto, options, providers=["CPUExecutionProvider"])


@dataclass
class Maker:
    """A model that grows: ``values`` holds what every tensor is for an example, ``constants`` those that are fixed."""

    random: np.random.Generator
    opset: int
    values: dict[str, Array] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    newest: str = ""
    positive: bool = False

    def __repr__(self) -> str:
        return f"Maker({[node.op_type for node in self.nodes]})"

    def chance(self, share: float) -> bool:
        return bool(self.random.random() < share)

    def pick(self, items: Sequence[Any]) -> Any:
        return items[int(self.random.integers(len(items)))]

    def whole(self, low: int, high: int) -> int:
        """Return a whole number from ``low`` to ``high``, both included."""
        return int(self.random.integers(low, high + 1))

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(values, dtype)
        return name

    def weights(self, *shape: int) -> str:
        fan_in = max(1, int(np.prod(shape[1:])))
        return self.constant(self.random.standard_normal(shape) / np.sqrt(fan_in))

    def find(self, kinds: str, rank: int | tuple[int, int] = (0, 9), *, like: str = "") -> str | None:
        """Return a tensor of a kind of dtype in ``kinds`` and of the rank, or like ``like``; often the newest."""
        least, most = (rank, rank) if isinstance(rank, int) else rank
        fitting = [
            name
            for name, value in self.values.items()
            if value.dtype.kind in kinds
            and least <= value.ndim <= most
            and value.size
            and (not like or (value.shape == self.values[like].shape and value.dtype == self.values[like].dtype))
        ]
        if self.newest in fitting and self.chance(0.8):
            return self.newest
        return self.pick(fitting) if fitting else None

    def add(self, operator: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> bool:
        """Append a node if ONNX Runtime computes it; the tensor that is gone on with is one of its outputs."""
        domain = attributes.pop("domain", "")
        made = [f"t{len(self.nodes)}_{number}" for number in range(outputs)]
        node = helper.make_node(operator, inputs, made, f"{operator}_{len(self.nodes)}", domain=domain, **attributes)
        read = {name: self.values[name] for name in inputs if name in self.values}
        stored = {name: self.constants[name] for name in inputs if name in self.constants}
        graph = helper.make_graph(
            [node], "one", [_value(name, array) for name, array in read.items()],
            [helper.make_empty_tensor_value_info(name) for name in made],
            [numpy_helper.from_array(array, name) for name, array in stored.items()],
        )  # fmt: skip
        try:
            found = plain_session(_model(graph, self.opset).SerializeToString()).run(made, read)
        except Exception:  # whatever ONNX Runtime raises for what it does not take
            return False
        if any(not isinstance(array, np.ndarray) or array.size > _MOST_VALUES or array.ndim > 6 for array in found):
            return False
        if any(array.dtype.kind == "f" and np.isnan(array).any() for array in found) and self.chance(0.95):
            return False  # a model that makes NaN of everything tells nothing else
        self.nodes.append(node)
        self.values.update(zip(made, found, strict=True))
        self.newest = made[0] if outputs == 1 or self.chance(0.6) else self.pick(made)
        return True


def _value(name: str, array: Array, *, free: bool = False) -> onnx.ValueInfoProto:
    shape: list[int | str] = list(array.shape)
    if free:
        shape[0] = _FREE
    return helper.make_tensor_value_info(name, _kind(array), shape)


def _kind(array: Array) -> int:
    return int(helper.np_dtype_to_tensor_dtype(array.dtype))


def _model(graph: onnx.GraphProto, opset: int) -> onnx.ModelProto:
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


# --- operators --------------------------------------------------------------------------------------------------------

Draw = Callable[[Maker], bool]
OPERATORS: dict[str, Draw] = {}


def _operator(*names: str) -> Callable[[Callable[[Maker, str], bool]], Callable[[Maker, str], bool]]:
    def register(draw: Callable[[Maker, str], bool]) -> Callable[[Maker, str], bool]:
        OPERATORS.update({name: lambda maker, name=name: draw(maker, name) for name in names})  # type: ignore[misc]
        return draw

    return register


@_operator(
    *("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Cos", "Cosh", "Erf", "Exp", "Floor"),
    *("HardSwish", "Identity", "Log", "Mish", "Neg", "Reciprocal", "Relu", "Round", "Sigmoid", "Sign", "Sin", "Sinh"),
    *("Softplus", "Softsign", "Sqrt", "Tan", "Tanh", "IsNaN", "GlobalAveragePool", "GlobalMaxPool", "Dropout"),
)
def _plain(m: Maker, name: str) -> bool:
    spatial = name.startswith("Global")
    x = m.find(
        "f" if spatial or name not in ("Abs", "Identity", "Neg", "Relu", "Sign") else "fi",
        (3, 5) if spatial else (0, 9),
    )
    return x is not None and m.add(name, [x])


@_operator("Celu", "Elu", "LeakyRelu", "ThresholdedRelu")
def _alpha(m: Maker, name: str) -> bool:
    x = m.find("f")
    return x is not None and m.add(
        name, [x], alpha=float(m.pick([0.1, 1.0, 2.5] if name == "Celu" else [0.0, 0.1, 1.0, 2.5]))
    )


@_operator("HardSigmoid", "Selu", "Shrink", "Gelu", "IsInf", "LRN", "LpNormalization")
def _with_numbers(m: Maker, name: str) -> bool:
    x = m.find("f", (2, 5) if name in ("LRN", "LpNormalization") else (0, 9))
    attributes: dict[str, Any] = {
        "HardSigmoid": {"alpha": m.pick([0.2, 1 / 6, 1.0]), "beta": m.pick([0.5, 0.0])},
        "Selu": {"alpha": 1.5, "gamma": 1.1},
        "Shrink": {"lambd": m.pick([0.5, 0.0]), "bias": m.pick([0.0, 0.25])},
        "Gelu": {"approximate": m.pick(["none", "tanh"])},
        "IsInf": {"detect_negative": m.whole(0, 1), "detect_positive": m.whole(0, 1)},
        "LRN": {"size": m.pick([1, 3, 5]), "alpha": m.pick([1e-4, 1.0]), "beta": 0.75, "bias": m.pick([1.0, 2.0])},
        "LpNormalization": {"p": m.whole(1, 2), "axis": -1},
    }[name]
    return x is not None and m.add(name, [x], **attributes)


@_operator("Softmax", "LogSoftmax", "Hardmax", "CumSum", "ArgMax", "ArgMin", "Flatten")
def _with_axis(m: Maker, name: str) -> bool:
    x = m.find("f" if "max" in name.lower() else "fi", (1, 5))
    if x is None:
        return False
    rank = m.values[x].ndim
    axis = m.whole(-rank, rank - 1)
    if name == "CumSum":
        return m.add(name, [x, m.constant(axis, np.int64)], exclusive=m.whole(0, 1), reverse=m.whole(0, 1))
    more = {"keepdims": m.whole(0, 1), "select_last_index": m.whole(0, 1)} if name.startswith("Arg") else {}
    return m.add(name, [x], axis=axis, **more)


@_operator("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "Mean", "Mod", "PRelu")
def _two(m: Maker, name: str) -> bool:
    x = m.find("f" if name in ("Sum", "Mean", "PRelu", "Pow") else "fi")
    if x is None:
        return False
    other = (m.find("fi", like=x) if m.chance(0.4) else None) or _broadcast(m, x)
    both = [x, other] if name in ("PRelu", "Pow", "Mod") or m.chance(0.7) else [other, x]
    floating = m.values[x].dtype.kind == "f"
    return m.add(name, both, **({"fmod": 1} if name == "Mod" and (floating or m.chance(0.5)) else {}))


def _broadcast(m: Maker, x: str) -> str:
    """Return a constant that the tensor is broadcast with: a number, a row, a column or a whole sample."""
    value = m.values[x]
    shape = [extent if m.chance(0.5) else 1 for extent in value.shape]
    if shape:
        shape[0] = 1
    shape = shape[m.whole(0, len(shape)) :]
    if value.dtype.kind in "iu":
        return m.constant(m.random.integers(1, 9, shape), value.dtype)
    return m.constant(np.round(m.random.normal(0, 2, shape), 2), value.dtype)


@_operator("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
def _comparison(m: Maker, name: str) -> bool:
    x = m.find("fi")
    return x is not None and m.add(name, [x, m.find("fi", like=x) if m.chance(0.5) else _broadcast(m, x)])


@_operator("And", "Or", "Xor", "Not")
def _logical(m: Maker, name: str) -> bool:
    x = m.find("b")
    if x is None:
        return False
    return m.add(name, [x]) if name == "Not" else m.add(name, [x, m.find("b", like=x) or x])


@_operator("BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot", "BitShift")
def _bits(m: Maker, name: str) -> bool:
    x = m.find("u" if name == "BitShift" else "iu")
    if x is None:
        return False
    if name == "BitwiseNot":
        return m.add(name, [x])
    more = {"direction": m.pick(["LEFT", "RIGHT"])} if name == "BitShift" else {}
    return m.add(name, [x, _broadcast(m, x)], **more)


@_operator("Where")
def _where(m: Maker, name: str) -> bool:
    c = m.find("b")
    if c is None:
        return False
    x = next((k for k, v in m.values.items() if v.dtype.kind == "f" and v.shape == m.values[c].shape), None)
    return x is not None and m.add(name, [c, x, _broadcast(m, x)])


@_operator("Cast")
def _cast(m: Maker, name: str) -> bool:
    x = m.find("fiub")
    to = m.pick([TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL, TensorProto.UINT8])
    return x is not None and m.add(name, [x], to=to)


@_operator("Clip")
def _clip(m: Maker, name: str) -> bool:
    x = m.find("fi")
    if x is None:
        return False
    kind = m.values[x].dtype
    low, high = m.constant(-1, kind), m.constant(m.pick([0, 1, 6]), kind)
    return m.add(name, m.pick([[x, low, high], [x, low], [x, "", high], [x]]))


@_operator(
    *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd"),
    *("ReduceSum", "ReduceSumSquare"),
)
def _reduce(m: Maker, name: str) -> bool:
    x = m.find("f" if "Log" in name or name in ("ReduceL2", "ReduceMean") else "fi", (1, 5))
    if x is None:
        return False
    rank = m.values[x].ndim
    axes = sorted(m.random.permutation(rank)[: m.whole(1, rank)].tolist())
    axes = [axis - rank if m.chance(0.3) else axis for axis in axes]
    keep = {"keepdims": m.whole(0, 1)}
    as_input = m.opset >= 18 or name == "ReduceSum"
    if m.chance(0.15):
        return m.add(name, [x], **keep)
    return m.add(name, [x, m.constant(axes, np.int64)], **keep) if as_input else m.add(name, [x], axes=axes, **keep)


@_operator("TopK")
def _top_k(m: Maker, name: str) -> bool:
    x = m.find("fi", (1, 4))
    if x is None:
        return False
    axis = m.whole(0, m.values[x].ndim - 1)
    k = m.constant([m.whole(1, m.values[x].shape[axis])], np.int64)
    return m.add(name, [x, k], 2, axis=axis, largest=m.whole(0, 1))


@_operator("Concat")
def _concat(m: Maker, name: str) -> bool:
    x = m.find("fiub", (1, 5))
    if x is None:
        return False
    rank = m.values[x].ndim
    return m.add(name, [x, m.find("fiub", like=x) or x, x][: m.whole(1, 3)], axis=m.whole(-rank, rank - 1))


@_operator("Split")
def _split(m: Maker, name: str) -> bool:
    x = m.find("fi", (2, 5))
    if x is None:
        return False
    axis = m.whole(1, m.values[x].ndim - 1)
    extent = m.values[x].shape[axis]
    if extent < 2:
        return False
    cut = m.whole(1, extent - 1)
    return m.add(name, [x, m.constant([cut, extent - cut], np.int64)], 2, axis=axis)


@_operator("Slice")
def _slice(m: Maker, name: str) -> bool:
    x = m.find("fi", (2, 5))
    if x is None:
        return False
    axis = m.whole(1, m.values[x].ndim - 1)
    start, end, step = m.pick([(0, 2, 1), (1, 1 << 40, 1), (-2, 99, 1), (0, -1, 2), (-1, -99, -1), (99, -99, -2)])
    return m.add(name, [x, *(m.constant([v], np.int64) for v in (start, end, axis, step))])


@_operator("Transpose")
def _transpose(m: Maker, name: str) -> bool:
    x = m.find("fiub", (2, 5))
    if x is None:
        return False
    rest = (1 + m.random.permutation(m.values[x].ndim - 1)).tolist()
    return m.add(name, [x], perm=[0, *rest] if m.chance(0.8) else m.random.permutation(m.values[x].ndim).tolist())


@_operator("Reshape")
def _reshape(m: Maker, name: str) -> bool:
    x = m.find("fiub", (2, 5))
    if x is None:
        return False
    shape = m.values[x].shape
    target = m.pick([[0, -1], [0, 0, -1], [-1, shape[-1]], [0, -1, 1, shape[-1]], [0, shape[1], 1, -1]])
    return m.add(name, [x, m.constant(target, np.int64)])


@_operator("Squeeze", "Unsqueeze")
def _squeeze(m: Maker, name: str) -> bool:
    x = m.find("fiub", (1, 4))
    if x is None:
        return False
    ones = [axis for axis, extent in enumerate(m.values[x].shape) if extent == 1 and axis]
    axes = [m.pick([1, -1])] if name == "Unsqueeze" else ones[:1]
    return bool(axes) and m.add(name, [x, m.constant(axes, np.int64)])


@_operator("Expand", "Tile")
def _repeat(m: Maker, name: str) -> bool:
    x = m.find("fiub", (2, 4))
    if x is None:
        return False
    shape = m.values[x].shape
    times = [1, *(m.whole(1, 2) for _ in shape[1:])]
    wanted = times if name == "Tile" else [1, *(3 if extent == 1 else extent for extent in shape[1:])]
    return m.add(name, [x, m.constant(wanted, np.int64)])


@_operator("Pad")
def _pad(m: Maker, name: str) -> bool:
    x = m.find("f", (2, 5))
    if x is None:
        return False
    rank = m.values[x].ndim
    pads = [[0, *(m.whole(-1 if m.chance(0.1) else 0, 2) for _ in range(rank - 1))] for _ in "be"]
    mode = m.pick(["constant", "reflect", "edge"])
    fill = [m.constant(m.pick([0.0, -1.5]))] if mode == "constant" and m.chance(0.6) else []
    return m.add(name, [x, m.constant(np.ravel(pads), np.int64), *fill], mode=mode)


@_operator("Gather", "GatherElements", "ScatterElements")
def _gather(m: Maker, name: str) -> bool:
    x = m.find("fi", (2, 4))
    if x is None:
        return False
    value = m.values[x]
    axis = m.whole(1, value.ndim - 1)
    extent = value.shape[axis]
    if name == "Gather":
        indices = m.random.integers(-extent, extent, m.pick([(), (1,), (3,), (2, 2)]))
        return m.add(name, [x, m.constant(indices, np.int64)], axis=axis)
    indices = m.random.permuted(
        np.broadcast_to(np.arange(extent), (*value.shape[:axis], *value.shape[axis + 1 :], extent)), axis=-1
    )
    places = m.constant(np.moveaxis(indices, -1, axis), m.pick([np.int64, np.int32]))
    if name == "GatherElements":
        return m.add(name, [x, places], axis=axis)
    updates = m.constant(m.random.integers(-3, 4, value.shape), value.dtype)
    more = {"reduction": m.pick(["none", "add", "mul"])} if m.opset >= 16 else {}
    return m.add(name, [x, places, updates], axis=axis, **more)


@_operator("GatherND", "ScatterND")
def _nd(m: Maker, name: str) -> bool:
    x = m.find("f", (2, 4))
    if x is None:
        return False
    shape = m.values[x].shape
    if name == "GatherND":
        return m.add(name, [x, m.constant(m.random.integers(0, shape[1], (shape[0], 1)), np.int64)], batch_dims=1)
    places = m.constant(np.stack([m.random.integers(0, e, 2) for e in shape], -1), np.int64)
    return m.add(name, [x, places, m.constant([1.5, -2.0])])


@_operator("OneHot")
def _one_hot(m: Maker, name: str) -> bool:
    x = m.find("i", (1, 3))
    return x is not None and m.add(name, [x, m.constant(5, np.int64), m.constant([m.pick([0.0, -1.0]), 2.0])], axis=-1)


@_operator("Shape", "Size", "NonZero", "EyeLike", "Trilu")
def _of_shape(m: Maker, name: str) -> bool:
    x = m.find("f", 2 if name == "EyeLike" else (2, 4))
    if x is None:
        return False
    more = {"k": m.whole(-1, 1)} if name == "EyeLike" else {"upper": m.whole(0, 1)} if name == "Trilu" else {}
    return m.add(name, [x], **more)


@_operator("DepthToSpace", "SpaceToDepth")
def _blocks(m: Maker, name: str) -> bool:
    x = m.find("f", 4)
    more = {"mode": m.pick(["DCR", "CRD"])} if name == "DepthToSpace" else {}
    return x is not None and m.add(name, [x], blocksize=2, **more)


@_operator("Conv", "ConvTranspose")
def _conv(m: Maker, name: str) -> bool:
    x = m.find("f", (3, 5))
    if x is None:
        return False
    channels, *space = m.values[x].shape[1:]
    rank = len(space)
    group = m.pick([g for g in (1, 1, 2, channels) if channels % g == 0])
    outputs = group * m.whole(1, 4)
    kernel = [m.whole(1, min(3, extent)) for extent in space]
    shape = (outputs, channels // group) if name == "Conv" else (channels, outputs // group)
    bias = [m.constant(m.random.normal(0, 0.3, outputs))] if m.chance(0.6) else []
    how: dict[str, Any] = {"group": group, "strides": [m.whole(1, 2) for _ in space], "kernel_shape": kernel}
    how["dilations"] = [m.pick([1, 1, 2]) for _ in space]
    if m.chance(0.8):
        how["pads"] = [m.whole(0, 1) for _ in range(2 * rank)]
    else:
        how["auto_pad"] = m.pick(["SAME_UPPER", "SAME_LOWER", "VALID"])
    if name == "ConvTranspose" and m.chance(0.3):
        how["output_padding"] = [stride - 1 for stride in how["strides"]]
    return m.add(name, [x, m.weights(*shape, *kernel), *bias], **how)


@_operator("MaxPool", "AveragePool", "LpPool")
def _pool(m: Maker, name: str) -> bool:
    x = m.find("f", (3, 5))
    if x is None:
        return False
    space = m.values[x].shape[2:]
    how: dict[str, Any] = {
        "kernel_shape": [m.whole(1, min(3, e)) for e in space],
        "strides": [m.whole(1, 2) for _ in space],
    }
    if m.chance(0.6):
        how["pads"] = [m.whole(0, min(1, k - 1)) for k in how["kernel_shape"]] * 2
    if name == "AveragePool":
        how["count_include_pad"] = m.whole(0, 1)
    if name != "LpPool" and m.chance(0.5):
        how["ceil_mode"] = m.whole(0, 1)
    if name == "MaxPool" and m.chance(0.3):
        how["dilations"] = [m.whole(1, 2) for _ in space]
    if name == "LpPool":
        how["p"] = m.whole(1, 3)
    return m.add(name, [x], 2 if name == "MaxPool" and m.chance(0.1) else 1, **how)


@_operator("Gemm")
def _gemm(m: Maker, name: str) -> bool:
    x = m.find("f", 2)
    if x is None:
        return False
    width, outputs, turned = m.values[x].shape[1], m.whole(1, 6), m.whole(0, 1)
    weight = m.weights(outputs, width) if turned else m.weights(width, outputs)
    bias = [m.constant(m.random.normal(0, 1, m.pick([(outputs,), (1, outputs), ()])))] if m.chance(0.7) else []
    numbers = {"alpha": m.pick([1.0, 0.5]), "beta": m.pick([1.0, 2.0])}
    return m.add(name, [x, weight, *bias], transB=turned, **numbers)


@_operator("MatMul")
def _matmul(m: Maker, name: str) -> bool:
    x = m.find("f", (1, 5))
    if x is None:
        return False
    width = m.values[x].shape[-1]
    if m.chance(0.3):
        y = next((k for k, v in m.values.items() if v.dtype.kind == "f" and v.ndim > 1 and v.shape[-2] == width), None)
        if y is not None:
            return m.add(name, [x, y])
    stack = m.values[x].shape[1:-2] if m.chance(0.3) and m.values[x].ndim > 3 else ()
    weight = m.constant(m.random.standard_normal((*stack, width, m.whole(1, 5))) / np.sqrt(width))
    return m.add(name, [x, weight if m.chance(0.85) else m.constant(m.random.standard_normal(width))])


@_operator("Einsum")
def _einsum(m: Maker, name: str) -> bool:
    x = m.find("f", (2, 4))
    if x is None:
        return False
    letters = "nabc"[: m.values[x].ndim]
    width = m.values[x].shape[-1]
    return m.add(name, [x, m.weights(width, 3)], equation=f"{letters},{letters[-1]}z->{letters[:-1]}z")


@_operator("BatchNormalization", "InstanceNormalization", "GroupNormalization")
def _normalization(m: Maker, name: str) -> bool:
    x = m.find("f", (2, 5) if name == "BatchNormalization" else (3, 5))
    if x is None:
        return False
    channels = m.values[x].shape[1]
    groups = m.pick([g for g in (1, 2, channels) if channels % g == 0])
    count = groups if name == "GroupNormalization" and m.opset < 21 else channels
    positive = lambda: m.constant(m.random.uniform(0.5, 2, count))  # noqa: E731
    more = {"num_groups": groups} if name == "GroupNormalization" else {}
    moments = [m.constant(m.random.normal(0, 1, count)), positive()] if name == "BatchNormalization" else []
    return m.add(name, [x, positive(), m.constant(m.random.normal(0, 1, count)), *moments], epsilon=1e-3, **more)


@_operator("LayerNormalization", "MeanVarianceNormalization")
def _layer_normalization(m: Maker, name: str) -> bool:
    x = m.find("f", 4 if name.startswith("Mean") else (2, 4))
    if x is None:
        return False
    if name.startswith("Mean"):
        return m.add(name, [x], axes=m.pick([[0, 2, 3], [2, 3]]))
    shape = m.values[x].shape
    axis = m.whole(1, len(shape) - 1)
    scale, bias = m.constant(m.random.uniform(0.5, 2, shape[axis:])), m.constant(m.random.normal(0, 1, shape[axis:]))
    return m.add(name, [x, scale, bias][: m.whole(2, 3)], axis=axis - len(shape) * m.whole(0, 1))


@_operator("Resize")
def _resize(m: Maker, name: str) -> bool:
    x = m.find("f", (3, 5))
    if x is None:
        return False
    space = m.values[x].ndim - 2
    how: dict[str, Any] = {"mode": m.pick(["nearest", "linear", "cubic"])}
    how["coordinate_transformation_mode"] = m.pick(["half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"])
    if how["mode"] == "nearest":
        how["nearest_mode"] = m.pick(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
    if how["mode"] == "cubic":
        how["cubic_coeff_a"] = m.pick([-0.75, -0.5])
    scales = m.constant([1, 1, *(m.pick([0.5, 1.0, 1.5, 2.0]) for _ in range(space))])
    return m.add(name, [x, "", scales], **how)


@_operator("GridSample")
def _grid_sample(m: Maker, name: str) -> bool:
    x = m.find("f", 4)
    if x is None or m.opset < 16:
        return False
    grid = m.constant(m.random.uniform(-1.2, 1.2, (m.values[x].shape[0], 3, 4, 2)))
    mode = m.pick(["linear", "nearest", "cubic"] if m.opset >= 20 else ["bilinear", "nearest", "bicubic"])
    padding = m.pick(["zeros", "border", "reflection"])
    return m.add(name, [x, grid], mode=mode, padding_mode=padding, align_corners=m.whole(0, 1))


@_operator("LSTM", "GRU", "RNN")
def _recurrent(m: Maker, name: str) -> bool:
    x = m.find("f", 3)
    if x is None:
        return False
    gates, hidden = {"LSTM": 4, "GRU": 3, "RNN": 1}[name], 3
    direction = m.pick(["forward", "reverse", "bidirectional"])
    ways = 2 if direction == "bidirectional" else 1
    width = m.values[x].shape[2]
    parts = [m.weights(ways, gates * hidden, width), m.weights(ways, gates * hidden, hidden)]
    if m.chance(0.6):
        parts.append(m.weights(ways, 2 * gates * hidden))
    more = {"linear_before_reset": m.whole(0, 1)} if name == "GRU" else {}
    return m.add(name, [x, *parts], m.whole(1, 2), hidden_size=hidden, direction=direction, **more)


@_operator("QuantizeLinear", "DynamicQuantizeLinear")
def _quantize(m: Maker, name: str) -> bool:
    x = m.find("f", (1, 5))
    if x is None:
        return False
    if name == "DynamicQuantizeLinear":
        return m.add(name, [x], 3)
    zero = m.constant(m.pick([0, 7]), m.pick([np.uint8, np.int8]))
    scale = m.constant(m.pick([0.05, 0.1]))
    return m.add(name, [x, scale, zero]) and (m.chance(0.2) or m.add("DequantizeLinear", [m.newest, scale, zero]))


@_operator("MatMulInteger", "ConvInteger")
def _integers(m: Maker, name: str) -> bool:
    x = next(
        (
            k
            for k, v in m.values.items()
            if v.dtype.name in ("uint8", "int8") and v.ndim == (4 if "Conv" in name else 2)
        ),
        None,
    )
    if x is None:
        return False
    value = m.values[x]
    shape = (3, value.shape[1], 1, 1) if "Conv" in name else (value.shape[1], 4)
    weight = m.constant(m.random.integers(-127, 128, shape), np.int8)
    return m.add(name, [x, weight, m.constant(3, value.dtype)][: m.whole(2, 3)])


_FUSED = "microsoft."


@_operator("microsoft.Gelu", "microsoft.BiasGelu", "microsoft.FastGelu", "microsoft.SkipLayerNormalization")
def _microsoft(m: Maker, name: str) -> bool:
    name, x = name.removeprefix(_FUSED), m.find("f", 3)
    if x is None:
        return False
    width = m.values[x].shape[-1]
    row = lambda: m.constant(m.random.normal(0, 1, width))  # noqa: E731
    parts = {"BiasGelu": [row()], "SkipLayerNormalization": [x, row(), row()]}.get(name, [])
    return m.add(name, [x, *parts], domain="com.microsoft")


# --- whole models -----------------------------------------------------------------------------------------------------

_SHAPES = ((2, 4, 6, 6), (2, 3, 5, 7), (2, 8), (2, 4, 9), (2, 5, 6), (2, 2, 3, 4, 4), (2, 1, 1, 6))
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_WHOLE_TYPES = (np.int64, np.int32, np.uint8)


def make(seed: int) -> OperatorModel:
    """Return the model of a seed; the first operators of the first seeds are all there are, one after another."""
    names = sorted(OPERATORS)
    for attempt in range(300):
        random = np.random.default_rng([seed, attempt])
        maker = Maker(random, int(random.integers(13, 22)) if attempt < 30 else 21)  # some are of the newest only
        first = names[seed % len(names)]
        fused = first.startswith(_FUSED)  # these take sequences only
        shape = maker.pick([s for s in _SHAPES if len(s) == 3] if fused else _SHAPES)
        maker.positive = maker.chance(0.4)
        maker.values["x"] = floats(random, shape, positive=maker.positive)
        maker.newest = "x"
        if maker.chance(0.3):
            maker.values["k"] = random.integers(0, 5, shape[: maker.whole(1, 2)]).astype(maker.pick(_WHOLE_TYPES))
        wanted = maker.whole(1, 6)
        done = _grown(maker, first, wanted, names)
        if done and (model := _finished(seed, maker)) is not None:
            return model
    raise ValueError(f"no model for seed {seed}, which begins with {first}")


def floats(random: np.random.Generator, shape: Sequence[int], *, positive: bool) -> Array:
    """Return numbers between 0 and 1, for which roots and logarithms are defined, or normal ones."""
    drawn = random.uniform(0.02, 0.98, shape) if positive else random.standard_normal(shape)
    return drawn.astype(np.float32)


def _grown(maker: Maker, first: str, wanted: int, names: Sequence[str]) -> bool:
    """Add the operator ``first``, after others that make its inputs if need be, and others around it."""
    before = 0 if maker.chance(0.5) else maker.whole(1, 3)
    if maker.chance(0.6):  # without one of these there is nothing to compute in int8
        before += any(OPERATORS[maker.pick(WEIGHTED)](maker) for _ in range(8))
    for _ in range(40):
        if len(maker.nodes) >= before and OPERATORS[first](maker):
            break
        OPERATORS[maker.pick(names)](maker)
        if len(maker.nodes) > 5:
            return False
    else:
        return False
    for _ in range(20):
        if len(maker.nodes) >= wanted:
            break
        OPERATORS[maker.pick(names)](maker)
    return True


def _finished(seed: int, maker: Maker) -> OperatorModel | None:
    """Return the model with all ends as outputs; None where ONNX does not take it whole."""
    read = {name for node in maker.nodes for name in node.input}
    inputs = [name for name in ("x", "k") if name in read]
    ends = [name for node in maker.nodes for name in node.output if name and name not in read]
    kept = [name for name in ends if maker.values[name].size and maker.values[name].dtype.kind in "fiub"]
    if not kept or not inputs:
        return None
    if maker.chance(0.2) and len(maker.nodes) > 1:  # what is read inside, and is an output as well
        kept = sorted({*kept, maker.nodes[0].output[0]})
    stored = [numpy_helper.from_array(array, n) for n, array in maker.constants.items() if n in read]
    for free in (True, False):
        graph = helper.make_graph(
            maker.nodes, "operators", [_value(name, maker.values[name], free=free) for name in inputs],
            [helper.make_tensor_value_info(n, _kind(maker.values[n]), None) for n in kept], stored,
        )  # fmt: skip
        proto = _model(graph, maker.opset)
        if not any(node.domain for node in maker.nodes):
            del proto.opset_import[1:]
        examples = {name: maker.values[name] for name in inputs}
        feeds = _feeds(maker, examples, free=free)
        try:
            proto = onnx.shape_inference.infer_shapes(proto, strict_mode=True)
            onnx.checker.check_model(proto, full_check=True)
            session = plain_session(proto.SerializeToString())
            for some in feeds.values():
                session.run(None, some)
        except Exception:  # as above: one batch may fit, or none
            continue
        return OperatorModel(seed, proto, free, maker.positive, feeds)
    return None


def _feeds(maker: Maker, examples: Feeds, *, free: bool) -> dict[str, Feeds]:
    """Return inputs of several batches, and of extreme values."""
    random = maker.random

    def drawn(batch: int, change: Callable[[Array], Array] = lambda x: x) -> Feeds:
        made = {}
        for name, example in examples.items():
            shape = (batch if free else example.shape[0], *example.shape[1:])
            if example.dtype.kind == "f":
                made[name] = change(floats(random, shape, positive=maker.positive)).astype(np.float32)
            else:
                made[name] = random.integers(0, 5, shape).astype(example.dtype)
        return made

    def salted(x: Array) -> Array:
        x[random.random(x.shape) < 0.2] = np.inf
        x[random.random(x.shape) < 0.1] = -np.inf
        return x

    usual = {f"batch of {batch}": drawn(batch) for batch in (BATCHES if free else (2,))}
    return usual | {
        "zeros": drawn(2, np.zeros_like),
        "large": drawn(2, lambda x: x * 1e6),
        "huge": drawn(2, lambda x: x * 1e30),
        "tiny": drawn(2, lambda x: x * 1e-30),
        "ties": drawn(2, lambda x: np.round(x * 2) / 2),
        "infinite": drawn(2, salted),
    }


# --- parts of a model -------------------------------------------------------------------------------------------------


def with_all_values(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with every tensor that a node makes as an output."""
    copy = onnx.ModelProto.FromString(proto.SerializeToString())
    known = {value.name for value in copy.graph.output}
    made = [name for node in copy.graph.node for name in node.output if name and name not in known]
    copy.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in made)
    return copy


def one_node(model: OperatorModel, node: onnx.NodeProto, values: Feeds, inputs: str) -> OperatorModel:
    """Return a model of one node of a model that reads ``values``, which were made of those inputs of the model."""
    constants = {tensor.name: tensor for tensor in model.proto.graph.initializer}
    read = [name for name in dict.fromkeys(node.input) if name and name not in constants]
    made = [name for name in node.output if name]
    graph = helper.make_graph(
        [node], "one", [_value(name, values[name]) for name in read],
        [helper.make_tensor_value_info(n, _kind(values[n]), None) for n in made],
        [constants[name] for name in dict.fromkeys(node.input) if name in constants],
    )  # fmt: skip
    proto = onnx.shape_inference.infer_shapes(_model(graph, model.proto.opset_import[0].version))
    if not node.domain:
        del proto.opset_import[1:]
    return OperatorModel(model.seed, proto, False, False, {inputs: {name: values[name] for name in read}})
