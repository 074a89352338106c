"""Small models, pictures and sample sources made in code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from PIL import Image

from edgepack.graph.load import load_model
from edgepack.specs.model import OnnxModel


@pytest.fixture
def make_model(tmp_path):
    """Write a model given as ONNX text, with initializers as arrays, and return it loaded."""

    def make(text: str, name: str = "model.onnx", **initializers: np.ndarray) -> OnnxModel:
        proto = onnx.parser.parse_model(text)
        for key, array in initializers.items():
            proto.graph.initializer.append(onnx.numpy_helper.from_array(array, key))
        path = tmp_path / name
        onnx.save(proto, path)
        return load_model(path)

    return make


@pytest.fixture
def conv_model(make_model):
    """input [N,3,8,8] -> Conv -> Clip(0, 6) -> Conv -> Relu -> Reshape -> MatMul -> logits [N,5]."""
    rng = np.random.default_rng(0)
    return make_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        net (float[N,3,8,8] image) => (float[N,5] logits) {
            first = Conv<pads=[1,1,1,1]>(image, w1)
            clipped = Clip(first, zero, six)
            second = Conv<pads=[1,1,1,1]>(clipped, w2)
            rectified = Relu(second)
            flat = Reshape(rectified, shape)
            logits = MatMul(flat, w3)
        }""",
        w1=rng.normal(size=(4, 3, 3, 3)).astype(np.float32),
        w2=rng.normal(size=(2, 4, 3, 3)).astype(np.float32),
        w3=rng.normal(size=(128, 5)).astype(np.float32),
        zero=np.float32(0),
        six=np.float32(6),
        shape=np.array([-1, 128]),
    )


@pytest.fixture
def save_npz(tmp_path):
    """Write arrays as a .npz and return its path as text."""

    def save(name: str = "data.npz", compressed: bool = False, **arrays: np.ndarray) -> str:
        path = tmp_path / name
        (np.savez_compressed if compressed else np.savez)(path, **arrays)
        return str(path)

    return save


@pytest.fixture
def save_picture():
    """Write a picture with reproducible pixels below a folder."""

    def save(path: Path, size: tuple[int, int] = (12, 10), mode: str = "RGB", seed: int = 0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        channels = {"L": 1, "RGB": 3, "RGBA": 4, "CMYK": 4, "LA": 2}[mode]
        pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], channels), dtype=np.uint8)
        bands = [Image.fromarray(pixels[:, :, c]) for c in range(channels)]
        (bands[0] if mode == "L" else Image.merge(mode, bands)).save(path)
        return path

    return save
