"""A new user's path: an own .onnx of free sizes and a folder of pictures, and no file to edit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from PIL import Image

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N,3,H,W] x) => (float[N,7] scores) {
    first = Conv<kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]>(x, w1)
    seen = Relu(first)
    second = Conv<kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]>(seen, w2)
    again = Relu(second)
    pooled = GlobalAveragePool(again)
    flat = Flatten(pooled)
    scores = Gemm<transB=1>(flat, w3)
}"""


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder with net.onnx, whose height and width are free, and pictures of several sizes."""
    rng = np.random.default_rng(0)
    proto = onnx.parser.parse_model(TEXT)
    for name, shape in {"w1": (16, 3, 3, 3), "w2": (24, 16, 3, 3), "w3": (7, 24)}.items():
        array = rng.normal(size=shape) * (2 / np.prod(shape[1:])) ** 0.5
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
    onnx.save(proto, tmp_path / "net.onnx")
    (tmp_path / "pictures").mkdir()
    for number in range(24):
        height, width = rng.integers(60, 140, 2)
        low = rng.integers(0, 256, (4, 5, 3), np.uint8)
        Image.fromarray(low).resize((int(width), int(height)), Image.Resampling.BICUBIC).save(
            tmp_path / "pictures" / f"{number}.png"
        )
    return tmp_path


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgepack", *words], cwd=folder, capture_output=True, text=True, check=False
    )


def rows(folder: Path) -> dict[str, str]:
    built = json.loads((folder / "build.json").read_text())["rows"]
    return {row["target"]: row["status"] for row in built}


@pytest.mark.slow
def test_what_lacks_is_said_with_the_line_to_type(desk: Path) -> None:
    ran = run(desk, "build", "net.onnx", "--data", "pictures", "--precision", "int8")
    assert ran.returncode == 2
    assert "no recipe says how to preprocess them" in ran.stderr
    assert "'edgepack recipes suggest net.onnx -o own.toml'" in " ".join(ran.stderr.split())


@pytest.mark.slow
@pytest.mark.long
def test_two_commands_and_no_edit_lead_to_verified_int8_bundles(desk: Path) -> None:
    """Also for an engine that compiles for known shapes only: the recipe's size is taken."""
    assert run(desk, "recipes", "suggest", "net.onnx", "--size", "64", "-o", "own.toml").returncode == 0
    words = ["--recipe", "own.toml", "--precision", "int8", "--target", "host-onnxruntime,host-tvm", "--out", "out"]
    ran = run(desk, "build", "net.onnx", "--data", "pictures", "--no-benchmark", *words)
    assert ran.returncode == 0, ran.stderr
    assert rows(desk / "out") == {"host-onnxruntime": "ok", "host-tvm": "ok"}
    verified = run(desk, "verify", "out/net-host-tvm-int8.edgepack")
    assert verified.returncode == 0, verified.stderr


@pytest.mark.slow
@pytest.mark.long
def test_init_and_build_lead_there_too(desk: Path) -> None:
    assert run(desk, "init", "--yes", "--model", "net.onnx", "--data", "pictures").returncode == 0
    ran = run(desk, "build", "--no-benchmark", "--precision", "int8", "--out", "out")
    assert ran.returncode == 0, ran.stderr
    assert rows(desk / "out") == {"host-onnxruntime": "ok"}


@pytest.mark.slow
def test_a_shape_makes_the_recipes_pictures_that_large_and_says_so(desk: Path) -> None:
    words = ["--recipe", "imagenet", "--shape", "1x3x48x96", "--no-benchmark", "--out", "out"]
    ran = run(desk, "build", "net.onnx", "--data", "pictures", *words)
    assert ran.returncode == 0, ran.stderr
    assert "--shape: the recipe imagenet makes pictures so: 96 x 48" in " ".join(ran.stderr.split())
    shown = json.loads(run(desk, "inspect", "--json", "out/net-host-onnxruntime-fp32.edgepack").stdout)
    assert shown["manifest"]["preprocessing"]["resize"] == [48, 96]
