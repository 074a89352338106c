"""Scaling channels must leave what a graph computes as it was, and must find the channels that can be scaled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from quantize_models import minmax_ranges, random_feeds, run_onnxruntime, save, sqnr_db
from random_graphs import GraphMaker, graphs

from edgepack.graph.load import load_model, read_proto, save_proto
from edgepack.graph.prepare import prepare
from edgepack.quantize.correct.channel_groups import FIXED, Channels, Gates, find_channels, reshape_numbers
from edgepack.quantize.correct.equalize import apply_scales, equalize
from edgepack.quantize.graph.index import index_graph
from edgepack.quantize.graph.rewrite import shapes_of
from edgepack.quantize.plan import make_plan
from edgepack.specs.model import OnnxModel
from edgepack.specs.target import QuantizationRules

if TYPE_CHECKING:
    from pathlib import Path

    from edgepack.specs.types import Array

RULES = QuantizationRules(engine="onnxruntime")


def normal(*shape: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def scaled_at_random(model: OnnxModel, out: Path, seed: int = 0) -> tuple[OnnxModel, Channels]:
    """Scale every channel that can be by its own random factor between about 1/8 and 8."""
    proto = read_proto(model)
    index = index_graph(proto)
    channels = find_channels(index, shapes_of(proto))
    count = 1 + max((int(n.max()) for n in [*channels.producers.values(), *channels.numbers.values()]), default=0)
    scales = np.exp(np.random.default_rng(seed).uniform(-2, 2, count))
    scales[FIXED] = 1.0
    apply_scales(index, channels, Gates(), scales)
    return save_proto(proto, out), channels


def check_unchanged(model: OnnxModel, out: Path) -> Channels:
    changed, channels = scaled_at_random(model, out)
    feeds = random_feeds(model, 2)
    expected = run_onnxruntime(model, feeds, optimized=False)
    assert sqnr_db(expected, run_onnxruntime(changed, feeds, optimized=False)) > 90
    return channels


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(maker=graphs())
def test_random_graphs_compute_what_they_did(maker: GraphMaker, tmp_path: Path) -> None:
    check_unchanged(maker.save(tmp_path / "m.onnx"), tmp_path / "out")


def names_scaled(channels: Channels) -> set[str]:
    return set(channels.numbers)


def node(operator: str, inputs: list[str], output: str, **attributes: Any) -> Any:
    return helper.make_node(operator, inputs, [output], name=output, **attributes)


def test_a_row_of_convolutions(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w1", "b1"], "a"), node("Relu", ["a"], "r"), node("Conv", ["r", "w2"], "d", group=6),
        node("LeakyRelu", ["d"], "l", alpha=0.1), node("Conv", ["l", "w3"], "y"),
    ]  # fmt: skip
    constants = {"w1": normal(6, 3, 1, 1), "b1": normal(6), "w2": normal(6, 1, 1, 1), "w3": normal(4, 6, 1, 1)}
    model = save(nodes, constants, tmp_path / "m.onnx", inputs={"x": ["N", 3, 5, 5]})
    channels = check_unchanged(model, tmp_path / "out")
    assert names_scaled(channels) == {"a", "r", "d", "l"}
    assert len(np.unique(np.concatenate([channels.numbers["a"].ravel(), channels.numbers["d"].ravel()]))) == 12


def test_a_clip_at_six_keeps_its_scale_and_one_at_zero_does_not(tmp_path: Path) -> None:
    nodes = [node("Conv", ["x", "w1"], "a"), node("Clip", ["a", "zero", "six"], "c"), node("Conv", ["c", "w2"], "b"),
             node("Clip", ["b", "zero"], "d"), node("Conv", ["d", "w2"], "y")]  # fmt: skip
    constants = {"w1": normal(4, 3, 1, 1), "w2": normal(4, 4, 1, 1), "zero": np.float32(0), "six": np.float32(6)}
    assert not names_scaled(
        check_unchanged(save(nodes, constants, tmp_path / "m.onnx", inputs={"x": [1, 3, 5, 5]}), tmp_path / "o")
    )  # w2 is shared by two layers: neither may change it
    nodes[4] = node("Conv", ["d", "w3"], "y")
    model = save(nodes, constants | {"w3": normal(4, 4, 1, 1)}, tmp_path / "m.onnx", inputs={"x": [1, 3, 5, 5]})
    assert names_scaled(check_unchanged(model, tmp_path / "o2")) == {"b", "d"}


def test_residual_sums_concatenations_and_shuffles(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w1"], "a"), node("Conv", ["a", "w2"], "b"), node("Add", ["a", "b"], "s"),
        node("Conv", ["x", "w3"], "c"), node("Concat", ["s", "c"], "k", axis=1),
        node("Reshape", ["k", "apart"], "k5"), node("Transpose", ["k5"], "t5", perm=[0, 2, 1, 3, 4]),
        node("Reshape", ["t5", "together"], "t"),
        helper.make_node("Split", ["t", "sizes"], ["p", "q"], axis=1, name="sp"),
        node("Conv", ["p", "w4"], "u"), node("Conv", ["q", "w5"], "v"), node("Add", ["u", "v"], "y"),
    ]  # fmt: skip
    constants = {
        "w1": normal(6, 3, 1, 1), "w2": normal(6, 6, 1, 1), "w3": normal(4, 3, 1, 1), "w4": normal(2, 3, 1, 1),
        "w5": normal(2, 7, 1, 1), "apart": np.array([1, 2, 5, 4, 4]), "together": np.array([1, 10, 4, 4]),
        "sizes": np.array([3, 7]),
    }  # fmt: skip
    model = save(nodes, constants, tmp_path / "m.onnx", inputs={"x": [1, 3, 4, 4]})
    channels = check_unchanged(model, tmp_path / "out")
    assert {"a", "b", "s", "c", "k", "t", "p", "q"} <= names_scaled(channels)
    assert (channels.numbers["a"] == channels.numbers["s"]).all()  # a sum needs one scale for both
    assert channels.numbers["t"].ravel().tolist() == channels.numbers["k"].reshape(2, 5).T.ravel().tolist()


def test_a_squeeze_and_excitation_gate_is_not_scaled_but_what_it_gates_is(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w1"], "a"), node("GlobalAveragePool", ["a"], "g"), node("Conv", ["g", "w2"], "h"),
        node("Sigmoid", ["h"], "gate"), node("Mul", ["a", "gate"], "m"), node("Conv", ["m", "w3"], "y"),
    ]  # fmt: skip
    constants = {"w1": normal(6, 3, 1, 1), "w2": normal(6, 6, 1, 1), "w3": normal(4, 6, 1, 1)}
    model = save(nodes, constants, tmp_path / "m.onnx", inputs={"x": [1, 3, 5, 5]})
    assert names_scaled(check_unchanged(model, tmp_path / "out")) == {"a", "g", "m"}


def test_attention_passes_the_values_and_fixes_queries_and_keys(tmp_path: Path) -> None:
    nodes = [node("LayerNormalization", ["x", "gain", "offset"], "n")]
    for part in "qkv":
        order = [0, 2, 3, 1] if part == "k" else [0, 2, 1, 3]
        nodes += [
            node("MatMul", ["n", f"w{part}"], f"{part}0"), node("Add", [f"{part}0", f"b{part}"], f"{part}1"),
            node("Reshape", [f"{part}1", "heads"], f"{part}2"), node("Transpose", [f"{part}2"], part, perm=order),
        ]  # fmt: skip
    nodes += [
        node("MatMul", ["q", "k"], "scores"), node("Softmax", ["scores"], "p", axis=-1),
        node("MatMul", ["p", "v"], "c0"), node("Transpose", ["c0"], "c1", perm=[0, 2, 1, 3]),
        node("Reshape", ["c1", "joined"], "c"), node("MatMul", ["c", "wo"], "y"),
    ]  # fmt: skip
    constants: dict[str, Array] = {f"w{p}": normal(8, 8, seed=i) for i, p in enumerate("qkvo")}
    constants |= {f"b{p}": normal(8, seed=i + 9) for i, p in enumerate("qkv")}
    constants |= {
        "gain": normal(8),
        "offset": normal(8),
        "heads": np.array([0, 6, 2, 4]),
        "joined": np.array([0, 6, 8]),
    }
    model = save(nodes, constants, tmp_path / "m.onnx", inputs={"x": ["N", 6, 8]})
    channels = check_unchanged(model, tmp_path / "out")
    assert {"n", "v0", "v1", "v2", "v", "c0", "c1", "c"} <= names_scaled(channels)
    assert not {"q", "k", "scores", "p"} & names_scaled(channels)
    assert channels.numbers["v"].shape == (1, 2, 1, 4)


def test_what_leaves_the_graph_keeps_its_scale(tmp_path: Path) -> None:
    nodes = [node("Conv", ["x", "w1"], "a"), node("Conv", ["a", "w2"], "y")]
    constants = {"w1": normal(4, 3, 1, 1), "w2": normal(4, 4, 1, 1)}
    model = save(nodes, constants, tmp_path / "m.onnx", inputs={"x": [1, 3, 5, 5]}, outputs=("y", "a"))
    assert not names_scaled(check_unchanged(model, tmp_path / "out"))


def test_bodies_of_control_flow_keep_what_they_read(tmp_path: Path) -> None:
    def body(name: str, factor: str) -> Any:
        made = helper.make_node("Mul", ["a", factor], [f"{name}_y"])
        return helper.make_graph(
            [made], name, [], [helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, None)]
        )

    nodes = [
        node("Conv", ["x", "w1"], "a"), node("ReduceSum", ["x"], "total", keepdims=0),
        node("Greater", ["total", "zero"], "large"),
        node("If", ["large"], "y", then_branch=body("one", "two"), else_branch=body("other", "zero")),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 5, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, n) for n, v in
         {"w1": normal(4, 3, 1, 1), "zero": np.float32(0), "two": np.float32(2)}.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    assert not names_scaled(check_unchanged(load_model(tmp_path / "m.onnx"), tmp_path / "out"))


@pytest.mark.parametrize(
    ("shape", "before", "after", "wanted"),
    [
        ((1, 6, 1, 1), [0, 6, 4, 4], [0, 96], (1, 96)),
        ((1, 6, 1, 1), [0, 6, 1, 1], [0, 6], (1, 6)),
        ((1, 6, 1, 1), [1, 6, 4, 4], [1, 2, 3, 4, 4], (1, 2, 3, 1, 1)),
        ((1, 1, 8), [0, 5, 8], [0, 5, 2, 4], (1, 1, 2, 4)),
        ((1, 2, 1, 4), [0, 2, 5, 4], [0, 10, 4], None),
        ((1, 1, 8), [0, 0, 8], [0, 0, 2, 4], None),
        ((1, 6, 1, 1), [0, 6, 0, 0], [0, 6, 0], None),
    ],
)
def test_reshaped_numbers(shape: tuple[int, ...], before: list[int], after: list[int], wanted: Any) -> None:
    numbers = np.arange(1, 1 + int(np.prod(shape))).reshape(shape)
    found = reshape_numbers(numbers, before, after)
    if wanted is None:
        # Rows of heads become rows of a matrix, or sizes are unknown: then no number is said, or the right ones.
        sizes = [s or 3 for s in before]
        target = [s or 3 for s in after]
        if found is not None:
            full = np.broadcast_to(numbers, sizes).reshape(target)
            assert (np.broadcast_to(found, target) == full).all()
        return
    assert found is not None
    assert found.shape == wanted
    target = [s or 3 for s in after]
    assert (np.broadcast_to(numbers, [s or 3 for s in before]).reshape(target) == np.broadcast_to(found, target)).all()


# --- the whole step ---------------------------------------------------------------------------------------------------


def uneven_convolutions(tmp_path: Path) -> OnnxModel:
    """Two convolutions whose channels between differ a hundredfold in size, evened out by the second's weights."""
    sizes = np.geomspace(0.1, 10, 8).astype(np.float32)
    first = normal(8, 3, 1, 1) * sizes[:, None, None, None]
    second = normal(4, 8, 1, 1, seed=2) / sizes[None, :, None, None]
    nodes = [node("Conv", ["x", "w1"], "a"), node("Relu", ["a"], "r"), node("Conv", ["r", "w2"], "y")]
    return save(nodes, {"w1": first, "w2": second}, tmp_path / "m.onnx", inputs={"x": [1, 3, 6, 6]})


def test_uneven_channels_are_made_even(tmp_path: Path) -> None:
    model = uneven_convolutions(tmp_path)
    feeds = random_feeds(model, 8)
    found = equalize(make_plan(model, minmax_ranges(model, feeds), RULES), feeds)
    assert found is not None
    assert found.ratio < 0.05
    changed = save_proto(found.proto, tmp_path / "out")
    assert sqnr_db(run_onnxruntime(model, feeds), run_onnxruntime(changed, feeds)) > 90
    values = minmax_ranges(changed, feeds)
    plain = minmax_ranges(model, feeds)
    assert values.tensors["y"].maximum == pytest.approx(plain.tensors["y"].maximum, rel=1e-4)


def test_a_float_tensor_with_large_channels_is_smoothed_in_front_of_its_quantization(tmp_path: Path) -> None:
    gain = np.ones(16, np.float32)
    gain[3] = 60.0
    nodes = [
        node("LayerNormalization", ["x", "gain"], "n"),
        node("MatMul", ["n", "w"], "m"),
        node("Add", ["m", "n"], "y"),
    ]
    model = save(nodes, {"gain": gain, "w": normal(16, 16)}, tmp_path / "m.onnx", inputs={"x": [1, 5, 16]})
    feeds = random_feeds(model, 8)
    found = equalize(make_plan(model, minmax_ranges(model, feeds), RULES), feeds)
    assert found is not None
    assert [n.op_type for n in found.proto.graph.node] == ["LayerNormalization", "Mul", "MatMul", "Add"]
    changed = save_proto(found.proto, tmp_path / "out")
    assert sqnr_db(run_onnxruntime(model, feeds), run_onnxruntime(changed, feeds)) > 90


def test_a_channel_that_differs_from_sample_to_sample_gets_room(tmp_path: Path) -> None:
    first = np.eye(4, dtype=np.float32)[:, :, None, None]
    first[0] *= 20  # without it nothing would have to be scaled
    nodes = [node("Conv", ["x", "w1"], "a"), node("Relu", ["a"], "r"), node("Conv", ["r", "w2"], "y")]
    constants = {"w1": first, "w2": normal(6, 4, 1, 1)}
    model = save(nodes, constants, tmp_path / "m.onnx", inputs={"x": [1, 4, 16, 16]})

    def scale_of_last(seen: int) -> float:
        """Return the scale of a channel that reaches 1 in the first ``seen`` of 32 samples, and 0.5 in the others."""
        feeds = random_feeds(model, 32)
        for place, feed in enumerate(feeds):
            feed["x"] = np.clip(feed["x"], -0.5, 0.5)
            feed["x"][0, :, 0, 0] = [1, 1, 1, 1 if place < seen else 0.5]
        found = equalize(make_plan(model, minmax_ranges(model, feeds), RULES), feeds)
        assert found is not None
        changed = save_proto(found.proto, tmp_path / f"out{seen}")
        return float(index_graph(read_proto(changed)).constant("w1")[3, 3, 0, 0])

    assert scale_of_last(1) < 0.9 * scale_of_last(32)


def test_even_channels_are_left_alone(tmp_path: Path) -> None:
    nodes = [node("Conv", ["x", "w1"], "y")]
    model = save(nodes, {"w1": normal(4, 3, 1, 1)}, tmp_path / "m.onnx", inputs={"x": [1, 3, 6, 6]})
    feeds = random_feeds(model, 4)
    assert equalize(make_plan(model, minmax_ranges(model, feeds), RULES), feeds) is None


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(maker=graphs(), seed=st.integers(0, 3))
def test_the_whole_step_on_random_graphs_leaves_the_float_model_as_it_was(
    maker: GraphMaker, seed: int, tmp_path: Path
) -> None:
    # Prepared: ONNX Runtime 1.31 fuses a Pad of zeros into the MaxPool behind it, which pads with -infinity.
    model = prepare(maker.save(tmp_path / "m.onnx"), tmp_path / "prepared")
    feeds = random_feeds(model, 3, seed)
    found = equalize(make_plan(model, minmax_ranges(model, feeds), RULES), feeds)
    if found is not None:
        changed = save_proto(found.proto, tmp_path / "out")
        assert sqnr_db(run_onnxruntime(model, feeds), run_onnxruntime(changed, feeds)) > 80


def test_weights_in_double_precision_are_left_alone(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w1"], "a"), node("Cast", ["a"], "d", to=TensorProto.DOUBLE), node("Add", ["d", "c"], "e"),
        node("Cast", ["e"], "f", to=TensorProto.FLOAT), node("Conv", ["f", "w2"], "y"),
    ]  # fmt: skip
    constants = {"w1": normal(4, 3, 1, 1), "w2": normal(4, 4, 1, 1), "c": np.ones((1, 4, 1, 1))}
    model = save(nodes, constants, tmp_path / "m.onnx", inputs={"x": [1, 3, 5, 5]})
    assert not names_scaled(check_unchanged(model, tmp_path / "out"))
