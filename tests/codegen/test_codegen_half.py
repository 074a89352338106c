"""float16 models: the sums are float32, what is stored is float16, and every operator has our rules."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest
from codegen_models import feeds, import_model, model, run_ours, run_reference
from onnx import TensorProto, helper, numpy_helper
from test_codegen_integer import assembly

from edgepack.engines.tvm.codegen.lower import lower
from edgepack.engines.tvm.codegen.machine import machine

# The distance of neighbouring float16 numbers, relative to the larger.
STEP = 2.0**-10


def halves(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the float model with everything in float16 between a Cast of each input and one of each output."""
    proto = onnx.ModelProto.FromString(proto.SerializeToString())
    graph = proto.graph
    del graph.value_info[:]
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), tensor.name))
    for node in graph.node:
        for names, ends in ((node.input, graph.input), (node.output, graph.output)):
            for i, name in enumerate(names):
                if name in {value.name for value in ends}:
                    names[i] = f"{name}.half"
    casts = [helper.make_node("Cast", [v.name], [f"{v.name}.half"], to=TensorProto.FLOAT16) for v in graph.input]
    back = [helper.make_node("Cast", [f"{v.name}.half"], [v.name], to=TensorProto.FLOAT) for v in graph.output]
    nodes = [*casts, *graph.node, *back]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def normal(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def convolutions() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], pads=[1, 1, 1, 1], group=16),
        helper.make_node("Conv", ["c2", "w3"], ["c3"]),
        helper.make_node("Sigmoid", ["c3"], ["s"]),
        helper.make_node("Mul", ["c3", "s"], ["m"]),
        helper.make_node("GlobalAveragePool", ["m"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "w4", "b4"], ["y"], transB=1),
    ]
    weights = {
        "w1": normal(16, 3, 3, 3), "b1": normal(16), "w2": normal(16, 1, 3, 3), "w3": normal(24, 16, 1, 1) / 4,
        "w4": normal(12, 24), "b4": normal(12),
    }  # fmt: skip
    return model(nodes, {"x": [1, 3, 16, 16]}, weights, ("y",))


def attention() -> onnx.ModelProto:
    nodes = [
        helper.make_node("LayerNormalization", ["x", "gain", "shift"], ["n"]),
        helper.make_node("MatMul", ["n", "wq"], ["q"]),
        helper.make_node("MatMul", ["n", "wk"], ["k"]),
        helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "kt"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["p"], axis=-1),
        helper.make_node("MatMul", ["p", "n"], ["y"]),
    ]
    weights = {"gain": normal(32), "shift": normal(32), "wq": normal(32, 32) / 8, "wk": normal(32, 32) / 8}
    return model(nodes, {"x": [2, 16, 32]}, weights, ("y",))


MODELS = {"convolutions": convolutions, "attention": attention}


@pytest.mark.parametrize("name", list(MODELS))
def test_float16_is_as_near_to_float32_as_its_numbers_are_to_each_other(name: str) -> None:
    proto = MODELS[name]()
    inputs = feeds(proto)
    (ours,), lowered = run_ours(halves(proto), inputs, precision="fp16")
    (wanted,) = run_reference(proto, inputs)
    assert np.abs(ours - wanted).max() <= 4 * STEP * np.abs(wanted).max()
    assert not [rule for rule in lowered.rules.values() if rule.startswith("default")]


def test_a_sum_of_many_small_terms_is_not_lost() -> None:
    """2048 is where float16 numbers are 2 apart: a float16 sum of ones would stop there."""
    terms = 8192
    proto = model(
        [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Mul", ["p", "small"], ["y"])],
        {"x": [3, terms]}, {"w": np.ones((terms, 8), np.float32), "small": np.float32(0.125) * np.ones(1, np.float32)},
        ("y",),
    )  # fmt: skip
    (ours,), _ = run_ours(halves(proto), {"x": np.ones((3, terms), np.float32)}, precision="fp16")
    np.testing.assert_array_equal(ours, np.full((3, 8), terms / 8, np.float32))


def test_the_mean_of_large_values_does_not_overflow() -> None:
    proto = model([helper.make_node("GlobalAveragePool", ["x"], ["y"])], {"x": [1, 8, 16, 16]}, {}, ("y",))
    x = np.full((1, 8, 16, 16), 1000, np.float32)  # the sum is four times float16's largest number
    (ours,), _ = run_ours(halves(proto), {"x": x}, precision="fp16")
    np.testing.assert_array_equal(ours, np.full((1, 8, 1, 1), 1000, np.float32))


def test_products_are_added_by_fmlal_where_there_is_one() -> None:
    proto = halves(convolutions())
    for flags, least in ((("asimdhp", "fphp"), 0), (("asimdfhm", "asimdhp", "fphp"), 8)):
        of = machine("aarch64", flags)
        found = len(re.findall(r"\bfmlal2?\b", assembly(proto, of)))
        assert (found >= least) if least else found == 0
    assert {"window fmlal", "flat fmlal"} <= set(lower(import_model(proto), of, "fp16").rules.values())


def test_weights_are_stored_in_float16_and_added_in_float32() -> None:
    of = machine("aarch64", ("asimddp", "asimdhp", "fphp"))
    lowered = lower(import_model(halves(convolutions())), of, "fp16")
    text = lowered.module.script()
    sums = [line for line in text.splitlines() if 'scope="local"' in line]
    assert sums
    assert not [line for line in sums if "float16" in line]
    assert "float16" in text.split("metadata")[0]
    assert not [rule for rule in lowered.rules.values() if rule.startswith("default")]
