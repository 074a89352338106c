"""The models that tools are compared on, with the samples to calibrate with and those to judge by.

Samples are .npz files with one array named after the model's input, and ``labels`` where there are any. Calibration
and evaluation share no picture. Trained models lie beside the project (``../shared/assets``) and are not part of it.
"""

from __future__ import annotations

import importlib.util
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent
ASSETS = HERE.parents[2] / "shared" / "assets"
# Photographs inside scikit-image and scikit-learn: those to calibrate with, and those to judge by.
_CALIBRATION = ("astronaut.png", "coffee.png", "motorcycle_left.png", "china.jpg", "rocket.jpg", "gravel.png")
_EVALUATION = ("chelsea.png", "flower.jpg", "camera.png", "coins.png", "grass.png", "brick.png")
_IMAGENET_MEAN, _IMAGENET_STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


@dataclass(frozen=True)
class Samples:
    """``values`` [n, ...] float32; ``labels`` [n] or None."""

    values: np.ndarray
    labels: np.ndarray | None = None


@dataclass(frozen=True)
class Model:
    """``read`` returns calibration and evaluation samples. ``decides``: the output's largest value is the answer."""

    file: str
    read: Callable[[], tuple[Samples, Samples]]
    decides: bool


def crops(part: str, count: int, size: int) -> np.ndarray:
    """Return uint8 [count, size, size, 3]: crops of random place, size and mirroring of ``part``'s photographs."""
    pictures = sorted((ASSETS / "coco_ccby" / "images").iterdir())
    half = len(pictures) // 2
    paths = pictures[:half] if part == "calibration" else pictures[half:]
    paths += [_find(name) for name in (_CALIBRATION if part == "calibration" else _EVALUATION)]
    random = np.random.default_rng([20260101, part == "calibration"])
    opened = [Image.open(path).convert("RGB") for path in paths]
    found = []
    for i in range(count):
        picture = opened[i % len(opened)]
        side = int(min(picture.size) * random.uniform(0.6, 1.0))
        left = int(random.integers(0, picture.width - side + 1))
        top = int(random.integers(0, picture.height - side + 1))
        box = (left, top, left + side, top + side)
        crop = np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC, box=box))
        found.append(crop[:, ::-1] if random.random() < 0.5 else crop)
    return np.stack(found)


def _find(name: str) -> Path:
    for package, place in (("skimage", "data"), ("sklearn", "datasets/images")):
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None and (Path(spec.origin).parent / place / name).is_file():
            return Path(spec.origin).parent / place / name
    raise FileNotFoundError(f"neither scikit-image nor scikit-learn has {name}")


def _nchw(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), dtype=np.float32)


def _lite0() -> tuple[Samples, Samples]:
    one, other = (_nchw((crops(part, n, 224) - np.float32(127)) / 128) for part, n in _parts(50, 200))
    return Samples(one), Samples(other)


def _fastestdet() -> tuple[Samples, Samples]:
    one, other = (_nchw(crops(part, n, 352)[..., ::-1] / np.float32(255)) for part, n in _parts(50, 100))
    return Samples(one), Samples(other)


def _parts(calibration: int, evaluation: int) -> tuple[tuple[str, int], tuple[str, int]]:
    return ("calibration", calibration), ("evaluation", evaluation)


def _resnet20() -> tuple[Samples, Samples]:
    with np.load(ASSETS / "cifar10_test_b.npz") as data:
        pixels, labels = data["x"], data["y"].astype(np.int64)
    values = _nchw((pixels / np.float32(255) - _IMAGENET_MEAN) / _IMAGENET_STD)
    return Samples(values[:100]), Samples(values[100:], labels[100:])


def _keywords() -> tuple[Samples, Samples]:
    with np.load(ASSETS / "kws01.npz") as data:
        real, labels = (data["x_int8"].astype(np.float32) - 83) * np.float32(0.58470290899), data["y"].astype(np.int64)
    order = np.random.default_rng(0).permutation(len(real))
    one, other = order[:100], order[100:]
    return Samples(real[one]), Samples(real[other], labels[other])


MODELS = {
    "resnet20": Model("resnet20_cifar10.onnx", _resnet20, decides=True),
    "keywords": Model("kws_dscnn.onnx", _keywords, decides=True),
    "lite0": Model("efficientnet_lite0.onnx", _lite0, decides=True),
    "fastestdet": Model("fastestdet_352.onnx", _fastestdet, decides=False),
}


def set_up(name: str, folder: Path) -> tuple[int, int]:
    """Write model.onnx (simplified by edgepack, the same for every tool) and its samples; return how many of each."""
    from edgepack.graph.load import load_model
    from edgepack.graph.prepare import prepare

    folder.mkdir(parents=True, exist_ok=True)
    if name == "minilm":
        python = HERE.parents[1] / ".venv-peers-minilm" / "bin" / "python"
        command = [str(python), str(HERE / "export_minilm.py"), str(folder), str(ASSETS / "banking77")]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        prepare(load_model(folder / "source.onnx"), folder)
        return _count(folder / "calibration.npz"), _count(folder / "evaluation.npz")
    model = MODELS[name]
    prepared = prepare(load_model(ASSETS / model.file), folder)
    counts = []
    for part, samples in zip(("calibration", "evaluation"), model.read(), strict=True):
        arrays = {prepared.inputs[0].name: samples.values}
        if samples.labels is not None and part == "evaluation":
            arrays["labels"] = samples.labels
        np.savez(folder / f"{part}.npz", **arrays)
        counts.append(len(samples.values))
    return counts[0], counts[1]


def _count(path: Path) -> int:
    with np.load(path) as data:
        return len(data[data.files[0]])
