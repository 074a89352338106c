import math

import numpy as np
import onnx.parser
import pytest

from edgepack.calibrate.tensors import OBSERVED, make_plan, part_of_plan, read_structure
from edgepack.engines import ENGINES, int8
from edgepack.errors import ModelError
from edgepack.specs.calibration import Derivation


def plan_of(body, head="float[N,4] x", out="float[N,4] y", opset=17, **constants):
    text = f'<ir_version: 8, opset_import: ["" : {opset}, "com.microsoft" : 1]> net ({head}) => ({out}) {{ {body} }}'
    proto = onnx.parser.parse_model(text)
    for name, array in constants.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    return make_plan(proto)


def test_every_float_activation_of_a_network_is_observed_once(conv_model):
    plan = make_plan(read_structure(conv_model))
    assert sorted((*plan.inputs, *plan.measured, *(derivation.tensor for derivation in plan.derived))) == sorted(
        ["image", "first", "clipped", "second", "rectified", "flat", "logits"]
    )


def test_what_follows_from_another_tensor_is_not_measured(conv_model):
    plan = make_plan(read_structure(conv_model))
    assert plan.inputs == ("image",)
    assert plan.measured == ("first", "second", "logits")
    assert plan.derived == (
        Derivation("clipped", ("first",), 0.0, 6.0),
        Derivation("rectified", ("second",), low=0.0),
        Derivation("flat", ("rectified",)),
    )
    assert plan.sizes == (4 * 4 * 64, 4 * 2 * 64, 4 * 5)


def test_a_part_of_a_plan_has_what_its_tensors_are_derived_from(conv_model):
    plan = make_plan(read_structure(conv_model))
    part = part_of_plan(plan, {"flat", "logits"}.__contains__)
    assert part.inputs == ()
    assert part.measured == ("second", "logits")
    assert [derivation.tensor for derivation in part.derived] == ["rectified", "flat"]
    assert part.sizes == (4 * 2 * 64, 4 * 5)
    assert part_of_plan(plan, lambda _: True) == plan


def test_observed_operators_cover_what_any_engine_quantizes():
    wanted = int8.WEIGHTED | int8.MOVES | int8.COMPUTES
    for table in (ENGINES.get(name).int8 for name in ENGINES.own):
        wanted = wanted | table.operators | table.activations
    assert wanted <= OBSERVED


def test_concatenation_follows_only_from_activations():
    assert plan_of("a = Tanh(x) y = Concat<axis=0>(x, a)").derived == (Derivation("y", ("x", "a")),)
    assert plan_of("y = Concat<axis=0>(x, w)", w=np.zeros((1, 4), np.float32)).derived == ()


@pytest.mark.parametrize(
    ("body", "opset", "bounds"),
    [
        ("y = Clip<min=-1.0, max=2.5>(x)", 10, (-1.0, 2.5)),
        ("y = Clip(x, low, high)", 17, (-2.0, 3.0)),
        ("y = Clip(x, low)", 17, (-2.0, None)),
        ("y = Clip(x, , high)", 17, (None, 3.0)),
        ("y = Clip(x)", 17, (None, None)),
        ("low2 = Constant<value_float=0.5>() y = Clip(x, low2)", 17, None),
        ("low2 = Constant<value=float {0.5}>() y = Clip(x, low2)", 17, (0.5, None)),
        ("low2 = ReduceMin<keepdims=0>(x) y = Clip(x, low2)", 17, None),
        ("y = Clip(x, high, low)", 17, None),
        ("y = Clip(x, none)", 17, None),
        ("y = Clip(x, low, infinite)", 17, (-2.0, None)),
        ("y = Clip(x, infinite)", 17, None),
    ],
)
def test_bounds_of_a_clip(body, opset, bounds):
    constants = {"low": -2, "high": 3, "none": math.nan, "infinite": math.inf}
    plan = plan_of(body, opset=opset, **{name: np.float32(value) for name, value in constants.items()})
    found = {derivation.tensor: (derivation.low, derivation.high) for derivation in plan.derived}
    assert found.get("y") == bounds
    assert ("y" in plan.measured) == (bounds is None)


def test_weights_constants_and_integers_are_left_out():
    plan = plan_of(
        "c = Constant<value=float[1] {2.0}>() a = Mul(x, c) b = MatMul(a, w) "
        "i = Cast<to=7>(b) j = Add(i, one) y = Cast<to=1>(j)",
        w=np.ones((4, 4), np.float32),
        one=np.array([1]),
    )
    assert {*plan.inputs, *plan.measured} == {"x", "a", "b"}


def test_tensors_inside_control_flow_are_left_out():
    plan = plan_of(
        """c = If<then_branch = yes () => (float[N,4] t) { t = Relu(x) },
                  else_branch = no () => (float[N,4] e) { e = Tanh(x) }>(flag)
           y = Add(c, x)""",
        head="float[N,4] x, bool flag",
    )
    assert {*plan.inputs, *plan.measured} == {"x", "c", "y"}
    assert plan.derived == ()


def test_another_domains_relu_is_not_trusted():
    assert plan_of("y = com.microsoft.Gelu(x) ").derived == ()


@pytest.mark.parametrize(
    "body",
    [
        "q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)",
        "q, s2, z2 = DynamicQuantizeLinear(x) y = DequantizeLinear(q, s2, z2)",
    ],
)
def test_quantized_activations_are_refused(body):
    with pytest.raises(ModelError, match=r"already quantized: it has .*QuantizeLinear") as caught:
        plan_of(body, s=np.float32(0.1), z=np.uint8(0))
    assert "--precision as-is" in caught.value.hint


def test_compressed_weights_are_no_reason_to_refuse():
    plan = plan_of("w = DequantizeLinear(q, s) y = MatMul(x, w)", q=np.ones((4, 4), np.int8), s=np.float32(0.1))
    assert "y" in plan.measured


def test_a_model_without_float_activations():
    with pytest.raises(ModelError, match="no float32 activations"):
        plan_of("y = Relu(x)", head="float16[N,4] x", out="float16[N,4] y")
    with pytest.raises(ModelError, match="no float32 activations"):
        plan_of("y = Add(x, x)", head="int64[N,4] x", out="int64[N,4] y")


def test_a_model_whose_work_lies_in_branches_says_so_and_which_input_decides():
    text = (
        '<ir_version: 8, opset_import: ["" : 17]> net (float[N,4] x, int64 sr) => (float[N,4] y) '
        "<int64 rate = {16000}> { c = Equal(sr, rate) y = If (c) "
        "<then_branch = a () => (float[N,4] p) { p = Relu(x) }, "
        "else_branch = b () => (float[N,4] q) { q = Sigmoid(x) }> }"
    )
    proto = onnx.parser.parse_model(text)
    proto.graph.node[1].name = "which"
    with pytest.raises(ModelError, match="work lies within If which") as caught:
        make_plan(proto)
    assert caught.value.hint.startswith("--set sr=VALUE fixes the input that decides")


def test_decision_trees_are_called_that():
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]> net (float[N,4] x) => (float[N,1] y) '
        "{ y = ai.onnx.ml.TreeEnsembleRegressor<n_targets=1>(x) }"
    )
    with pytest.raises(ModelError, match="made of decision trees") as caught:
        make_plan(proto)
    assert "--precision fp32" in caught.value.hint


def test_classical_models_are_called_that():
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]> net (double[N,4] x) => (float[N,1] y) '
        "{ y = ai.onnx.ml.LinearRegressor(x) }"
    )
    with pytest.raises(ModelError, match=r"classical machine learning \(LinearRegressor\)") as caught:
        make_plan(proto)
    assert "--precision fp32" in caught.value.hint
