"""Pictures are channels last inside a model, whatever the type of what is beside the convolutions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from codegen_models import feeds, import_model, model, run_ours, run_reference
from onnx import TensorProto, helper

from edgepack.engines.tvm.codegen.layout_pass import channels_last

pytestmark = pytest.mark.slow

RANDOM = np.random.default_rng(0)
KERNEL = RANDOM.standard_normal((8, 16, 3, 3)).astype(np.float32)


def conv(*behind: Any, **constants: np.ndarray) -> Any:
    """x -> Conv -> c -> ... -> y."""
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4), *behind]
    return model(nodes, {"x": [1, 16, 5, 6]}, {"w": KERNEL, **constants}, ("y",))


@pytest.mark.parametrize(
    ("kind", "constant"),
    [
        (TensorProto.DOUBLE, RANDOM.standard_normal((1, 8, 1, 1)) * 1e3),
        (TensorProto.INT64, np.arange(8).reshape(1, 8, 1, 1) + 2**33),
        (TensorProto.INT32, np.arange(8, dtype=np.int32).reshape(1, 8, 1, 1)),
    ],
)
def test_a_constant_keeps_its_type(kind: int, constant: np.ndarray) -> None:
    """With 64 bits it was stored with 32, and TVM refused to multiply both."""
    proto = conv(
        helper.make_node("Cast", ["c"], ["wide"], to=kind),
        helper.make_node("Mul", ["wide", "k"], ["product"]),
        helper.make_node("Cast", ["product"], ["y"], to=TensorProto.FLOAT),
        k=constant,
    )
    inputs = feeds(proto)
    ours, _ = run_ours(proto, inputs)
    (expected,) = run_reference(proto, inputs)
    np.testing.assert_allclose(ours[0], expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def transposes(proto: Any) -> int:
    module = channels_last(import_model(proto))
    names = [getattr(getattr(b.value, "op", None), "name", "") for b in module["main"].body.blocks[0].bindings]
    return names.count("relax.permute_dims")


@pytest.mark.parametrize(
    ("behind", "count"),
    [
        ([helper.make_node("Relu", ["c"], ["y"])], 2),  # in and out
        ([helper.make_node("Relu", ["c"], ["r"]), helper.make_node("Add", ["r", "c"], ["y"])], 2),
        ([helper.make_node("Mul", ["c", "k"], ["y"])], 2),
        ([helper.make_node("MaxPool", ["c"], ["y"], kernel_shape=[2, 2])], 2),
        ([helper.make_node("Reshape", ["c", "s"], ["y"])], 2),
    ],
)
def test_a_picture_is_turned_once_on_its_way_in_and_once_out(behind: list[Any], count: int) -> None:
    constants = {"k": np.ones((8, 1, 1), np.float32), "s": np.array([1, -1])}
    used = {name for node in behind for name in node.input}
    assert transposes(conv(*behind, **{name: array for name, array in constants.items() if name in used})) == count


def test_a_model_without_convolutions_is_left_alone() -> None:
    assert transposes(model([helper.make_node("Relu", ["x"], ["y"])], {"x": [1, 4, 5, 6]}, {}, ("y",))) == 0


@pytest.mark.parametrize("axis", [1, 2, 3, -1])
def test_the_mean_over_an_axis_is_over_the_same_one(axis: int) -> None:
    proto = conv(helper.make_node("ReduceMean", ["c"], ["y"], axes=[axis], keepdims=0))
    inputs = feeds(proto)
    np.testing.assert_allclose(run_ours(proto, inputs)[0][0], run_reference(proto, inputs)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_softmax_is_over_the_same_axis_without_another_transpose(axis: int) -> None:
    proto = conv(helper.make_node("Softmax", ["c"], ["y"], axis=axis))
    inputs = feeds(proto)
    ours, _ = run_ours(proto, inputs)
    (expected,) = run_reference(proto, inputs)
    np.testing.assert_allclose(ours[0], expected, rtol=1e-4, atol=1e-6)
    assert transposes(proto) == 2  # in and out
