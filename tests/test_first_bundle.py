"""The way of a new user: an own .onnx, a folder of pictures, and no file to write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image
from small_bundles import small_onnx

pytestmark = pytest.mark.slow


def edgepack(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "EDGEPACK_STORE": str(folder / "store"), "EDGEPACK_CACHE": str(folder / "cache")}
    command = [sys.executable, "-m", "edgepack", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_two_commands_lead_to_a_verified_int8_bundle(tmp_path: Path) -> None:
    """The third is pip. Without the recipe the first attempt names the one word that is missing."""
    model = onnx.load(small_onnx(tmp_path / "net.onnx"))
    for axis, size in ((2, 224), (3, 224)):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = size
    onnx.save(model, tmp_path / "net.onnx")
    (tmp_path / "pictures").mkdir()
    random = np.random.default_rng(0)
    for i in range(12):
        smooth = np.kron(random.integers(0, 255, (4, 4, 3)), np.ones((16, 16, 1))).astype(np.uint8)
        Image.fromarray(smooth).save(tmp_path / "pictures" / f"{i}.png")
    words = ("build", "net.onnx", "--data", "pictures", "--precision", "int8", "--no-benchmark", "--json")
    missing = edgepack(tmp_path, *words)
    assert missing.returncode == 2
    assert "--recipe imagenet" in missing.stderr.splitlines()[-1]
    done = edgepack(tmp_path, *words, "--recipe", "imagenet")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    assert row["status"] == "ok"
    ran = edgepack(tmp_path, "run", row["bundle"], "--input", "pictures/1.png")
    assert ran.returncode == 0, ran.stderr
    assert edgepack(tmp_path, "verify", row["bundle"]).returncode == 0
