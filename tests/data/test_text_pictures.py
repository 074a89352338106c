import numpy as np
import pytest
from PIL import Image

from edgepack.data.samples import find_samples, read_any_labels, read_samples
from edgepack.data.text_pictures import read_charset
from edgepack.errors import DataError
from edgepack.specs.data import Preprocessing
from edgepack.specs.model import TensorSpec
from edgepack.specs.task import Task

TASK = Task("text-recognition")
MADE = Preprocessing(resize=(8, 64), letterbox=True, stride=8, anchor="top-left", pad=128)
INPUTS = (TensorSpec("x", "float32", ("N", 3, 8, "width")),)


@pytest.fixture
def folder(tmp_path):
    for name, width in (("a.png", 30), ("b.png", 50)):
        Image.fromarray(np.full((8, width, 3), 255, np.uint8)).save(tmp_path / name)
    return tmp_path


def test_a_csv_says_what_stands_in_each_picture(folder):
    (folder / "labels.csv").write_text('file,label\nb.png,"1, 2"\na.png,007\n')
    found = find_samples(str(folder), INPUTS, MADE, task=TASK)
    assert found.kind == "text-pictures"
    assert list(read_any_labels(found)) == ["007", "1, 2"]
    assert [feed["x"].shape for feed in read_samples(found, INPUTS)] == [(1, 3, 8, 32), (1, 3, 8, 56)]


def test_without_one_there_are_no_labels(folder):
    assert not find_samples(str(folder), INPUTS, MADE, task=TASK).labelled


def test_a_picture_without_a_text_and_a_text_without_a_picture_are_named(folder):
    (folder / "labels.csv").write_text("file,label\na.png,x\nc.png,y\n")
    with pytest.raises(DataError, match=r"has no text for b\.png \(and 1 more"):
        find_samples(str(folder), INPUTS, MADE, task=TASK)
    found = find_samples(str(folder), INPUTS, MADE, task=TASK, skip_bad=2)
    assert found.indices == (0,)
    assert any("no picture 'c.png'" in text for text in found.skipped)


def test_a_file_has_the_letters_one_a_line(folder):
    (folder / "charset.txt").write_text("a\nb\n\u3000\n\n", encoding="utf-8")
    assert read_charset(folder) == ("a", "b", "\u3000", "")
    assert find_samples(str(folder), INPUTS, MADE, task=TASK).classes == ("a", "b", "\u3000", "")
    (folder / "charset.txt").write_bytes(b"\xff")
    with pytest.raises(DataError, match="not a list of letters"):
        read_charset(folder)
