"""Models of every kind that is not a plain row of convolutions, and what must be refused."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from executed import executed_precision
from onnx import TensorProto, helper, numpy_helper
from quantize_models import (
    find_node,
    initializers,
    minmax_ranges,
    node,
    operators,
    random_feeds,
    run_onnxruntime,
    run_openvino,
    save,
    sqnr_db,
)

from edgepack.engines.common.requested import LEFT_KEY
from edgepack.errors import ConfigError, ModelError
from edgepack.graph.load import load_model, read_proto, save_proto
from edgepack.quantize import quantize
from edgepack.specs.data import TensorRange
from edgepack.specs.model import OnnxModel
from edgepack.specs.target import QuantizationRules

if TYPE_CHECKING:
    from pathlib import Path

    from edgepack.specs.types import Array

pytestmark = pytest.mark.slow

RULES = QuantizationRules(saturates=True)
OPENVINO = dataclasses.replace(RULES, engine="openvino")


def normal(*shape: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def conv(name: str = "conv", x: str = "x", y: str = "y", w: str = "w", **attributes: Any) -> Any:
    return helper.make_node("Conv", [x, w], [y], name=name, **attributes)


@pytest.fixture
def simple(tmp_path: Path) -> OnnxModel:
    return save([conv()], {"w": normal(4, 3, 1, 1)}, tmp_path / "m.onnx", inputs={"x": [1, 3, 5, 5]})


def build(model: OnnxModel, out: Path, rules: QuantizationRules = RULES) -> OnnxModel:
    return quantize(model, minmax_ranges(model, random_feeds(model, 4)), rules, out / "q")


def closeness(model: OnnxModel, result: OnnxModel, *, openvino: bool = False) -> float:
    feeds = random_feeds(model, 4)
    run = run_openvino if openvino else run_onnxruntime
    return sqnr_db(run_onnxruntime(model, feeds, optimized=False), run(result, feeds))


def test_same_input_same_bytes(simple: OnnxModel, tmp_path: Path) -> None:
    ranges = minmax_ranges(simple, random_feeds(simple, 2))
    first = quantize(simple, ranges, RULES, tmp_path / "a")
    second = quantize(simple, ranges, RULES, tmp_path / "b")
    assert first.path.read_bytes() == second.path.read_bytes()


def test_inputs_and_outputs_keep_names_types_and_shapes(simple: OnnxModel, tmp_path: Path) -> None:
    result = build(simple, tmp_path)
    assert (result.inputs, result.outputs) == (simple.inputs, simple.outputs)


def test_output_that_is_used_inside_keeps_its_name(tmp_path: Path) -> None:
    nodes = [conv(y="middle"), conv("second", "middle", "y", "v")]
    weights = {"w": normal(4, 3, 1, 1), "v": normal(4, 4, 1, 1)}
    model = save(nodes, weights, tmp_path / "m.onnx", inputs={"x": [1, 3, 5, 5]}, outputs=("middle", "y"))
    result = build(model, tmp_path)
    assert [o.name for o in result.outputs] == ["middle", "y"]
    assert closeness(model, result) > 25


def test_initializer_shared_by_layers_of_different_scale(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["a"], name="once"),
        helper.make_node("Gemm", ["a", "w"], ["b"], name="halved", alpha=0.5),
        helper.make_node("Gemm", ["b", "w"], ["y"], name="turned", transB=1),
    ]
    model = save(nodes, {"w": normal(6, 6) / 2}, tmp_path / "m.onnx", inputs={"x": [2, 6]})
    result = build(model, tmp_path)
    assert closeness(model, result) > 25
    integers = [name for name in initializers(result) if name.startswith("w_quantized")]
    assert len(integers) == 2, "the first two layers have the same integers, the third has channels on the other axis"
    scales = {name: values for name, values in initializers(result).items() if name.startswith("w_scale")}
    assert len(scales) == 3


def test_initializer_shared_with_a_layer_left_in_float(tmp_path: Path) -> None:
    nodes = [conv("first", "x", "a"), conv("second", "a", "y")]
    model = save(nodes, {"w": normal(3, 3, 1, 1)}, tmp_path / "m.onnx", inputs={"x": [1, 3, 4, 4]})
    result = build(model, tmp_path, dataclasses.replace(RULES, leave=("second",)))
    assert {"w", "w_quantized"} <= set(initializers(result))
    assert find_node(result, "second").input[1] == "w"


def test_convolution_over_one_axis(tmp_path: Path) -> None:
    model = save([conv(pads=[1, 1])], {"w": normal(5, 3, 3)}, tmp_path / "m.onnx", inputs={"x": [1, 3, 20]})
    result = build(model, tmp_path)
    assert [la.executed for la in executed_precision(result, "onnxruntime")] == ["int8"]
    assert closeness(model, result) > 25


@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolution_in_openvino(tmp_path: Path, groups: int) -> None:
    node = helper.make_node("ConvTranspose", ["x", "w", "b"], ["y"], name="up", group=groups, strides=[2, 2])
    constants = {"w": normal(4, 6 // groups, 2, 2), "b": normal(6)}
    model = save([node], constants, tmp_path / "m.onnx", inputs={"x": [1, 4, 5, 5]})
    result = build(model, tmp_path, OPENVINO)
    assert find_node(result, "up").input[1] == "w_dequantized"
    assert closeness(model, result, openvino=True) > 25


def test_transposed_convolution_stays_float_in_onnxruntime(tmp_path: Path) -> None:
    nodes = [conv(y="a"), helper.make_node("ConvTranspose", ["a", "v"], ["y"], name="up")]
    constants = {"w": normal(4, 3, 1, 1), "v": normal(4, 2, 2, 2)}
    model = save(nodes, constants, tmp_path / "m.onnx", inputs={"x": [1, 3, 5, 5]})
    layers = {layer.name: layer for layer in executed_precision(build(model, tmp_path), "onnxruntime")}
    assert layers["up"].executed == "fp32"
    assert layers["up"].reason == "left in float by the rules"


def test_activation_that_is_always_zero(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["a"], name="dead"),
        helper.make_node("Relu", ["a"], ["r"], name="relu"),
        conv("after", "r", "y", "v"),
    ]
    constants = {"w": normal(4, 3, 1, 1), "b": np.full(4, -1000, np.float32), "v": normal(2, 4, 1, 1)}
    model = save(nodes, constants, tmp_path / "m.onnx", inputs={"x": [1, 3, 5, 5]})
    result = build(model, tmp_path)
    assert not run_onnxruntime(result, random_feeds(model, 1))[0][0].any()


def test_channel_of_zero_weights_keeps_its_bias(tmp_path: Path) -> None:
    weight = normal(3, 2, 1, 1)
    weight[1] = 0
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], name="conv")
    bias = np.float32([0.5, 3.0, -0.25])
    model = save([node], {"w": weight, "b": bias}, tmp_path / "m.onnx", inputs={"x": [1, 2, 4, 4]})
    values = run_onnxruntime(build(model, tmp_path), random_feeds(model, 1))[0][0]
    assert values[:, 1] == pytest.approx(3.0, abs=0.05)


def test_bias_far_larger_than_the_products_is_kept(tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], name="conv")
    constants = {"w": normal(3, 2, 1, 1) * 1e-9, "b": np.float32([1e3, -1e3, 1e3])}
    model = save([node], constants, tmp_path / "m.onnx", inputs={"x": [1, 2, 4, 4]})
    assert closeness(model, build(model, tmp_path)) > 40


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("where", ["w", "b"])
def test_weights_that_are_not_finite_are_refused_by_name(tmp_path: Path, bad: float, where: str) -> None:
    constants = {"w": normal(4, 3, 1, 1), "b": normal(4)}
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], name="the_conv")
    model = save([node], constants, tmp_path / "m.onnx", inputs={"x": [1, 3, 5, 5]})
    ranges = minmax_ranges(model, random_feeds(model, 2))
    constants[where].reshape(-1)[1] = bad
    broken = save([node], constants, tmp_path / "m.onnx", inputs={"x": [1, 3, 5, 5]})
    with pytest.raises(ModelError, match="the_conv"):
        quantize(broken, dataclasses.replace(ranges, model_sha256=broken.sha256), RULES, tmp_path / "q")


def test_layer_without_a_range_stays_float_and_says_so(tmp_path: Path) -> None:
    nodes = [conv("first", "x", "a"), helper.make_node("Tanh", ["a"], ["t"]), conv("second", "t", "y", "v")]
    constants = {"w": normal(4, 3, 1, 1), "v": normal(4, 4, 1, 1)}
    model = save(nodes, constants, tmp_path / "m.onnx", inputs={"x": [1, 3, 5, 5]})
    ranges = minmax_ranges(model, random_feeds(model, 2))
    kept = {name: seen for name, seen in ranges.tensors.items() if name != "t"}
    result = quantize(model, dataclasses.replace(ranges, tensors=kept), RULES, tmp_path / "q")
    left = {p.key: json.loads(p.value) for p in read_proto(result).metadata_props if p.key == LEFT_KEY}[LEFT_KEY]
    assert left == {"second": "no range was measured for 't'"}


def test_no_ranges_at_all_are_refused_with_the_reason(simple: OnnxModel, tmp_path: Path) -> None:
    ranges = dataclasses.replace(minmax_ranges(simple, random_feeds(simple, 1)), tensors={})
    with pytest.raises(ModelError, match="no range was measured for 'x'"):
        quantize(simple, ranges, RULES, tmp_path / "q")


def test_ranges_of_another_model_are_refused(simple: OnnxModel, tmp_path: Path) -> None:
    ranges = dataclasses.replace(minmax_ranges(simple, random_feeds(simple, 1)), model_sha256="f" * 64)
    with pytest.raises(ConfigError, match="different model"):
        quantize(simple, ranges, RULES, tmp_path / "q")


def test_model_without_anything_to_quantize_is_refused(tmp_path: Path) -> None:
    model = save([helper.make_node("Tanh", ["x"], ["y"])], {}, tmp_path / "m.onnx", inputs={"x": [1, 3]})
    with pytest.raises(ModelError, match="without products to compute in int8: it consists of Tanh"):
        build(model, tmp_path)


def test_all_layers_left_is_refused(simple: OnnxModel, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="conv: left in float by the rules"):
        build(simple, tmp_path, dataclasses.replace(RULES, leave=("c*v",)))


@pytest.mark.parametrize("pattern", ["first", "f*", "Conv"])
def test_layers_are_left_by_name_and_by_operator(tmp_path: Path, pattern: str) -> None:
    nodes = [
        conv("first", "x", "a"),
        helper.make_node("Flatten", ["a"], ["f"]),
        helper.make_node("Gemm", ["f", "v"], ["y"], name="last"),
    ]
    constants = {"w": normal(4, 3, 1, 1), "v": normal(16, 2)}
    model = save(nodes, constants, tmp_path / "m.onnx", inputs={"x": [1, 3, 2, 2]})
    result = build(model, tmp_path, dataclasses.replace(RULES, leave=(pattern,)))
    assert find_node(result, "first").input[1] == "w"
    assert find_node(result, "last").input[1] == "v_dequantized"


def quantized_graph(operator: str) -> list[Any]:
    ends = ["y"] if operator == "QLinearConv" else ["q"]
    return {
        "QuantizeLinear": [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ends, name="q_node"),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
        ],
        "DynamicQuantizeLinear": [
            helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "ds", "dz"], name="q_node"),
            helper.make_node("DequantizeLinear", ["q", "ds", "dz"], ["y"]),
        ],
    }[operator]


@pytest.mark.parametrize("operator", ["QuantizeLinear", "DynamicQuantizeLinear"])
def test_quantized_model_is_refused(tmp_path: Path, operator: str) -> None:
    constants = {"s": np.float32(0.1), "z": np.uint8(3)}
    used = constants if operator == "QuantizeLinear" else {}
    model = save(quantized_graph(operator), used, tmp_path / "m.onnx", inputs={"x": [1, 3]})
    with pytest.raises(ModelError, match="quantized already: the node 'q_node'"):
        build(model, tmp_path)


def test_its_own_result_is_refused(simple: OnnxModel, tmp_path: Path) -> None:
    result = build(simple, tmp_path)
    with pytest.raises(ModelError, match="quantized already"):
        quantize(result, minmax_ranges(result, random_feeds(result, 1)), RULES, tmp_path / "again")


def test_weights_stored_as_integers_are_quantized_anew(tmp_path: Path) -> None:
    nodes = [helper.make_node("DequantizeLinear", ["w8", "s", "z"], ["w"], axis=0), conv()]
    integers = np.random.default_rng(0).integers(-100, 100, (4, 3, 1, 1), np.int8)
    constants = {"w8": integers, "s": np.float32([0.1, 0.2, 0.3, 0.4]), "z": np.zeros(4, np.int8)}
    model = save(nodes, constants, tmp_path / "m.onnx", inputs={"x": [1, 3, 5, 5]})
    result = build(model, tmp_path)
    assert closeness(model, result) > 30
    assert operators(result).count("DequantizeLinear") == 3


def test_constant_nodes_are_weights_too(tmp_path: Path) -> None:
    weight = helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(normal(4, 3, 1, 1)))
    model = save([weight, conv()], {}, tmp_path / "m.onnx", inputs={"x": [1, 3, 5, 5]})
    assert find_node(build(model, tmp_path), "conv").input[1] == "w_dequantized"


def test_initializer_listed_as_an_input_is_a_weight(simple: OnnxModel, tmp_path: Path) -> None:
    proto = read_proto(simple)
    proto.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 3, 1, 1]))
    model = save_proto(proto, tmp_path / "listed")
    result = build(model, tmp_path)
    assert [i.name for i in result.inputs] == ["x"]
    assert find_node(result, "conv").input[1] == "w_dequantized"


def test_nodes_without_names_get_some(tmp_path: Path) -> None:
    model = save([conv("")], {"w": normal(4, 3, 1, 1)}, tmp_path / "m.onnx", inputs={"x": [1, 3, 5, 5]})
    assert [la.name for la in executed_precision(build(model, tmp_path), "onnxruntime")] == ["Conv_0"]


def test_older_opset_is_raised(tmp_path: Path) -> None:
    nodes = [
        conv(y="a"),
        helper.make_node("Squeeze", ["a"], ["s"], axes=[3]),
        helper.make_node("Softmax", ["s"], ["y"], axis=1),
    ]
    model = save(nodes, {"w": normal(4, 3, 1, 1)}, tmp_path / "m.onnx", inputs={"x": [1, 3, 5, 1]}, opset=11)
    result = build(model, tmp_path)
    assert result.opset == 13
    assert closeness(model, result) > 25


def test_large_weights_survive_raising_the_opset(tmp_path: Path) -> None:
    nodes = [helper.make_node("Gemm", ["x", "w"], ["y"], name="gemm")]
    model = save(nodes, {"w": normal(600, 600)}, tmp_path / "m.onnx", inputs={"x": [1, 600]}, opset=11)
    result = build(model, tmp_path)
    assert [i.name for i in result.inputs] == ["x"]
    assert closeness(model, result) > 30


def test_newer_opset_is_kept(tmp_path: Path) -> None:
    model = save([conv()], {"w": normal(4, 3, 1, 1)}, tmp_path / "m.onnx", inputs={"x": [1, 3, 5, 5]}, opset=21)
    assert build(model, tmp_path).opset == 21


def test_bodies_of_control_flow_are_left_alone(tmp_path: Path) -> None:
    inner = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
    body = {
        "then_branch": helper.make_graph([conv("inside", "a", "inner", "v")], "then", [], [inner]),
        "else_branch": helper.make_graph([helper.make_node("Neg", ["a"], ["inner"])], "else", [], [inner]),
    }
    nodes = [conv(y="a"), helper.make_node("If", ["yes"], ["y"], name="if", **body)]
    constants = {"w": normal(4, 3, 1, 1), "v": normal(4, 4, 1, 1), "yes": np.array(True)}
    model = save(nodes, constants, tmp_path / "m.onnx", inputs={"x": [1, 3, 5, 5]})
    result = build(model, tmp_path)
    assert find_node(result, "conv").input[1] == "w_dequantized"
    branch = next(a.g for a in find_node(result, "if").attribute if a.name == "then_branch")
    assert branch.node[0].input[1] == "v"
    assert closeness(model, result) > 25


def test_real_control_flow(assets: Path, tmp_path: Path) -> None:
    model = load_model(assets / "silero_vad_16k_op15.onnx")
    ranges = {
        name: TensorRange(-4.0, 4.0, -4.0, 4.0, 4.0)
        for node in onnx.load(model.path).graph.node
        for name in [*node.input, *node.output]
    }
    measured = dataclasses.replace(minmax_ranges_of_nothing(model), tensors={n: r for n, r in ranges.items() if n})
    result = quantize(model, measured, RULES, tmp_path / "q")
    assert operators(result).count("If") == operators(model).count("If")
    assert "QuantizeLinear" in operators(result)


def minmax_ranges_of_nothing(model: OnnxModel) -> Any:
    from edgepack.specs.data import Ranges

    return Ranges(model.sha256, "0" * 64, "minmax", None, 0, {})


def test_external_data_is_read(simple: OnnxModel, tmp_path: Path) -> None:
    nodes = [helper.make_node("Gemm", ["x", "w"], ["y"], name="gemm")]
    inner = save(nodes, {"w": normal(100, 100)}, tmp_path / "m.onnx", inputs={"x": [1, 100]})
    model = save_proto(read_proto(inner), tmp_path / "outside", external_data=True)
    assert model.external
    feeds = random_feeds(inner, 3)
    ranges = dataclasses.replace(minmax_ranges(inner, feeds), model_sha256=model.sha256)
    result = quantize(model, ranges, RULES, tmp_path / "q")
    assert closeness(inner, result) > 28


def test_relu_before_symmetric_activations_does_not_keep_a_layer_in_float(tmp_path: Path) -> None:
    nodes = [conv(y="a"), helper.make_node("Relu", ["a"], ["r"], name="relu"), conv("second", "r", "y", "v")]
    constants = {"w": normal(4, 3, 1, 1), "v": normal(4, 4, 1, 1)}
    model = save(nodes, constants, tmp_path / "m.onnx", inputs={"x": [1, 3, 5, 5]})
    rules = QuantizationRules(activation_type="int8", activation_symmetric=True)
    layers = executed_precision(build(model, tmp_path, rules), "onnxruntime")
    assert [la.executed for la in layers if la.weighted] == ["int8", "int8"]


def test_float_users_of_a_float_tensor_keep_it(tmp_path: Path) -> None:
    """The residual stream of a transformer must not be rounded because a product reads it too."""
    nodes = [
        helper.make_node("Tanh", ["x"], ["t"]),
        helper.make_node("MatMul", ["t", "w"], ["m"], name="product"),
        helper.make_node("Add", ["t", "m"], ["y"], name="residual"),
    ]
    model = save(nodes, {"w": normal(6, 6)}, tmp_path / "m.onnx", inputs={"x": [1, 4, 6]})
    result = build(model, tmp_path)
    assert list(find_node(result, "residual").input) == ["t", "m"]
    assert find_node(result, "product").input[0] == "t_dequantized"


def test_a_product_with_a_constant_vector_is_quantized(tmp_path: Path) -> None:
    """Attention pooling as torch writes it."""
    weights = np.random.default_rng(0).standard_normal(24).astype(np.float32)
    model = save([node("MatMul", "x v", "y")], {"v": weights}, tmp_path / "m.onnx", inputs={"x": ("n", 10, 24)})
    feeds = random_feeds(model, 4)
    made = quantize(model, minmax_ranges(model, feeds), RULES, tmp_path / "out")
    assert "DequantizeLinear" in operators(made)
    found = run_onnxruntime(made, feeds)
    assert found[0][0].shape == (1, 10)
    assert sqnr_db(run_onnxruntime(model, feeds), found) > 30


def test_weights_behind_a_cast_are_weights(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).standard_normal((24, 8)).astype(np.float16)
    nodes = [node("Cast", "half", "w", to=1), node("MatMul", "x w", "y")]
    model = save(nodes, {"half": weights}, tmp_path / "m.onnx", inputs={"x": (2, 24)})
    made = quantize(model, minmax_ranges(model, random_feeds(model, 4)), RULES, tmp_path / "out")
    assert "DequantizeLinear" in operators(made)
    assert "Cast" not in operators(made)


@pytest.mark.parametrize(
    ("constants", "inputs", "reason"),
    [
        ({"w": np.ones((4, 4), np.float64)}, "x w", "double, not float32"),
        ({"w": np.ones((4, 4), np.float32)}, "w x", "the left operand"),
    ],
)
def test_weights_of_another_form_are_named(
    constants: dict[str, Array], inputs: str, reason: str, tmp_path: Path
) -> None:
    made = [node("MatMul", "x good", "a"), node("Cast", "a", "z", to=11 if inputs[-1] == "w" else 1)]
    nodes = [*made, node("MatMul", inputs.replace("x", "z"), "p"), node("Cast", "p", "y", to=1)]
    good = {"good": np.ones((4, 4), np.float32)}
    model = save(nodes, constants | good, tmp_path / "m.onnx", inputs={"x": (4, 4)})
    proto = onnx.load(quantize(model, minmax_ranges(model, random_feeds(model, 2)), RULES, tmp_path / "out").path)
    assert any(reason in item.value for item in proto.metadata_props)


@pytest.mark.parametrize("rules", [RULES, OPENVINO], ids=["onnxruntime", "openvino"])
def test_probabilities_far_below_one_keep_their_levels(rules: QuantizationRules, tmp_path: Path) -> None:
    """Attention over 640 tokens: no probability reaches half a step of the range from 0 to 1."""
    nodes = [node("Softmax", "x", "p", axis=-1), node("MatMul", "p w", "y")]
    weights = np.random.default_rng(0).standard_normal((640, 8)).astype(np.float32)
    model = save(nodes, {"w": weights}, tmp_path / "m.onnx", inputs={"x": (1, 4, 640)})
    feeds = random_feeds(model, 4)
    made = quantize(model, minmax_ranges(model, feeds), rules, tmp_path / "out")
    expected = run_onnxruntime(model, feeds)
    assert sqnr_db(expected, run_onnxruntime(made, feeds, optimized=False)) > 20


def test_an_einsum_with_weights_says_that_it_stays_in_float(tmp_path: Path) -> None:
    constants = {"w": normal(4, 4), "v": normal(4, 4)}
    nodes = [node("Einsum", "x w", "e", equation="ij,jk->ik"), node("MatMul", "e v", "y")]
    model = save(nodes, constants, tmp_path / "m.onnx", inputs={"x": (2, 4)})
    proto = onnx.load(quantize(model, minmax_ranges(model, random_feeds(model, 2)), RULES, tmp_path / "out").path)
    left = json.loads(next(item.value for item in proto.metadata_props if item.key == LEFT_KEY))
    assert left == {"e": "Einsum is quantized for no engine"}
