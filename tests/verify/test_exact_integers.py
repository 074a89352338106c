"""Integers that the reference engine computes inexactly are named; those that it has right pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepack.data.samples import find_samples
from edgepack.errors import ModelError
from edgepack.graph.load import save_proto
from edgepack.specs.model import OnnxModel
from edgepack.specs.types import Array
from edgepack.verify.exact_integers import compared
from edgepack.verify.make_golden import make_golden
from edgepack.verify.reference import reference

ODD = 2**53 + 1  # the least that float64 does not hold
X = np.array([[3, -5, 7], [ODD, 1, 1]])


def reduced(
    operator: str, folder: Path, *, opset: int = 18, keepdims: int = 0, kind: int = TensorProto.INT64
) -> OnnxModel:
    by_input = opset >= 18 or (operator == "ReduceSum" and opset >= 13)
    names, extra = (["x", "axes"], {}) if by_input else (["x"], {"axes": [1]})
    node = helper.make_node(operator, names, ["y"], "weak", keepdims=keepdims, **extra)
    return saved(node, folder, {"axes": np.array([1])} if by_input else {}, opset, kind)


def saved(
    node: onnx.NodeProto, folder: Path, stored: dict[str, Array], opset: int = 18, kind: int = TensorProto.INT64
) -> OnnxModel:
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("x", kind, ["n", 3])],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )  # fmt: skip
    return save_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), folder)


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("operator", ["ReduceSum", "ReduceMean", "ReduceL1", "ReduceProd"])
def test_what_float64_does_not_hold_is_named(operator: str, keepdims: int, opset: int, tmp_path: Path) -> None:
    model = reduced(operator, tmp_path, opset=opset, keepdims=keepdims)
    neutral = 1 if operator == "ReduceProd" else 0
    x = np.array([[ODD, neutral, neutral], [1, 2, 3]]) * (3 if operator == "ReduceMean" else 1)
    with pytest.raises(
        ModelError, match=rf"{operator} of int64 inexactly .* node 'weak' gives 900719925474099[24] where"
    ):
        list(compared(model, iter([{"x": x}])))


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("operator", ["ReduceSum", "ReduceMean", "ReduceL1", "ReduceProd", "ReduceSumSquare"])
def test_what_it_holds_passes(operator: str, opset: int, tmp_path: Path) -> None:
    model = reduced(operator, tmp_path, opset=opset)
    x = np.random.default_rng(0).integers(-(2**17), 2**17, (5, 3))
    samples = [{"x": x}, {"x": x // 7}]
    assert list(compared(model, iter(samples))) == samples


def test_large_numbers_of_which_the_sum_is_right_pass(tmp_path: Path) -> None:
    model = reduced("ReduceSum", tmp_path)
    assert list(compared(model, iter([{"x": np.array([[2**60, 2**58, -(2**60)]])}])))


def test_a_power_of_each_is_named(tmp_path: Path) -> None:
    model = saved(helper.make_node("Pow", ["x", "c"], ["y"], "weak"), tmp_path, {"c": np.array([1, 1, 2])})
    with pytest.raises(ModelError, match="Pow of int64"):
        list(compared(model, iter([{"x": X}])))
    assert list(compared(model, iter([{"x": X[:1]}])))


def test_int32_that_is_cut_off_is_named(tmp_path: Path) -> None:
    model = reduced("ReduceSum", tmp_path, kind=TensorProto.INT32)
    large = np.array([[2**31 - 1, 1, 0]], np.int32)
    with pytest.raises(ModelError, match=r"of int32 inexactly .* gives 2147483647 where -2147483648"):
        list(compared(model, iter([{"x": large}])))


def test_golden_vectors_and_references_are_not_made_of_them(tmp_path: Path) -> None:
    model = reduced("ReduceSum", tmp_path / "model")
    np.savez(tmp_path / "data.npz", x=X)
    samples = find_samples(str(tmp_path / "data.npz"), model.inputs, None)
    with pytest.raises(ModelError, match="ReduceSum of int64"):
        make_golden(model, samples, 2, tmp_path / "golden")
    with pytest.raises(ModelError, match="ReduceSum of int64"):
        reference(model, samples, tmp_path / "reference")


def test_a_mask_by_its_name_alone_is_no_mask(tmp_path: Path) -> None:
    node = helper.make_node("ReduceSum", ["attention_mask"], ["y"], "weak")
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, None)],
    )  # fmt: skip
    model = save_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), tmp_path)
    with pytest.raises(ModelError, match="ReduceSum of int64"):
        list(compared(model, iter([{"attention_mask": X[1:]}])))
