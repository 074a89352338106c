"""Activations in the one spelling that engines know, whatever an exporter wrote.

They are recognised by what they compute. Engines fuse these operators by the nodes that torch's exporters write: ONNX
Runtime's gelu_fusion.cc, OpenVINO's GeluFusion. Keras writes a GELU with erfc. Operators of their own (Gelu of opset
20) are not written: older TensorRT has none of them. GELU by tanh gets the spelling of
Hugging Face's "gelu_new", which OpenVINO fuses; ONNX Runtime 1.31 fuses none on a CPU, and gets an operator of its own
when it is compiled for (``engines/onnxruntime/tanh_gelu.py``).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edgepack.graph.clean.cones import Cone, cones, is_float, make_node, replace
from edgepack.graph.clean.view import View

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

    from edgepack.specs.types import Array

_erf = np.vectorize(math.erf, otypes=[np.float64])
_GRID = np.concatenate([np.linspace(-12, 12, 961), [-60.0, -30.0, 30.0, 60.0]])
_NEAR = 2e-6  # of the largest value or 1: constants are written in float32
_CUBIC = 0.044715  # Hendrycks and Gimpel, "Gaussian Error Linear Units", arXiv 1606.08415, section 2
TANH_GELU = "GELU by tanh"
_SPELLED: dict[str, tuple[list[str], Callable[[Array], Array]]] = {
    "Sigmoid": (["Sigmoid"], lambda x: 1 / (1 + np.exp(-x))),
    "SiLU": (["Mul", "Sigmoid"], lambda x: x / (1 + np.exp(-x))),
    "GELU": (["Add", "Div", "Erf", "Mul", "Mul"], lambda x: 0.5 * x * (1 + _erf(x / math.sqrt(2)))),
    TANH_GELU: (
        ["Add", "Add", "Mul", "Mul", "Mul", "Mul", "Pow", "Tanh"],
        lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + _CUBIC * x**3))),
    ),
}
_HINTS = frozenset({"Erf", "Exp", "Sigmoid", "Tanh"})  # without one of them it is none of these
_ENDS = ("Add", "Sub", "Mul", "Div", "Reciprocal")


def spell_activation(view: View) -> bool:
    """Write one Sigmoid, SiLU or GELU as engines know it."""
    if next(view.nodes(*_HINTS), None) is None:
        return False
    for end in view.nodes(*_ENDS):
        for cone in cones(view, end):
            name = activation_of(view, cone)
            if name is not None and cone.operators() != _SPELLED[name][0]:
                replace(view, cone, _written(view, cone, name))
                return True
    return False


def activation_of(view: View, cone: Cone) -> str | None:
    """Return which activation a cone of single numbers is; None for another one, or none."""
    kinds = cone.operators()
    if _HINTS.isdisjoint(kinds) or "ReduceMean" in kinds or not is_float(view, cone) or not _are_numbers(view, cone):
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


def _are_numbers(view: View, cone: Cone) -> bool:
    values = (view.value(name) for node in cone.nodes for name in node.input)
    return all(value is None or (value.size == 1 and value.ndim <= (view.rank(cone.source) or 0)) for value in values)


def _written(view: View, cone: Cone, name: str) -> list[onnx.NodeProto]:
    x, y = cone.source, cone.result
    if name == "Sigmoid":
        return [make_node(view, "Sigmoid", [x], y)]
    if name == "SiLU":
        gate = view.new_name(y)
        return [make_node(view, "Sigmoid", [x], gate), make_node(view, "Mul", [x, gate], y)]
    if name == TANH_GELU:
        return _written_tanh_gelu(view, x, y)
    root, one, half = (view.add_constant(np.asarray(v, np.float32), y) for v in (math.sqrt(2), 1.0, 0.5))
    scaled, error, more, product = (view.new_name(y) for _ in range(4))
    return [
        make_node(view, "Div", [x, root], scaled),
        make_node(view, "Erf", [scaled], error),
        make_node(view, "Add", [error, one], more),
        make_node(view, "Mul", [x, more], product),
        make_node(view, "Mul", [product, half], y),
    ]


def _written_tanh_gelu(view: View, x: str, y: str) -> list[onnx.NodeProto]:
    numbers = (0.5, 3.0, _CUBIC, math.sqrt(2 / math.pi), 1.0)
    half, three, cubic, root, one = (view.add_constant(np.asarray(v, np.float32), y) for v in numbers)
    halved, cube, part, inner, scaled, tanh, more = (view.new_name(y) for _ in range(7))
    return [
        make_node(view, "Mul", [x, half], halved),
        make_node(view, "Pow", [x, three], cube),
        make_node(view, "Mul", [cube, cubic], part),
        make_node(view, "Add", [x, part], inner),
        make_node(view, "Mul", [inner, root], scaled),
        make_node(view, "Tanh", [scaled], tanh),
        make_node(view, "Add", [tanh, one], more),
        make_node(view, "Mul", [halved, more], y),
    ]
