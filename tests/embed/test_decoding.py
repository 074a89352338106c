"""Decoders as operators against the same decoders in numpy, on random outputs of their shapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graph_models import model, value
from onnx import helper

from edgepack.embed.decoding import DECODING, FINAL, Raw, decode_boxes
from edgepack.embed.operators import begin, close
from edgepack.errors import ConfigError
from edgepack.graph.compare import run_model
from edgepack.graph.load import save_proto
from edgepack.specs.task import Frame
from edgepack.tasks import read_settings
from edgepack.tasks.decoders import DECODERS, Wanted

FRAME = Frame(32, 64, 32, 64)
CLASSES = 3
YOLOX = 4 * 8 + 2 * 4 + 1 * 2  # cells of the strides 8, 16 and 32

# Decoder, shapes of outputs, parameters.
CASES = [
    ("yolo", {"o": (1, 4 + CLASSES, 50)}, {}),
    ("yolo", {"o": (1, 50, 4 + CLASSES)}, {"normalized": True}),
    ("yolo-objectness", {"o": (1, 50, 5 + CLASSES)}, {}),
    ("yolo-objectness", {"o": (1, 50, 5 + CLASSES)}, {"normalized": True}),
    ("yolox", {"o": (1, YOLOX, 5 + CLASSES)}, {}),
    ("yolox", {"o": (1, 20, 5 + CLASSES)}, {"decoded": True}),
    ("fastestdet", {"o": (1, 5 + CLASSES, 2, 4)}, {}),
    ("ssd", {"boxes": (1, 20, 4), "scores": (1, 20, CLASSES + 1)}, {}),
    ("ssd", {"boxes": (1, 20, 4), "scores": (1, 20, CLASSES)}, {"form": "yxyx", "background": -1}),
    ("ssd", {"scores": (1, 20, CLASSES + 1), "boxes": (1, 20, 4)}, {"form": "cxcywh", "activation": "softmax"}),
    ("ssd", {"boxes": (1, 20, 4), "scores": (1, 20, CLASSES)}, {"activation": "sigmoid", "normalized": False,
                                                               "background": CLASSES - 1}),
    ("detr", {"logits": (1, 20, CLASSES + 2), "values": (1, 20, 4)}, {}),
    ("detr", {"scores": (1, 20, CLASSES), "boxes": (1, 20, 4)}, {"activation": "sigmoid", "nothing": False}),
]  # fmt: skip


@pytest.mark.parametrize(("decoder", "shapes", "parameters"), CASES)
def test_operators_decode_as_numpy_does(decoder: str, shapes: dict, parameters: dict, tmp_path: Path) -> None:
    proto = model(
        [helper.make_node("Identity", [f"raw_{name}"], [name]) for name in shapes],
        [value(f"raw_{name}", list(shape)) for name, shape in shapes.items()],
        [value(name, list(shape)) for name, shape in shapes.items()],
    )
    proto, made = begin(proto)
    known = DECODERS.get(decoder)
    settings = read_settings(known.parameters, parameters, "parameters")
    del proto.graph.output[:]
    found = decode_boxes(decoder, made, Raw(shapes, settings, FRAME))
    made.output(found.corners, "corners", "float32", [1, found.count, 4])
    made.output(found.scores, "sure", "float32", [1, found.count, found.classes])
    close(proto)
    random = np.random.default_rng(5)
    outputs = {name: random.random(shape, np.float32) for name, shape in shapes.items()}
    ran = run_model(save_proto(proto, tmp_path), {f"raw_{name}": array for name, array in outputs.items()})
    expected = known.decode(outputs, settings, FRAME, Wanted(-1.0))
    assert expected.classes == found.classes
    best = ran["sure"][0].argmax(axis=1)
    assert len(expected.corners) == len(best) == found.count
    np.testing.assert_array_equal(best, expected.numbers)
    np.testing.assert_allclose(ran["sure"][0].max(axis=1), expected.scores, rtol=1e-5)
    np.testing.assert_allclose(ran["corners"][0], expected.corners, rtol=1e-4, atol=1e-3)


def test_every_decoder_is_tried() -> None:
    assert {case[0] for case in CASES} == set(DECODING)


@pytest.mark.parametrize("decoder", [*FINAL, "heat-maps"])
def test_other_decoders_are_refused(decoder: str) -> None:
    with pytest.raises(ConfigError, match="--embed postprocessing") as found:
        decode_boxes(decoder, None, Raw({}, None, FRAME))  # type: ignore[arg-type]
    assert "postprocessing out" in str(found.value.hint)


@pytest.mark.parametrize(
    ("decoder", "parameters", "shapes"),
    [
        ("yolo", {"points": 5}, {"o": (1, 20, 50)}),
        ("yolo", {}, {"o": (1, 20, 50), "p": (1, 2)}),
        ("yolox", {}, {"o": (1, 7, 8)}),
        ("ssd", {"strides": (8.0,), "sizes": ((8.0,),)}, {"boxes": (1, 20, 4), "scores": (1, 20, 3)}),
        ("ssd", {}, {"boxes": (1, 20, 5), "scores": (1, 20, 3)}),
        ("detr", {}, {"first": (1, 20, 4), "second": (1, 20, 4)}),  # either may be the boxes
    ],
)
def test_what_the_operators_do_not_do_is_refused(decoder: str, parameters: dict, shapes: dict) -> None:
    proto = model([], [], [])
    _, made = begin(proto)
    settings = read_settings(DECODERS.get(decoder).parameters, parameters, "parameters")
    with pytest.raises(ConfigError):
        decode_boxes(decoder, made, Raw(shapes, settings, FRAME))
