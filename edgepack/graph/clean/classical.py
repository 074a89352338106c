"""Operators of classical machine learning (ai.onnx.ml) as arithmetic, which every engine has and int8 can take.

ONNX Runtime alone computes that domain. What is arithmetic on rows is written as such, as
https://onnx.ai/onnx/operators/index.html#ai-onnx-ml and ONNX Runtime define it; trees, kernels and encoders stay.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from edgepack.graph.clean.cones import make_node
from edgepack.graph.clean.view import View, attribute

if TYPE_CHECKING:
    import onnx

    from edgepack.specs.types import Array

_DOMAIN = "ai.onnx.ml"
_FLOAT, _WHOLE = 1, (6, 7)  # TensorProto.FLOAT, INT32 and INT64 of onnx.proto
_COMPARES_FLOATS = 11  # since this operator set Equal takes floats
_AXES_ARE_INPUTS = 13  # since this operator set ReduceSum has its axes as an input
_AFTER = {b"NONE": (), b"LOGISTIC": ("Sigmoid",), b"SOFTMAX": ("Softmax",)}


def arithmetic_from_classical(view: View) -> bool:
    """Write one operator of classical machine learning on rows as arithmetic."""
    for node in view.graph.node:
        write = _WRITTEN.get(node.op_type) if node.domain == _DOMAIN else None
        if write is None or view.rank(node.input[0]) != 2:
            continue
        written = _Written(view, node)
        if write(written):
            written.put()
            return True
    return False


class _Written:
    """What is written in place of a node: nodes one behind the other."""

    def __init__(self, view: View, node: onnx.NodeProto) -> None:
        self.view, self.node = view, node
        self.made: list[onnx.NodeProto] = []
        self.result = node.output[-1]  # of a classifier the scores
        self.last = node.input[0]

    @property
    def kind(self) -> int:
        """The type of the values read, as onnx.proto numbers it; 0 where it is unknown."""
        found = self.view.types.get(self.node.input[0])
        return 0 if found is None else found.elem_type

    @property
    def columns(self) -> int:
        """How many values a row has that is read; 0 where that is free."""
        return self.columns_of(self.node.input[0])

    def columns_of(self, name: str) -> int:
        """Return how many values a row of a tensor has; 0 where that is free or unknown."""
        if self.view.rank(name) != 2:
            return 0
        return int(self.view.types[name].shape.dim[1].dim_value)

    def numbers(self, name: str) -> Array:
        """Return an attribute of floats."""
        return np.asarray(attribute(self.node, name, []), np.float32)

    def word(self, name: str, usual: bytes) -> bytes:
        """Return an attribute that is a word."""
        return bytes(attribute(self.node, name, usual))

    def constant(self, array: Array) -> str:
        """Add a constant."""
        return self.view.add_constant(array, self.result)

    def add(self, operator: str, *inputs: str, **attributes: object) -> str:
        """Add a node; return what it makes, which is ``last`` from now on."""
        made = self.view.new_name(self.result)
        self.made.append(make_node(self.view, operator, list(inputs), made, **attributes))
        self.last = made
        return made

    def put(self) -> None:
        """Put what was written in the node's place."""
        view = self.view
        if not self.made:
            self.add("Identity", self.last)
        self.made[-1].output[0] = self.result
        for made in reversed(self.made):
            view.insert_after(self.node, made)
        view.remove(self.node)
        view.infer()


def _scaler(to: _Written) -> bool:
    """(x - offset) * scale, in float32; doubles stay, as ONNX Runtime subtracts in them."""
    offset, scale = to.numbers("offset"), to.numbers("scale")
    if to.kind not in (_FLOAT, *_WHOLE) or not _fit(to, offset) or not _fit(to, scale):
        return False
    if to.kind != _FLOAT:
        to.add("Cast", to.last, to=_FLOAT)
    if offset.any():
        to.add("Sub", to.last, to.constant(offset))
    if (scale != 1).any():
        to.add("Mul", to.last, to.constant(scale))
    return True


def _normalizer(to: _Written) -> bool:
    """A row by its norm; one of zeros stays. The norm "MAX" stays: its definitions differ in the sign."""
    norm, rows = to.word("norm", b"MAX"), to.last
    if norm not in (b"L1", b"L2") or to.kind != _FLOAT:
        return False
    positive = to.add("Abs", rows) if norm == b"L1" else to.add("Mul", rows, rows)
    if to.view.opset < _AXES_ARE_INPUTS:
        total = to.add("ReduceSum", positive, axes=[1], keepdims=1)
    else:
        total = to.add("ReduceSum", positive, to.constant(np.array([1], np.int64)), keepdims=1)
    length = total if norm == b"L1" else to.add("Sqrt", total)
    least = to.constant(np.array([np.finfo(np.float32).tiny], np.float32))
    to.add("Div", rows, to.add("Max", length, least))
    return True


def _regressor(to: _Written) -> bool:
    """One product with weights of [targets, columns]."""
    return to.word("post_transform", b"NONE") == b"NONE" and _product(to, int(attribute(to.node, "targets", 1)))


def _classifier(to: _Written) -> bool:
    """One product with weights of [classes, columns], and what follows it; only where no label is read.

    One row of weights for two classes stays: what it makes of the second depends on more than can be seen.
    """
    label, node = to.node.output[0], to.node
    if len(node.output) != 2 or to.view.users.get(label) or not to.view.is_free(label):
        return False
    classes = len(attribute(node, "classlabels_ints", [])) or len(attribute(node, "classlabels_strings", []))
    after = _AFTER.get(to.word("post_transform", b"NONE"))
    if after is None or not _product(to, classes):
        return False
    for operator in after:
        to.add(operator, to.last, **({"axis": 1} if operator == "Softmax" else {}))
    return True


def _product(to: _Written, outputs: int) -> bool:
    weights, biases = to.numbers("coefficients"), to.numbers("intercepts")
    if to.kind != _FLOAT or not outputs or not to.columns or weights.size != outputs * to.columns:
        return False
    if biases.size not in (0, outputs):
        return False
    inputs = [to.last, to.constant(weights.reshape(outputs, -1))]
    to.add("Gemm", *inputs, *([to.constant(biases)] if biases.any() else []), transB=1)
    return True


def _imputer(to: _Written) -> bool:
    """One value in place of another: of NaN mostly."""
    values, replaced = to.numbers("imputed_value_floats"), np.float32(attribute(to.node, "replaced_value_float", 0.0))
    if to.kind != _FLOAT or not _fit(to, values) or to.view.opset < _COMPARES_FLOATS:
        return False
    rows = to.last
    if np.isnan(replaced):
        is_missing = to.add("IsNaN", rows)
    else:
        is_missing = to.add("Equal", rows, to.constant(np.array(replaced, np.float32)))
    to.add("Where", is_missing, to.constant(values), rows)
    return True


def _vectorizer(to: _Written) -> bool:
    """Columns side by side, where the sizes that it states are those that there are."""
    stated = list(attribute(to.node, "inputdimensions", []))
    kinds = [to.view.types[name].elem_type if name in to.view.types else 0 for name in to.node.input]
    if any(kind not in (_FLOAT, *_WHOLE) for kind in kinds) or stated != [to.columns_of(n) for n in to.node.input]:
        return False
    names = [
        name if kind == _FLOAT else to.add("Cast", name, to=_FLOAT)
        for name, kind in zip(to.node.input, kinds, strict=True)
    ]
    to.add("Concat", *names, axis=1)
    return True


def _extractor(to: _Written) -> bool:
    """Columns by their numbers."""
    numbers = to.view.value(to.node.input[1])
    if numbers is None or not numbers.size:
        return False
    to.add("Gather", to.last, to.constant(numbers.reshape(-1).astype(np.int64)), axis=1)
    return True


def _binarizer(to: _Written) -> bool:
    """1 above a threshold, else 0."""
    if to.kind != _FLOAT:
        return False
    threshold = to.constant(np.array(attribute(to.node, "threshold", 0.0), np.float32))
    to.add("Cast", to.add("Greater", to.last, threshold), to=_FLOAT)
    return True


def _fit(to: _Written, values: Array) -> bool:
    """Say whether there is one value for all columns, or one for each."""
    return values.size == 1 or (values.size > 0 and values.size == to.columns)


_WRITTEN: dict[str, Callable[[_Written], bool]] = {
    "ArrayFeatureExtractor": _extractor, "Binarizer": _binarizer, "FeatureVectorizer": _vectorizer,
    "Imputer": _imputer, "LinearClassifier": _classifier, "LinearRegressor": _regressor, "Normalizer": _normalizer,
    "Scaler": _scaler,
}  # fmt: skip
