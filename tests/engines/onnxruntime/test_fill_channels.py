"""Int8 layers get the channels that ONNX Runtime's quick kernels take, and compute the same, bit for bit."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from quantize_models import find_node, initializers, minmax_ranges, node, random_feeds, run_onnxruntime, save

from edgepack.engines import get_backend
from edgepack.engines.onnxruntime.fill_channels import fill_channels
from edgepack.engines.onnxruntime.profile import profile
from edgepack.graph.load import load_model, read_proto
from edgepack.quantize import quantize
from edgepack.specs.run import RunOptions
from edgepack.specs.target import QuantizationRules, Target

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from edgepack.specs.model import OnnxModel
    from edgepack.specs.types import Array

RULES = QuantizationRules(engine="onnxruntime")
CPU = Target("t", "t", "onnxruntime", "x86_64")


def weights(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def conv(reads: str, makes: str, **attributes: Any) -> Any:
    return node("Conv", f"{reads} w_{makes} b_{makes}", makes, **attributes)


def quantized(
    nodes: Sequence[Any],
    constants: Mapping[str, Array],
    folder: Path,
    shape: tuple[int, ...] = (1, 4, 9, 9),
    rules: QuantizationRules = RULES,
) -> OnnxModel:
    """Write the int8 model of a graph from ``x`` to ``y``; convolutions get biases."""
    biases = {f"b{name[1:]}": weights(len(w), seed=1) for name, w in constants.items() if name.startswith("w_")}
    folder.mkdir(exist_ok=True)
    outputs = [name for name in ("y", "z") if any(name in part.output for part in nodes)]
    model = save(nodes, {**biases, **constants}, folder / "m.onnx", inputs={"x": shape}, outputs=outputs)
    return quantize(model, minmax_ranges(model, random_feeds(model, 3)), rules, folder / "int8")


def compiled(model: OnnxModel, folder: Path) -> OnnxModel:
    """Compile a model, see that it computes what it did, and return what was written."""
    backend = get_backend("onnxruntime")
    made = backend.compile_model(model, CPU, "int8", folder / "out")
    runner = backend.load_model(made, RunOptions(threads=1))
    feeds = random_feeds(model, 3, seed=5)
    for feed, expected in zip(feeds, run_onnxruntime(model, feeds), strict=True):
        for values, before in zip(runner.infer(feed).values(), expected, strict=True):
            np.testing.assert_array_equal(values, before)
    runner.close()
    return load_model(made.folder / made.entry)


def block(channels: int, inner: Sequence[Any] = (), last: str = "d") -> tuple[list[Any], dict[str, Array]]:
    """Return a depthwise layer of so many channels between two others; ``inner`` stands behind it."""
    nodes = [
        conv("x", "p"),
        node("Relu", "p", "r"),
        conv("r", "d", group=channels, pads=[1, 1, 1, 1]),
        *inner,
        conv(last, "y"),
    ]
    return nodes, {
        "w_p": weights(channels, 4, 1, 1),
        "w_d": weights(channels, 1, 3, 3),
        "w_y": weights(5, channels, 1, 1),
    }


def extents(model: OnnxModel) -> dict[str, tuple[int, ...]]:
    """Return the shape of each convolution's weights by the convolution's name."""
    graph = read_proto(model).graph
    constants = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    producers = {name: n for n in graph.node for name in n.output}
    return {n.name: constants[producers[n.input[1]].input[0]] for n in graph.node if n.op_type == "Conv"}


@pytest.mark.parametrize(("channels", "filled"), [(8, 16), (24, 32), (72, 80)])
def test_a_depthwise_layer_and_its_neighbours_get_whole_blocks(channels: int, filled: int, tmp_path: Path) -> None:
    found = compiled(quantized(*block(channels), tmp_path), tmp_path)
    assert extents(found) == {"p": (filled, 4, 1, 1), "d": (filled, 1, 3, 3), "y": (5, filled, 1, 1)}
    assert {a.name: a.i for a in find_node(found, "d").attribute}["group"] == filled


BEHIND = {
    "pools": [node("MaxPool", "d", "m", kernel_shape=[2, 2]), node("GlobalAveragePool", "m", "g")],
    "a sum with itself": [node("Sigmoid", "d", "m"), node("Add", "m r", "g")],
    "a single factor": [node("Mul", "d three", "g")],
}


@pytest.mark.parametrize("name", BEHIND)
def test_what_keeps_channels_apart_gets_them_too(name: str, tmp_path: Path) -> None:
    nodes, constants = block(24, BEHIND[name], "g")
    found = compiled(quantized(nodes, {**constants, "three": np.array([3.0], np.float32)}, tmp_path), tmp_path)
    assert extents(found)["d"] == (32, 1, 3, 3)


ALONE = {
    "whole blocks": block(32),
    "too few": block(4),
    "a factor for each channel": block(24, [node("Mul", "d each", "g")], "g"),
    "channels that are put together as well": (
        [*block(24)[0], node("Concat", "d x", "c", axis=1), conv("c", "z")],
        {**block(24)[1], "w_z": weights(5, 28, 1, 1)},
    ),
    "channels that leave the graph as well": (
        [*block(24)[0][:-1], conv("d", "z"), node("Relu", "d", "y")],
        {**block(24)[1], "w_z": weights(5, 24, 1, 1)},
    ),
    "one channel for all": (
        [*block(24, [conv("x", "o"), node("Mul", "d o", "g")], "g")[0]],
        {**block(24)[1], "w_o": weights(1, 4, 1, 1)},
    ),
    "channels that come from outside": (
        [conv("x", "d", group=4, pads=[1, 1, 1, 1]), conv("d", "y")],
        {"w_d": weights(4, 1, 3, 3), "w_y": weights(5, 4, 1, 1)},
    ),
}


@pytest.mark.parametrize("name", ALONE)
def test_what_gains_nothing_or_cannot_grow_stays_as_it_is(name: str, tmp_path: Path) -> None:
    nodes, constants = ALONE[name]
    proto = read_proto(quantized(nodes, {**constants, "each": weights(1, 24, 1, 1)}, tmp_path))
    before = proto.SerializeToString()
    assert fill_channels(proto) == 0
    assert proto.SerializeToString() == before


@pytest.mark.parametrize(
    "changes",
    [
        {"per_channel": False},
        {"quantize_bias": False},
        {"weight_type": "uint8", "weight_symmetric": False, "per_channel": False},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_rules_of_all_kinds_keep_their_results(changes: dict[str, Any], tmp_path: Path) -> None:
    rules = dataclasses.replace(RULES, **changes)
    found = compiled(quantized(*block(24), tmp_path, rules=rules), tmp_path)
    assert extents(found)["d"] == ((24 if "quantize_bias" in changes else 32), 1, 3, 3)


def picture(window: int, channels: int, reads: str = "x", before: Sequence[Any] = ()) -> tuple[list[Any], Any]:
    nodes = [*before, conv(reads, "s", strides=[2, 2]), conv("s", "y")]
    return nodes, {"w_s": weights(channels, 3, window, window), "w_y": weights(5, channels, 1, 1)}


def free_height(model: OnnxModel, folder: Path) -> OnnxModel:
    """Write the model with a free number of rows, for which no window can be folded."""
    proto = read_proto(model)
    proto.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "rows"
    proto.graph.output[0].type.tensor_type.shape.dim[2].dim_param = "rows out"
    del proto.graph.value_info[:]
    onnx.save(proto, folder / "free.onnx")
    return load_model(folder / "free.onnx")


def test_a_picture_of_any_height_gets_a_fourth_channel_as_bytes(tmp_path: Path) -> None:
    nodes, constants = picture(3, 16, "h", [node("Mul", "x half", "h")])
    model = quantized(nodes, {**constants, "half": np.array([0.5], np.float32)}, tmp_path, (1, 3, 12, 12))
    free = free_height(model, tmp_path)
    made = get_backend("onnxruntime").compile_model(free, CPU, "int8", tmp_path / "out")
    found = load_model(made.folder / made.entry)
    assert extents(found)["s"] == (16, 4, 3, 3)
    feeds = random_feeds(model, 1)
    for before, after in zip(run_onnxruntime(free, feeds), run_onnxruntime(found, feeds), strict=True):
        np.testing.assert_array_equal(after[0], before[0])
    nodes_run = profile(found.path, feeds, found.inputs, "int8", RunOptions(threads=1), "CPU").nodes
    assert {n.kernel: n.executed for n in nodes_run if n.kernel in ("Pad", "QLinearConv")} == {
        "Pad": "int8", "QLinearConv": "int8",
    }  # fmt: skip


def test_a_picture_of_known_height_gets_its_channels_from_the_rows_of_windows(tmp_path: Path) -> None:
    found = compiled(quantized(*picture(3, 16), tmp_path, (1, 3, 12, 12)), tmp_path)
    assert extents(found)["s"] == (16, 12, 1, 3)


@pytest.mark.parametrize(("window", "channels"), [(5, 16), (1, 16), (3, 8)])
def test_first_layers_that_would_gain_nothing_stay_as_they_are(window: int, channels: int, tmp_path: Path) -> None:
    model = quantized(*picture(window, channels), tmp_path, (1, 3, 12, 12))
    assert fill_channels(read_proto(free_height(model, tmp_path))) == 0


def test_a_later_layer_with_three_channels_gets_no_pad(tmp_path: Path) -> None:
    nodes, constants = picture(3, 16, "t", [conv("x", "q"), node("Relu", "q", "t")])
    model = quantized(nodes, {**constants, "w_q": weights(3, 3, 1, 1)}, tmp_path, (1, 3, 12, 12))
    assert fill_channels(read_proto(free_height(model, tmp_path))) == 0


def test_a_float_model_is_not_looked_at(tmp_path: Path) -> None:
    nodes, constants = block(24)
    biases = {f"b{name[1:]}": weights(len(w)) for name, w in constants.items()}
    model = save(nodes, {**constants, **biases}, tmp_path / "m.onnx", inputs={"x": (1, 4, 9, 9)})
    assert fill_channels(read_proto(model)) == 0


@pytest.mark.parametrize("seed", range(6))
def test_random_networks_compute_the_same(seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    nodes, constants, made = [], {}, [("x", 3)]
    for number in range(12):
        reads, width = made[random.integers(max(0, len(made) - 3), len(made))]
        name, same = f"t{number}", [n for n, w in made[1:] if w == width]
        kind = random.choice(["dense", "depthwise", "depthwise", "Relu", "MaxPool", "Add", "Concat"])
        if kind in ("dense", "depthwise") or not same:
            group = width if kind == "depthwise" else 1
            out = width if kind == "depthwise" else int(random.choice([8, 20, 24, 40]))
            side = int(random.choice([1, 3]))
            constants[f"w_{name}"] = weights(out, width // group, side, side, seed=seed + number) / side
            nodes.append(conv(reads, name, group=group, pads=[side // 2] * 4))
            width = out
        elif kind in ("Add", "Concat"):
            other = same[random.integers(len(same))]
            nodes.append(node(str(kind), f"{reads} {other}", name, **({"axis": 1} if kind == "Concat" else {})))
            width *= 2 if kind == "Concat" else 1
        else:
            extra = {"kernel_shape": [3, 3], "pads": [1] * 4} if kind == "MaxPool" else {}
            nodes.append(node(str(kind), reads, name, **extra))
        made.append((name, width))
    nodes.append(node("Conv", f"{made[-1][0]} w_y b_y", "y"))
    constants["w_y"] = weights(4, made[-1][1], 1, 1)
    model = quantized(nodes, constants, tmp_path, (1, 3, 10, 10))
    found = compiled(model, tmp_path)
    onnx.checker.check_model(onnx.load(found.path), full_check=True)
    assert set(initializers(found)) <= {name for n in read_proto(found).graph.node for name in n.input}
