"""A prepared model computes the same, is simpler, and what cannot be simplified passes unharmed."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from graph_models import model, small_conv, value, write
from mutations import quantized
from onnx import TensorProto, helper, numpy_helper

from edgepack.graph.compare import differences, invent_feeds, run_model
from edgepack.graph.load import load_model, read_proto
from edgepack.graph.prepare import NOTE, prepare, prepare_plain
from edgepack.specs.model import OnnxModel

pytestmark = pytest.mark.slow


def prepared(proto: onnx.ModelProto, tmp_path: Path) -> tuple[OnnxModel, onnx.ModelProto, str]:
    """Prepare, check that nothing changed for random inputs, and return the model, its proto and its note."""
    before = load_model(write(proto, tmp_path / "source"))
    after = prepare(before, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["model.onnx"]
    assert after.inputs == before.inputs
    assert [spec.name for spec in after.outputs] == [spec.name for spec in before.outputs]
    feeds = invent_feeds(after)
    assert feeds is not None
    if invent_feeds(before):  # what ONNX Runtime does not run as it is, has nothing to be compared with
        assert not differences(run_model(before, feeds), run_model(after, feeds))
    result = read_proto(after)
    onnx.checker.check_model(result, full_check=True)
    return after, result, {entry.key: entry.value for entry in result.metadata_props}[NOTE]


def operators(proto: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in proto.graph.node)


@pytest.mark.parametrize("opset", [12, 17])
def test_a_model_that_must_not_be_simplified_is_named_and_raised_only(tmp_path: Path, opset: int) -> None:
    before = load_model(write(with_batch_norm(opset), tmp_path / "source"))
    after = prepare_plain(before, tmp_path / "out")
    proto = read_proto(after)
    assert operators(proto) == operators(read_proto(before))
    assert after.opset == max(opset, 13)
    assert {entry.key: entry.value for entry in proto.metadata_props}[NOTE] == "not simplified"
    feeds = invent_feeds(before)
    assert feeds is not None
    assert not differences(run_model(before, feeds, optimize=False), run_model(after, feeds, optimize=False))


CLEANED = "clean-up (1 identities dropped, 1 scales and offsets folded into convolutions)"


def with_batch_norm(opset: int = 17) -> onnx.ModelProto:
    random = np.random.default_rng(0)
    weights = {"w": random.standard_normal((8, 3, 3, 3)).astype(np.float32)}
    weights |= {n: random.uniform(0.5, 2, 8).astype(np.float32) for n in ("scale", "bias", "mean", "var")}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("Identity", ["c"], ["i"], name="identity"),
        helper.make_node("BatchNormalization", ["i", "scale", "bias", "mean", "var"], ["b"], name="bn"),
        helper.make_node("Dropout", ["b"], ["d"], name="dropout"),
        helper.make_node("Relu", ["d"], ["y"], name="relu"),
    ]
    return model(nodes, [value("x", ["N", 3, 8, 8])], [value("y", ["N", 8, 6, 6])], weights, opset=opset)


def test_batch_norm_identity_and_dropout_vanish(tmp_path: Path) -> None:
    after, proto, note = prepared(with_batch_norm(), tmp_path)
    assert operators(proto) == {"Conv": 1, "Relu": 1}
    assert note == f"{CLEANED}; onnxslim; ONNX Runtime basic"
    assert after.inputs[0].shape[0] == "N"  # the batch stays free
    assert {v.name for v in proto.graph.value_info} >= set(proto.graph.node[0].output)  # shapes are inferred


def test_constants_are_folded(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Constant", [], ["one"], value_float=1.0),
        helper.make_node("Constant", [], ["shape"], value_ints=[1, 3]),
        helper.make_node("Expand", ["one", "shape"], ["e"]),
        helper.make_node("Add", ["x", "e"], ["s"]),
        helper.make_node("Relu", ["s"], ["y"]),
    ]
    _, proto, _ = prepared(model(nodes, [value("x", ["N", 3])], [value("y", ["N", 3])]), tmp_path)
    assert operators(proto) == {"Add": 1, "Relu": 1}


def test_nodes_get_names_of_their_own(tmp_path: Path) -> None:
    nodes = [helper.make_node("Sin", ["x"], ["a"], name="twin"), helper.make_node("Cos", ["a"], ["b"], name="twin")]
    nodes.append(helper.make_node("Tan", ["b"], ["y"]))
    _, proto, _ = prepared(model(nodes, [value("x", ["N"])], [value("y", ["N"])]), tmp_path)
    names = [node.name for node in proto.graph.node]
    assert len(set(names)) == 3
    assert all(names)


def test_old_opset_is_raised(tmp_path: Path) -> None:
    after, _, note = prepared(small_conv(opset=11), tmp_path)
    assert after.opset == 13
    assert note.startswith("opset 13")


def test_ir_version_is_one_that_onnxruntime_loads(tmp_path: Path) -> None:
    proto = small_conv()
    proto.ir_version = onnx.IR_VERSION
    proto.opset_import.add(domain="ai.onnx.ml", version=2)
    _, result, _ = prepared(proto, tmp_path)
    assert result.ir_version == 8
    assert [o.domain for o in result.opset_import] == [""]  # what is not used is not imported
    onnxruntime.InferenceSession(str(tmp_path / "out" / "model.onnx"), providers=["CPUExecutionProvider"])


def test_initializers_that_are_inputs_are_frozen(tmp_path: Path) -> None:
    proto = with_batch_norm()
    for tensor in proto.graph.initializer:
        proto.graph.input.append(value(tensor.name, list(tensor.dims)))
    _, result, _ = prepared(proto, tmp_path)
    assert [v.name for v in result.graph.input] == ["x"]
    assert operators(result) == {"Conv": 1, "Relu": 1}


def test_notes_with_paths_are_dropped(tmp_path: Path) -> None:
    proto = small_conv()
    proto.graph.node[0].doc_string = "/home/somebody/model.py"
    proto.graph.node[1].metadata_props.add(key="stack", value="/home/somebody/model.py")
    proto.doc_string = "/home/somebody"
    after, _, _ = prepared(proto, tmp_path)
    assert b"/home/" not in after.path.read_bytes()


def test_same_bytes_every_time(tmp_path: Path) -> None:
    source = load_model(write(small_conv(opset=11), tmp_path))
    first, second = prepare(source, tmp_path / "a"), prepare(source, tmp_path / "b")
    assert first.path.read_bytes() == second.path.read_bytes()


def test_quantized_model_is_unharmed(tmp_path: Path) -> None:
    before = quantized()
    _, proto, note = prepared(before, tmp_path)
    assert [n.op_type for n in proto.graph.node] == [n.op_type for n in before.graph.node]
    assert note == "kept as it is: already quantized"


def test_compressed_weights_become_float(tmp_path: Path) -> None:
    weights = {
        "w": np.arange(-60, 60, dtype=np.int8).reshape(8, 3, 5)[:, :, :, None],
        "scale": np.linspace(0.1, 0.8, 8, dtype=np.float32),
        "zero": np.arange(8, dtype=np.int8),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "scale", "zero"], ["wf"], name="dq", axis=0),
        helper.make_node("Conv", ["x", "wf"], ["y"], name="conv"),
    ]
    proto = model(nodes, [value("x", ["N", 3, 9, 9])], [value("y", None)], weights)
    _, result, note = prepared(proto, tmp_path)
    assert operators(result) == {"Conv": 1}
    assert note.startswith("1 compressed weights made float")
    expected = (weights["w"].astype(np.float32) - weights["zero"][:, None, None, None]) * weights["scale"][
        :, None, None, None
    ]
    np.testing.assert_allclose(numpy_helper.to_array(result.graph.initializer[0]), expected, rtol=1e-6)


def test_control_flow_and_recurrence(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    weights = {
        "w": random.standard_normal((1, 16, 3)).astype(np.float32),
        "r": random.standard_normal((1, 16, 4)).astype(np.float32),
        "zero": np.float32(0),
    }
    then = helper.make_graph([helper.make_node("Mul", ["h", "h"], ["t"])], "then", [], [value("t", None)])
    other = helper.make_graph([helper.make_node("Neg", ["h"], ["e"])], "else", [], [value("e", None)])
    nodes = [
        helper.make_node("LSTM", ["x", "w", "r"], ["all", "h", "c"], name="lstm", hidden_size=4),
        helper.make_node("ReduceSum", ["h"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["y"], then_branch=then, else_branch=other),
    ]
    proto = model(nodes, [value("x", ["T", "N", 3])], [value("y", [1, "N", 4])], weights)
    _, result, _ = prepared(proto, tmp_path)
    assert operators(result)["LSTM"] == 1
    assert operators(result)["If"] == 1


def test_simplifier_that_fails_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import onnxslim

    monkeypatch.setattr(onnxslim, "slim", lambda *a, **k: (_ for _ in ()).throw(RuntimeError("it broke\nbadly")))
    with caplog.at_level(logging.WARNING):
        _, proto, note = prepared(with_batch_norm(), tmp_path)
    assert note == f"{CLEANED}; without onnxslim: it broke; ONNX Runtime basic"
    assert "it broke" in caplog.text
    assert operators(proto) == {"Conv": 1, "Relu": 1}


def test_simplifier_that_computes_something_else_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxslim

    def wrong(path: str, **_: object) -> onnx.ModelProto:
        proto = onnx.load(path)
        stored = next(t for t in proto.graph.initializer if t.name == "w")
        stored.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(stored) * np.float32(1.01), "w"))
        return proto

    monkeypatch.setattr(onnxslim, "slim", wrong)
    _, _, note = prepared(with_batch_norm(), tmp_path)
    assert "without onnxslim: it changed the outputs: 'y' differs by" in note


def test_what_onnxruntime_refuses_to_optimize_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The steps are compared without its optimizations, and users' programs have them."""
    import onnxslim

    def clashing(path: str, **_: object) -> onnx.ModelProto:
        """Take the name that the optimizer gives what it makes of the two Reshapes."""
        proto = onnx.load(path)
        proto.graph.initializer.append(numpy_helper.from_array(np.array([2, 4, 3, 8]), "gemm_output_reshape_new_shape"))
        next(node for node in proto.graph.node if node.op_type == "Reshape").input[1] = "gemm_output_reshape_new_shape"
        return proto

    monkeypatch.setattr(onnxslim, "slim", clashing)
    monkeypatch.setattr("edgepack.graph.prepare.optimize_basic", lambda model, _folder: model)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Add", ["m", "b"], ["a"]),
        helper.make_node("Reshape", ["a", "s"], ["y"]),
    ]  # fmt: skip
    constants = {"w": np.ones((6, 24), np.float32), "b": np.ones(24, np.float32), "s": np.array([0, -1, 3, 8])}
    with caplog.at_level(logging.WARNING):
        _, proto, note = prepared(
            model(nodes, [value("x", [2, 4, 6])], [value("y", [2, 4, 3, 8])], constants), tmp_path
        )
    assert note.startswith("not simplified, as ONNX Runtime's optimizer refuses what comes of it: ")
    assert "left as it was" in caplog.text
    assert "gemm_output_reshape_new_shape" not in [tensor.name for tensor in proto.graph.initializer]


def test_inputs_that_cannot_be_invented_are_said(tmp_path: Path) -> None:
    """Gather with indices that must be in 40..42: 0 and 1 are, but the reshape to 5 x 7 fits no size that is tried."""
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["r"], name="reshape"),
        helper.make_node("Relu", ["r"], ["y"], name="relu"),
    ]
    proto = model(nodes, [value("x", ["L"])], [value("y", [5, 7])], {"shape": np.array([5, 7])})
    after = prepare(load_model(write(proto, tmp_path)), tmp_path / "out")
    note = {entry.key: entry.value for entry in read_proto(after).metadata_props}[NOTE]
    assert note.startswith("outputs not compared")


def test_external_data_stays_readable(tmp_path: Path) -> None:
    from edgepack.graph.load import save_proto

    source = save_proto(small_conv(), tmp_path / "source", external_data=True)
    after = prepare(source, tmp_path / "out")
    feeds = invent_feeds(source)
    assert feeds is not None
    assert not differences(run_model(source, feeds), run_model(after, feeds))


@pytest.mark.parametrize(
    "name",
    ["efficientnet_lite0", "resnet20_cifar10", "kws_dscnn", "fastestdet_352", "silero_vad_16k_op15"],
)
def test_real_models(name: str, assets: Path, tmp_path: Path) -> None:
    before = load_model(assets / f"{name}.onnx")
    after = prepare(before, tmp_path)
    assert after.inputs == before.inputs
    feeds = invent_feeds(before)
    if name.startswith("silero"):  # it wants 576 samples of sound
        feeds = {
            "input": np.random.default_rng(0).standard_normal((1, 576)).astype(np.float32) * 0.1,
            "state": np.zeros((2, 1, 128), np.float32),
            "sr": np.array(16000, np.int64),
        }
    assert feeds is not None
    assert not differences(run_model(before, feeds), run_model(after, feeds))
    assert len(read_proto(after, weights=False).graph.node) < len(read_proto(before, weights=False).graph.node)


def test_large_free_dimension_is_not_folded(tmp_path: Path) -> None:
    """A constant of 65 MiB that only a shape makes stays a computation."""
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["huge"], name="huge"),
        helper.make_node("Gather", ["huge", "i"], ["y"], name="gather"),
    ]
    proto = model(
        nodes, [value("i", ["N"], TensorProto.INT64)], [value("y", None)], {"shape": np.array([17 << 20], np.int64)}
    )
    after = prepare(load_model(write(proto, tmp_path)), tmp_path / "out")
    assert after.size_bytes < 10_000
