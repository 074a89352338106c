"""Preprocessing of segmenters, judged by their masks: a network that tells bright pixels from dark ones, 0 to 1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from inspections import one_finding
from mask_data import IMAGENET, SIDE, TASK, UNIT, write_masks, write_segmenter
from PIL import Image

from edgepack.data.samples import find_samples
from edgepack.lint import masks
from edgepack.lint.masks import check
from edgepack.specs.answer import Mask
from edgepack.specs.data import Finding, Preprocessing
from edgepack.specs.task import Frame
from edgepack.tasks import answer


def judged(tmp_path: Path, made: Preprocessing, count: int = 16) -> tuple[Finding, int]:
    write_masks(tmp_path / "data", count)
    return judge(tmp_path, made)


def judge(tmp_path: Path, made: Preprocessing) -> tuple[Finding, int]:
    model = write_segmenter(tmp_path / "net.onnx")
    samples = find_samples(str(tmp_path / "data"), model.inputs, made, task=TASK)
    return one_finding(check, model, samples, tmp_path)


def test_a_segmenter_with_its_own_pixels_is_only_noted(tmp_path: Path) -> None:
    found, runs = judged(tmp_path, UNIT)
    assert found.severity == "note"
    assert "mean IoU of classes is 1.000 with RGB, / 255 (calibration samples, n=12)" in found.message
    assert runs < 80


def test_anothers_mean_and_std_are_proven_wrong_on_other_pictures_than_they_were_chosen_on(tmp_path: Path) -> None:
    """A suggested ImageNet mean and std halved the overlap, and nothing said so."""
    found, _ = judged(tmp_path, IMAGENET)
    assert (found.severity, found.proven) == ("warning", True)
    assert "with RGB, ImageNet mean and std, 1.000 with RGB, / 255 (calibration samples, n=12;" in found.message
    assert "std = [255, 255, 255]" in str(found.hint)


@pytest.mark.parametrize("unlabelled", [False, True])
def test_nothing_is_judged_on_a_few_pictures(unlabelled: bool, tmp_path: Path) -> None:
    """Nor on many, where few masks have a pixel that is of a class."""
    if not unlabelled:
        assert judged(tmp_path, IMAGENET, 7)[0].check == "nothing"
        return
    root = write_masks(tmp_path / "data", 16)
    for path in list((root / "masks").iterdir())[7:]:
        Image.fromarray(np.full((SIDE, SIDE), 255, np.uint8)).save(path)
    assert judge(tmp_path, IMAGENET)[0].check == "nothing"


def test_large_masks_are_looked_at_in_a_grid_that_lies_where_they_do() -> None:
    """A white square that a network of 32 pixels finds to the pixel, in a picture of 320 x 640."""
    labels = np.zeros((320, 640), np.uint16)
    labels[80:200, 100:400] = 1
    frame = Frame(height=320, width=640, input_height=32, input_width=32, scale_y=32 / 320, scale_x=32 / 640)
    small, where = masks._grid(Mask(labels), frame)
    assert small.labels.shape == (256, 256)
    assert (where.height, where.width) == (256, 256)
    scores = np.zeros((1, 2, 32, 32), np.float32)
    scores[0, 1, 8:20, 5:20] = scores[0, 0] = 1
    scores[0, 0, 8:20, 5:20] = 0
    found = answer(TASK, {"scores": scores}, where)
    assert (found.labels == small.labels).mean() > 0.98
    assert masks._grid(small, where)[0].labels.shape == (256, 256)
