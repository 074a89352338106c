"""Activations, norms and attention in every spelling that exporters write get the one that engines fuse."""

from __future__ import annotations

from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime
import pytest
from dialects import Builder, cleaned, compute, count
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack.graph.clean import clean

ROOT, HALF = np.float32(2**0.5), np.float32(0.5)


def erf_gelu(b: Builder, how: str) -> None:
    """Write a GELU: as Keras does with erfc, as torch does, and two that nobody is known to write."""
    x = b.last
    match how:
        case "keras":
            half = b.add("Mul", b.constant(HALF))
            error = b.add("Erf", first=b.add("Mul", b.constant(-1 / ROOT), first=x))
            b.add("Mul", b.add("Sub", b.constant(np.float32(1)), first=error, swap=True), first=half)
        case "torch":
            error = b.add("Erf", first=b.add("Div", b.constant(ROOT)))
            b.add("Mul", b.add("Add", b.constant(np.float32(1)), first=error), first=x)
            b.add("Mul", b.constant(HALF))
        case "halves inside":
            error = b.add("Mul", b.constant(HALF), first=b.add("Erf", first=b.add("Mul", b.constant(1 / ROOT))))
            b.add("Mul", b.add("Add", b.constant(HALF), first=error), first=x)


@pytest.mark.parametrize("how", ["keras", "torch", "halves inside"])
def test_a_gelu_in_every_spelling_is_what_onnx_runtime_fuses(how: str) -> None:
    b = Builder(0)
    b.add("Neg")
    erf_gelu(b, how)
    proto, counts = cleaned(b)
    assert counts["activations in one spelling"] == (how != "torch")
    assert sorted(n.op_type for n in proto.graph.node) == ["Add", "Div", "Erf", "Mul", "Mul", "Neg"]
    assert "Gelu" in fused(proto)


@pytest.mark.parametrize("division", ["Reciprocal", "Div"])
def test_sigmoids_and_silu_by_exponentials(division: str) -> None:
    b = Builder(0)
    x = b.add("Relu")
    b.add("Exp", first=b.add("Neg"))
    more = b.add("Add", b.constant(np.float32(1)))
    b.add("Reciprocal") if division == "Reciprocal" else b.add("Div", more, first=x)
    proto, _ = cleaned(b)
    assert [n.op_type for n in proto.graph.node] == ["Relu", "Sigmoid", *(["Mul"] if division == "Div" else [])]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16), change=st.sampled_from([0.0, 1e-4, 0.01]), where=st.integers(0, 2))
def test_what_is_only_nearly_a_gelu_stays(seed: int, change: float, where: int) -> None:
    b = Builder(seed)
    x = b.add("Neg")
    numbers = [1 / 2**0.5, 1.0, 0.5]
    numbers[where] *= 1 + change
    error = b.add("Erf", first=b.add("Mul", b.constant(np.float32(numbers[0]))))
    b.add("Mul", b.add("Add", b.constant(np.float32(numbers[1])), first=error), first=x)
    b.add("Mul", b.constant(np.float32(numbers[2])))
    _, counts = cleaned(b)
    assert counts["activations in one spelling"] == (change == 0)


def layer_norm(b: Builder, how: str, epsilon: float, axis: int = -1) -> None:
    """Write a layer norm of 4 channels: as Keras does, as Flax does, and with a power."""
    axes = b.constant(np.array([axis], np.int64))
    x, gamma, beta = b.last, b.normal(4), b.normal(4)
    mean = b.add("ReduceMean", axes, keepdims=1)
    centred = b.add("Sub", mean, first=x) if how != "flax" else ""
    if how == "flax":  # the variance from the mean of squares, and never below zero
        squares = b.add("ReduceMean", axes, first=b.add("Mul", x, first=x), keepdims=1)
        spread = b.add("Sub", b.add("Mul", mean, first=mean), first=squares)
        safe = b.add(
            "Add", b.constant(np.float32(epsilon)), first=b.add("Max", b.constant(np.float32(0)), first=spread)
        )
        normal = b.add("Div", b.add("Sqrt", first=safe), first=b.add("Sub", mean, first=x))
        b.add("Add", beta, first=b.add("Mul", gamma, first=normal))
        return
    variance = b.add("ReduceMean", axes, first=b.add("Mul", centred, first=centred), keepdims=1)
    safe = b.add("Add", b.constant(np.float32(epsilon)), first=variance)
    if how == "keras":
        scale = b.add("Mul", gamma, first=b.add("Reciprocal", first=b.add("Sqrt", first=safe)))
        moved = b.add("Sub", b.add("Mul", scale, first=mean), first=beta)
        b.add("Add", moved, first=b.add("Mul", scale, first=x))
    else:
        normal = b.add("Div", b.add("Pow", b.constant(HALF), first=safe), first=centred)
        b.add("Add", beta, first=b.add("Mul", gamma, first=normal))


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**16), how=st.sampled_from(["keras", "power", "flax"]), epsilon=st.sampled_from([1e-6, 1e-3])
)
def test_a_layer_norm_in_every_spelling_is_what_onnx_runtime_fuses(seed: int, how: str, epsilon: float) -> None:
    b = Builder(seed)
    b.add("Abs")
    layer_norm(b, how, epsilon)
    proto, counts = cleaned(b)
    assert counts["layer norms in one spelling"] == 1
    assert [n.op_type for n in proto.graph.node][-5:] == ["Add", "Sqrt", "Div", "Mul", "Add"]


def test_a_norm_over_another_axis_stays() -> None:
    b = Builder(0, ("N", 4, 4, 4))
    layer_norm(b, "power", 1e-3, axis=1)
    _, counts = cleaned(b, (2, 4, 4, 4))
    assert counts["layer norms in one spelling"] == 0


def test_a_part_that_something_else_reads_stays() -> None:
    b = Builder(0)
    x = b.add("Relu")
    kept = b.add("Exp", first=b.add("Neg"))
    b.add("Div", b.add("Add", b.constant(np.float32(1)), first=kept), first=x)
    b.add("Add", kept)
    _, counts = cleaned(b)
    assert counts["activations in one spelling"] == 0


def tanh_gelu(b: Builder, how: str, cubic: float = 0.044715) -> None:
    """Write a GELU by tanh: as Hugging Face does, by products, and by a sigmoid, which is the same."""
    x = b.last
    root, c, one = (b.constant(np.float32(v)) for v in ((2 / np.pi) ** 0.5, cubic, 1.0))
    cube = (
        b.add("Mul", b.add("Mul", x, first=x), first=x)
        if how == "products"
        else b.add("Pow", b.constant(np.float32(3)), first=x)
    )
    inner = b.add("Mul", root, first=b.add("Add", b.add("Mul", c, first=cube), first=x))
    if how == "sigmoid":
        b.add("Mul", b.add("Sigmoid", first=b.add("Add", inner, first=inner)), first=x)
        return
    more = b.add("Add", one, first=b.add("Tanh", first=inner))
    half = b.add("Mul", b.constant(HALF), first=x)
    b.add("Mul", more, first=half)


TANH_GELU = ["Mul", "Pow", "Mul", "Add", "Mul", "Tanh", "Add", "Mul"]


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    how=st.sampled_from(["power", "products", "sigmoid"]),
    cubic=st.sampled_from([0.044715, 0.0448]),
)
def test_a_gelu_by_tanh_gets_one_spelling_and_what_is_nearly_one_stays(seed: int, how: str, cubic: float) -> None:
    b = Builder(seed)
    b.add("Neg")
    tanh_gelu(b, how, cubic)
    proto, counts = cleaned(b)
    assert counts["activations in one spelling"] == (cubic == 0.044715 and how != "power")
    if cubic == 0.044715:
        assert sorted(n.op_type for n in proto.graph.node) == sorted(["Neg", *TANH_GELU])


def rms_norm(b: Builder, how: str, epsilon: float, axis: int = -1) -> None:
    """Write an RMS norm of 4 channels: as torch does, with a power, with one over the root, and without a scale."""
    x, gamma = b.last, b.normal(4)
    squares = b.add("Mul", x, first=x) if how == "power" else b.add("Pow", b.constant(np.float32(2)))
    mean = b.add("ReduceMean", b.constant(np.array([axis], np.int64)), first=squares, keepdims=1)
    safe = b.add("Add", b.constant(np.float32(epsilon)), first=mean)
    if how == "power":
        normal = b.add("Mul", b.add("Pow", b.constant(-HALF), first=safe), first=x)
    elif how == "one over the root":
        over = b.add("Div", b.add("Sqrt", first=safe), first=b.constant(np.float32(1)))
        normal = b.add("Mul", over, first=x)
    elif how == "no scale":
        b.add("Div", b.add("Sqrt", first=safe), first=x)
        return
    else:
        normal = b.add("Mul", b.add("Reciprocal", first=b.add("Sqrt", first=safe)), first=x)
    b.add("Mul", gamma, first=normal, swap=how == "torch")


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    how=st.sampled_from(["torch", "power", "one over the root", "no scale"]),
    epsilon=st.sampled_from([1e-6, 1e-3]),
)
def test_an_rms_norm_in_every_spelling_is_what_onnx_runtime_fuses(seed: int, how: str, epsilon: float) -> None:
    b = Builder(seed)
    b.add("Abs")
    rms_norm(b, how, epsilon)
    proto, counts = cleaned(b)
    assert counts["RMS norms in one spelling"] == 1
    assert [n.op_type for n in proto.graph.node][1:] == ["Pow", "ReduceMean", "Add", "Sqrt", "Div", "Mul"]
    assert fused(proto) == ["Abs", "SimplifiedLayerNormalization"]


def fused(proto: onnx.ModelProto) -> list[str]:
    """Return the operators that ONNX Runtime makes of a graph."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    with TemporaryDirectory() as folder:
        options.optimized_model_filepath = f"{folder}/m.onnx"
        onnxruntime.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])
        return [node.op_type for node in onnx.load(f"{folder}/m.onnx").graph.node]


def test_an_rms_norm_over_another_axis_stays() -> None:
    b = Builder(0, ("N", 4, 4, 4))
    rms_norm(b, "torch", 1e-3, axis=1)
    _, counts = cleaned(b, (2, 4, 4, 4))
    assert counts["RMS norms in one spelling"] == 0


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("transposed", ["before", "behind"])
def test_an_attention_whose_queries_and_keys_are_scaled_keeps_one_product(transposed: str, mask: bool) -> None:
    b = Builder(0)
    x = b.add("Relu")
    queries = b.add("Mul", b.constant(np.float32(0.5)), first=x)
    if transposed == "before":
        keys = b.add("Mul", b.constant(np.float32([0.25])), first=b.add("Transpose", first=x, perm=[0, 1, 3, 2]))
    else:
        keys = b.add("Transpose", first=b.add("Mul", b.constant(np.float32(0.25)), first=x), perm=[0, 1, 3, 2])
    b.add("MatMul", keys, first=queries)
    if mask:
        b.add("Add", b.normal(8, 8))
    b.add("Softmax", axis=-1)
    b.add("MatMul", x)
    proto, counts = cleaned(b)
    assert counts["attentions scaled in one place"] == 1
    assert count(proto, "Mul") == 1


def test_a_product_without_a_softmax_keeps_both_its_scales() -> None:
    b = Builder(0)
    x = b.add("Relu")
    keys = b.add("Mul", b.constant(np.float32(0.25)), first=b.add("Transpose", first=x, perm=[0, 1, 3, 2]))
    b.add("MatMul", keys, first=b.add("Mul", b.constant(np.float32(0.5)), first=x))
    scores = b.last
    b.add("Add", scores, first=b.add("Softmax", axis=-1))
    _, counts = cleaned(b)
    assert counts["attentions scaled in one place"] == 0


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize(
    ("operator", "number", "is_mean"), [("Div", 48, True), ("Mul", 1 / 48, True), ("Div", 47, False)]
)
def test_a_sum_that_is_divided_by_its_count_is_a_mean(operator: str, number: float, is_mean: bool, opset: int) -> None:
    b = Builder(0)
    b.add("ReduceSum", b.constant(np.array([1, 2])), keepdims=0)
    b.add(operator, b.constant(np.float32(number)))
    proto = b.model()
    proto.opset_import[0].version = opset
    expected = compute(proto, (2, 6, 8, 4))
    assert clean(proto)["sums as means"] == is_mean
    onnx.checker.check_model(proto, full_check=True)
    np.testing.assert_allclose(compute(proto, (2, 6, 8, 4)), expected, rtol=1e-5, atol=1e-6)


def test_a_sum_over_a_free_size_stays() -> None:
    b = Builder(0)
    b.add("ReduceSum", b.constant(np.array([0])), keepdims=0)
    b.add("Div", b.constant(np.float32(2)))
    _, counts = cleaned(b)
    assert counts["sums as means"] == 0
