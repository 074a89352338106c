"""A model that takes a camera's bytes gives exactly what it gave to the input made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from graph_models import model, value, write
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from edgepack.data.preprocess import normalize
from edgepack.embed.operators import close
from edgepack.embed.pixels import bytes_of, left_outside, take_pixels
from edgepack.graph.compare import run_model
from edgepack.graph.load import load_model, save_proto
from edgepack.quantize.byte_inputs import BYTE_STEP
from edgepack.specs.data import Preprocessing

PLAIN = Preprocessing(scale=BYTE_STEP)


def quantized(step: float = BYTE_STEP, zero: int = 0, pad: float | None = None) -> onnx.ModelProto:
    """image[1,3,6,7] -> Pad -> Q/DQ -> Conv."""
    random = np.random.default_rng(0)
    channels = 3 if pad is None else 4
    weights = {"w": random.standard_normal((4, channels, 3, 3)).astype(np.float32),
               "s": np.array(step, np.float32), "z": np.array(zero, np.uint8)}  # fmt: skip
    nodes = []
    if pad is not None:
        weights |= {"pads": np.array([0, 0, 0, 0, 0, 1, 0, 0]), "level": np.array(pad, np.float32)}
        nodes.append(helper.make_node("Pad", ["x", "pads", "level"], ["p"]))
    nodes += [
        helper.make_node("QuantizeLinear", ["x" if pad is None else "p", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("Conv", ["d", "w"], ["y"], pads=[1, 1, 1, 1]),
    ]
    return model(nodes, [value("x", [1, 3, 6, 7])], [value("y", None)], weights)


def pair(proto: onnx.ModelProto, made: Preprocessing, folder: Path, **how: object):
    """Return the outputs of the model and of the one that takes bytes, what was done, and the second model's graph."""
    before = load_model(write(proto, folder))
    done = take_pixels(proto, made, **how)  # type: ignore[arg-type]
    close(proto)
    after = save_proto(proto, folder / "pixels")
    assert after.inputs[0].dtype == "uint8"
    channels = 1 if made.color == "L" else 3
    pixels = np.random.default_rng(2).integers(0, 256, (6, 7, channels), dtype=np.uint8)
    turned = pixels[:, :, ::-1] if made.color == "BGR" else pixels
    fed = normalize(turned, made)[None]
    return run_model(before, {"x": fed})["y"], run_model(after, {"x": pixels[None]})["y"], done, proto


@pytest.mark.parametrize("pad", [None, 128 * BYTE_STEP])
def test_bytes_are_the_integers_of_the_first_layer(tmp_path: Path, pad: float | None) -> None:
    expected, found, done, proto = pair(quantized(pad=pad), PLAIN, tmp_path)
    np.testing.assert_array_equal(found, expected)
    assert "integers" in done
    assert not {"QuantizeLinear", "Cast"} & {node.op_type for node in proto.graph.node}  # no float before the layer


@pytest.mark.parametrize("pad", [None, 128 * BYTE_STEP])
def test_a_quarter_of_a_step_is_rounded_away(tmp_path: Path, pad: float | None) -> None:
    expected, found, done, proto = pair(quantized(pad=pad), PLAIN, tmp_path, integers="rounded")
    np.testing.assert_array_equal(found, expected)
    assert "integers" in done
    assert [node.op_type for node in proto.graph.node].count("QuantizeLinear") == 1


@pytest.mark.parametrize(
    "proto", [quantized(step=0.9 * BYTE_STEP), quantized(zero=3), quantized(pad=0.3 * BYTE_STEP)],
    ids=["other step", "zero point", "pad between two bytes"],
)  # fmt: skip
def test_other_steps_are_quantized_still(tmp_path: Path, proto: onnx.ModelProto) -> None:
    expected, found, done, _ = pair(proto, PLAIN, tmp_path)
    np.testing.assert_array_equal(found, expected)
    assert "float32" in done


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("color", ["RGB", "BGR", "L"])
def test_what_is_not_folded_becomes_operators(tmp_path: Path, layout: str, color: str) -> None:
    channels = 1 if color == "L" else 3
    shape = [1, channels, 6, 7] if layout == "NCHW" else [1, 6, 7, channels]
    proto = model([helper.make_node("Neg", ["x"], ["y"])], [value("x", shape)], [value("y", None)])
    made = Preprocessing(color=color, layout=layout, scale=1 / 255, mean=(0.4, 0.5, 0.6)[:channels],
                         std=(0.2, 0.3, 0.25)[:channels])  # type: ignore[arg-type]  # fmt: skip
    expected, found, done, _ = pair(proto, made, tmp_path)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert "operators" in done


@given(
    seed=st.integers(0, 99), color=st.sampled_from(["RGB", "BGR"]), layout=st.sampled_from(["NCHW", "NHWC"]),
    scale=st.sampled_from([1.0, 1 / 255, BYTE_STEP]), mean=st.sampled_from([0.0, 0.485, 127.0]),
    std=st.sampled_from([1.0, 0.229, 128.0]),
)  # fmt: skip
def test_an_input_says_its_pixels(seed, color, layout, scale, mean, std) -> None:
    made = Preprocessing(color=color, layout=layout, scale=scale, mean=(mean,) * 3, std=(std,) * 3)
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    turned = pixels[:, :, ::-1] if color == "BGR" else pixels
    np.testing.assert_array_equal(bytes_of(normalize(turned, made)[None], made)[0], pixels)


def test_resizing_stays_outside() -> None:
    made = Preprocessing(resize=(8, 8), letterbox=True, scale=1 / 255, mean=(0.1, 0.1, 0.1), color="BGR")
    outside = left_outside(made)
    assert (outside.resize, outside.letterbox, outside.dtype, outside.layout) == ((8, 8), True, "uint8", "NHWC")
    assert (outside.scale, outside.mean, outside.color) == (1.0, (0.0, 0.0, 0.0), "RGB")
