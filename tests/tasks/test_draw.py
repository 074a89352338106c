"""Answers drawn into pictures."""

from __future__ import annotations

import numpy as np

from edgepack.specs.answer import Boxes, Mask
from edgepack.tasks.draw import draw_boxes, draw_mask

PICTURE = np.zeros((60, 80, 3), np.uint8)


def test_boxes_are_outlined_and_the_picture_is_not_changed() -> None:
    boxes = Boxes(np.array([[10.0, 20.0, 50.0, 40.0]]), np.array([0.9]), np.array([0]), 60, 80, ("cat",),
                  points=np.array([[[70.0, 5.0, 1.0]]]))  # fmt: skip
    found = draw_boxes(PICTURE, boxes)
    assert not PICTURE.any()
    assert found[30, 10].any()
    assert found[40, 30].any()
    assert not found[30, 30].any(), "the thing itself stays to be seen"
    assert found[5, 70].any()


def test_boxes_beyond_the_picture_are_drawn_as_far_as_it_goes() -> None:
    boxes = Boxes(np.array([[-50.0, -50.0, 500.0, 500.0]]), np.array([0.9]), np.array([3]), 60, 80, ("名前",))
    assert draw_boxes(PICTURE, boxes).shape == PICTURE.shape


def test_classes_of_pixels_are_tinted_but_the_first() -> None:
    labels = np.zeros((60, 80), np.uint16)
    labels[:10], labels[10:20] = 1, Mask.IGNORED
    found = draw_mask(PICTURE, Mask(labels))
    assert found[:10].any(axis=2).all()
    assert not found[10:].any()
