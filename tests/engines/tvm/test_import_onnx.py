"""Import: what TVM lacks is written in what it has, and computes the same; what stays missing is named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import backend_models
import numpy as np
import onnx
import onnxruntime
import pytest
from backend_models import FLOAT, INT64, UINT8, make, save
from onnx import TensorProto, helper, numpy_helper

from edgepack.engines import get_backend
from edgepack.engines.tvm.import_onnx import (
    HIGHEST_OPSET,
    import_graph,
    ready,
    supported_operators,
    tensor_shapes,
    tensor_types,
)
from edgepack.engines.tvm.onnx.recurrent import MOST_STEPS
from edgepack.errors import CompileError
from edgepack.specs.run import RunOptions
from edgepack.specs.target import Target

if TYPE_CHECKING:
    from pathlib import Path

    from edgepack.specs.model import OnnxModel

pytestmark = pytest.mark.slow

RANDOM = backend_models._random


def run(proto: onnx.ModelProto, feeds: dict[str, Any]) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


def check_same(model: OnnxModel, proto: onnx.ModelProto, feeds: dict[str, Any], atol: float = 1e-5) -> onnx.ModelProto:
    """The readied graph computes what the original does, in operators that TVM has; return it."""
    readied = ready(model)
    assert readied.missing == ()
    for got, want in zip(run(readied.proto, feeds), run(proto, feeds), strict=True):
        np.testing.assert_allclose(got, want, atol=atol, rtol=1e-5)
    assert {node.op_type for node in readied.proto.graph.node} <= supported_operators()
    shapes = tensor_shapes(readied.proto)
    assert all(isinstance(extent, int) for value in readied.proto.graph.output for extent in shapes[value.name])
    return readied.proto


# --- recurrent layers -------------------------------------------------------------------------------------------------


def recurrent(kind: str, direction: str, layout: int, biased: bool, stateful: bool, reset: int = 0) -> onnx.ModelProto:
    gates, hidden, width, steps, batch = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind], 5, 3, 4, 2
    ways = 2 if direction == "bidirectional" else 1
    weights = {"w": RANDOM(1, ways, gates * hidden, width), "r": RANDOM(2, ways, gates * hidden, hidden)}
    inputs = ["x", "w", "r", "", ""]
    if biased:
        weights["b"] = RANDOM(3, ways, 2 * gates * hidden)
        inputs[3] = "b"
    state = [batch, ways, hidden] if layout else [ways, batch, hidden]
    values = [("x", FLOAT, [batch, steps, width] if layout else [steps, batch, width])]
    if stateful:
        inputs.append("h")
        values.append(("h", FLOAT, state))
        if kind == "LSTM":
            inputs.append("c")
            values.append(("c", FLOAT, state))
    attributes: dict[str, Any] = {"hidden_size": hidden, "direction": direction, "layout": layout}
    if kind == "GRU":
        attributes["linear_before_reset"] = reset
    names = ["y", "yh", "yc"] if kind == "LSTM" else ["y", "yh"]
    full = [batch, steps, ways, hidden] if layout else [steps, ways, batch, hidden]
    outputs = [("y", FLOAT, full), *((name, FLOAT, state) for name in names[1:])]
    return make([helper.make_node(kind, inputs, names, "rec", **attributes)], values, outputs, weights)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(
    ("kind", "reset", "biased", "stateful"),
    [
        ("LSTM", 0, True, True),
        ("LSTM", 0, False, False),
        ("GRU", 0, True, True),
        ("GRU", 1, True, False),
        ("GRU", 1, False, True),
        ("RNN", 0, True, True),
    ],
)
def test_recurrent_layers_are_unrolled(
    kind: str, reset: int, biased: bool, stateful: bool, direction: str, tmp_path: Path
) -> None:
    proto = recurrent(kind, direction, 0, biased, stateful, reset)
    model = save(proto, tmp_path / "m.onnx")
    feeds = {spec.name: RANDOM(7 + i, *spec.shape) for i, spec in enumerate(model.inputs)}
    readied = check_same(model, proto, feeds)
    assert kind not in {node.op_type for node in readied.graph.node}


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_batch_first_layers_are_unrolled(kind: str, tmp_path: Path) -> None:
    """ONNX Runtime does not run layout 1, onnx's own evaluator does."""
    proto = recurrent(kind, "forward", 1, True, True)
    model = save(proto, tmp_path / "m.onnx")
    feeds = {spec.name: RANDOM(7 + i, *spec.shape) for i, spec in enumerate(model.inputs)}
    transposed = recurrent(kind, "forward", 0, True, True)
    turned = {name: array.swapaxes(0, 1) for name, array in feeds.items()}
    y, *states = run(transposed, turned)
    wanted = [y.transpose(2, 0, 1, 3), *(state.swapaxes(0, 1) for state in states)]
    for got, want in zip(run(ready(model).proto, feeds), wanted, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda n: n.attribute.append(helper.make_attribute("clip", 3.0)), "LSTM with clip"),
        (
            lambda n: n.attribute.append(helper.make_attribute("activations", ["Relu", "Tanh", "Tanh"])),
            "LSTM with the activations Relu",
        ),
    ],
)
def test_a_recurrent_layer_that_is_not_unrolled_is_named_with_the_reason(
    change: Any, words: str, tmp_path: Path
) -> None:
    proto = recurrent("LSTM", "forward", 0, True, False)
    change(proto.graph.node[0])
    (found,) = ready(save(proto, tmp_path / "m.onnx")).missing
    assert (found.severity, found.node) == ("error", "rec")
    assert words in found.message


def test_too_many_steps_are_refused_with_their_number(tmp_path: Path) -> None:
    proto = recurrent("RNN", "forward", 0, False, False)
    for value in (proto.graph.input[0], proto.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = MOST_STEPS + 1
    (found,) = ready(save(proto, tmp_path / "m.onnx")).missing
    assert f"over {MOST_STEPS + 1} steps" in found.message


# --- control flow -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("condition", [True, False])
def test_both_branches_are_computed_where_only_the_input_decides(condition: bool, tmp_path: Path) -> None:
    proto = backend_models.branches()
    model = save(proto, tmp_path / "m.onnx")
    feeds = {"x": RANDOM(1, 1, 4), "c": np.array(condition)}
    readied = check_same(model, proto, feeds)
    assert "If" not in {node.op_type for node in readied.graph.node}


@pytest.mark.parametrize("condition", [True, False])
def test_a_constant_condition_leaves_one_branch(condition: bool, tmp_path: Path) -> None:
    proto = backend_models.branches()
    del proto.graph.input[1]
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array(condition), "c"))
    model = save(proto, tmp_path / "m.onnx")
    readied = check_same(model, proto, {"x": RANDOM(1, 1, 4)})
    assert "Where" not in {node.op_type for node in readied.graph.node}


# --- quantized operators ----------------------------------------------------------------------------------------------


def quantized(kind: str) -> onnx.ModelProto:
    scalars = {"s": np.float32(0.05), "z": np.uint8(120), "t": np.float32(0.1), "u": np.uint8(3)}
    domain = "" if kind in ("QLinearConv", "QLinearMatMul") else "com.microsoft"
    if kind == "QLinearConv":
        weights = {
            "w": np.random.default_rng(1).integers(-50, 50, (4, 3, 3, 3)).astype(np.int8),
            "ws": np.linspace(0.01, 0.03, 4, dtype=np.float32),
            "wz": np.zeros(4, np.int8),
            "b": np.array([100, -50, 3, 0], np.int32),
        }
        node = helper.make_node(kind, ["x", "s", "z", "w", "ws", "wz", "t", "u", "b"], ["y"], "q", pads=[1, 1, 1, 1])
        return make([node], [("x", UINT8, [1, 3, 6, 6])], [("y", UINT8, [1, 4, 6, 6])], {**scalars, **weights})
    shape = [1, 3, 6, 6]
    if kind == "QLinearMatMul":
        weights = {"w": np.random.default_rng(1).integers(0, 255, (6, 5)).astype(np.uint8)}
        node = helper.make_node(kind, ["x", "s", "z", "w", "t", "u", "t", "u"], ["y"], "q")
        return make([node], [("x", UINT8, [4, 6])], [("y", UINT8, [4, 5])], {**scalars, **weights})
    if kind == "QLinearAdd":
        node = helper.make_node(kind, ["x", "s", "z", "x", "t", "u", "t", "z"], ["y"], "q", domain=domain)
    elif kind == "QLinearConcat":
        node = helper.make_node(kind, ["t", "u", "x", "s", "z", "x", "t", "u"], ["y"], "q", domain=domain, axis=1)
        shape = [1, 6, 6, 6]
    elif kind == "QLinearGlobalAveragePool":
        node = helper.make_node(kind, ["x", "s", "z", "t", "u"], ["y"], "q", domain=domain, channels_last=0)
        shape = [1, 3, 1, 1]
    else:
        attributes = {"kernel_shape": [2, 2]} if kind == "QLinearAveragePool" else {}
        node = helper.make_node(kind, ["x", "s", "z", "t", "u"], ["y"], "q", domain=domain, **attributes)
        shape = [1, 3, 5, 5] if attributes else shape
    return make([node], [("x", UINT8, [1, 3, 6, 6])], [("y", UINT8, shape)], scalars, domains=[domain])


@pytest.mark.parametrize(
    "kind",
    [
        *("QLinearConv", "QLinearMatMul", "QLinearAdd", "QLinearConcat", "QLinearSigmoid", "QLinearLeakyRelu"),
        *("QLinearGlobalAveragePool", "QLinearAveragePool"),
    ],
)
def test_quantized_operators_become_pairs(kind: str, tmp_path: Path) -> None:
    proto = quantized(kind)
    model = save(proto, tmp_path / "m.onnx")
    x = np.random.default_rng(3).integers(0, 256, model.inputs[0].shape).astype(np.uint8)
    readied = check_same(model, proto, {"x": x}, atol=1)  # a step, where a product lies half way
    assert not any(node.op_type.startswith("QLinear") for node in readied.graph.node)


def test_integer_convolutions_are_imported_as_integers(tmp_path: Path) -> None:
    weights = {"w": np.random.default_rng(1).integers(-128, 128, (2, 3, 3, 3)).astype(np.int8), "z": np.uint8(7)}
    node = helper.make_node("ConvInteger", ["x", "w", "z"], ["y"], "exact")
    proto = make([node], [("x", UINT8, [1, 3, 5, 5])], [("y", TensorProto.INT32, [1, 2, 3, 3])], weights)
    model = save(proto, tmp_path / "m.onnx")
    text = str(import_graph(model, ready(model)))
    assert "int32" in text
    assert "conv2d" in text
    assert "float32" not in text


# --- newer operator sets ----------------------------------------------------------------------------------------------


def test_a_newer_operator_is_written_as_its_function(tmp_path: Path) -> None:
    node = helper.make_node("Swish", ["x"], ["y"], "new", alpha=1.5)
    proto = make([node], [("x", FLOAT, [2, 4])], [("y", FLOAT, [2, 4])], opset=24)
    model = save(proto, tmp_path / "m.onnx")
    x = RANDOM(1, 2, 4)
    readied = ready(model)
    assert readied.missing == ()
    assert "Swish" not in {node.op_type for node in readied.proto.graph.node}
    np.testing.assert_allclose(run(readied.proto, {"x": x})[0], x / (1 + np.exp(-1.5 * x)), atol=1e-5)
    import_graph(model, readied)


def test_attention_of_opset_23_is_written_as_its_function(tmp_path: Path) -> None:
    node = helper.make_node("Attention", ["q", "k", "v"], ["y"], "attend")
    values = [(name, FLOAT, [1, 2, 4, 8]) for name in "qkv"]
    proto = make([node], values, [("y", FLOAT, [1, 2, 4, 8])], opset=23)
    model = save(proto, tmp_path / "m.onnx")
    q, k, v = (RANDOM(i, 1, 2, 4, 8) for i in range(3))
    scores = q @ k.swapaxes(2, 3) / np.sqrt(8)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    wanted = weights / weights.sum(-1, keepdims=True) @ v
    readied = ready(model)
    assert readied.missing == ()
    np.testing.assert_allclose(run(readied.proto, {"q": q, "k": k, "v": v})[0], wanted, atol=1e-5)
    import_graph(model, readied)
    assert HIGHEST_OPSET < 23


# --- shapes and what is refused ---------------------------------------------------------------------------------------


def test_shapes_that_depend_on_a_frozen_extent_are_folded(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "first"], ["n"], axis=0),
        helper.make_node("Concat", ["n", "rest"], ["wanted"], axis=0),
        helper.make_node("Reshape", ["x", "wanted"], ["y"]),
    ]
    weights = {"first": np.array([0]), "rest": np.array([-1])}
    proto = make(nodes, [("x", FLOAT, ["N", 2, 3])], [("y", FLOAT, ["N", 6])], weights)
    readied = check_same(save(proto, tmp_path / "m.onnx"), proto, {"x": RANDOM(1, 1, 2, 3)})
    assert [node.op_type for node in readied.graph.node] == ["Reshape"]


def test_a_free_extent_that_is_not_the_batch_is_refused_with_what_to_write(tmp_path: Path) -> None:
    proto = make([helper.make_node("Relu", ["x"], ["y"])], [("x", FLOAT, ["N", "T"])], [("y", FLOAT, ["N", "T"])])
    with pytest.raises(CompileError, match=r"the input 'x' is \[N, T\]") as caught:
        ready(save(proto, tmp_path / "m.onnx"))
    assert "--shape x=Nx128" in caught.value.hint


def test_every_missing_operator_is_listed_by_its_node(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], "fine"),
        helper.make_node("Det", ["a"], ["d"], "first"),
        helper.make_node("Relu", ["a"], ["b"], "foreign", domain="com.example"),
        helper.make_node("Frobnicate", ["b"], ["y"], "last"),
    ]
    outputs = [("d", FLOAT, []), ("y", FLOAT, [2, 2])]
    proto = make(nodes, [("x", FLOAT, [2, 2])], outputs, domains=["com.example"])
    model = save(proto, tmp_path / "m.onnx")
    readied = ready(model)
    assert [(d.node, d.message) for d in readied.missing] == [
        ("first", "TVM has no Det"),
        ("foreign", "TVM has no com.example.Relu"),
        ("last", "TVM has no Frobnicate"),
    ]
    with pytest.raises(CompileError, match=r"TVM has no Det at node first \(and 2 more\)"):
        import_graph(model, readied)


@pytest.mark.parametrize(
    ("base", "exponent", "stored"),
    [
        (np.float32, np.int64, True),
        (np.float32, np.int64, False),
        (np.int32, np.int64, True),
        (np.int64, np.float32, True),
    ],
)
def test_a_power_of_two_types_computes_what_onnx_says(base: Any, exponent: Any, stored: bool, tmp_path: Path) -> None:
    kinds = [helper.np_dtype_to_tensor_dtype(np.dtype(kind)) for kind in (base, exponent)]
    feeds = {"x": np.array([1, 2, 3, 5], base), "k": np.array([3, 2, 1, 3], exponent)}
    inputs = [("x", kinds[0], [4]), *([] if stored else [("k", kinds[1], [4])])]
    proto = make(
        [helper.make_node("Pow", ["x", "k"], ["y"], "power")], inputs, [("y", kinds[0], [4])],
        {"k": feeds.pop("k")} if stored else {},
    )  # fmt: skip
    model = save(proto, tmp_path / "m.onnx")
    backend = get_backend("tvm")
    target = Target("test", "test", "tvm", "x86_64")
    assert backend.check(model, target) == []
    compiled = backend.compile_model(model, target, "fp32", tmp_path / "out")
    runner = backend.load_model(compiled, RunOptions(threads=1))
    wanted = [1, 4, 3, 125]
    found = runner.infer(feeds)["y"]
    runner.close()
    assert found.dtype == base
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def suppression() -> onnx.ModelProto:
    node = helper.make_node("NonMaxSuppression", ["b", "s", "m", "t"], ["y"], "suppress")
    weights = {"m": np.array([3]), "t": np.array([0.5], np.float32)}
    return make([node], [("b", FLOAT, [1, 6, 4]), ("s", FLOAT, [1, 2, 6])], [("y", INT64, ["K", 3])], weights)


def with_indices() -> onnx.ModelProto:
    node = helper.make_node("MaxPool", ["x"], ["y", "i"], "pool", kernel_shape=[2, 2], strides=[2, 2])
    outputs = [("y", FLOAT, [1, 2, 2, 3]), ("i", INT64, [1, 2, 2, 3])]
    return make([node], [("x", FLOAT, [1, 2, 4, 6])], outputs)


def sorting() -> onnx.ModelProto:
    node = helper.make_node("TopK", ["x", "k"], ["y", "i"], "best")
    outputs = [("y", FLOAT, [1, 4]), ("i", INT64, [1, 4])]
    return make([node], [("x", FLOAT, [1, 30])], outputs, {"k": np.array([4])})


def computed_padding() -> onnx.ModelProto:
    nodes = [helper.make_node("Relu", ["x"], ["r"], "relu"), helper.make_node("Pad", ["r", "p"], ["y"], "pad")]
    return make(nodes, [("x", FLOAT, [2, 5]), ("p", INT64, [4])], [("y", FLOAT, ["a", "b"])])


@pytest.mark.parametrize(
    ("build", "node", "words"),
    [
        (suppression, "suppress", "TVM does not compile NonMaxSuppression"),
        (with_indices, "pool", "TVM does not compile MaxPool with its output of indices"),
        (sorting, "best", "TVM's runtime library has no TopK"),
        (computed_padding, "pad", "TVM refuses Pad: Dynamic pads are not supported"),
    ],
)
def test_what_tvm_cannot_compile_is_named_before_compiling(build: Any, node: str, words: str, tmp_path: Path) -> None:
    model = save(build(), tmp_path / "m.onnx")
    (found,) = get_backend("tvm").check(model, Target("test", "test", "tvm", "x86_64"))
    assert (found.severity, found.node) == ("error", node)
    assert found.message.startswith(words)
    with pytest.raises(CompileError, match=node):
        import_graph(model, ready(model))


def test_a_node_that_only_the_compiler_refuses_is_named_when_compiling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TVM's compiler is wrapped in a double that refuses rounding; today it compiles whatever its reader takes here."""
    from edgepack.engines.tvm import compile as module

    compile_library = module.compile_library

    def refuse(graph: Any, *words: Any, **options: Any) -> Any:
        if "R.round" in str(graph):
            raise CompileError("TVM refused m.onnx: no such intrinsic")
        return compile_library(graph, *words, **options)

    monkeypatch.setattr(module, "compile_library", refuse)
    nodes = [helper.make_node("Relu", ["x"], ["r"], "relu"), helper.make_node("Round", ["r"], ["y"], "rounded")]
    model = save(make(nodes, [("x", FLOAT, [4, 3])], [("y", FLOAT, [4, 3])]), tmp_path / "m.onnx")
    target = Target("test", "test", "tvm", "x86_64")
    with pytest.raises(CompileError, match=r"it is the node rounded \(Round\): .*no such intrinsic"):
        get_backend("tvm").compile_model(model, target, "fp32", tmp_path / "out")


def test_whole_numbers_stay_whole(tmp_path: Path) -> None:
    nodes = [helper.make_node("Add", ["x", "one"], ["y"])]
    proto = make(nodes, [("x", INT64, ["N"])], [("y", INT64, ["N"])], {"one": np.array([1])})
    model = save(proto, tmp_path / "m.onnx")
    assert "int64" in str(import_graph(model, ready(model)))


def test_a_graph_in_float16_stays_in_float16(tmp_path: Path) -> None:
    """ONNX Runtime's CPU has no float16 convolution: the graph that it saves computes in float32 between casts."""
    value, half = helper.make_tensor_value_info, TensorProto.FLOAT16
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=half),
        helper.make_node("Conv", ["h", "w"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Cast", ["r"], ["y"], to=TensorProto.FLOAT),
    ]
    weights = [numpy_helper.from_array(np.ones((4, 3, 1, 1), np.float16), "w")]
    sides = [[value(name, TensorProto.FLOAT, [1, channels, 5, 5])] for name, channels in (("x", 3), ("y", 4))]
    graph = helper.make_graph(nodes, "graph", *sides, weights)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    found = ready(save(proto, tmp_path / "m.onnx"))
    assert [node.op_type for node in found.proto.graph.node] == ["Cast", "Conv", "Relu", "Cast"]
    kinds = tensor_types(found.proto)
    (convolution,) = (node for node in found.proto.graph.node if node.op_type == "Conv")
    assert {kinds[name] for name in (*convolution.input, *convolution.output)} == {half}
