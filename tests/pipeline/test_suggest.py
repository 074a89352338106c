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
from shape_data import write_detector

from edgepack.data.recipes import load_recipe
from edgepack.errors import EdgepackError
from edgepack.pipeline.suggest import suggest_recipes


def test_a_file_is_looked_at(tmp_path: Path) -> None:
    path = write_detector(tmp_path / "shapes.onnx")
    assert suggest_recipes(path) == ()
    words = [sys.executable, "-m", "edgepack", "recipes", "suggest", str(path)]
    assert "no recipe is suggested" in subprocess.run(words, capture_output=True, text=True, check=True).stdout


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


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_text("no model")
    with pytest.raises(EdgepackError):
        suggest_recipes(tmp_path / "x.onnx")
