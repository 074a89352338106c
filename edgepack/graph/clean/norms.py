"""Layer norms and RMS norms in the one spelling that engines know, whatever an exporter wrote.

They are recognised by what they compute. Engines fuse the nodes that torch's exporters write: ONNX Runtime's
layer_norm_fusion.cc (both kinds), OpenVINO's MVNFusion and RMSFusion. Keras writes a layer norm as
x * s + (beta - mean * s), and torch an RMS norm by Reciprocal, which ONNX Runtime 1.31 knows neither of. Operators of
their own (LayerNormalization of opset 17, RMSNormalization of 23) are not written: older TensorRT has none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgepack.graph.clean.cones import Cone, cones, is_float, make_node, mean_axes, replace
from edgepack.graph.clean.view import View, attribute

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

    from edgepack.specs.types import Array

_NEAR = 2e-6  # of the largest value or 1: constants are written in float32
_NORM = ["Add", "Add", "Div", "Mul", "Pow", "ReduceMean", "ReduceMean", "Sqrt", "Sub"]
_RMS_NORM = ["Add", "Div", "Mul", "Pow", "ReduceMean", "Sqrt"]
_SEED = 5


def spell_layer_norm(view: View) -> bool:
    """Write one layer norm over the last axis, with scale and offset, as engines know it."""
    if next(view.nodes("ReduceMean"), None) is None:
        return False
    for end in view.nodes("Add", "Sub"):
        for cone in cones(view, end):
            if cone.operators() == _NORM or cone.operators().count("ReduceMean") != 2:
                continue
            found = _fitted(view, cone, _centred)
            if found is not None:
                replace(view, cone, _written_norm(view, cone, *found))
                return True
    return False


def spell_rms_norm(view: View) -> bool:
    """Write one RMS norm over the last axis, with a scale, as engines know it."""
    if next(view.nodes("ReduceMean"), None) is None:
        return False
    for end in view.nodes("Mul", "Div"):
        if _is_scaled_next(view, end):
            continue
        for cone in cones(view, end):
            if _is_spelled_rms(cone) or cone.operators().count("ReduceMean") != 1:
                continue
            found = _fitted(view, cone, lambda x: x)
            if found is not None and not found[1].any():
                replace(view, cone, _written_rms_norm(view, cone, found[0], found[2]))
                return True
    return False


def _is_scaled_next(view: View, node: onnx.NodeProto) -> bool:
    """Say whether the one reader multiplies with a constant: then the norm ends there."""
    user = view.only_user(node.output[0])
    return user is not None and user.op_type == "Mul" and any(name in view.constants for name in user.input)


def _is_spelled_rms(cone: Cone) -> bool:
    divided = any(node.op_type == "Div" and node.input[0] == cone.source for node in cone.nodes)
    return divided and cone.operators() == _RMS_NORM


def _fitted(view: View, cone: Cone, centre: Callable[[Array], Array]) -> tuple[Array, Array, float] | None:
    """Return scale, offset and epsilon of a cone that is a norm of what ``centre`` makes; None for one that is not."""
    size, rank = _last(view, cone.source), view.rank(cone.source)
    epsilon = _epsilon(view, cone)
    if size is None or rank is None or epsilon is None or not _over_last(view, cone, rank) or not is_float(view, cone):
        return None
    random = np.random.default_rng(_SEED)
    tries = [random.normal(scale, scale, (1,) * (rank - 1) + (size,)) for scale in (1.0, 0.1, 30.0)]
    offset = cone.compute(view, np.zeros_like(tries[0]))
    normal = [_normalised(centre(x), epsilon) for x in tries]
    if offset.shape != tries[0].shape or not np.isfinite(offset).all():
        return None
    scale = (cone.compute(view, tries[0]) - offset) / normal[0]
    for x, n in zip(tries[1:], normal[1:], strict=True):
        distance = np.abs(cone.compute(view, x) - (scale * n + offset)).max()
        if not distance <= _NEAR * max(1.0, float(np.abs(scale).max())):
            return None
    return np.asarray(scale.reshape(-1), np.float32), np.asarray(offset.reshape(-1), np.float32), epsilon


def _centred(x: Array) -> Array:
    return np.asarray(x - x.mean(axis=-1, keepdims=True))


def _normalised(x: Array, epsilon: float) -> Array:
    return np.asarray(x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + epsilon))


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
    beta = view.add_constant(offset, y)
    mean, centred, scaled = (view.new_name(y) for _ in range(3))
    return [
        _mean(view, cone, x, mean),
        make_node(view, "Sub", [x, mean], centred),
        *_written_scaling(view, cone, centred, scaled, scale, epsilon),
        make_node(view, "Add", [scaled, beta], y),
    ]


def _written_rms_norm(view: View, cone: Cone, scale: Array, epsilon: float) -> list[onnx.NodeProto]:
    return _written_scaling(view, cone, cone.source, cone.result, scale, epsilon)


def _written_scaling(view: View, cone: Cone, x: str, y: str, scale: Array, epsilon: float) -> list[onnx.NodeProto]:
    """Return the nodes that divide ``x`` by the root of the mean of its squares, and multiply it by a scale."""
    two, small, gamma = (view.add_constant(np.asarray(v, np.float32), y) for v in (2.0, epsilon, scale))
    square, variance, safe, root, normal = (view.new_name(y) for _ in range(5))
    return [
        make_node(view, "Pow", [x, two], square),
        _mean(view, cone, square, variance),
        make_node(view, "Add", [variance, small], safe),
        make_node(view, "Sqrt", [safe], root),
        make_node(view, "Div", [x, root], normal),
        make_node(view, "Mul", [normal, gamma], y),
    ]


def _mean(view: View, cone: Cone, x: str, y: str) -> onnx.NodeProto:
    """Return a mean over the last axis, which the operator set of the cone takes as an input or as an attribute."""
    listed = list(next(node for node in cone.nodes if node.op_type == "ReduceMean").input[1:])
    attributes = {} if listed else {"axes": [-1]}
    return make_node(view, "ReduceMean", [x, *listed], y, keepdims=1, **attributes)
