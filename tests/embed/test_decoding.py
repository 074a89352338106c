"""Decoders as operators against the same decoders in numpy, on random outputs of their shapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graph_models import model, value
from onnx import helper

from edgepack.embed.decoding import DECODING, NOT_DECODED, Raw, decode_boxes
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

ANCHORS = ((10.0, 13.0, 16.0, 30.0, 33.0, 23.0), (30.0, 61.0, 62.0, 45.0, 59.0, 119.0))

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
    ("ssd", {"boxes": (1, 2 * 32 + 8, 4), "scores": (1, 2 * 32 + 8, 2)}, {
        "strides": (8.0, 16.0), "sizes": ((10.0, 16.0), (24.0,)), "activation": "softmax"}),
    ("ssd", {"boxes": (1, 2 * 32 + 8, 4), "scores": (1, 2 * 32 + 8, 2)}, {
        "strides": (8.0, 16.0), "anchors": ((10.0, 16.0, 8.0, 4.0), (24.0, 90.0)), "activation": "sigmoid"}),
    ("yolo", {"o": (1, 4 + CLASSES + 32, 50)}, {"unread": 32}),
    ("yolo", {"o": (1, 50, 4 + CLASSES + 2)}, {"unread": 2}),
    ("yolo-objectness", {"o": (1, 50, 5 + CLASSES + 32)}, {"unread": 32}),
    ("yolo", {"o": (1, 4 + CLASSES + 6, 50)}, {"points": 2}),
    ("yolo", {"o": (1, 50, 4 + CLASSES + 4)}, {"points": 2, "point_values": 2, "normalized": True}),
    ("yolo", {"o": (1, 4 + 1 + 15, 50)}, {"points": 5, "normalized": True}),
    ("yolo-anchors", {"a": (1, 6 + 4 * 3 + 6, 4, 8), "b": (1, 24, 2, 4)}, {"strides": (8.0, 16.0), "anchors": ANCHORS}),
    ("yolo-anchors", {"b": (1, 3, 2, 4, 8), "a": (1, 3, 4, 8, 8)}, {"strides": (8.0, 16.0), "anchors": ANCHORS}),
    ("yolo-anchors", {"b": (1, 3, 2, 4, 8)}, {"strides": (16.0,), "anchors": ANCHORS[:1], "activated": True}),
    ("yolo-anchors", {"b": (1, 24, 2, 4)}, {"strides": (16.0,), "anchors": ANCHORS[1:], "form": "v3"}),
    ("yunet", {f"{name}_{stride}": (1, 4 * 8 // (stride // 8) ** 2, values) for stride in (8, 16, 32)
               for name, values in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10))}, {}),
    ("distributions", {f"{name}{n}": (1, n, values) for n in (32, 8, 2, 1) for name, values in (("s", CLASSES),
                                                                                        ("d", 32))}, {}),
    ("distributions", {"o": (1, 40, CLASSES + 4 * 5)}, {"strides": (8.0, 16.0), "bins": 5, "middle": 0.0,
                                                        "logits": True}),
    ("distributions", {"s1": (1, 32, 32), "s2": (1, 8, 32), "d1": (1, 32, 32), "d2": (1, 8, 32)},
     {"strides": (8.0, 16.0)}),
    ("detr", {"logits": (1, 20, CLASSES + 2), "values": (1, 20, 4)}, {}),
    ("detr", {"scores": (1, 20, CLASSES), "boxes": (1, 20, 4)}, {"activation": "sigmoid", "nothing": False}),
    ("blaze", {"s": (1, 2 * 32 + 6 * 8, 1), "b": (1, 2 * 32 + 6 * 8, 16)}, {}),
    ("blaze", {"b": (1, 128, 4), "s": (1, 128, 1)}, {"strides": (4.0,), "each": (1.0,)}),
    ("heat-maps", {"o": (1, 17, 8, 16)}, {"middle": 0.0}),
    ("heat-maps", {"o": (1, 3, 4, 3)}, {"logits": True}),
    ("heat-maps", {"o": (1, 5, 1, 2)}, {}),
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
    found = decode_boxes(decoder, made, Raw(shapes, settings, FRAME, 3000))
    made.output(found.corners, "corners", "float32", [1, found.count, 4])
    made.output(found.scores, "sure", "float32", [1, found.count, found.classes])
    if found.points:
        made.output(found.points, "places", "float32", [1, found.count, 3 * found.each])
    close(proto)
    random = np.random.default_rng(5)
    outputs = {name: random.random(shape, np.float32) for name, shape in shapes.items()}
    ran = run_model(save_proto(proto, tmp_path), {f"raw_{name}": array for name, array in outputs.items()})
    expected = known.decode(outputs, settings, FRAME, Wanted(-1.0))
    assert (expected.classes or 1) == found.classes
    best = ran["sure"][0].argmax(axis=1)
    assert len(expected.corners) == len(best) == found.count
    np.testing.assert_array_equal(best, expected.numbers)
    np.testing.assert_allclose(ran["sure"][0].max(axis=1), expected.scores, rtol=1e-5)
    np.testing.assert_allclose(ran["corners"][0], expected.corners, rtol=1e-4, atol=1e-3)
    assert (expected.points is None) == (found.points == "")
    if expected.points is not None:
        places = ran["places"].reshape(found.count, found.each, 3)
        np.testing.assert_allclose(places, expected.points, rtol=1e-4, atol=1e-3)


def test_every_decoder_is_tried() -> None:
    assert {case[0] for case in CASES} | {"center-points"} == set(DECODING)  # its peaks are in test_answers.py
    assert set(DECODING) | set(NOT_DECODED) == set(DECODERS.own)


@pytest.mark.parametrize("decoder", [*NOT_DECODED, "another"])
def test_other_decoders_are_refused(decoder: str) -> None:
    with pytest.raises(ConfigError, match="--embed postprocessing") as found:
        decode_boxes(decoder, None, Raw({}, None, FRAME, 1))  # type: ignore[arg-type]
    assert "postprocessing out" in str(found.value.hint)
    assert "joined to areas" in found.value.message or decoder != "text-maps"


@pytest.mark.parametrize(
    ("decoder", "parameters", "shapes"),
    [
        ("yolo", {"points": 6}, {"o": (1, 20, 50)}),
        ("yolo-anchors", {}, {"a": (1, 24, 4, 8)}),  # a map for three strides
        ("yolo-anchors", {"strides": (8.0,), "anchors": ANCHORS[:1]}, {"a": (1, 25, 4, 8)}),
        ("yolo-anchors", {"strides": (8.0,), "anchors": ANCHORS[:1]}, {"a": (1, 15, 4, 8)}),
        ("yunet", {}, {"cls_8": (1, 32, 1), "obj_8": (1, 32, 1), "bbox_8": (1, 32, 4)}),
        ("yunet", {}, {"cls_8": (1, 9, 1), "obj_8": (1, 9, 1), "bbox_8": (1, 9, 4), "kps_8": (1, 9, 10)}),
        ("distributions", {}, {"o": (1, 43, 32)}),
        ("distributions", {}, {"s": (1, 32, 3), "d": (1, 43, 32)}),
        ("distributions", {}, {"s": (1, 3, 4, 8), "d": (1, 32, 32)}),
        ("yolo", {}, {"o": (1, 20, 50), "p": (1, 2)}),
        ("yolox", {}, {"o": (1, 7, 8)}),
        ("ssd", {"strides": (8.0,), "sizes": ((8.0,),)}, {"boxes": (1, 20, 4), "scores": (1, 20, 3)}),
        ("ssd", {}, {"boxes": (1, 20, 5), "scores": (1, 20, 3)}),
        ("detr", {}, {"first": (1, 20, 4), "second": (1, 20, 4)}),  # either may be the boxes
        ("center-points", {}, {"hm": (1, 3, 4, 8)}),
        ("center-points", {}, {"wh": (1, 2, 4, 8), "hm": (1, 3, 4, 8)}),
        ("center-points", {}, {"hm": (1, 3, 4, 8), "wh": (1, 2, 8, 16)}),
        ("heat-maps", {}, {"o": (1, 3, 4, 8), "p": (1, 2)}),
        ("blaze", {}, {"b": (1, 7, 16), "s": (1, 7, 1)}),
        ("blaze", {}, {"b": (1, 112, 5), "s": (1, 112, 1)}),
    ],
)
def test_what_the_operators_do_not_do_is_refused(decoder: str, parameters: dict, shapes: dict) -> None:
    proto = model([], [], [])
    _, made = begin(proto)
    settings = read_settings(DECODERS.get(decoder).parameters, parameters, "parameters")
    with pytest.raises(ConfigError):
        decode_boxes(decoder, made, Raw(shapes, settings, FRAME, 3000))
