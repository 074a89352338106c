"""A small detector trained here on shapes that are rendered here: the demonstration of boxes, nothing to deploy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.base.stage import stage
from edgepack.specs.types import Progress, no_progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgepack.specs.types import Array

NAMES = ("circle", "square", "cross")
_SIDE, _CELL = 64, 4  # pixels of the input, and of a cell of the maps
_TRAINING, _EPOCHS, _BATCH = 480, 16, 24
_CALIBRATION, _EVALUATION = 64, 128
_SEED = 11

RECIPE = f"""title = "The demonstration's detector of rendered shapes"

[preprocessing]
resize = [{_SIDE}, {_SIDE}]
letterbox = true
color = "RGB"
layout = "NCHW"
scale = 0.00392156862745098 # 1 / 255

[task]
kind = "object-detection"
decoder = "center-points"
classes = {json.dumps(NAMES)}

[task.settings]
score = 0.3

[sources]
everything = "edgepack/demo/shapes.py, where the network is trained"
"""

Thing = tuple[int, int, int, int, int]  # class, left, top, right, bottom


def render(generator: Any, height: int = 108, width: int = 144) -> tuple[Array, list[Thing]]:
    """Return uint8 pixels [height, width, 3] with one to four shapes that do not overlap, and what is where."""
    import numpy as np

    coarse = generator.integers(0, 150, (6, 8, 3)).astype(np.uint8)
    pixels = np.kron(coarse, np.ones((height // 6, width // 8, 1), np.uint8))
    pixels = pixels + generator.integers(0, 40, pixels.shape, dtype=np.uint8)
    things: list[Thing] = []
    for _ in range(int(generator.integers(1, 5))):
        size, kind = int(generator.integers(14, 44)), int(generator.integers(0, len(NAMES)))
        left, top = int(generator.integers(0, width - size)), int(generator.integers(0, height - size))
        box = (left, top, left + size, top + size)
        if any(box[0] < b[3] and b[1] < box[2] and box[1] < b[4] and b[2] < box[3] for b in things):
            continue
        pixels[top : top + size, left : left + size][_shape(kind, size)] = generator.integers(120, 256, 3)
        things.append((kind, *box))
    return pixels, things


def _shape(kind: int, size: int) -> Array:
    """Return which pixels of a square a shape covers, bool [size, size]."""
    import numpy as np

    place = np.arange(size) - (size - 1) / 2
    x, y = place[None, :], place[:, None]
    if kind == 0:
        return np.asarray(x**2 + y**2 <= (size / 2) ** 2)
    return np.asarray((np.abs(x) < size / 6) | (np.abs(y) < size / 6)) if kind == 2 else np.ones((size, size), bool)


def make_model(progress: Progress = no_progress) -> Any:
    """Train and return the torch module: input [N, 3, 64, 64], outputs heat, sides and offsets of cells of 4 pixels."""
    return train(_network, progress=progress)


def train(make_network: Callable[[], Any], epochs: int = _EPOCHS, progress: Progress = no_progress) -> Any:
    """Train a torch module of these inputs and outputs that ``make_network`` returns; return it, made for inference."""
    import torch
    from torch import nn

    torch.manual_seed(_SEED)
    torch.use_deterministic_algorithms(True)
    model = make_network()
    pictures, heat, boxes, known = _training_set()
    steps = epochs * (len(pictures) // _BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(_SEED)
    for epoch in range(epochs):
        progress("training epochs", epoch, epochs)
        for chosen in torch.split(torch.randperm(len(pictures), generator=generator), _BATCH):
            found, sides, offsets = model(pictures[chosen])
            loss = _focal_loss(found, heat[chosen])
            wrong = nn.functional.l1_loss(torch.cat([0.2 * sides, offsets], 1), boxes[chosen], reduction="none")
            loss = loss + (wrong * known[chosen]).sum() / known[chosen].sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    progress("training epochs", epochs, epochs)
    model.eval()
    setattr(model, "example_inputs", (pictures[:1],))  # noqa: B010 - edgepack reads the input's shape from it
    return model


def _network() -> Any:
    import torch
    from torch import nn

    def block(inputs: int, outputs: int, stride: int = 1) -> tuple[Any, ...]:
        conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        return conv, nn.BatchNorm2d(outputs), nn.ReLU()

    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(
                *block(3, 16, 2), *block(16, 32, 2), *block(32, 32), *block(32, 32), *block(32, 32), *block(32, 32),
            )  # fmt: skip
            self.heat, self.sides, self.offsets = (nn.Conv2d(32, n, 1) for n in (len(NAMES), 2, 2))
            nn.init.constant_(self.heat.bias, -4.0)  # type: ignore[arg-type]

        def forward(self, image: Any) -> tuple[Any, Any, Any]:
            found = self.body(image)
            return torch.sigmoid(self.heat(found)), self.sides(found), self.offsets(found)

    return Detector()


def _focal_loss(found: Any, wanted: Any) -> Any:
    """CenterNet's: peaks count by how sure they are missed, cells near a peak little (Zhou et al. 2019, equation 1)."""
    found = found.clamp(1e-4, 1 - 1e-4)
    peak = (wanted == 1).float()
    right = peak * (1 - found) ** 2 * found.log()
    wrong = (1 - peak) * (1 - wanted) ** 4 * found**2 * (1 - found).log()
    return -(right + wrong).sum() / peak.sum().clamp(min=1)


def _training_set() -> tuple[Any, Any, Any, Any]:
    """Return pictures, heat maps, sides (in fifths of a cell) and offsets, and where these are known."""
    import numpy as np
    import torch

    from edgepack.data.geometry import frame_of
    from edgepack.data.preprocess import prepare_pixels
    from edgepack.specs.data import Preprocessing

    made = Preprocessing(resize=(_SIDE, _SIDE), letterbox=True, scale=1 / 255)
    generator, cells = np.random.default_rng(_SEED), _SIDE // _CELL
    pictures = np.zeros((_TRAINING, 3, _SIDE, _SIDE), np.float32)
    heat = np.zeros((_TRAINING, len(NAMES), cells, cells), np.float32)
    boxes, known = (
        np.zeros((_TRAINING, 4, cells, cells), np.float32),
        np.zeros((_TRAINING, 1, cells, cells), np.float32),
    )
    y, x = np.mgrid[:cells, :cells]
    for i in range(_TRAINING):
        pixels, things = render(generator)
        pictures[i] = prepare_pixels(pixels, made)
        frame = frame_of(pixels.shape[0], pixels.shape[1], made)
        for kind, left, top, right, bottom in things:
            cx = ((left + right) / 2 * frame.scale_x + frame.offset_x) / _CELL
            cy = ((top + bottom) / 2 * frame.scale_y + frame.offset_y) / _CELL
            size = (right - left) * frame.scale_x / _CELL
            column, row = int(cx), int(cy)
            near = np.exp(-((x - column) ** 2 + (y - row) ** 2) / (2 * max(size / 5, 0.6) ** 2))
            heat[i, kind] = np.maximum(heat[i, kind], near)
            boxes[i, :, row, column] = [size / 5, size / 5, cx - column, cy - row]
            known[i, 0, row, column] = 1
    return tuple(torch.from_numpy(array) for array in (pictures, heat, boxes, known))  # type: ignore[return-value]


@stage("data")
def write_shapes(out: Path) -> Path:
    """Write ``calibration`` and ``evaluation``, pictures with labels of COCO's kind, and the recipe ``shapes.toml``."""
    import numpy as np

    generator = np.random.default_rng(_SEED + 1)
    for part, count in (("calibration", _CALIBRATION), ("evaluation", _EVALUATION)):
        _write_part(out / part, count, generator)
    (out / "shapes.toml").write_text(RECIPE)
    return out


def _write_part(folder: Path, count: int, generator: Any) -> None:
    from PIL import Image

    (folder / "images").mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(count):
        pixels, things = render(generator)
        name = f"{number:03}.png"
        Image.fromarray(pixels).save(folder / "images" / name, compress_level=1)
        images.append({"id": number, "file_name": name, "height": pixels.shape[0], "width": pixels.shape[1]})
        for kind, left, top, right, bottom in things:
            box = [left, top, right - left, bottom - top]
            row = {"id": len(annotations) + 1, "image_id": number, "category_id": kind, "bbox": box}
            annotations.append({**row, "area": box[2] * box[3], "iscrowd": 0})
    categories = [{"id": number, "name": name} for number, name in enumerate(NAMES)]
    text = json.dumps({"images": images, "annotations": annotations, "categories": categories})
    (folder / "labels.json").write_text(text)
