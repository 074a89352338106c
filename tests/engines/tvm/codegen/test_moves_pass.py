"""Shuffles of channels become slices, in floats and in integers, and everything else that moves stays what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from codegen_models import assert_close, feeds, model, run_ours, run_reference
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from edgepack.engines.tvm.codegen import moves_pass

if TYPE_CHECKING:
    import onnx

SCALE, ZERO = np.float32(0.05), np.uint8(120)
OTHER = np.float32(0.07)


def names(lowered: Any) -> str:
    return " ".join(lowered.rules)


def shuffled(index: int = 1, *, quantized: bool = False, transposed: bool = False) -> onnx.ModelProto:
    """Two convolutions, joined, of which every second channel is read, as ShuffleNet's exporters write it."""
    nodes = [
        helper.make_node("Conv", ["x", "v"], ["a"]),
        helper.make_node("Conv", ["x", "w"], ["b"]),
        helper.make_node("Concat", ["a", "b"], ["c"], axis=1),
    ]
    last = "c"

    def then(operator: str, *more: str, **attributes: Any) -> None:
        nonlocal last
        nodes.append(helper.make_node(operator, [last, *more], [f"{last}{operator[0]}"], **attributes))
        last = nodes[-1].output[0]
        if quantized:
            nodes.extend(pair(last))
            last = nodes[-1].output[0]

    if quantized:
        nodes.extend(pair(last))
        last = nodes[-1].output[0]
    then("Reshape", "pairs")
    if transposed:
        then("Transpose", perm=[0, 2, 1, 3, 4])
    then("Gather", "index", axis=1 if transposed else 2)
    if not quantized:
        then("Relu")
    random = np.random.default_rng(0)
    values = {
        "v": random.standard_normal((8, 4, 1, 1)).astype(np.float32),
        "w": random.standard_normal((8, 4, 1, 1)).astype(np.float32),
        "pairs": np.array([1, 8, 2, 6, 5]), "index": np.array(index),
        "scale": np.array(SCALE), "zero": np.array(ZERO),
    }  # fmt: skip
    return model(nodes, {"x": [1, 4, 6, 5]}, values, (last,))


def pair(source: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("QuantizeLinear", [source, "scale", "zero"], [f"{source}q"]),
        helper.make_node("DequantizeLinear", [f"{source}q", "scale", "zero"], [f"{source}d"]),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("index", [0, 1])
def test_a_shuffle_is_one_slice(index: int, transposed: bool) -> None:
    proto = shuffled(index, transposed=transposed)
    inputs = feeds(proto)
    ours, lowered = run_ours(proto, inputs)
    assert_close(ours, run_reference(proto, inputs))
    assert "strided_slice" in names(lowered)
    assert not [word for word in ("take", "reshape", "transpose1") if word in names(lowered)]


@pytest.mark.slow
def test_a_shuffle_between_quantizations_of_one_scale_moves_the_integers() -> None:
    proto = shuffled(quantized=True)
    inputs = feeds(proto)
    ours, lowered = run_ours(proto, inputs, precision="int8")
    (wanted,) = run_reference(proto, inputs)
    steps = np.abs(ours[0] - wanted) / SCALE  # a half is rounded by sums in another order
    assert (steps < 0.01).mean() > 0.98
    assert steps.max() < 1.01
    assert "strided_slice" in names(lowered)
    assert "take" not in names(lowered)
    (joined,) = (function for function in lowered.rules if "concatenate" in function)
    assert "quantize" not in joined.split("concatenate")[0]


@pytest.mark.slow
def test_another_scale_behind_the_shuffle_is_kept() -> None:
    proto = shuffled(quantized=True)
    proto.graph.initializer.append(helper.make_tensor("other", 1, [], [float(OTHER)]))
    for node in proto.graph.node[-2:]:
        node.input[1] = "other"
    inputs = feeds(proto)
    ours, _ = run_ours(proto, inputs, precision="int8")
    (wanted,) = run_reference(proto, inputs)
    assert np.abs(ours[0] - wanted).max() < 1.01 * OTHER
    assert (np.abs(ours[0] - wanted) < 0.01 * OTHER).mean() > 0.98


def variable(shape: tuple[int, ...]) -> Any:
    from tvm import relax

    return relax.Var("x", relax.TensorType(shape, "float32"))


def places(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.int32).reshape(shape)


@given(st.integers(1, 12), st.integers(0, 11), st.integers(1, 5))
def test_every_nth_channel_is_told_by_its_places(channels: int, first: int, step: int) -> None:
    whole = (1, channels, 2, 3)
    first %= channels
    x = variable(whole)
    taken = places(whole)[:, first::step]
    found = moves_pass._replaced(moves_pass.Moved(x, taken), x)
    if taken.shape == whole:
        assert found.same_as(x)
    else:
        begin, end, strides = ([int(v.value) for v in part.fields] for part in found.args[2:5])
        np.testing.assert_array_equal(places(whole)[:, begin[0] : end[0] : strides[0]], taken)


@given(st.permutations(range(6)))
def test_another_order_of_channels_is_no_slice(order: list[int]) -> None:
    whole = (1, 6, 2, 3)
    x = variable(whole)
    found = moves_pass._replaced(moves_pass.Moved(x, places(whole)[:, order]), x)
    assert (found is not None) == (order == sorted(order))


def test_values_that_are_scaled_and_other_ranks_are_no_slices() -> None:
    whole = (1, 6, 2, 3)
    x, taken = variable(whole), places(whole)[:, ::2]
    assert moves_pass._replaced(moves_pass.Moved(x, taken, (0.5, 3)), x) is None
    assert moves_pass._replaced(moves_pass.Moved(x, taken.reshape(1, 3, 6)), x) is None
    assert moves_pass._replaced(moves_pass.Moved(x, taken.transpose(0, 1, 3, 2)), x) is None


@pytest.mark.slow
def test_the_largest_of_quantized_values_is_that_of_their_integers() -> None:
    nodes = [
        *pair("x"),
        helper.make_node("MaxPool", ["xd"], ["p"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        *pair("p"),
    ]
    proto = model(nodes, {"x": [1, 8, 9, 7]}, {"scale": np.array(SCALE), "zero": np.array(ZERO)}, ("pd",))
    inputs = feeds(proto)
    ours, lowered = run_ours(proto, inputs, precision="int8")
    np.testing.assert_array_equal(ours[0], run_reference(proto, inputs)[0])
    (pool,) = (function for function in lowered.rules if "max_pool2d" in function)
    assert "quantize" not in pool.split("max_pool2d")[1].replace("dequantize", "")


def resized(how: str, scales: list[float], **attributes: str) -> onnx.ModelProto:
    """A picture of bytes behind a convolution, in another size, and a convolution of it: all of it channels last."""
    random = np.random.default_rng(3)
    nodes = [
        helper.make_node("Conv", ["x", "v"], ["a"]),
        *pair("a"),
        helper.make_node("Resize", ["ad", "roi", "scales"], ["r"], mode=how, **attributes),
        *pair("r"),
    ]
    values = {
        "v": random.standard_normal((16, 4, 1, 1)).astype(np.float32),
        "roi": np.array([0, 0, 0.2, 0, 1, 1, 1.3, 1], np.float32), "scales": np.array([1, 1, *scales], np.float32),
        "scale": np.array(SCALE), "zero": np.array(ZERO),
    }  # fmt: skip
    return model(nodes, {"x": [1, 4, 6, 5]}, values, ("rd",))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scales", "attributes"),
    [
        ([2.0, 2.0], {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}),
        ([2.0, 3.0], {"coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_floor"}),
        ([0.5, 0.6], {"coordinate_transformation_mode": "align_corners", "nearest_mode": "round_prefer_ceil"}),
    ],
)
def test_the_nearest_of_quantized_values_are_moved_as_integers(scales: list[float], attributes: dict[str, str]) -> None:
    proto = resized("nearest", scales, **attributes)
    inputs = feeds(proto)
    ours, lowered = run_ours(proto, inputs, precision="int8")
    (wanted,) = run_reference(proto, inputs)
    steps = np.abs(ours[0] - wanted) / SCALE  # a half is rounded by sums in another order
    assert (steps < 0.01).mean() > 0.98
    assert steps.max() < 1.01
    (resize,) = (function for function in lowered.rules if "resize2d" in function)
    assert "quantize" not in resize.split("resize2d")[1].replace("dequantize", "")


@pytest.mark.slow
def test_a_linear_resize_of_quantized_values_is_one_of_numbers() -> None:
    proto = resized("linear", [2.0, 2.0], coordinate_transformation_mode="half_pixel")
    inputs = feeds(proto)
    ours, _ = run_ours(proto, inputs, precision="int8")
    (wanted,) = run_reference(proto, inputs)
    assert (np.abs(ours[0] - wanted) < 0.01 * SCALE).mean() > 0.95
    assert np.abs(ours[0] - wanted).max() < 1.01 * SCALE
