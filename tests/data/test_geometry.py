"""Where pictures go: cut in the middle, or laid into a canvas as the usual detectors' code does."""

from __future__ import annotations

import pytest

from edgepack.data.geometry import Geometry, frame_of, geometry_of
from edgepack.data.recipes import load_recipe
from edgepack.specs.data import Preprocessing

LINE = load_recipe("pp-ocr-recognition").preprocessing
BOX = Preprocessing(resize=(640, 640), letterbox=True)


@pytest.mark.parametrize(
    ("size", "made", "expected"),
    [
        ((480, 640), Preprocessing(), Geometry((480, 640), (480, 640), 0, 0)),
        ((480, 640), Preprocessing(resize=(352, 320)), Geometry((352, 320), (352, 320), 0, 0)),
        ((480, 641), Preprocessing(resize_short=256, crop=(224, 224)), Geometry((256, 341), (224, 224), -16, -58)),
        # Ultralytics' LetterBox: 427x640 -> 427x640 padded by 106 above and 107 below
        ((427, 640), BOX, Geometry((427, 640), (640, 640), 106, 0)),
        ((375, 500), BOX, Geometry((480, 640), (640, 640), 80, 0)),
        ((1000, 500), BOX, Geometry((640, 320), (640, 640), 0, 160)),
        ((100, 50), BOX, Geometry((640, 320), (640, 640), 0, 160)),
        ((100, 50), Preprocessing(resize=(640, 640), letterbox=True, scale_up=False),
         Geometry((100, 50), (640, 640), 270, 295)),
        # YOLOX's preproc: the sides are cut to whole numbers, the picture lies in the corner
        ((427, 639), Preprocessing(resize=(416, 416), letterbox=True, anchor="top-left", rounding="down"),
         Geometry((277, 416), (416, 416), 0, 0)),
        ((427, 640), Preprocessing(resize=(640, 640), letterbox=True, stride=32),
         Geometry((427, 640), (448, 640), 10, 0)),
        # lines of text: 4000 x 48 and 10000 x 60 are squeezed at their height, others are as wide as they become
        ((48, 4000), LINE, Geometry((48, 3200), (48, 3200), 0, 0)),
        ((60, 10000), LINE, Geometry((48, 3200), (48, 3200), 0, 0)),
        ((48, 3200), LINE, Geometry((48, 3200), (48, 3200), 0, 0)),
        ((24, 181), LINE, Geometry((48, 362), (48, 368), 0, 0)),
        ((24, 101), LINE, Geometry((48, 202), (48, 320), 0, 0)),  # PaddleOCR fills short ones to 320
        ((5000, 1), LINE, Geometry((48, 1), (48, 320), 0, 0)),
        ((1, 5000), BOX, Geometry((1, 640), (640, 640), 319, 0)),
    ],
)  # fmt: skip
def test_where_a_picture_goes(size: tuple[int, int], made: Preprocessing, expected: Geometry) -> None:
    assert geometry_of(*size, made) == expected


def test_a_frame_leads_back_to_the_picture() -> None:
    frame = frame_of(375, 500, BOX)
    assert (frame.height, frame.width, frame.input_height, frame.input_width) == (375, 500, 640, 640)
    # The corner of the picture lies at (640, 560) of the input.
    assert (640 - frame.offset_x) / frame.scale_x == pytest.approx(500)
    assert (560 - frame.offset_y) / frame.scale_y == pytest.approx(375)
    cut = frame_of(480, 641, Preprocessing(resize_short=256, crop=(224, 224)))
    assert (0 - cut.offset_x) / cut.scale_x == pytest.approx(58 * 641 / 341)


def test_a_squeezed_line_has_a_scale_for_each_axis() -> None:
    frame = frame_of(96, 12800, LINE)
    assert (frame.scale_y, frame.scale_x, frame.input_height, frame.input_width) == (0.5, 0.25, 48, 3200)
