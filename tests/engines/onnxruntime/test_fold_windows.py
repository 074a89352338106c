"""The rows of a first layer's windows become channels, and nothing that is computed changes, bit for bit."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from quantize_models import minmax_ranges, node, random_feeds, save

from edgepack.engines.onnxruntime.engine import compile_model
from edgepack.engines.onnxruntime.fill_channels import fill_channels
from edgepack.engines.onnxruntime.fold_windows import fold_windows
from edgepack.engines.onnxruntime.profile import profile
from edgepack.engines.targets import load_target
from edgepack.graph.load import load_model, read_proto
from edgepack.quantize import quantize
from edgepack.quantize.saturation import PAIR_LIMIT
from edgepack.specs.run import RunOptions
from edgepack.specs.target import QuantizationRules

if TYPE_CHECKING:
    from pathlib import Path

    from edgepack.specs.model import OnnxModel
    from edgepack.specs.types import Array

RULES = QuantizationRules(engine="onnxruntime")


def values(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def first_layer(
    folder: Path,
    shape: tuple[int, ...],
    weights: tuple[int, ...],
    rules: QuantizationRules = RULES,
    seed: int = 0,
    **attributes: Any,
) -> OnnxModel:
    """Write the int8 model of a first layer and a small one behind it."""
    nodes = [node("Conv", "x w b", "c", **attributes), node("Relu", "c", "r"), node("Conv", "r v", "y")]
    made = weights[0]
    constants = {
        "w": values(*weights, seed=seed), "b": values(made, seed=seed + 1),
        "v": values(3, made, *[1] * (len(weights) - 2), seed=seed),
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    model = save(nodes, constants, folder / "m.onnx", inputs={"x": shape})
    return quantize(model, minmax_ranges(model, random_feeds(model, 3)), rules, folder / "int8")


def run(proto: onnx.ModelProto, feed: Any) -> Array:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, dict(feed))[0])


def folded(model: OnnxModel) -> tuple[int, ...] | None:
    """Return the shape of the first layer's weights in the folded model; None where it is as it was.

    What it computes is compared too.
    """
    proto = read_proto(model)
    count = fold_windows(proto)
    assert count == fold_windows(proto) + count, "a folded layer is not folded again"
    onnx.checker.check_model(proto, full_check=True)
    for feed in random_feeds(model, 2, seed=5):
        np.testing.assert_array_equal(run(proto, feed), run(read_proto(model), feed))
    first = next(n for n in proto.graph.node if n.op_type == "Conv")
    integers = next(n for n in proto.graph.node if first.input[1] in n.output).input[0]
    return next(tuple(t.dims) for t in proto.graph.initializer if t.name == integers) if count else None


@pytest.mark.parametrize("seed", range(24))
def test_random_windows_compute_the_same(seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    read, made, batch = (int(random.choice(some)) for some in ([1, 1, 2, 3, 5], [4, 16, 24], [1, 1, 3]))
    window, strides, dilations = ([int(n) for n in random.integers(1, most, 2)] for most in (8, 4, 3))
    pads = [int(n) for n in random.integers(0, 4, 4)]
    shape = [int(s) + d * (w - 1) + 1 for s, w, d in zip(random.integers(9, 24, 2), window, dilations, strict=True)]
    symmetric = bool(random.integers(2))
    rules = dataclasses.replace(
        RULES, per_channel=symmetric, weight_symmetric=symmetric, weight_type="int8" if symmetric else "uint8"
    )
    where = {"strides": strides, "dilations": dilations, "pads": pads}
    model = first_layer(tmp_path, (batch, read, *shape), (made, read, *window), rules, seed, **where)
    rows = read * window[0]
    blocks = -(-rows // 4) * 4
    assert folded(model) == (None if max(window) == 1 or blocks > 2 * rows else (made, blocks, 1, window[1]))


def test_the_engine_runs_it_on_bytes(tmp_path: Path) -> None:
    model = first_layer(tmp_path, (1, 1, 49, 10), (32, 1, 10, 4), strides=[2, 2], pads=[4, 1, 5, 1])
    proto = read_proto(model)
    assert fill_channels(proto) == 1
    assert {t.name for t in proto.graph.initializer} <= {name for n in proto.graph.node for name in n.input}
    onnx.save(proto, tmp_path / "folded.onnx")
    found = load_model(tmp_path / "folded.onnx")
    nodes = profile(found.path, random_feeds(found, 1), found.inputs, "int8", RunOptions(threads=1), "CPU").nodes
    kernels = ("Pad", "Gather", "QLinearConv")
    assert {(n.kernel, n.executed) for n in nodes if n.kernel in kernels} == {(kernel, "int8") for kernel in kernels}


def test_free_batch_and_width_stay_free(tmp_path: Path) -> None:
    model = first_layer(tmp_path, (1, 1, 20, 30), (16, 1, 3, 3), strides=[2, 1], pads=[1, 1, 1, 1])
    before = read_proto(model)
    for value in (*before.graph.input, *before.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "n"
        value.type.tensor_type.shape.dim[3].dim_param = "t"
    del before.graph.value_info[:]
    after = onnx.ModelProto()
    after.CopyFrom(before)
    assert fold_windows(after) == 1
    for shape in ((1, 1, 20, 30), (4, 1, 20, 17), (0, 1, 20, 30)):
        np.testing.assert_array_equal(run(after, {"x": values(*shape)}), run(before, {"x": values(*shape)}))


def test_a_tensor_that_others_read_too_stays_for_them(tmp_path: Path) -> None:
    nodes = [node("Conv", "x w", "c"), node("Conv", "x v", "d"), node("Add", "c d", "y")]
    constants = {"w": values(16, 1, 3, 3), "v": values(16, 1, 3, 3, seed=1)}
    model = save(nodes, constants, tmp_path / "m.onnx", inputs={"x": (1, 1, 12, 12)})
    int8 = quantize(model, minmax_ranges(model, random_feeds(model, 3)), RULES, tmp_path / "int8")
    assert folded(int8) == (16, 4, 1, 3)
    proto = read_proto(int8)
    fold_windows(proto)
    read = {name for one in proto.graph.node for name in one.input} | {value.name for value in proto.graph.output}
    assert {name for one in proto.graph.node for name in one.output} <= read, "nothing is computed for nobody"


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("opset", [10, 11])
def test_models_whose_pad_takes_no_bytes_load(opset: int, channels: int, tmp_path: Path) -> None:
    rules = dataclasses.replace(RULES, per_channel=False)
    model = first_layer(tmp_path, (1, channels, 12, 12), (16, channels, 3, 3), rules, pads=[1, 1, 1, 1])
    before = read_proto(model)
    before.opset_import[0].version = opset
    for one in before.graph.node:
        if one.op_type == "DequantizeLinear":
            del one.attribute[:]  # the axis, which tensors of one scale need not have
    after = onnx.ModelProto()
    after.CopyFrom(before)
    assert bool(fill_channels(after)) == (opset > 10)
    onnx.checker.check_model(after, full_check=True)
    feed = {"x": values(1, channels, 12, 12)}
    np.testing.assert_array_equal(run(after, feed), run(before, feed))


ALONE: dict[str, tuple[tuple[int | str, ...], tuple[int, ...], dict[str, Any]]] = {
    "a free number of rows": (("rows", 16), (16, 1, 3, 3), {}),
    "whole blocks already": ((12, 12), (16, 4, 3, 3), {}),
    "more channels than were measured": ((12, 12), (16, 18, 3, 3), {}),
    "windows of one value": ((12, 12), (16, 3, 1, 1), {}),
    "mostly zeros": ((12, 12), (16, 1, 1, 5), {}),
    "windows nearly as wide as the input": ((20, 40), (16, 1, 4, 39), {}),
    "groups": ((12, 12), (16, 1, 3, 3), {"group": 2}),
    "one axis": ((40,), (16, 1, 5), {}),
}


@pytest.mark.parametrize("name", ALONE)
def test_what_gains_nothing_stays_as_it_is(name: str, tmp_path: Path) -> None:
    sizes, weights, attributes = ALONE[name]
    channels = weights[1] * attributes.get("group", 1)
    known = tuple(16 if isinstance(size, str) else size for size in sizes)
    proto = read_proto(first_layer(tmp_path, (1, channels, *known), weights, **attributes))
    if known != sizes:
        for value in (*proto.graph.input, *proto.graph.output):
            value.type.tensor_type.shape.dim[2].dim_param = "rows"
        del proto.graph.value_info[:]
    before = list(proto.graph.node), list(proto.graph.initializer)
    assert fold_windows(proto) == 0
    assert (list(proto.graph.node), list(proto.graph.initializer)) == before


def test_a_float_model_is_not_looked_at(tmp_path: Path) -> None:
    model = save(
        [node("Conv", "x w", "y")], {"w": values(16, 1, 3, 3)}, tmp_path / "m.onnx", inputs={"x": (1, 1, 9, 9)}
    )
    assert fold_windows(read_proto(model)) == 0


def largest_pair(path: Path) -> int:
    """Return the largest sum of two neighbouring weights of the first layer, as a kernel without VNNI takes them."""
    proto = onnx.load(path)
    integers = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    readers = [one for one in proto.graph.node if one.op_type == "Conv"]
    weights = next(one for one in proto.graph.node if one.output[0] == readers[0].input[1])
    rows = np.moveaxis(integers[weights.input[0]].astype(np.int32), 1, -1).reshape(len(integers[weights.input[0]]), -1)
    pairs = rows[:, : rows.shape[1] // 2 * 2].reshape(len(rows), -1, 2)
    return int(np.abs(pairs.sum(axis=2)).max())


@pytest.mark.parametrize("name", ["amd-zen3", "raspberry-pi-5"])
def test_where_the_order_of_sums_counts_or_nothing_was_measured_windows_stay(tmp_path: Path, name: str) -> None:
    target = load_target(name)
    model = first_layer(tmp_path, (1, 1, 49, 10), (16, 1, 10, 4), target.quantization)
    compile_model(model, target, "int8", tmp_path / "made")
    made = onnx.load(tmp_path / "made" / "model.onnx")
    assert "Gather" not in {one.op_type for one in made.graph.node}
    if target.quantization.saturates:
        assert largest_pair(tmp_path / "made" / "model.onnx") <= PAIR_LIMIT


def test_sums_that_cannot_saturate_are_folded(tmp_path: Path) -> None:
    target = load_target("amd-zen3")
    wide = dataclasses.replace(target, quantization=dataclasses.replace(target.quantization, saturates=False))
    model = first_layer(tmp_path, (1, 1, 49, 10), (16, 1, 10, 4), target.quantization)
    compile_model(model, wide, "int8", tmp_path / "made")
    assert "Gather" in {one.op_type for one in onnx.load(tmp_path / "made" / "model.onnx").graph.node}
    assert largest_pair(tmp_path / "made" / "model.onnx") > PAIR_LIMIT, "its weights were safe in the order before"
