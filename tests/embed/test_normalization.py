"""Folding: the model with folded normalisation gives what the model itself gives to normalised pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from graph_models import model, value, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from edgepack.data.preprocess import normalize
from edgepack.embed.normalization import fold_normalization
from edgepack.graph.compare import run_model
from edgepack.graph.load import load_model, read_proto
from edgepack.quantize.byte_inputs import byte_tensors
from edgepack.specs.data import Preprocessing


def first_layer(pads: list[int], channels: int = 3, layout: str = "NCHW", **attributes: object) -> onnx.ModelProto:
    random = np.random.default_rng(1)
    weights = {"w": random.standard_normal((5, channels, 3, 3)).astype(np.float32),
               "b": random.standard_normal(5).astype(np.float32)}  # fmt: skip
    turned = [] if layout == "NCHW" else [helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2])]
    nodes = [*turned, helper.make_node("Conv", ["t" if turned else "x", "w", "b"], ["y"], pads=pads, **attributes)]
    shape = [1, channels, 8, 9] if layout == "NCHW" else [1, 8, 9, channels]
    return model(nodes, [value("x", shape)], [value("y", None)], weights)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pads=st.sampled_from([[0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 1, 2]]),
    mean=st.sampled_from([(0.0, 0.0, 0.0), (0.5, 0.4, 0.3), (0.5, 0.5, 0.5)]),
    std=st.sampled_from([(1.0, 1.0, 1.0), (0.2, 0.3, 0.25)]),
    color=st.sampled_from(["RGB", "BGR"]),
    layout=st.sampled_from(["NCHW", "NHWC"]),
)
def test_the_folded_model_gives_the_same(tmp_path_factory, pads, mean, std, color, layout) -> None:
    folder = tmp_path_factory.mktemp("fold")
    made = Preprocessing(color=color, layout=layout, scale=1 / 255, mean=mean, std=std)
    given_model = load_model(write(first_layer(pads, layout=layout), folder))
    folded = fold_normalization(given_model, made, folder / "out")
    assert (folded.reason, bool(folded.done)) == ("", True)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    turned = pixels[:, :, ::-1] if color == "BGR" else pixels
    expected = run_model(given_model, {"x": normalize(turned, made)[None]})["y"]
    found = run_model(folded.model, {"x": normalize(pixels, folded.preprocessing)[None]})["y"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)  # the border is where a mean goes wrong
    assert ("constant" in folded.done) == (any(mean) and any(pads))


def test_bytes_are_named_in_the_model(tmp_path: Path) -> None:
    folded = fold_normalization(
        load_model(write(first_layer([1, 1, 1, 1]), tmp_path)),
        Preprocessing(scale=1 / 255, mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.2)), tmp_path / "out",
    )  # fmt: skip
    names = list(byte_tensors(read_proto(folded.model)))
    assert names[0] == "x"
    assert len(names) == 2


@pytest.mark.parametrize(
    ("proto", "reason"),
    [
        (first_layer([0, 0, 0, 0], channels=1), "does not read 3 channels"),
        (model([helper.make_node("Relu", ["x"], ["y"])], [value("x", [1, 3, 8, 9])], [value("y", None)]), "with Relu"),
        (
            model(
                [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Neg", ["x"], ["z"])],
                [value("x", [1, 3, 8, 9])],
                [value("y", None), value("z", None)],
            ),
            "several operators",
        ),
    ],
)
def test_what_cannot_be_folded_stays(tmp_path: Path, proto: onnx.ModelProto, reason: str) -> None:
    given_model = load_model(write(proto, tmp_path))
    made = Preprocessing(scale=1 / 255)
    folded = fold_normalization(given_model, made, tmp_path / "out")
    assert reason in folded.reason
    assert (folded.model, folded.preprocessing, folded.done) == (given_model, made, "")
