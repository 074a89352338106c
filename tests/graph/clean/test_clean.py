"""Every pass on random graphs in the dialects that exporters write: the same numbers, and what it was to take away."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from dialects import Builder, cleaned, compute, count
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from edgepack.graph import passes
from edgepack.graph.clean import PASSES, in_words
from edgepack.graph.clean.sizes import fold_sizes
from edgepack.graph.clean.view import View
from edgepack.graph.load import load_model, save_proto
from edgepack.graph.prepare import NOTE, prepare

BACK, FORTH = [0, 2, 3, 1], [0, 3, 1, 2]


# --- random graphs ---

STEPS = (
    "relu", "clip", "sigmoid", "bias", "scale", "sub", "rsub", "div", "number", "conv", "residual", "concat", "pad",
    "softmax", "mean_keep", "leaky", "there_and_back", "cast", "identity",
)  # fmt: skip


def nhwc_step(b: Builder, step: str, channels: int, earlier: list[tuple[str, int]]) -> int:
    """Add one step to an NHWC graph, as Keras' torch and JAX paths write it; return the channels after it."""
    match step:
        case "relu" | "sigmoid" | "identity":
            b.add({"relu": "Relu", "sigmoid": "Sigmoid", "identity": "Identity"}[step])
        case "leaky":
            b.add("LeakyRelu", alpha=0.2)
        case "cast":
            b.add("Cast", to=TensorProto.FLOAT)
        case "clip":
            b.add("Clip", b.constant(np.float32(-1)), b.constant(np.float32(1)))
        case "bias":
            b.add("Add", b.normal(*[1, 1, 1, channels][int(b.random.integers(4)) :]))
        case "scale":
            b.add("Mul", b.positive(channels), swap=bool(b.random.integers(2)))
        case "sub" | "rsub":
            b.add("Sub", b.normal(1, 1, 1, channels), swap=step == "rsub")
        case "div":
            b.add("Div", b.positive(channels))
        case "number":
            b.add("Add", b.normal())
        case "there_and_back":
            b.add("Transpose", perm=FORTH)
            b.add("Transpose", perm=BACK)
        case "pad":
            b.add("Pad", b.constant(np.array([0, 1, 0, 0, 0, 1, 2, 0])))
        case "softmax":
            b.add("Softmax", axis=-1)
        case "mean_keep":
            b.add("ReduceMean", b.constant(np.array([1, 2])), keepdims=1)
        case "residual":
            fitting = [name for name, c in earlier if c == channels]
            b.add("Add", fitting[-1] if fitting else b.last)
        case "concat":
            b.add("Concat", b.last, axis=3)
            return 2 * channels
        case "conv":
            after = int(b.random.integers(1, 5))
            b.add("Transpose", perm=FORTH)
            b.conv(
                channels,
                after,
                1 if b.random.integers(2) else 3,
                bias=bool(b.random.integers(2)),
                auto_pad="SAME_UPPER",
            )
            b.add("Transpose", perm=BACK)
            return after
    return channels


def shape_changes(step: str) -> bool:
    return step in ("pad", "mean_keep")


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.sampled_from(STEPS), min_size=1, max_size=14))
def test_a_random_nhwc_graph_computes_the_same_after_all_passes(seed: int, steps: list[str]) -> None:
    b = Builder(seed)
    channels, earlier = 4, [("x", 4)]
    for step in steps:
        channels = nhwc_step(b, step, channels, earlier)
        earlier = [] if shape_changes(step) else earlier
        earlier.append((b.last, channels))
    proto, _ = cleaned(b)
    assert count(proto, "Transpose") <= count(b.model(), "Transpose")


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(sorted(PASSES)),
    st.lists(st.sampled_from(STEPS), min_size=1, max_size=10),
)
def test_each_pass_alone_computes_the_same_on_random_graphs(seed: int, name: str, steps: list[str]) -> None:
    b = Builder(seed)
    channels = 4
    for step in steps:
        channels = nhwc_step(b, step, channels, [])
    proto = b.model()
    expected = compute(proto, (2, 6, 8, 4))
    passes.infer_shapes(proto)
    for _ in range(100):
        if not PASSES[name](View(proto)):
            break
    found = compute(proto, (2, 6, 8, 4))
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4 * max(1.0, float(np.abs(expected).max())))


# --- each dialect -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spelling", ["BatchNormalization", "Sub Mul Add", "Sub Div Mul Add", "Mul Add", "Add Sub Mul"])
@pytest.mark.parametrize("around", [False, True])
def test_batch_norms_in_every_spelling_leave_the_convolution_alone(spelling: str, around: bool) -> None:
    b = Builder(3, ("N", 4, 6, 8))
    b.conv(4, 5, pads=[1, 1, 1, 1])
    shape = (1, 1, 1, 5) if around else (1, 5, 1, 1)
    if around and spelling != "BatchNormalization":
        b.add("Transpose", perm=BACK)
    for operator in spelling.split():
        if operator == "BatchNormalization":
            b.add(operator, b.positive(5), b.normal(5), b.normal(5), b.positive(5))
        else:
            b.add(operator, b.positive(*shape))
    if around and spelling != "BatchNormalization":
        b.add("Transpose", perm=FORTH)
    b.add("Relu")
    proto, _ = cleaned(b, (2, 4, 6, 8))
    assert [node.op_type for node in proto.graph.node] == ["Conv", "Relu"]


def test_a_network_with_transposes_around_each_convolution_keeps_the_one_at_its_border() -> None:
    b = Builder(5)
    channels = 4
    for step in ("conv", "sub", "scale", "bias", "relu", "conv", "bias", "residual", "relu", "conv", "bias"):
        channels = nhwc_step(b, step, channels, [])
    b.add("ReduceMean", b.constant(np.array([1, 2])), keepdims=0)
    proto, counts = cleaned(b)
    assert count(proto, "Transpose") == 1
    assert count(proto, "Sub", "Mul", "Div") == 0
    assert [n.op_type for n in proto.graph.node[-2:]] == ["GlobalAveragePool", "Squeeze"]
    assert "transposes moved" in in_words(counts)


def test_an_output_in_nhwc_keeps_its_order() -> None:
    b = Builder(6)
    channels = 4
    for step in ("conv", "relu", "conv"):
        channels = nhwc_step(b, step, channels, [])
    proto, _ = cleaned(b)
    assert count(proto, "Transpose") == 2


@pytest.mark.parametrize(
    ("pads", "mode", "value", "folded"),
    [
        ([0, 0, 1, 2, 0, 0, 3, 4], "constant", 0.0, True), ([0, 0, 1, 2, 0, 0, 3, 4], "constant", None, True),
        ([0, 0, 1, 1, 0, 0, 1, 1], "constant", 1.0, False), ([0, 0, 1, 1, 0, 0, 1, 1], "reflect", None, False),
        ([0, 0, -1, 0, 0, 0, 0, 0], "constant", 0.0, False), ([0, 1, 0, 0, 0, 0, 0, 0], "constant", 0.0, False),
    ],
)  # fmt: skip
def test_a_padding_of_zeros_goes_into_its_convolutions(
    pads: list[int], mode: str, value: float | None, folded: bool
) -> None:
    b = Builder(8, ("N", 4, 6, 8))
    more = [b.constant(np.float32(value))] if value is not None else []
    padded = b.add("Pad", b.constant(np.array(pads)), *more, mode=mode)
    channels = 5 if pads[1] else 4
    first = b.conv(channels, 3, pads=[1, 0, 0, 1])
    b.add("Conv", b.normal(3, channels, 3, 3), first=padded, pads=[1, 0, 0, 1])
    b.add("Add", first)
    proto, _ = cleaned(b, (2, 4, 6, 8))
    assert (count(proto, "Pad") == 0) == folded


def test_a_padding_of_minus_infinity_goes_into_its_pool() -> None:
    b = Builder(9, ("N", 4, 6, 8))
    b.add("Pad", b.constant(np.array([0, 0, 1, 1, 0, 0, 1, 1])), b.constant(np.float32(-np.inf)))
    b.add("MaxPool", kernel_shape=[3, 3], strides=[2, 2])
    proto, _ = cleaned(b, (2, 4, 6, 8))
    assert count(proto, "Pad") == 0


def computed_pads(seed: int) -> Builder:
    """Return a strided convolution whose padding is computed of the input's size, as Keras' torch path writes it."""
    b = Builder(seed, ("N", 4, 6, 8))
    shape = b.add("Shape", first="x")
    height = b.add("Gather", b.constant(np.int64(2)), first=shape, axis=0)
    rest = b.add("Sub", b.constant(np.int64(5)), first=height)
    rest = b.add("Unsqueeze", b.constant(np.array([0])), first=rest)
    zeros = b.constant(np.zeros(3, np.int64))
    pads = b.add("Concat", zeros, zeros, rest, first=b.constant(np.zeros(1, np.int64)), axis=0)
    b.add("Pad", pads, first="x")
    b.conv(4, 3, strides=[2, 2])
    return b


def test_paddings_computed_of_known_sizes_are_folded(tmp_path: Path) -> None:
    b = computed_pads(1)
    proto = b.model()
    assert fold_sizes(proto) == 1
    np.testing.assert_array_equal(compute(proto, (2, 4, 6, 8)), compute(b.model(), (2, 4, 6, 8)))
    model = prepare(save_proto(b.model(), tmp_path / "raw"), tmp_path / "out")
    prepared = onnx.load(str(model.path))
    assert [node.op_type for node in prepared.graph.node] == ["Conv"]
    (note,) = (entry.value for entry in prepared.metadata_props if entry.key == NOTE)
    assert note.startswith("static shapes; ")
    assert load_model(model.path).inputs[0].shape == ("N", 4, 6, 8)


def test_the_rank_is_known_where_no_size_is() -> None:
    b = Builder(3, ("N", 4, "H"))
    b.add("Shape", first="x")
    b.add("Size")
    b.add("Cast", to=TensorProto.FLOAT)
    proto = b.model()
    assert fold_sizes(proto) == 1
    assert [node.op_type for node in proto.graph.node if node.op_type == "Size"] == []
    assert compute(proto, (2, 4, 5)) == 3


def test_sizes_that_are_free_stay_computed() -> None:
    b = Builder(2, ("N", 4, "H", 8))
    shape = b.add("Shape", first="x")
    free = b.add("Gather", b.constant(np.int64(2)), first=shape, axis=0)
    known = b.add("Gather", b.constant(np.array([1, 3])), first=shape, axis=0)
    b.add("Unsqueeze", b.constant(np.array([0])), first=free)
    b.add("Concat", known, axis=0)
    b.add("Cast", to=TensorProto.FLOAT)
    proto = b.model()
    assert fold_sizes(proto) == 1
    np.testing.assert_array_equal(compute(proto, (2, 4, 5, 8)), [5, 4, 8])
