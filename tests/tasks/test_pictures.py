"""Pictures as inputs: from files and from arrays, the same numbers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgepack.errors import DataError
from edgepack.specs.data import Preprocessing
from edgepack.specs.model import TensorSpec
from edgepack.specs.task import Task
from edgepack.tasks import Making
from edgepack.tasks.pictures import frame_of_input, open_pixels, prepare_picture

MADE = Preprocessing(resize_short=20, crop=(16, 16), scale=1 / 255)
MAKING = Making(Task("tensors"), (TensorSpec("x", "float32", (1, 3, 16, 16)),), MADE)
PIXELS = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)


def test_a_file_and_an_array_become_the_same_input(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.fromarray(PIXELS).save(path)
    one, other = prepare_picture(path, MAKING), prepare_picture(PIXELS, MAKING)
    assert np.array_equal(one.feeds["x"], other.feeds["x"])
    assert one.feeds["x"].shape == (1, 3, 16, 16)
    assert one.frame == other.frame
    assert (one.frame.height, one.frame.width) == (30, 50)
    assert np.array_equal(open_pixels(path), PIXELS)


@pytest.mark.parametrize("resampler", ["pillow", "opencv"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "I;16"])
@pytest.mark.parametrize("turned", [1, 6])
def test_an_image_becomes_what_its_file_does(tmp_path: Path, resampler: str, mode: str, turned: int) -> None:
    grey = Image.fromarray(PIXELS[:, :, 0].astype(np.uint16) * 257)
    image = grey if mode == "I;16" else Image.fromarray(PIXELS).convert(mode)
    image.getexif()[0x0112] = turned  # lies on its side
    path = tmp_path / "x.png"
    image.save(path, exif=image.getexif())
    making = Making(MAKING.task, MAKING.inputs, dataclasses.replace(MADE, resampler=resampler))
    with Image.open(path) as opened:
        before = opened.size
        one, other = prepare_picture(opened, making), prepare_picture(path, making)
        assert np.array_equal(open_pixels(opened), open_pixels(path))
        assert opened.size == before  # it is the user's
    assert np.array_equal(one.feeds["x"], other.feeds["x"])
    assert one.frame == other.frame
    assert (one.frame.height, one.frame.width) == ((50, 30) if turned == 6 else (30, 50))


def test_a_picture_cut_short_is_refused_as_its_file_is(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.fromarray(PIXELS).save(path)
    path.write_bytes(path.read_bytes()[:-600])
    with Image.open(path) as opened, pytest.raises(DataError, match="the image is not a picture that can be read"):
        prepare_picture(opened, MAKING)


def test_the_models_own_array_is_fed_as_it_is() -> None:
    array = np.zeros((1, 3, 16, 16), np.float32)
    found = prepare_picture(array, MAKING)
    assert found.feeds["x"] is array
    assert (found.frame.height, found.frame.width) == (16, 16)


def test_grey_is_drawn_on_in_colour() -> None:
    assert open_pixels(PIXELS[:, :, 0]).shape == (30, 50, 3)


@pytest.mark.parametrize("shape", [(1, 3, 48, 64), (1, 48, 64, 3)])
def test_an_input_is_a_picture_of_its_own_size(shape: tuple[int, ...]) -> None:
    frame = frame_of_input(Making(Task("tensors"), (TensorSpec("x", "float32", shape),)))
    assert (frame.height, frame.width) == (48, 64)


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), "not a picture"),
        (np.zeros((4, 4, 4), np.uint8), "not a picture"),
        (np.zeros((0, 4, 3), np.uint8), "not a picture"),
        (7, "a int is not a picture"),
        ("nowhere.png", "cannot read nowhere.png"),
    ],
)
def test_what_is_no_picture_is_refused(thing: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        prepare_picture(thing, MAKING)


def test_without_a_recipe_a_picture_cannot_be_read() -> None:
    with pytest.raises(DataError, match="no preprocessing"):
        prepare_picture(PIXELS, Making(Task("tensors"), MAKING.inputs))
