"""Preprocessing of detectors, judged by what they find: a network that finds white squares in pixels from 0 to 1."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from inspections import one_finding
from PIL import Image

from edgepack.data.samples import find_samples
from edgepack.graph.load import load_model
from edgepack.lint.boxes import check
from edgepack.specs.data import Finding, Preprocessing
from edgepack.specs.model import OnnxModel
from edgepack.specs.task import Task

SIDE, SQUARE = 64, 16


def write_finder(path: Path) -> OnnxModel:
    """x [1,3,64,64] -> the share of white in 16 x 16 pixels around every fourth, sharply, and boxes of 16 pixels."""
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        net (float[1,3,64,64] x) => (float[1,1,16,16] heat, float[1,2,16,16] sides) {
            grey = ReduceMean<axes=[1], keepdims=1>(x)
            share = AveragePool<kernel_shape=[16,16], strides=[4,4], pads=[6,6,6,6], count_include_pad=1>(grey)
            above = Sub(share, least)
            logits = Mul(above, steep)
            heat = Sigmoid(logits)
            nothing = Mul(share, zero)
            one = Add(nothing, four)
            sides = Concat<axis=1>(one, one)
        }"""
    )
    for name, number in (("least", 0.8), ("steep", 30.0), ("zero", 0.0), ("four", SQUARE / 4)):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array(number, np.float32), name))
    onnx.save(proto, path)
    return load_model(path)


def write_squares(root: Path, count: int) -> Path:
    (root / "images").mkdir(parents=True)
    random = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(count):
        pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
        left, top = (4 * random.integers(1, 11, 2) + 2).tolist()
        pixels[top : top + SQUARE, left : left + SQUARE] = 255
        Image.fromarray(pixels).save(root / "images" / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "height": SIDE, "width": SIDE})
        box = [left, top, SQUARE, SQUARE]
        annotations.append({"id": i + 1, "image_id": i, "category_id": 1, "bbox": box, "area": 256, "iscrowd": 0})
    document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "square"}]}
    (root / "boxes.json").write_text(json.dumps(document))
    return root / "boxes.json"


def judged(tmp_path: Path, made: Preprocessing, count: int = 14, task: Task | None = None) -> tuple[Finding, int]:
    model = write_finder(tmp_path / "net.onnx")
    task = task or Task("object-detection", "center-points", classes=("square",))
    samples = find_samples(str(write_squares(tmp_path / "data", count)), model.inputs, made, task=task)
    return one_finding(check, model, samples, tmp_path)


def test_a_detector_that_finds_its_things_is_run_a_few_times(tmp_path: Path) -> None:
    found, runs = judged(tmp_path, Preprocessing(resize=(SIDE, SIDE), scale=1 / 255))
    assert (found.severity, runs) == ("note", 12)
    assert "average precision at .50 is 1.000 with RGB, / 255 (calibration samples, n=12)" in found.message


def test_pixels_of_another_range_are_proven_wrong_and_the_right_one_is_named(tmp_path: Path) -> None:
    found, runs = judged(tmp_path, Preprocessing(resize=(SIDE, SIDE)))
    assert (found.severity, found.proven) == ("warning", True)
    assert runs > 12
    assert "with RGB, 0 to 255, 1.000 with RGB, / 255" in found.message
    assert "std = [255, 255, 255]" in str(found.hint)


@pytest.mark.parametrize(
    ("count", "task"),
    [
        (5, None),
        (8, Task("object-detection", "yolo")),  # outputs of another kind: the evaluation says so
        (8, Task("keypoints", "center-points")),  # boxes without points
        (8, Task("image-classification")),
    ],
)
def test_nothing_is_judged_on_a_few_pictures_or_of_other_tasks(tmp_path: Path, count: int, task: Task | None) -> None:
    assert judged(tmp_path, Preprocessing(resize=(SIDE, SIDE)), count, task)[0].check == "nothing"
