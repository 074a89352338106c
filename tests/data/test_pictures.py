"""What is the same for every source whose samples are picture files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgepack.data.pictures import check_inputs, digest_of_file, find_broken, frame_of_file, read_files
from edgepack.errors import DataError
from edgepack.specs.data import Preprocessing
from edgepack.specs.model import TensorSpec

MADE = Preprocessing(resize=(8, 8))
INPUTS = (TensorSpec("x", "float32", ("N", 3, 8, 8)),)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "one.png"
    Image.fromarray(np.full((10, 20, 3), 7, np.uint8)).save(path)
    return path


def test_files_are_read_with_their_labels(picture: Path) -> None:
    (item,) = read_files("here", [picture], MADE, INPUTS, ["label"])
    assert item.feed["x"].shape == (1, 3, 8, 8)
    assert item.label == "label"
    assert item.digest == hashlib.sha256(picture.read_bytes()).hexdigest()


def test_broken_files_are_found_with_the_reason(picture: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.png"
    cut.write_bytes(picture.read_bytes()[:40])
    text = tmp_path / "text.png"
    text.write_text("no picture")
    found = find_broken([picture, cut, text, tmp_path / "gone.png"])
    assert [bad.index for bad in found] == [1, 2, 3]
    assert all(name in bad.reason for bad, name in zip(found, ("cut", "text", "gone"), strict=True))


def test_a_picture_that_lies_on_its_side_has_the_size_it_is_seen_with(tmp_path: Path) -> None:
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((10, 20, 3), np.uint8)).save(path, exif=exif)
    frame = frame_of_file(path, MADE)
    assert (frame.height, frame.width) == (20, 10)


def test_what_pictures_cannot_feed_is_refused() -> None:
    with pytest.raises(DataError, match="no recipe"):
        check_inputs("here", None, INPUTS)
    with pytest.raises(DataError, match="2 inputs"):
        check_inputs("here", MADE, INPUTS * 2)
    with pytest.raises(DataError, match=r"\[1, 3, 8, 8\]"):
        check_inputs("here", MADE, (TensorSpec("x", "float32", (1, 3, 9, 9)),))


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.png"):
        digest_of_file(tmp_path / "gone.png", lambda path: path.read_text())
