"""A network that tells bright pixels from dark ones where they lie between 0 and 1, and pictures with their masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
from PIL import Image

from edgepack.graph.load import load_model
from edgepack.specs.data import Preprocessing
from edgepack.specs.model import OnnxModel
from edgepack.specs.task import Task

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
