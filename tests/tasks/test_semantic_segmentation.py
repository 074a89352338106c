"""Maps as the class of every pixel of the picture, whatever size and place it had in the input."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from edgepack.data.geometry import frame_of
from edgepack.errors import ConfigError, DataError
from edgepack.specs.answer import Mask
from edgepack.specs.data import Preprocessing
from edgepack.specs.task import Frame, Task
from edgepack.tasks import answer, check_task


def labels(output: np.ndarray, frame: Frame, **settings: object) -> np.ndarray:
    task = Task("semantic-segmentation", settings=settings, classes=("road", "car"))  # type: ignore[arg-type]
    found = answer(task, {"x": output}, frame)
    assert isinstance(found, Mask)
    return found.labels


def test_scores_between_cells_are_in_proportion_as_in_a_bilinear_resize() -> None:
    scores = np.random.default_rng(0).normal(size=(1, 4, 12, 20)).astype(np.float32)
    frame = frame_of(60, 100, Preprocessing(resize=(24, 40)))
    planes = [np.asarray(Image.fromarray(plane).resize((100, 60), Image.Resampling.BILINEAR)) for plane in scores[0]]
    expected = np.argmax(planes, axis=0)
    assert (labels(scores, frame) == expected).mean() > 0.999  # equal but for ties of rounding


def test_padding_of_a_letterbox_is_no_part_of_the_picture() -> None:
    scores = np.zeros((1, 2, 64, 64), np.float32)
    scores[0, 1, 16:48, :32] = 5  # the left half of the picture; it lies in rows 16 to 48
    scores[0, 1, :16] = scores[0, 1, 48:] = 9
    scores[0, 0] = 1
    found = labels(scores, frame_of(50, 100, Preprocessing(resize=(64, 64), letterbox=True)))
    assert found.shape == (50, 100)
    assert (found[2:48, :49] == 1).all()
    assert (found[2:48, 51:] == 0).all()


def test_one_channel_is_the_score_of_the_second_class() -> None:
    found = labels(np.array([[[[0.2, 0.8]]]], np.float32), Frame(2, 4, 1, 2, 0.5, 0.5))
    assert found.tolist() == [[0, 0, 1, 1]] * 2
    assert labels(np.array([[[[0.2, 0.8]]]], np.float32), Frame(1, 2, 1, 2), least=0.9).tolist() == [[0, 0]]


def test_classes_that_the_model_gives_are_taken() -> None:
    classes = np.array([[[3, 0], [1, 2]]])
    for output in (classes, classes[:, None].astype(np.int32), classes[..., None]):
        assert labels(output, Frame(4, 4, 2, 2, 0.5, 0.5)).tolist() == np.kron(classes[0], np.ones((2, 2))).tolist()
    nhwc = np.zeros((1, 2, 2, 3), np.float32)
    nhwc[0, 0, 0, 2] = 1
    assert labels(nhwc, Frame(2, 2, 2, 2), layout="NHWC").tolist() == [[2, 0], [0, 0]]


def test_what_is_no_map_is_refused() -> None:
    with pytest.raises(DataError, match="not a map"):
        labels(np.zeros((1, 10), np.float32), Frame())
    with pytest.raises(DataError, match="larger than any picture"):
        labels(np.zeros((1, 2, 4, 4), np.float32), Frame(100_000, 100_000, 4, 4))
    with pytest.raises(ConfigError, match="ignore = -1"):
        check_task(Task("semantic-segmentation", settings={"ignore": -1}))
    with pytest.raises(ConfigError, match=r"values = \[0, 0\]"):
        check_task(Task("semantic-segmentation", settings={"values": (0, 0)}))
