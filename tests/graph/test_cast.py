"""Casts to fp16 and bf16: strongly typed, float32 outside, and what overflows or loses stays in fp32."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
from graph_models import model, small_conv, value, write
from mutations import quantized
from onnx import TensorProto, helper, numpy_helper

from edgepack.errors import ConfigError, ModelError
from edgepack.graph.cast import LEFT_KEY, NOTE, cast
from edgepack.graph.compare import invent_feeds, run_model
from edgepack.graph.load import load_model, read_proto
from edgepack.specs.model import OnnxModel

pytestmark = pytest.mark.slow

FLOAT, FLOAT16, BFLOAT16 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16


def lowered(proto: onnx.ModelProto, precision: str, tmp_path: Path) -> tuple[OnnxModel, onnx.ModelProto, dict, dict]:
    """Cast; return the model, its proto, what was kept and why, and what was measured."""
    source = load_model(write(proto, tmp_path / "source"))
    result = cast(source, precision, [], tmp_path / precision)
    assert result.inputs == source.inputs
    assert [(s.name, s.dtype) for s in result.outputs] == [(s.name, s.dtype) for s in source.outputs]
    made = read_proto(result)
    onnx.checker.check_model(made, full_check=True)
    metadata = {entry.key: entry.value for entry in made.metadata_props}
    return result, made, json.loads(metadata[LEFT_KEY]), json.loads(metadata[NOTE])


def types(proto: onnx.ModelProto) -> dict[str, set[int]]:
    """Return the float types of each node's inputs and outputs, by its name."""
    known = {v.name: v.type.tensor_type.elem_type for v in (*proto.graph.input, *proto.graph.value_info)}
    known |= {v.name: v.type.tensor_type.elem_type for v in proto.graph.output}
    known |= {t.name: t.data_type for t in proto.graph.initializer}
    floats = {FLOAT, FLOAT16, BFLOAT16}
    return {
        node.name: {known[name] for name in (*node.input, *node.output) if name} & floats
        for node in proto.graph.node
        if node.op_type != "Cast"
    }


def sqnr_db(expected: np.ndarray, found: np.ndarray) -> float:
    return float(10 * np.log10(np.square(expected).sum() / np.square(expected - found).sum()))


@pytest.mark.parametrize(("precision", "kind"), [("fp16", FLOAT16), ("bf16", BFLOAT16)])
def test_everything_is_low_inside(precision: str, kind: int, tmp_path: Path) -> None:
    _, proto, kept, note = lowered(small_conv(), precision, tmp_path)
    assert kept == {}
    assert set(map(frozenset, types(proto).values())) == {frozenset({kind})}
    assert {t.data_type for t in proto.graph.initializer} == {kind}
    assert [n.op_type for n in proto.graph.node].count("Cast") == 2  # one in, one out
    assert note["precision"] == precision


def test_onnxruntime_runs_fp16_as_close_as_was_measured(tmp_path: Path) -> None:
    result, _, _, note = lowered(small_conv(), "fp16", tmp_path)
    source = load_model(tmp_path / "source" / "m.onnx")
    feeds = invent_feeds(source, batch=1)
    found = sqnr_db(run_model(source, feeds)["logits"], run_model(result, feeds)["logits"])
    assert found > 55
    assert note["sqnr_db"]["logits"] == pytest.approx(found, abs=8)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_openvino_runs_it(precision: str, tmp_path: Path) -> None:
    result, _, _, note = lowered(small_conv(), precision, tmp_path)
    source = load_model(tmp_path / "source" / "m.onnx")
    feeds = invent_feeds(source, batch=1)
    compiled = openvino.Core().compile_model(str(result.path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = sqnr_db(run_model(source, feeds)["logits"], compiled(feeds)["logits"])
    assert found > note["sqnr_db"]["logits"] - 6


def chain(scale: float, limit: float = 1.0, operator: str = "Relu") -> onnx.ModelProto:
    """x -> MatMul with large or small weights -> an operator -> MatMul back to about 1."""
    random = np.random.default_rng(0)
    weights = {
        "w1": (random.standard_normal((8, 8)) * scale).astype(np.float32),
        "w2": (random.standard_normal((8, 8)) * limit).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"], name="first"),
        helper.make_node(operator, ["a"], ["b"], name="middle"),
        helper.make_node("MatMul", ["b", "w2"], ["y"], name="last"),
        helper.make_node("Tanh", ["y"], ["z"], name="tanh"),
    ]
    return model(nodes, [value("x", ["N", 8])], [value("z", ["N", 8])], weights)


def test_what_overflows_stays(tmp_path: Path) -> None:
    _, proto, kept, _ = lowered(chain(1e5, 1e-5), "fp16", tmp_path)
    assert set(kept) == {"first", "middle", "last"}
    assert "fp16 ends at 65504" in kept["first"]
    assert types(proto)["first"] == types(proto)["middle"] == {FLOAT}
    assert types(proto)["tanh"] == {FLOAT16}
    assert np.isfinite(
        run_model(load_model(tmp_path / "fp16" / "model.onnx"), {"x": np.ones((1, 8), np.float32)})["z"]
    ).all()


def test_bf16_has_the_range_of_float32(tmp_path: Path) -> None:
    _, _, kept, _ = lowered(chain(1e5, 1e-5), "bf16", tmp_path)
    assert kept == {}


def test_what_is_below_the_normal_range_stays(tmp_path: Path) -> None:
    _, _, kept, _ = lowered(chain(1e-7, 1e7), "fp16", tmp_path)
    assert "below the normal range" in kept["first"]
    assert {"first", "middle", "last"} <= set(kept)


def test_operator_that_loses_inside_stays(tmp_path: Path) -> None:
    """The sum of 4096 squares of about 20 is beyond fp16, its root of about 1300 is not."""
    nodes = [
        helper.make_node("Mul", ["x", "twenty"], ["a"], name="scale"),
        helper.make_node("ReduceL2", ["a"], ["n"], name="norm", axes=[1], keepdims=1),
        helper.make_node("Div", ["a", "n"], ["y"], name="divide"),
    ]
    proto = model(nodes, [value("x", ["N", 4096])], [value("y", ["N", 4096])], {"twenty": np.float32(20)})
    _, made, kept, _ = lowered(proto, "fp16", tmp_path)
    assert list(kept) == ["norm"]
    assert "ReduceL2" in kept["norm"]
    assert types(made)["norm"] == {FLOAT}
    assert types(made)["scale"] == {FLOAT16}


def test_operator_whose_rounded_input_loses_stays(tmp_path: Path) -> None:
    """At 1000 fp16 has steps of 0.5, which is nothing for the tensor and all for its sine."""
    nodes = [
        helper.make_node("Mul", ["x", "thousand"], ["a"], name="scale"),
        helper.make_node("Sin", ["a"], ["y"], name="sine"),
    ]
    proto = model(nodes, [value("x", ["N", 64])], [value("y", ["N", 64])], {"thousand": np.float32(1000)})
    _, _, kept, _ = lowered(proto, "fp16", tmp_path)
    assert list(kept) == ["sine"]
    assert "Sin loses when computed in fp16" in kept["sine"]


def test_samples_show_what_random_inputs_do_not(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["s"], name="square"),
        helper.make_node("Sqrt", ["s"], ["y"], name="root"),
    ]
    source = load_model(write(model(nodes, [value("x", ["N", 4])], [value("y", ["N", 4])]), tmp_path))
    feeds = [{"x": row[None]} for row in np.linspace(0, 300, 40, dtype=np.float32).reshape(10, 4)]
    shown: list[tuple[str, int, int]] = []
    result = cast(source, "fp16", feeds, tmp_path / "out", lambda *step: shown.append(step))
    metadata = {entry.key: json.loads(entry.value) for entry in read_proto(result).metadata_props}
    assert set(metadata[LEFT_KEY]) == {"square", "root"}
    assert metadata[NOTE]["samples"] == 10
    assert shown[-1] == ("fp16", 10, 10)
    assert lowered(read_proto(source), "fp16", tmp_path)[2] == {}


def test_scales_of_resize_stay_float(tmp_path: Path) -> None:
    nodes = [helper.make_node("Resize", ["x", "", "scales"], ["y"], name="resize", mode="nearest")]
    proto = model(
        nodes, [value("x", ["N", 2, 4, 4])], [value("y", None)], {"scales": np.array([1, 1, 2, 2], np.float32)}
    )
    result, made, kept, _ = lowered(proto, "fp16", tmp_path)
    assert kept == {}
    assert types(made)["resize"] == {FLOAT, FLOAT16}
    run_model(result, {"x": np.ones((1, 2, 4, 4), np.float32)})


def test_operator_without_a_low_form_stays(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["boxes"], ["b"], name="relu"),
        helper.make_node("NonMaxSuppression", ["b", "scores", "n"], ["i"], name="nms"),
        helper.make_node("Cast", ["i"], ["f"], to=FLOAT),
        helper.make_node("Sqrt", ["f"], ["y"], name="root"),
    ]
    inputs = [value("boxes", [1, 6, 4]), value("scores", [1, 1, 6])]
    proto = model(nodes, inputs, [value("y", None)], {"n": np.array([3], np.int64)})
    result, made, _, _ = lowered(proto, "fp16", tmp_path)
    assert types(made)["nms"] == {FLOAT}
    run_model(result, {"boxes": np.ones((1, 6, 4), np.float32), "scores": np.ones((1, 1, 6), np.float32)})


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_control_flow_keeps_what_it_captures(precision: str, tmp_path: Path) -> None:
    then = helper.make_graph([helper.make_node("Mul", ["h", "w"], ["t"])], "then", [], [value("t", None)])
    other = helper.make_graph([helper.make_node("Identity", ["h"], ["e"])], "else", [], [value("e", None)])
    nodes = [
        helper.make_node("Tanh", ["x"], ["h"], name="tanh"),
        helper.make_node("Mul", ["h", "w"], ["m"], name="scale"),
        helper.make_node("If", ["c"], ["i"], name="if", then_branch=then, else_branch=other),
        helper.make_node("Add", ["i", "m"], ["y"], name="add"),
    ]
    inputs = [value("x", ["N", 4]), value("c", [], TensorProto.BOOL)]
    proto = model(nodes, inputs, [value("y", ["N", 4])], {"w": np.full(4, 0.5, np.float32)})
    result, made, _, _ = lowered(proto, precision, tmp_path)
    assert types(made)["tanh"] == {FLOAT16 if precision == "fp16" else BFLOAT16}
    if precision == "fp16":
        for condition in (True, False):
            feeds = {"x": np.linspace(-2, 2, 4, dtype=np.float32)[None], "c": np.array(condition)}
            before = run_model(load_model(tmp_path / "source" / "m.onnx"), feeds)["y"]
            np.testing.assert_allclose(run_model(result, feeds)["y"], before, atol=2e-3)


def test_recurrence_runs(tmp_path: Path) -> None:
    """ONNX Runtime's CPU has no fp16 LSTM: it inserts the casts itself."""
    random = np.random.default_rng(0)
    weights = {"w": random.standard_normal((1, 16, 3)), "r": random.standard_normal((1, 16, 4))}
    proto = model(
        [helper.make_node("LSTM", ["x", "w", "r"], ["", "h"], name="lstm", hidden_size=4)],
        [value("x", ["T", "N", 3])],
        [value("h", [1, "N", 4])],
        {name: array.astype(np.float32) for name, array in weights.items()},
    )
    result, made, kept, _ = lowered(proto, "fp16", tmp_path)
    assert kept == {}
    assert types(made)["lstm"] == {FLOAT16}
    feeds = {"x": random.standard_normal((5, 2, 3)).astype(np.float32)}
    before = run_model(load_model(tmp_path / "source" / "m.onnx"), feeds)["h"]
    np.testing.assert_allclose(run_model(result, feeds)["h"], before, atol=5e-3)


def test_mask_of_the_largest_float_stays(tmp_path: Path) -> None:
    """Attention masks hold -3.4e38, which is minus infinity in fp16 and makes rows of NaN."""
    nodes = [
        helper.make_node("Add", ["x", "mask"], ["a"], name="add"),
        helper.make_node("Softmax", ["a"], ["y"], name="softmax"),
    ]
    mask = np.array([0, 0, np.finfo(np.float32).min, 0], np.float32)
    result, _, kept, _ = lowered(
        model(nodes, [value("x", ["N", 4])], [value("y", ["N", 4])], {"mask": mask}), "fp16", tmp_path
    )
    assert {"add", "softmax"} <= set(kept)
    np.testing.assert_allclose(run_model(result, {"x": np.zeros((1, 4), np.float32)})["y"][0], [1 / 3, 1 / 3, 0, 1 / 3])


def test_weights_used_in_both_precisions_are_stored_twice(tmp_path: Path) -> None:
    proto = chain(1e5, 1e-5)
    proto.graph.node.append(helper.make_node("MatMul", ["z", "w2"], ["t"], name="again"))
    proto.graph.node.append(helper.make_node("Mul", ["t", "big"], ["u"], name="big"))
    proto.graph.initializer.append(numpy_helper.from_array(np.full(8, 1e5, np.float32), "big"))
    proto.graph.output.append(value("u", ["N", 8]))
    result, _, _, _ = lowered(proto, "fp16", tmp_path)
    assert np.isfinite(run_model(result, {"x": np.ones((1, 8), np.float32)})["u"]).all()


def test_same_bytes_every_time(tmp_path: Path) -> None:
    source = load_model(write(small_conv(), tmp_path))
    first, second = (cast(source, "fp16", [], tmp_path / name) for name in "ab")
    assert first.path.read_bytes() == second.path.read_bytes()


def test_quantized_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="quantized"):
        cast(load_model(write(quantized(), tmp_path)), "fp16", [], tmp_path / "out")


@pytest.mark.parametrize("precision", ["int8", "fp32", "fp8"])
def test_other_precisions_are_refused(precision: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=precision):
        cast(load_model(write(small_conv(), tmp_path)), precision, [], tmp_path / "out")


@pytest.mark.parametrize("name", ["resnet20_cifar10", "kws_dscnn", "fastestdet_352"])
def test_real_models(name: str, assets: Path, tmp_path: Path) -> None:
    from edgepack.graph.prepare import prepare

    source = prepare(load_model(assets / f"{name}.onnx"), tmp_path / "prepared")
    result = cast(source, "fp16", [], tmp_path / "fp16")
    assert result.size_bytes < 0.62 * source.size_bytes
    feeds = invent_feeds(source, batch=1)
    before, after = run_model(source, feeds), run_model(result, feeds)
    for output, array in before.items():
        assert sqnr_db(array, after[output]) > 40
