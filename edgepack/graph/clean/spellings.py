"""Activations and layer norms in the one spelling that engines know, whatever an exporter wrote.

They are recognised by what they compute. Engines fuse these operators by the nodes that torch's exporters write: ONNX
Runtime's gelu_fusion.cc and layer_norm_fusion.cc, OpenVINO's GeluFusion and MVNFusion. Keras writes a GELU with erfc,
and a layer norm as x * s + (beta - mean * s), which ONNX Runtime does not know. Operators of their own (Gelu of opset
20, LayerNormalization of 17) are not written: older TensorRT has none of them. Of GELU by tanh no spelling is fused by
ONNX Runtime 1.31 on a CPU, so it stays as it is.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edgepack.graph.clean.cones import Cone, cones, mean_axes, replace
from edgepack.graph.clean.view import View, attribute

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

    from edgepack.specs.types import Array

_erf = np.vectorize(math.erf, otypes=[np.float64])
_GRID = np.concatenate([np.linspace(-12, 12, 961), [-60.0, -30.0, 30.0, 60.0]])
_NEAR = 2e-6  # of the largest value or 1: constants are written in float32
_SPELLED: dict[str, tuple[list[str], Callable[[Array], Array]]] = {
    "Sigmoid": (["Sigmoid"], lambda x: 1 / (1 + np.exp(-x))),
    "SiLU": (["Mul", "Sigmoid"], lambda x: x / (1 + np.exp(-x))),
    "GELU": (["Add", "Div", "Erf", "Mul", "Mul"], lambda x: 0.5 * x * (1 + _erf(x / math.sqrt(2)))),
}
_HINTS = frozenset({"Erf", "Exp", "Sigmoid"})  # without one of them it is none of these
_ENDS = ("Add", "Sub", "Mul", "Div", "Reciprocal")
_NORM = ["Add", "Add", "Div", "Mul", "Pow", "ReduceMean", "ReduceMean", "Sqrt", "Sub"]
_SEED = 5


def spell_activation(view: View) -> bool:
    """Write one Sigmoid, SiLU or GELU as engines know it."""
    if next(view.nodes(*_HINTS), None) is None:
        return False
    for end in view.nodes(*_ENDS):
        for cone in cones(view, end):
            name = _activation(view, cone)
            if name is not None and cone.operators() != _SPELLED[name][0]:
                replace(view, cone, _written(view, cone, name))
                return True
    return False


def _activation(view: View, cone: Cone) -> str | None:
    """Return which activation a cone of single numbers is; None for another one, or none."""
    kinds = cone.operators()
    if _HINTS.isdisjoint(kinds) or "ReduceMean" in kinds or not _is_float(view, cone) or not _are_numbers(view, cone):
        return None
    found = cone.compute(view, _GRID)
    for name, (_, function) in _SPELLED.items():
        with np.errstate(over="ignore"):
            expected = function(_GRID)
        if np.isfinite(found).all() and bool(
            (np.abs(found - expected) <= _NEAR * np.maximum(1, np.abs(expected))).all()
        ):
            return name
    return None


def _is_float(view: View, cone: Cone) -> bool:
    kinds = [view.types[name].elem_type for name in (cone.source, cone.result) if name in view.types]
    return bool(kinds) and all(kind == 1 for kind in kinds)  # onnx.TensorProto.FLOAT


def _are_numbers(view: View, cone: Cone) -> bool:
    values = (view.value(name) for node in cone.nodes for name in node.input)
    return all(value is None or (value.size == 1 and value.ndim <= (view.rank(cone.source) or 0)) for value in values)


def _written(view: View, cone: Cone, name: str) -> list[onnx.NodeProto]:
    x, y = cone.source, cone.result
    if name == "Sigmoid":
        return [_node(view, "Sigmoid", [x], y)]
    if name == "SiLU":
        gate = view.new_name(y)
        return [_node(view, "Sigmoid", [x], gate), _node(view, "Mul", [x, gate], y)]
    root, one, half = (view.add_constant(np.asarray(v, np.float32), y) for v in (math.sqrt(2), 1.0, 0.5))
    scaled, error, more, product = (view.new_name(y) for _ in range(4))
    return [
        _node(view, "Div", [x, root], scaled),
        _node(view, "Erf", [scaled], error),
        _node(view, "Add", [error, one], more),
        _node(view, "Mul", [x, more], product),
        _node(view, "Mul", [product, half], y),
    ]


def _node(view: View, operator: str, inputs: list[str], output: str, **attributes: object) -> onnx.NodeProto:
    import onnx

    return onnx.helper.make_node(operator, inputs, [output], name=view.new_name(f"{output}_{operator}"), **attributes)


# --- layer norm -------------------------------------------------------------------------------------------------------


def spell_layer_norm(view: View) -> bool:
    """Write one layer norm over the last axis, with scale and offset, as engines know it."""
    if next(view.nodes("ReduceMean"), None) is None:
        return False
    for end in view.nodes("Add", "Sub"):
        for cone in cones(view, end):
            if cone.operators() == _NORM or cone.operators().count("ReduceMean") != 2:
                continue
            found = _norm(view, cone)
            if found is not None:
                replace(view, cone, _written_norm(view, cone, *found))
                return True
    return False


def _norm(view: View, cone: Cone) -> tuple[Array, Array, float] | None:
    """Return scale, offset and epsilon of a cone that is a layer norm; None for one that is not."""
    size, rank = _last(view, cone.source), view.rank(cone.source)
    epsilon = _epsilon(view, cone)
    if size is None or rank is None or epsilon is None or not _over_last(view, cone, rank) or not _is_float(view, cone):
        return None
    random = np.random.default_rng(_SEED)
    tries = [random.normal(scale, scale, (1,) * (rank - 1) + (size,)) for scale in (1.0, 0.1, 30.0)]
    offset = cone.compute(view, np.zeros_like(tries[0]))
    normal = [_normalised(x, epsilon) for x in tries]
    if offset.shape != tries[0].shape or not np.isfinite(offset).all():
        return None
    scale = (cone.compute(view, tries[0]) - offset) / normal[0]
    for x, n in zip(tries[1:], normal[1:], strict=True):
        distance = np.abs(cone.compute(view, x) - (scale * n + offset)).max()
        if not distance <= _NEAR * max(1.0, float(np.abs(scale).max())):
            return None
    return np.asarray(scale.reshape(-1), np.float32), np.asarray(offset.reshape(-1), np.float32), epsilon


def _normalised(x: Array, epsilon: float) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    return np.asarray(centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon))


def _last(view: View, name: str) -> int | None:
    kind = view.types.get(name)
    dims = kind.shape.dim if kind is not None and kind.HasField("shape") else []
    return int(dims[-1].dim_value) if dims and dims[-1].dim_value > 1 else None


def _over_last(view: View, cone: Cone, rank: int) -> bool:
    means = [node for node in cone.nodes if node.op_type == "ReduceMean"]
    return all(mean_axes(view, node) in ([-1], [rank - 1]) and attribute(node, "keepdims", 1) for node in means)


def _epsilon(view: View, cone: Cone) -> float | None:
    """Return the number that is added in front of the root."""
    made = {node.output[0]: node for node in cone.nodes}
    for node in cone.nodes:
        inner = made.get(node.input[0]) if node.op_type in ("Sqrt", "Pow") else None
        if inner is not None and inner.op_type == "Add":
            numbers = [v for v in map(view.floats, inner.input) if v is not None and v.size == 1]
            return float(numbers[0].reshape(())) if numbers else None
    return None


def _written_norm(view: View, cone: Cone, scale: Array, offset: Array, epsilon: float) -> list[onnx.NodeProto]:
    x, y = cone.source, cone.result
    means = [node for node in cone.nodes if node.op_type == "ReduceMean"]
    listed = list(means[0].input[1:])
    attributes = {} if listed else {"axes": [-1]}
    two, small, gamma, beta = (view.add_constant(np.asarray(v, np.float32), y) for v in (2.0, epsilon, scale, offset))
    mean, centred, square, variance, safe, root, normal, scaled = (view.new_name(y) for _ in range(8))
    return [
        _node(view, "ReduceMean", [x, *listed], mean, keepdims=1, **attributes),
        _node(view, "Sub", [x, mean], centred),
        _node(view, "Pow", [centred, two], square),
        _node(view, "ReduceMean", [square, *listed], variance, keepdims=1, **attributes),
        _node(view, "Add", [variance, small], safe),
        _node(view, "Sqrt", [safe], root),
        _node(view, "Div", [centred, root], normal),
        _node(view, "Mul", [normal, gamma], scaled),
        _node(view, "Add", [scaled, beta], y),
    ]
