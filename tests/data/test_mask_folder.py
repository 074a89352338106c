"""Pictures with masks: where they lie, what their values mean, and what may be wrong with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgepack.data.samples import find_samples, read_any_labels, read_samples
from edgepack.errors import DataError
from edgepack.specs.answer import Mask
from edgepack.specs.data import Preprocessing, SampleSet
from edgepack.specs.model import TensorSpec
from edgepack.specs.task import Task

MADE = Preprocessing(resize=(8, 8))
INPUTS = (TensorSpec("x", "float32", (1, 3, 8, 8)),)
TASK = Task("semantic-segmentation", classes=("road", "car", "sky"))
VALUES = np.array([[0, 1, 2, 255]] * 3, np.uint8)


def find(root: Path, skip_bad: int = 0, task: Task = TASK) -> SampleSet:
    return find_samples(str(root), INPUTS, MADE, task=task, skip_bad=skip_bad)


def write(root: Path, pictures: str = "images/{}.jpg", masks: str = "masks/{}.png", palette: bool = False) -> Path:
    for number in range(3):
        picture, mask = root / pictures.format(number), root / masks.format(number)
        picture.parent.mkdir(parents=True, exist_ok=True)
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((3, 4, 3), 40 * number, np.uint8)).save(picture)
        image = Image.fromarray(VALUES)
        if palette:
            image = Image.frombytes("P", (4, 3), VALUES.tobytes())
            image.putpalette([200, 10, 10] * 256)
        image.save(mask)
    return root


@pytest.mark.parametrize("palette", [False, True])
@pytest.mark.parametrize(
    ("pictures", "masks"),
    [
        ("images/{}.jpg", "masks/{}.png"),
        ("images/val/{}.jpg", "labels/val/{}.png"),
        ("JPEGImages/{}.jpg", "SegmentationClass/{}.png"),
        ("{}.jpg", "{}_mask.png"),
    ],
)
def test_masks_are_found_and_read(pictures: str, masks: str, palette: bool, tmp_path: Path) -> None:
    samples = find(write(tmp_path, pictures, masks, palette))
    assert (samples.kind, len(samples.indices), samples.classes) == ("masks", 3, TASK.classes)
    label = read_any_labels(samples)[1]
    assert label.labels.tolist() == [[0, 1, 2, Mask.IGNORED]] * 3
    assert len(list(read_samples(samples, INPUTS))) == 3


def test_only_segmentation_asks_for_masks(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\(images, masks\) are not classes of pictures"):
        find(write(tmp_path), task=Task("object-detection", "yolo"))


def test_a_changed_mask_is_another_set(tmp_path: Path) -> None:
    before = find(write(tmp_path)).sha256
    Image.fromarray(VALUES[:, ::-1].copy()).save(tmp_path / "masks" / "1.png")
    assert find(tmp_path).sha256 != before


def test_the_value_of_no_class_is_a_setting(tmp_path: Path) -> None:
    task = Task("semantic-segmentation", settings={"ignore": 0})
    label = read_any_labels(find(write(tmp_path), task=task))[0]
    assert label.labels[0].tolist() == [Mask.IGNORED, 1, 2, 255]


def test_what_is_wrong_is_named_and_can_be_left_out(tmp_path: Path) -> None:
    write(tmp_path)
    Image.fromarray(VALUES[:2]).save(tmp_path / "masks" / "1.png")
    with pytest.raises(DataError, match=r"1\.png is 4x2 and its picture 4x3 pixels"):
        find(tmp_path)
    assert find(tmp_path, skip_bad=1).indices == (0, 2)
    (tmp_path / "images" / "2.jpg").unlink()
    with pytest.raises(DataError, match=r"2\.png has no picture"):
        find(tmp_path)
    assert find(tmp_path, skip_bad=2).indices == (0,)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (Image.fromarray(np.full((3, 4), 7, np.uint8)), "has the value 7, and there are 3 classes"),
        (Image.fromarray(np.zeros((3, 4, 3), np.uint8)), "of colours, not of numbers"),
    ],
)
def test_masks_that_number_nothing_are_refused(mask: Image.Image, message: str, tmp_path: Path) -> None:
    write(tmp_path)
    mask.save(tmp_path / "masks" / "0.png")
    with pytest.raises(DataError, match=message):
        read_any_labels(find(tmp_path))[0]


def write_of_one_thing(root: Path) -> Path:
    write(root)
    for path in (root / "masks").iterdir():
        Image.fromarray(np.array([[0, 255, 255, 0]] * 3, np.uint8)).save(path)
    return root


def test_masks_of_0_and_255_do_not_count_for_nothing_without_a_word(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="values 0 and 255 alone, and 255 counts for no class") as caught:
        find(write_of_one_thing(tmp_path))
    assert "values = [0, 255]" in caught.value.hint
    stated = Task("semantic-segmentation", settings={"ignore": 255})
    label = read_any_labels(find(tmp_path, task=stated))[0]
    assert label.labels[0].tolist() == [0, Mask.IGNORED, Mask.IGNORED, 0]


def test_a_recipe_says_which_values_the_classes_have(tmp_path: Path) -> None:
    task = Task("semantic-segmentation", settings={"values": (0, 255)})
    labels = read_any_labels(find(write_of_one_thing(tmp_path), task=task))
    assert labels[0].labels[0].tolist() == labels[1:][0].labels[0].tolist() == [0, 1, 1, 0]
    other = Task("semantic-segmentation", settings={"values": (0, 128)})
    assert read_any_labels(find(tmp_path, task=other))[0].labels[0].tolist() == [0, Mask.IGNORED, Mask.IGNORED, 0]
    wrong = Task("semantic-segmentation", settings={"values": (0, 128), "ignore": 3})
    with pytest.raises(DataError, match=r"has the value 255, which is none of \[0, 128\]"):
        read_any_labels(find(tmp_path, task=wrong))[0]


def test_masks_in_their_own_folder_may_have_an_ending_too(tmp_path: Path) -> None:
    assert len(find(write(tmp_path, masks="masks/{}_mask.png")).indices) == 3


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ("car\nroad\nsky\n", r"labels\.txt has 'car' as class 0, which is class 1 of the model"),
        ("road\ncar\n", r"labels\.txt names 2 classes, and the model has 3"),
        ("street\nsky\nroad\n", r"labels\.txt has 'sky' as class 1, which is class 2 of the model"),
    ],
)
def test_a_list_that_numbers_the_classes_otherwise_than_the_model_is_refused(
    listed: str, message: str, tmp_path: Path
) -> None:
    (write(tmp_path) / "labels.txt").write_text(listed)
    with pytest.raises(DataError, match=message):
        find(tmp_path)


@pytest.mark.parametrize("listed", ["road\ncar\nsky\n", "street\nauto\nsky\n"])
def test_a_list_in_the_models_order_is_taken_also_with_other_words(listed: str, tmp_path: Path) -> None:
    (write(tmp_path) / "labels.txt").write_text(listed)
    assert find(tmp_path).classes == TASK.classes


def test_pictures_without_a_mask_are_left_out_with_a_word(tmp_path: Path) -> None:
    write(tmp_path)
    assert find(tmp_path).notes == ()
    (tmp_path / "masks" / "1.png").unlink()
    found = find(tmp_path)
    assert len(found.indices) == 2
    assert found.notes == (f"images/1.jpg of {tmp_path} has no mask and is left out",)
    (tmp_path / "masks" / "0.png").unlink()
    assert find(tmp_path).notes == (
        f"2 pictures of {tmp_path} have no mask and are left out: images/0.jpg, for example",
    )
