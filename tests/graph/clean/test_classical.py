"""Operators of classical machine learning become arithmetic with the same numbers; what is no arithmetic stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgepack.graph.clean import clean
from edgepack.specs.types import Array

DOMAIN = "ai.onnx.ml"
FLOATS = st.floats(-100, 100, width=32)
PAIRS = st.tuples(FLOATS, FLOATS)
ROWS = 5
NAMES = {np.dtype("float32"): TensorProto.FLOAT, np.dtype("int64"): TensorProto.INT64, np.dtype("float64"): 11}


def model(
    operator: str, columns: int, dtype: str = "float32", opset: int = 18, more: tuple[Array, ...] = (), **given: Any
) -> onnx.ModelProto:
    """Return a model of one operator on rows of ``columns`` values."""
    x = helper.make_tensor_value_info("x", NAMES[np.dtype(dtype)], ["N", columns])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    outputs = ["label", "y"] if operator == "LinearClassifier" else ["y"]
    constants = [numpy_helper.from_array(array, f"c{i}") for i, array in enumerate(more)]
    node = helper.make_node(operator, ["x", *(c.name for c in constants)], outputs, domain=DOMAIN, **given)
    graph = helper.make_graph([node], "g", [x], [y], constants)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def compute(proto: onnx.ModelProto, x: Array) -> Array:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: Array = session.run(["y"], {"x": x})[0]
    return found


def same(proto: onnx.ModelProto, x: Array, *, written: bool = True) -> onnx.ModelProto:
    """Clean a model, after which it is valid and computes the same; nothing of the domain is left if ``written``."""
    expected = compute(proto, x)
    counts = clean(proto)
    onnx.checker.check_model(proto, full_check=True)
    found = compute(proto, x)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6 * max(1.0, float(np.abs(expected).max())))
    assert any(node.domain == DOMAIN for node in proto.graph.node) is not written
    assert counts["classical operators as arithmetic"] == int(written)
    return proto


def rows(columns: int, seed: int = 0) -> Array:
    found: Array = np.random.default_rng(seed).normal(0, 10, (ROWS, columns)).astype(np.float32)
    found[1] = 0
    return found


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(FLOATS, FLOATS), min_size=1, max_size=6), st.sampled_from(["float32", "int64"]), st.booleans()
)
def test_scaler(pairs: list[tuple[float, float]], dtype: str, one: bool) -> None:
    offset, scale = zip(*pairs, strict=True)
    x = rows(len(pairs)).astype(dtype)
    same(model("Scaler", len(pairs), dtype, offset=offset[:1] if one else offset, scale=scale[:1] if one else scale), x)


def test_a_scaler_that_does_nothing_is_none() -> None:
    proto = same(model("Scaler", 3, offset=[0.0], scale=[1.0]), rows(3))
    assert [node.op_type for node in proto.graph.node] == ["Identity"]


@pytest.mark.parametrize("opset", [12, 13, 18])
@pytest.mark.parametrize("norm", ["L1", "L2"])
def test_normalizer(norm: str, opset: int) -> None:
    x = rows(4)
    x[2] *= 1e-6
    same(model("Normalizer", 4, opset=opset, norm=norm), x)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 4), st.booleans(), st.integers(0, 1000))
def test_linear_regressor(columns: int, targets: int, biased: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    given = {"coefficients": random.normal(size=columns * targets), "targets": targets}
    if biased:
        given["intercepts"] = random.normal(size=targets)
    same(model("LinearRegressor", columns, **given), rows(columns, seed))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(2, 4), st.sampled_from(["NONE", "LOGISTIC", "SOFTMAX"]), st.integers(0, 1000))
def test_linear_classifier(columns: int, classes: int, after: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    proto = model(
        "LinearClassifier", columns, coefficients=random.normal(size=columns * classes), multi_class=1,
        intercepts=random.normal(size=classes), classlabels_ints=list(range(classes)), post_transform=after,
    )  # fmt: skip
    same(proto, rows(columns, seed))


@pytest.mark.parametrize("replaced", [float("nan"), 0.0, -1.0])
@pytest.mark.parametrize("values", [[2.0], [1.0, 2.0, 3.0]])
def test_imputer(replaced: float, values: list[float]) -> None:
    x = rows(3)
    x[0, 1] = replaced
    x[2] = replaced
    same(model("Imputer", 3, imputed_value_floats=values, replaced_value_float=replaced), x)


def test_columns_that_are_chosen_compared_and_put_together() -> None:
    same(model("ArrayFeatureExtractor", 4, more=(np.array([2, 0], np.int64),)), rows(4))
    same(model("Binarizer", 4, threshold=0.5), rows(4))
    same(model("FeatureVectorizer", 4, inputdimensions=[4]), rows(4))
    same(model("FeatureVectorizer", 2, "int64", inputdimensions=[2]), rows(2).astype(np.int64))


STAY: list[tuple[str, dict[str, Any]]] = [
    ("Scaler", {"dtype": "float64", "offset": [0.1], "scale": [0.3]}),
    ("Normalizer", {"norm": "MAX"}),
    ("LinearRegressor", {"coefficients": [1.0, 2.0, 3.0], "post_transform": "PROBIT"}),
    ("LinearClassifier", {"coefficients": [1.0, 2.0, 3.0], "intercepts": [0.1], "classlabels_ints": [0, 1]}),
    ("FeatureVectorizer", {"inputdimensions": [2]}),
]


@pytest.mark.parametrize(("operator", "given"), STAY, ids=[name for name, _ in STAY])
def test_what_is_no_arithmetic_or_would_compute_otherwise_stays(operator: str, given: dict[str, Any]) -> None:
    proto = model(operator, 3, **given)
    before = [node.SerializeToString() for node in proto.graph.node]
    clean(proto)
    assert [node.SerializeToString() for node in proto.graph.node] == before


def test_a_classifier_whose_label_is_read_stays() -> None:
    proto = model(
        "LinearClassifier", 2, coefficients=[1.0, 2.0, 3.0, 4.0], intercepts=[0.1, 0.2], classlabels_ints=[0, 1]
    )
    proto.graph.output.append(helper.make_tensor_value_info("label", TensorProto.INT64, ["N"]))
    same(proto, rows(2), written=False)


def pipeline() -> onnx.ModelProto:
    proto = model("Imputer", 3, imputed_value_floats=[1.0], replaced_value_float=float("nan"))
    proto.graph.node[0].output[0] = "a"
    scaler = helper.make_node("Scaler", ["a"], ["b"], domain=DOMAIN, offset=[1.0, 2.0, 3.0], scale=[0.5, 2.0, 1.0])
    last = helper.make_node(
        "LinearClassifier", ["b"], ["label", "c"], domain=DOMAIN, coefficients=[1.0, 2.0, 3.0, -1.0, -2.0, -3.0],
        intercepts=[0.1, -0.1], classlabels_strings=["no", "yes"], post_transform="LOGISTIC", multi_class=1,
    )  # fmt: skip
    norm = helper.make_node("Normalizer", ["c"], ["y"], domain=DOMAIN, norm="L1")
    proto.graph.node.extend([scaler, last, norm])
    return proto


def test_all_of_a_pipeline_is_written_and_engines_without_the_domain_run_it() -> None:
    """What follows is known to be rows of floats, whatever stood before."""
    proto, x = pipeline(), rows(3)
    expected = compute(proto, x)
    clean(proto)
    assert not [node for node in proto.graph.node if node.domain == DOMAIN]
    in_float32 = {"INFERENCE_PRECISION_HINT": "f32"}  # else bfloat16 where the processor has it
    loaded = openvino.Core().compile_model(openvino.Core().read_model(proto.SerializeToString()), "CPU", in_float32)
    np.testing.assert_allclose(loaded({"x": x})["y"], expected, rtol=1e-5, atol=1e-6)
