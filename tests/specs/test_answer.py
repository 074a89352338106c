"""Answers as text and as JSON types, and what tells labels apart."""

from __future__ import annotations

import dataclasses
import json

import numpy as np

from edgepack.specs.answer import Boxes, Classes, Mask, Tensors

BOXES = Boxes(
    corners=np.array([[1.0, 2.0, 11.5, 22.0], [0.0, 0.0, 5.0, 5.0]]),
    scores=np.array([0.9, 0.25]),
    numbers=np.array([1, 7]),
    height=48,
    width=64,
    names=("cat", "dog"),
)


def test_boxes_as_lines_and_json() -> None:
    assert BOXES.lines() == ("0.900 dog 1.0 2.0 11.5 22.0", "0.250 class 7 0.0 0.0 5.0 5.0")
    found = json.loads(json.dumps(BOXES.summary()))
    assert (found["height"], found["width"], len(found["boxes"])) == (48, 64, 2)
    first = {"number": 1, "name": "dog", "score": 0.9, "left": 1.0, "top": 2.0, "right": 11.5, "bottom": 22.0}
    assert found["boxes"][0] == first


def test_boxes_with_points() -> None:
    pointed = dataclasses.replace(BOXES, points=np.array([[[3.0, 4.0, 0.5]], [[1.0, 1.0, 1.0]]]))
    assert pointed.lines()[0].endswith("22.0 (3.0, 4.0)")
    assert pointed.summary()["boxes"][0]["points"] == [[3.0, 4.0, 0.5]]
    assert next(iter(pointed)).points == ((3.0, 4.0, 0.5),)


def test_labels_that_say_something_else_have_another_digest() -> None:
    others = [
        dataclasses.replace(BOXES, corners=BOXES.corners + 0.5),
        dataclasses.replace(BOXES, numbers=np.array([1, 0])),
        dataclasses.replace(BOXES, height=49),
        dataclasses.replace(BOXES, crowd=np.array([True, False])),
        dataclasses.replace(BOXES, areas=np.array([1.0, 2.0])),
    ]
    assert len({BOXES.digest(), *(other.digest() for other in others)}) == 6
    assert BOXES.digest() == dataclasses.replace(BOXES).digest()


def test_classes_without_a_name_have_their_number() -> None:
    found = Classes((3, 0), ("", "cat"), (0.75, 0.25))
    assert found.lines() == ("0.750 class 3", "0.250 cat")
    assert found.summary()["classes"][1] == {"number": 0, "name": "cat", "score": 0.25}


def test_a_mask_says_the_share_of_each_class() -> None:
    labels = np.array([[0, 0, 1, 1], [0, 0, Mask.IGNORED, 5]], np.uint16)
    mask = Mask(labels, ("road", "car"))
    assert mask.lines() == ("50.0 % road", "25.0 % car", "12.5 % class 5")
    assert mask.summary()["height"] == 2
    assert mask.digest() != Mask(labels.T.copy()).digest()


def test_tensors_are_named() -> None:
    found = Tensors({"x": np.zeros((1, 3), np.float32)})
    assert found.lines() == ("x float32 [1, 3]",)
    assert found.summary() == {"x": {"dtype": "float32", "shape": [1, 3]}}
