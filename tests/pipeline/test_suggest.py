"""``edgepack recipes suggest`` on a file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from mask_data import write_masks, write_segmenter
from PIL import Image
from shape_data import write_detector

from edgepack.data.recipes import load_recipe
from edgepack.data.suggest import Suggestion
from edgepack.errors import ConfigError, DataError, EdgepackError
from edgepack.pipeline.suggest import named, suggest_recipes, suited, told_by


def test_a_file_is_looked_at(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    net (float[N,7,5] x) => (float[N,7,5] y) { y = Relu(x) }"""
    path = tmp_path / "net.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    assert suggest_recipes(path) == ()
    words = [sys.executable, "-m", "edgepack", "recipes", "suggest", str(path)]
    ran = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "no recipe is suggested" in ran.stdout
    assert "FILE.npz" in ran.stderr


@pytest.mark.slow
def test_what_is_found_is_printed(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        yolo (float[1,3,64,64] images) => (float[1,10,84] o) {
            flat = Flatten(images)
            part = Slice(flat, begin, end, axis)
            o = Reshape(part, shape)
        }"""
    )
    values = {"begin": [0], "end": [10 * 84], "axis": [1], "shape": [1, 10, 84]}
    for name, value in values.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value), name))
    onnx.save(model, tmp_path / "net.onnx")
    (found,) = suggest_recipes(tmp_path / "net.onnx")[:1]
    changed = "resize = [64, 64], no names of classes: it has 6, the recipe names others"
    assert (found.recipe, found.change) == ("yolov8", changed)
    words = [sys.executable, "-m", "edgepack", "recipes", "suggest", str(tmp_path / "net.onnx")]
    printed = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "yolov8" in printed.stdout
    assert "nearly sure" in printed.stdout
    subprocess.run([*words, "-o", str(tmp_path / "own.toml")], capture_output=True, text=True, check=True)
    assert "resize = [64, 64]" in (tmp_path / "own.toml").read_text()
    assert load_recipe(str(tmp_path / "own.toml")).task.classes == ()
    assert json.loads(subprocess.run([*words, "--json"], capture_output=True, text=True, check=True).stdout)


def free_network(path: Path) -> Path:
    """Write a network of any sides that are multiples of 8, with one map of the input's own size."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
    net (float[N,3,H,W] x) => (float[N,c,h,w] map)
    <float[4] by = {1.0, 1.0, 8.0, 8.0}, int64[1] axis = {1}> {
        small = AveragePool<kernel_shape=[8, 8], strides=[8, 8]>(x)
        large = Resize<mode="nearest">(small, , by)
        sum = Add(x, large)
        map = ReduceMean<axes=[1], keepdims=1>(sum)
    }"""
    onnx.save(onnx.parser.parse_model(text), path)
    return path


@pytest.mark.slow
def test_a_size_that_the_model_takes_is_proposed(tmp_path: Path) -> None:
    path = free_network(tmp_path / "net.onnx")
    first = suggest_recipes(path)[0]
    assert (first.recipe, first.proposed, first.changes) == ("unet", (640, 640), {"resize": "[640, 640]"})
    first = suggest_recipes(path, (64, 96))[0]
    assert (first.recipe, first.proposed, first.changes) == ("unet", (64, 96), {"resize": "[64, 96]"})
    with pytest.raises(ConfigError, match=r"does not run with x as \[1, 3, 60, 60\]"):
        suggest_recipes(path, (60, 60))


def test_a_size_is_for_models_that_have_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no free height and width"):
        suggest_recipes(write_detector(tmp_path / "shapes.onnx"), (64, 64))


@pytest.mark.slow
def test_a_free_size_leads_to_a_recipe_by_one_command(tmp_path: Path) -> None:
    free_network(tmp_path / "net.onnx")
    words = [sys.executable, "-m", "edgepack", "recipes", "suggest", "net.onnx", "-o", "own.toml", "--size", "64x96"]
    ran = subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "64x96 is used" in ran.stdout
    assert "edgepack build net.onnx --data DATA --recipe own.toml" in " ".join(ran.stderr.split())
    made = load_recipe(str(tmp_path / "own.toml")).preprocessing
    assert made is not None
    assert made.resize == (64, 96)


def test_samples_leave_those_whose_task_reads_their_labels(tmp_path: Path) -> None:
    """COCO's boxes are for detectors and points, masks beside pictures first for segmenters, pictures alone for any."""
    found = tuple(Suggestion(name, "possible", "") for name in ("imagenet", "deeplab", "hrnet-pose", "ssd"))
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco" / "a.json").write_text('{"images": [], "annotations": [], "categories": []}')
    for name in ("masks", "images"):
        (tmp_path / "masked" / name).mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / "masked" / name / "a.png")
    (tmp_path / "plain").mkdir()
    for data, kept in (
        ("coco", ["hrnet-pose", "ssd"]),
        ("masked", ["deeplab", "imagenet", "hrnet-pose", "ssd"]),
        ("plain", ["imagenet", "deeplab", "hrnet-pose", "ssd"]),
    ):
        assert [one.recipe for one in suited(found, str(tmp_path / data))] == kept
    with pytest.raises(DataError):
        suited(found, str(tmp_path / "nothing"))
    assert named(found, "deeplab") is found[1]
    with pytest.raises(ConfigError, match="'yolov8' is not suggested"):
        named(found, "yolov8")


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_text("no model")
    with pytest.raises(EdgepackError):
        suggest_recipes(tmp_path / "x.onnx")


def test_labelled_samples_name_the_classes_and_tell_whether_the_preprocessing_fits(tmp_path: Path) -> None:
    """A suggested mean and std halved a segmenter's overlap, and its classes were left out beside a labels.txt."""
    write_segmenter(tmp_path / "net.onnx")
    found, data = suggest_recipes(tmp_path / "net.onnx"), write_masks(tmp_path / "data", 16)
    assert (found[0].recipe, found[0].unnamed) == ("deeplab", 2)
    (data / "labels.txt").write_text("dark\nbright\n")
    told = told_by(tmp_path / "net.onnx", found[:1], str(data))[0]
    assert (told.classes, told.unnamed) == (("dark", "bright"), 0)
    assert told.labels_say[0].startswith("the preprocessing does not fit the model: mean IoU of classes is")
    assert told.labels_say[1].startswith("encode pixels as RGB, / 255")
    assert told.changes == found[0].changes  # said, not done
    (data / "masks" / "3.png").write_bytes(b"")
    told = told_by(tmp_path / "net.onnx", found[:1], str(data))[0]
    assert "could not be tried" in told.labels_say[0]
    assert "3.png" in told.labels_say[0]
