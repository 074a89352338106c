"""Resizing with numpy alone, against Pillow (equal) and OpenCV (within one grey level)."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgepack.data.resample import resize

PILLOW = {
    "nearest": Image.Resampling.NEAREST,
    "area": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
OPENCV = {
    "nearest": cv2.INTER_NEAREST,
    "area": cv2.INTER_AREA,
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
}
SIDE = st.integers(1, 70)


def pixels(height: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@settings(max_examples=120, deadline=None)
@given(SIDE, SIDE, SIDE, SIDE, st.sampled_from(sorted(PILLOW)), st.integers(0, 9))
def test_pillows_definition_is_equal(h: int, w: int, to_h: int, to_w: int, how: str, seed: int) -> None:
    source = pixels(h, w, seed)
    # One side after the other: newer versions of Pillow begin with the height where that is less work.
    across = Image.fromarray(source).resize((to_w, h), PILLOW[how])
    expected = np.asarray(across.resize((to_w, to_h), PILLOW[how]))
    assert np.array_equal(resize(source, (to_h, to_w), how, "pillow"), expected)


@settings(max_examples=120, deadline=None)
@given(SIDE, SIDE, SIDE, SIDE, st.sampled_from(sorted(OPENCV)), st.integers(0, 9))
def test_opencvs_definition_is_within_one_level(h: int, w: int, to_h: int, to_w: int, how: str, seed: int) -> None:
    source = pixels(h, w, seed)
    expected = cv2.resize(source, (to_w, to_h), interpolation=OPENCV[how]).astype(int)
    assert np.abs(resize(source, (to_h, to_w), how, "opencv") - expected).max() <= 1


@pytest.mark.parametrize("how", sorted(OPENCV))
@pytest.mark.parametrize("size", [(352, 352), (240, 320), (640, 640), (960, 1280), (100, 900), (480, 320)])
def test_sizes_of_real_pictures(size: tuple[int, int], how: str) -> None:
    source = cv2.GaussianBlur(pixels(480, 640, 3), (0, 0), 3)
    expected = cv2.resize(source, size[::-1], interpolation=OPENCV[how]).astype(int)
    assert np.abs(resize(source, size, how, "opencv") - expected).max() <= 1
    expected = np.asarray(Image.fromarray(source).resize(size[::-1], PILLOW[how])).astype(int)
    assert np.abs(resize(source, size, how, "pillow") - expected).max() <= 1


def test_the_two_definitions_of_bilinear_differ_where_a_picture_shrinks() -> None:
    source = np.zeros((64, 64, 1), np.uint8)
    source[::8] = 255  # thin lines, which OpenCV's bilinear mostly steps over
    pillow, opencv = (resize(source, (8, 8), "bilinear", name) for name in ("pillow", "opencv"))
    assert pillow.mean() == pytest.approx(255 / 8, abs=3)
    assert opencv.mean() < 5


def test_grey_and_the_same_size() -> None:
    source = pixels(20, 30, 0)[:, :, :1]
    assert resize(source, (20, 30), "bicubic", "opencv") is source
    assert resize(source, (10, 15), "bilinear", "pillow").shape == (10, 15, 1)
