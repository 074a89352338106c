"""How operators of single values, reductions and comparisons are drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto
from operator_maker import Maker, operator


@operator(
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


@operator("Celu", "Elu", "LeakyRelu", "ThresholdedRelu")
def _alpha(m: Maker, name: str) -> bool:
    x = m.find("f")
    return x is not None and m.add(
        name, [x], alpha=float(m.pick([0.1, 1.0, 2.5] if name == "Celu" else [0.0, 0.1, 1.0, 2.5]))
    )


@operator("HardSigmoid", "Selu", "Shrink", "Gelu", "IsInf", "LRN", "LpNormalization")
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


@operator("Softmax", "LogSoftmax", "Hardmax", "CumSum", "ArgMax", "ArgMin", "Flatten")
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


@operator("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "Mean", "Mod", "PRelu")
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


@operator("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
def _comparison(m: Maker, name: str) -> bool:
    x = m.find("fi")
    return x is not None and m.add(name, [x, m.find("fi", like=x) if m.chance(0.5) else _broadcast(m, x)])


@operator("And", "Or", "Xor", "Not")
def _logical(m: Maker, name: str) -> bool:
    x = m.find("b")
    if x is None:
        return False
    return m.add(name, [x]) if name == "Not" else m.add(name, [x, m.find("b", like=x) or x])


@operator("BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot", "BitShift")
def _bits(m: Maker, name: str) -> bool:
    x = m.find("u" if name == "BitShift" else "iu")
    if x is None:
        return False
    if name == "BitwiseNot":
        return m.add(name, [x])
    more = {"direction": m.pick(["LEFT", "RIGHT"])} if name == "BitShift" else {}
    return m.add(name, [x, _broadcast(m, x)], **more)


@operator("Where")
def _where(m: Maker, name: str) -> bool:
    c = m.find("b")
    if c is None:
        return False
    x = next((k for k, v in m.values.items() if v.dtype.kind == "f" and v.shape == m.values[c].shape), None)
    return x is not None and m.add(name, [c, x, _broadcast(m, x)])


@operator("Cast")
def _cast(m: Maker, name: str) -> bool:
    x = m.find("fiub")
    to = m.pick([TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL, TensorProto.UINT8])
    return x is not None and m.add(name, [x], to=to)


@operator("Clip")
def _clip(m: Maker, name: str) -> bool:
    x = m.find("fi")
    if x is None:
        return False
    kind = m.values[x].dtype
    low, high = m.constant(-1, kind), m.constant(m.pick([0, 1, 6]), kind)
    return m.add(name, m.pick([[x, low, high], [x, low], [x, "", high], [x]]))


@operator(
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


@operator("TopK")
def _top_k(m: Maker, name: str) -> bool:
    x = m.find("fi", (1, 4))
    if x is None:
        return False
    axis = m.whole(0, m.values[x].ndim - 1)
    k = m.constant([m.whole(1, m.values[x].shape[axis])], np.int64)
    return m.add(name, [x, k], 2, axis=axis, largest=m.whole(0, 1))
