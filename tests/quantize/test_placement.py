"""Which nodes run in int8 and where Q/DQ go, for each way in which an engine fuses."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import onnx.parser
import pytest
from onnx import numpy_helper

from edgepack.engines.int8 import EngineTable
from edgepack.errors import ModelError
from edgepack.quantize.graph.index import index_graph
from edgepack.quantize.graph.normalise import normalise
from edgepack.quantize.placement import Layer, Placement, check_placement, clips_no_more, find_layer, place
from edgepack.quantize.scales import ActivationScale
from edgepack.specs.data import Ranges, TensorRange
from edgepack.specs.target import QuantizationRules

RULES = QuantizationRules()
EAGER = EngineTable(
    operators=frozenset({"Conv", "MatMul", "Gemm", "Add", "Concat", "MaxPool", "Reshape", "GlobalAveragePool"}),
    needs_output=frozenset({"Conv", "Add", "Concat", "MaxPool", "Reshape", "GlobalAveragePool"}),
    activations=frozenset({"Relu", "Clip"}),
    wraps_moves=True, same_scale_concat=False, residual=False, symmetric_products=False,
)  # fmt: skip


def graph(body: str, inputs: str = "float[1,4,6,6] x", output: str = "y", **constants: Any) -> Any:
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> net ({inputs}) => (float[1,4,6,6] {output}) {{ {body} }}'
    )
    weights = {"w": np.ones((4, 4, 1, 1)), "v": np.ones((4, 4, 1, 1)), "m": np.ones((6, 6)), "b": np.ones(4)}
    for name, value in {**weights, **constants}.items():
        kept = value if isinstance(value, np.ndarray) and value.dtype != np.float64 else np.float32(value)
        proto.graph.initializer.append(numpy_helper.from_array(np.asarray(kept), name))
    return index_graph(normalise(proto))


def placed(index: Any, table: EngineTable = EAGER, rules: QuantizationRules = RULES, **known: Any) -> Placement:
    """Place with the range -1..3 of every tensor, but for those given: (low, high), or None without a range."""
    names = [*index.inputs, *index.producer]
    bounds = dict.fromkeys(names, (-1.0, 3.0)) | known
    tensors = {
        name: TensorRange(*at, *at, max(abs(at[0]), abs(at[1]))) for name, at in bounds.items() if at is not None
    }
    return place(index, Ranges("m", "d", "minmax", None, 1, tensors), rules, table)


def chosen(index: Any, placement: Placement) -> list[str]:
    return [index.nodes[number].op_type for number in sorted(placement.nodes)]


# --- which nodes ------------------------------------------------------------------------------------------------------


def test_a_layer_is_quantized_with_its_input_and_what_it_makes() -> None:
    index = graph("y = Conv(x, w)")
    found = placed(index)
    assert chosen(index, found) == ["Conv"]
    assert set(found.scales) == {"x", "y"}
    assert found.kept_float == {"x"}
    assert found.left == {}


def test_an_engine_that_needs_no_output_gets_none() -> None:
    found = placed(graph("y = Conv(x, w)"), dataclasses.replace(EAGER, needs_output=frozenset()))
    assert set(found.scales) == {"x"}


@pytest.mark.parametrize(("without", "missing"), [("x", "x"), ("y", "y")])
def test_a_layer_without_a_range_stays_float_and_says_which(without: str, missing: str) -> None:
    index = graph("y = Conv(x, w)")
    found = placed(index, **{without: None})
    assert found.nodes == frozenset()
    assert list(found.left.values()) == [f"no range was measured for {missing!r}"]


@pytest.mark.parametrize("leave", ["Conv", "Conv_*", "Conv_0"])
def test_the_rules_leave_operators_and_names(leave: str) -> None:
    index = graph("a = Conv(x, w) y = Relu(a)")
    found = placed(index, rules=QuantizationRules(leave=(leave,)))
    assert list(found.left.values()) == ["left in float by the rules"]
    with pytest.raises(ModelError, match="nothing in this model can run in int8: Conv_0: left in float"):
        check_placement(found, index)


def test_operators_between_layers_are_int8_and_those_at_the_edge_are_not() -> None:
    body = "a = Conv(x, w) p = MaxPool<kernel_shape=[1,1]>(a) c = Conv(p, v) y = MaxPool<kernel_shape=[1,1]>(c)"
    index = graph(body + " z = MaxPool<kernel_shape=[1,1]>(x)")
    found = placed(index)
    # The last one makes nothing smaller for anybody in int8, but pooling stays: the output is a quarter of the bytes.
    assert chosen(index, found) == ["Conv", "MaxPool", "Conv", "MaxPool", "MaxPool"]
    index = graph("a = Conv(x, w) s = Constant<value_ints=[1,4,6,6]>() y = Reshape(a, s)")
    assert chosen(index, placed(index)) == ["Conv"]  # nobody takes its int8 output


def test_a_mean_over_everything_is_int8_only_where_int8_is_read() -> None:
    index = graph("a = Conv(x, w) p = GlobalAveragePool(a) y = Reshape(p, k)", k=np.array([1, 4]))
    found = placed(index)
    assert chosen(index, found) == ["Conv"]
    assert set(found.scales) == {"x", "a"}
    index = graph("a = Conv(x, w) p = GlobalAveragePool(a) y = Conv(p, v)")
    assert chosen(index, placed(index)) == ["Conv", "GlobalAveragePool", "Conv"]


@pytest.mark.parametrize(
    ("body", "int8"),
    [
        ("a = Conv(x, w) c = Conv(x, v) s = Add(a, c) y = Conv(s, w)", True),
        ("a = Conv(x, w) e = Exp(x) s = Add(a, e) y = Conv(s, w)", False),  # one side would have to be converted
        ("a = MatMul(x, m) c = MatMul(x, m) s = Add(a, c) y = MatMul(s, m)", False),  # a residual stream stays float
    ],
)
def test_a_sum_is_int8_where_both_sides_are_and_one_is_no_product(body: str, int8: bool) -> None:
    index = graph(body)
    assert ("Add" in chosen(index, placed(index))) == int8


@pytest.mark.parametrize(
    ("how", "plain"),
    [
        ("", True),
        ("<strides=[2,2], pads=[1,1,1,1]>", True),
        ("<dilations=[2,2], pads=[2,2,4,4]>", True),
        ("<dilations=[1,2], strides=[2,1]>", False),
        ("<pads=[0,0,0,3]>", False),
    ],
)
def test_deconvolutions_that_an_engine_gets_wrong_stay_float(how: str, plain: bool) -> None:
    index = graph(f"y = ConvTranspose{how}(x, u)", u=np.ones((4, 4, 3, 3)))
    table = dataclasses.replace(EAGER, operators=EAGER.operators | {"ConvTranspose"})
    assert chosen(index, placed(index, table)) == ["ConvTranspose"]
    found = placed(index, dataclasses.replace(table, plain_deconvolutions=True))
    assert chosen(index, found) == ["ConvTranspose"] * plain
    assert all("strides, dilations and pads" in reason for reason in found.left.values())
    assert len(found.left) == (not plain)


def test_a_product_of_two_activations_is_one_of_two_quantized_inputs() -> None:
    index = graph("y = MatMul(x, z)", "float[1,4,6,6] x, float[1,4,6,6] z")
    found = placed(index)
    assert set(found.scales) == {"x", "z"}
    assert found.layers == ()


# --- activations that are fused ---------------------------------------------------------------------------------------


def test_the_pair_stands_behind_the_activation_that_the_engine_fuses() -> None:
    index = graph("a = Conv(x, w) y = Relu(a)")
    assert set(placed(index, y=(0.0, 3.0)).scales) == {"x", "y"}


def test_only_one_of_a_row_of_activations_is_fused() -> None:
    index = graph("a = Conv(x, w) r = Relu(a) y = Clip(r)")
    assert set(placed(index, r=(0.0, 3.0), y=(0.0, 3.0)).scales) == {"x", "r"}


@pytest.mark.parametrize(("low", "both"), [(0.0, False), (-1.0, True)])
def test_a_relu_that_storing_does_not_replace_gets_a_pair_on_either_side(low: float, both: bool) -> None:
    index = graph("a = Conv(x, w) y = Relu(a)")
    assert ("a" in placed(index, y=(low, 3.0)).scales) == both


def test_a_tensor_that_others_read_is_not_fused_through() -> None:
    index = graph("a = Conv(x, w) r = Relu(a) e = Exp(a) y = Add(r, e)")
    assert "a" in placed(index).scales
    assert "r" not in placed(index).scales


@pytest.mark.parametrize(
    ("body", "scale", "replaced"),
    [
        ("y = Relu(x)", ActivationScale(0.1, 0, "uint8"), True),
        ("y = Relu(x)", ActivationScale(0.1, 5, "uint8"), False),
        ("y = Clip(x, zero, six)", ActivationScale(6 / 255, 0, "uint8"), True),
        ("y = Clip(x, zero, six)", ActivationScale(0.1, 0, "uint8"), False),
        ("y = Clip(x, , six)", ActivationScale(6 / 255, 0, "uint8"), True),
        ("y = Clip(x)", ActivationScale(0.1, 5, "uint8"), True),
        ("y = Sigmoid(x)", ActivationScale(0.1, 5, "uint8"), True),
    ],
)
def test_storing_clips_as_much_as_the_activation(body: str, scale: ActivationScale, replaced: bool) -> None:
    index = graph(body, zero=np.float32(0), six=np.float32(6))
    assert clips_no_more(index, index.nodes[0], scale) == replaced


def test_limits_that_are_computed_are_not_known() -> None:
    index = graph("low = ReduceMin<keepdims=0>(x) y = Clip(x, low)")
    assert not clips_no_more(index, index.nodes[1], ActivationScale(0.1, 0, "uint8"))


# --- scales -----------------------------------------------------------------------------------------------------------


def test_what_only_moves_has_one_scale_on_both_sides() -> None:
    index = graph("a = Conv(x, w) p = MaxPool<kernel_shape=[1,1]>(a) y = Conv(p, v)")
    found = placed(index, a=(-1.0, 9.0), p=(-1.0, 3.0))
    assert found.scales["a"] == found.scales["p"]
    assert found.scales["a"].high == pytest.approx(9.0, rel=0.02)


@pytest.mark.parametrize(
    ("same", "second", "shared"), [(False, (-1.0, 3.2), True), (False, (-1.0, 9.0), False), (True, (-1.0, 9.0), True)]
)
def test_a_concatenation_shares_a_scale_where_little_is_lost_or_the_engine_must(
    same: bool, second: tuple[float, float], shared: bool
) -> None:
    index = graph("a = Conv(x, w) c = Conv(x, v) k = Concat<axis=1>(a, c) y = Conv(k, u)", u=np.ones((4, 8, 1, 1)))
    found = placed(index, dataclasses.replace(EAGER, same_scale_concat=same), a=(-1.0, 3.0), c=second)
    assert (found.scales["a"] == found.scales["c"]) == shared


def test_a_concatenation_does_not_bring_a_relu_back() -> None:
    index = graph("a = Conv(x, w) c = Conv(x, v) k = Concat<axis=1>(a, c) y = Conv(k, u)", u=np.ones((4, 8, 1, 1)))
    found = placed(index, a=(0.0, 3.0), c=(-0.1, 3.0))
    assert found.scales["a"].low == 0.0


def test_a_sigmoid_needs_no_measured_range() -> None:
    table = dataclasses.replace(EAGER, operators=EAGER.operators | {"Sigmoid"})
    index = graph("s = Sigmoid(x) y = Conv(s, w)")
    assert placed(index, table, s=None).scales["s"].high == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize(("low", "types"), [(-1.0, ("int8", "int8")), (0.0, ("uint8", "int8"))])
def test_factors_of_a_product_have_zero_points_of_zero_where_the_engine_wants_it(low: float, types: Any) -> None:
    table = dataclasses.replace(EAGER, symmetric_products=True)
    index = graph("y = MatMul(x, z)", "float[1,4,6,6] x, float[1,4,6,6] z")
    found = placed(index, table, x=(low, 3.0), z=(low, 3.0))
    assert (found.scales["x"].dtype, found.scales["z"].dtype) == types
    assert found.scales["x"].zero_point == found.scales["z"].zero_point == 0


def test_one_side_of_a_residual_sum_is_quantized() -> None:
    table = dataclasses.replace(EAGER, needs_output=frozenset(), residual=True)
    index = graph("a = Conv(x, w) c = Conv(x, v) y = Add(a, c)")
    found = placed(index, table)
    assert "a" not in found.scales
    assert "c" in found.scales


# --- layers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "layer"),
    [
        ("y = Conv<group=2>(x, w, b)", Layer(0, "Conv_0", "Conv", "x", "w", 0, "b", groups=2)),
        ("y = ConvTranspose(x, w)", Layer(0, "ConvTranspose_0", "ConvTranspose", "x", "w", 1)),
        ("y = MatMul(x, m)", Layer(0, "MatMul_0", "MatMul", "x", "m", 1)),
        ("y = MatMul(x, stack)", Layer(0, "MatMul_0", "MatMul", "x", "stack", None)),
        ("y = Gemm<transB=1, alpha=0.5>(x, m)", Layer(0, "Gemm_0", "Gemm", "x", "m", 0, alpha=0.5, transposed=True)),
        ("y = Gemm(x, m)", Layer(0, "Gemm_0", "Gemm", "x", "m", 1)),
        ("y = Conv(x, z)", "its weights are not constant"),
        ("y = Conv(w, v)", "its input is constant"),
        ("y = Conv(x, whole)", "its weights are int32, not float32"),
        ("y = Conv(x, empty)", "its weights are empty"),
        ("y = Conv(x, w, z)", "its bias is not a float32 constant"),
        ("y = Gemm<transA=1>(x, m)", "transA is set"),
        ("y = Gemm(x, m, rows)", "its bias differs from row to row"),
    ],
)
def test_what_is_a_layer_and_why_others_are_none(body: str, layer: Layer | str) -> None:
    index = graph(
        body, "float[1,4,6,6] x, float[4,4,1,1] z", stack=np.ones((2, 6, 6)), rows=np.ones((6, 1)),
        whole=np.ones((4, 4, 1, 1), np.int32), empty=np.zeros((0, 4, 1, 1), np.float32),
    )  # fmt: skip
    assert find_layer(index, 0, per_channel=True) == layer


def test_one_scale_for_all_channels_has_no_axis() -> None:
    found = find_layer(graph("y = Conv(x, w)"), 0, per_channel=False)
    assert isinstance(found, Layer)
    assert found.axis is None


def test_reasons_are_counted_when_there_are_many() -> None:
    nothing = Placement((), frozenset(), {}, {}, frozenset(), {f"n{i}": "why" for i in range(5)})
    with pytest.raises(ModelError, match="n0: why; n1: why; n2: why; and 2 more"):
        check_placement(nothing, graph("y = Relu(x)"))


def test_a_model_without_products_is_called_that() -> None:
    nothing = Placement((), frozenset(), {}, {}, frozenset(), {})
    with pytest.raises(ModelError, match="a model without products to compute in int8: it consists of Relu") as caught:
        check_placement(nothing, graph("y = Relu(x)"))
    assert "Conv, ConvTranspose, Gemm, MatMul" in caught.value.hint
