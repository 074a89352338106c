"""Preprocessing of segmenters, judged by their masks: a network that tells bright pixels from dark ones, 0 to 1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from PIL import Image

from edgepack.data.samples import find_samples
from edgepack.graph.load import load_model
from edgepack.lint import Inspected, Surveyed
from edgepack.lint.masks import check
from edgepack.lint.survey import Survey
from edgepack.specs.data import Finding, Preprocessing
from edgepack.specs.model import OnnxModel
from edgepack.specs.task import Task
from edgepack.specs.types import no_progress

SIDE = 32
UNIT = Preprocessing(resize=(SIDE, SIDE), scale=1 / 255)
IMAGENET = Preprocessing(resize=(SIDE, SIDE), scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
TASK = Task("semantic-segmentation", classes=("dark", "bright"))


def write_segmenter(path: Path) -> OnnxModel:
    """x [1,3,32,32] -> scores [1,2,32,32]: bright where the mean of the colours is between 0.4 and 1."""
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        net (float[1,3,32,32] x) => (float[1,2,32,32] scores) {
            grey = ReduceMean<axes=[1], keepdims=1>(x)
            off = Sub(grey, middle)
            away = Abs(off)
            dark = Sub(away, reach)
            bright = Neg(dark)
            scores = Concat<axis=1>(dark, bright)
        }"""
    )
    for name, number in (("middle", 0.7), ("reach", 0.3)):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array(number, np.float32), name))
    onnx.save(proto, path)
    return load_model(path)


def write_masks(root: Path, count: int) -> Path:
    random = np.random.default_rng(0)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for i in range(count):
        mask = np.zeros((SIDE, SIDE), np.uint8)
        top, left = random.integers(0, SIDE // 2, 2)
        mask[top : top + SIDE // 2, left : left + SIDE // 2] = 1
        noise = random.integers(0, 90, (SIDE, SIDE, 3))
        pixels = np.where(mask[:, :, None] == 1, 255 - noise, noise).astype(np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{i}.png")
        Image.fromarray(mask).save(root / "masks" / f"{i}.png")
    return root


def judged(tmp_path: Path, made: Preprocessing, count: int = 16) -> tuple[Finding, int]:
    write_masks(tmp_path / "data", count)
    return judge(tmp_path, made)


def judge(tmp_path: Path, made: Preprocessing) -> tuple[Finding, int]:
    model = write_segmenter(tmp_path / "net.onnx")
    samples = find_samples(str(tmp_path / "data"), model.inputs, made, task=TASK)
    surveyed = Surveyed("calibration samples", samples, Survey((), (), None, (), (), ()), None)
    found = check(Inspected(model, surveyed, None, "minmax", 99.99, tmp_path, no_progress))
    if not found.findings:
        return Finding("nothing", "note", ""), found.model_runs
    (finding,) = found.findings
    return finding, found.model_runs


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
