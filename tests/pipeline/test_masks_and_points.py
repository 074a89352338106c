"""A segmenter and a finder of points from labelled pictures to answers: small networks that really do it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from PIL import Image
from shape_data import draw

from edgepack import api
from edgepack.execution.store import Store
from edgepack.pipeline.build import build
from edgepack.pipeline.settings import BuildSettings
from edgepack.specs.answer import Boxes, Mask
from edgepack.specs.build import BuildResult

pytestmark = pytest.mark.long

SEGMENTER = """<ir_version: 8, opset_import: ["" : 17]>
net (float[1,3,48,72] image) => (float[1,2,48,72] scores) {
    grey = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(image, w1, b1)
    bright = Relu(grey)
    scores = Conv<kernel_shape=[1,1]>(bright, w2, b2)
}"""
POINTS = """<ir_version: 8, opset_import: ["" : 17]>
net (float[1,3,64,64] image) => (float[1,2,16,16] maps) {
    colours = Conv<kernel_shape=[1,1]>(image, w1, b1)
    bright = Relu(colours)
    maps = Conv<kernel_shape=[8,8], strides=[4,4], pads=[2,2,2,2]>(bright, w2, b2)
}"""
PICTURES = """
title = "test"
[preprocessing]
resize = [{}, {}]
letterbox = true
resampler = "opencv"
scale = 0.00392156862745098
"""


def save(path: Path, text: str, **values: np.ndarray) -> Path:
    model = onnx.parser.parse_model(text)
    for name, value in values.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value, np.float32), name))
    onnx.save(model, path)
    return path


def built(root: Path, model: Path, recipe: str) -> BuildResult:
    (root / "own.toml").write_text(recipe)
    settings = BuildSettings(
        model=str(model), precisions=("fp32", "int8"), data=str(root / "data"), recipe=str(root / "own.toml"),
        samples=4, out=str(root / "out"), min_sqnr=-200, benchmark=False,
    )  # fmt: skip
    return build(settings, Store(root / "store"))


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BuildResult]:
    """Bright pixels are shapes; pictures of 80 x 120 pixels lie in an input of 48 x 72."""
    root = tmp_path_factory.mktemp("segmenter")
    for part in ("images", "masks"):
        (root / "data" / part).mkdir(parents=True)
    for seed in range(10):
        pixels, _ = draw(seed)
        Image.fromarray(pixels).save(root / "data" / "images" / f"{seed}.png")
        Image.fromarray((pixels.min(axis=2) >= 100).astype(np.uint8)).save(root / "data" / "masks" / f"{seed}.png")
    model = save(
        root / "net.onnx", SEGMENTER, w1=np.full((1, 3, 3, 3), 1 / 27), b1=[-0.2],
        w2=np.array([[[[-1.0]]], [[[1.0]]]]), b2=[0.15, -0.15],
    )  # fmt: skip
    task = '[task]\nkind = "semantic-segmentation"\nclasses = ["ground", "shape"]\n'
    return root, built(root, model, PICTURES.format(48, 72) + task)


def test_masks_are_measured(segmenter: tuple[Path, BuildResult]) -> None:
    for row in segmenter[1].rows:
        assert row.status == "ok", row.reason
        assert row.accuracy is not None
        assert (row.accuracy.metric, row.accuracy.n, row.accuracy.truth) == ("miou", 6, "labels")
        assert row.accuracy.value > 0.75


def test_a_build_of_fp32_alone_misses_the_gate_where_the_preprocessing_does_not_fit(
    segmenter: tuple[Path, BuildResult],
) -> None:
    root = segmenter[0]
    wrong = PICTURES.replace("scale = 0.00392156862745098", "scale = 1.0").format(48, 72)
    (root / "wrong.toml").write_text(wrong + '[task]\nkind = "semantic-segmentation"\nclasses = ["ground", "shape"]\n')
    settings = BuildSettings(
        model=str(root / "net.onnx"), precisions=("fp32",), eval=str(root / "data"), recipe=str(root / "wrong.toml"),
        out=str(root / "wrong"), benchmark=False,
    )  # fmt: skip
    result = build(settings, Store(root / "store"))
    assert result.rows[0].status == "gate_missed"
    assert "the preprocessing does not fit the model: mean IoU of classes is" in str(result.rows[0].reason)
    assert any("the preprocessing does not fit" in warning for warning in result.warnings)


def test_the_device_answers_with_a_mask_of_the_pictures_size(
    segmenter: tuple[Path, BuildResult], tmp_path: Path
) -> None:
    root, result = segmenter
    picture, bundle = root / "data" / "images" / "9.png", str(result.rows[1].bundle)
    with api.load(bundle) as model:
        found = model.predict(picture)
        other = model.predict(draw(9)[0])
    assert isinstance(found, Mask)
    assert isinstance(other, Mask)
    assert np.array_equal(found.labels, other.labels)
    truth = np.asarray(Image.open(root / "data" / "masks" / "9.png"))
    assert found.labels.shape == truth.shape
    assert (found.labels == truth).mean() > 0.95
    words = [sys.executable, "-m", "edgepack", "run", bundle, "--input", str(picture)]
    more = ["--out", str(tmp_path / "out.npz"), "--draw", str(tmp_path / "drawn.png")]
    printed = subprocess.run([*words, *more], capture_output=True, text=True, check=True).stdout
    assert "% ground" in printed
    assert np.array_equal(np.load(tmp_path / "out.npz")["labels"], found.labels)
    with Image.open(tmp_path / "drawn.png") as drawn:
        assert drawn.size == (120, 80)


@pytest.fixture(scope="module")
def finder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BuildResult]:
    """A red and a blue square: their middles are the points of the one thing."""
    root, random = tmp_path_factory.mktemp("finder"), np.random.default_rng(0)
    for part in ("images", "labels"):
        (root / "data" / part).mkdir(parents=True)
    for number in range(10):
        pixels = random.integers(0, 40, (96, 96, 3), dtype=np.uint8)
        red, blue = random.integers(0, 36, 2), random.integers(48, 84, 2)
        for (x, y), colour in ((red, [220, 20, 20]), (blue, [20, 20, 220])):
            pixels[y : y + 12, x : x + 12] = colour
        Image.fromarray(pixels).save(root / "data" / "images" / f"{number}.png")
        (x1, y1), (x2, y2) = (red + 6) / 96, (blue + 6) / 96
        box = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
        text = " ".join(map(str, (0, *box, x1, y1, 2, x2, y2, 2)))
        (root / "data" / "labels" / f"{number}.txt").write_text(text)
    (root / "data" / "data.yaml").write_text("val: images\nnames: [thing]\nkpt_shape: [2, 3]\n")
    blur = np.zeros((2, 2, 8, 8))
    blur[0, 0] = blur[1, 1] = 1 / 64
    model = save(
        root / "net.onnx", POINTS, w1=np.array([[1, -0.5, -0.5], [-0.5, -0.5, 1]])[:, :, None, None], b1=[-0.1, -0.1],
        w2=blur, b2=[0, 0],
    )  # fmt: skip
    task = '[task]\nkind = "keypoints"\ndecoder = "heat-maps"\nclasses = ["thing"]\n[task.settings]\nscore = 0.1\n'
    return root, built(root, model, PICTURES.format(64, 64) + task)


def test_points_are_measured_and_found(finder: tuple[Path, BuildResult]) -> None:
    root, result = finder
    for row in result.rows:
        assert row.status == "ok", row.reason
        assert row.accuracy is not None
        assert (row.accuracy.metric, row.accuracy.n) == ("oks", 6)
        assert row.accuracy.value > 0.8
    with api.load(str(result.rows[1].bundle)) as model:
        found = model.predict(root / "data" / "images" / "0.png")
    assert isinstance(found, Boxes)
    assert found.points is not None
    words = (root / "data" / "labels" / "0.txt").read_text().split()[5:]
    wanted = np.array(words, float).reshape(2, 3)[:, :2] * 96
    assert np.abs(found.points[0, :, :2] - wanted).max() < 4
