"""Rendered shapes with their boxes, written in every form that labels come in; and what a detector answers to them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

NAMES = ("circle", "square", "cross")
SIDES = (80, 120)  # height, width
Things = list[tuple[int, int, int, int, int]]  # class, left, top, right, bottom


def draw(seed: int, height: int = SIDES[0], width: int = SIDES[1]) -> tuple[np.ndarray, Things]:
    """Return a picture with one to three shapes, and what they are and where."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 60, (height, width, 3), dtype=np.uint8)
    things: Things = []
    for slot in range(int(random.integers(1, 4))):
        size, kind = int(random.integers(12, 30)), int(random.integers(0, 3))
        left = slot * width // 3 + int(random.integers(0, width // 3 - size)) if size < width // 3 else 0
        top = int(random.integers(0, height - size))
        y, x = np.mgrid[0:size, 0:size]
        middle = (size - 1) / 2
        shape = {
            0: (x - middle) ** 2 + (y - middle) ** 2 <= (size / 2) ** 2,
            1: np.ones((size, size), bool),
            2: (abs(x - middle) < size / 6) | (abs(y - middle) < size / 6),
        }[kind]
        pixels[top : top + size, left : left + size][shape] = random.integers(150, 256, 3)
        things.append((kind, left, top, left + size, top + size))
    return pixels, things


def write_pictures(folder: Path, count: int) -> list[tuple[Path, Things]]:
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for seed in range(count):
        pixels, things = draw(seed)
        path = folder / f"{seed:03}.png"
        Image.fromarray(pixels).save(path)
        found.append((path, things))
    return found


def write_coco(root: Path, count: int = 6, names: tuple[str, ...] = NAMES) -> Path:
    """COCO's form: ids of classes with gaps, as COCO's own have."""
    images, annotations = [], []
    for number, (path, things) in enumerate(write_pictures(root / "images", count), 1):
        images.append({"id": 10 * number, "file_name": path.name, "height": SIDES[0], "width": SIDES[1]})
        for kind, left, top, right, bottom in things:
            box = [left, top, right - left, bottom - top]
            annotations.append({"id": len(annotations) + 1, "image_id": 10 * number, "category_id": 3 * kind + 5,
                                "bbox": box, "area": box[2] * box[3], "iscrowd": 0})  # fmt: skip
    categories = [{"id": 3 * number + 5, "name": name} for number, name in enumerate(names)]
    path = root / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def write_yolo(root: Path, count: int = 6, names: tuple[str, ...] = NAMES) -> Path:
    height, width = SIDES
    (root / "labels").mkdir(parents=True)
    for path, things in write_pictures(root / "images", count):
        lines = [
            f"{kind} {(left + right) / 2 / width} {(top + bottom) / 2 / height} "
            f"{(right - left) / width} {(bottom - top) / height}"
            for kind, left, top, right, bottom in things
        ]
        (root / "labels" / f"{path.stem}.txt").write_text("\n".join(lines))
    listed = "".join(f"  {number}: {name}\n" for number, name in enumerate(names))
    (root / "data.yaml").write_text(f"path: .\ntrain: images\nval: images\nnames:\n{listed}")
    return root


def write_voc(root: Path, count: int = 6) -> Path:
    (root / "Annotations").mkdir(parents=True)
    for path, things in write_pictures(root / "JPEGImages", count):
        objects = "".join(
            f"<object><name>{NAMES[kind]}</name><bndbox><xmin>{left + 1}</xmin><ymin>{top + 1}</ymin>"
            f"<xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
            for kind, left, top, right, bottom in things
        )
        size = f"<size><width>{SIDES[1]}</width><height>{SIDES[0]}</height><depth>3</depth></size>"
        text = f"<annotation><filename>{path.name}</filename>{size}{objects}</annotation>"
        (root / "Annotations" / f"{path.stem}.xml").write_text(text)
    return root


def write_detector(path: Path) -> Path:
    """A network that really finds bright shapes: a blur as its heat map, and one size for all boxes.

    image [1,3,64,64] (RGB / 255, letterbox) -> heat [1,1,16,16], sides [1,2,16,16].
    """
    import onnx
    import onnx.parser

    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        net (float[1,3,64,64] image) => (float[1,1,16,16] heat, float[1,2,16,16] sides) {
            first = Conv<pads=[2,2,2,2], strides=[2,2], kernel_shape=[5,5]>(image, w1, b1)
            bright = Relu(first)
            logits = Conv<pads=[2,2,2,2], strides=[2,2], kernel_shape=[5,5]>(bright, w2, b2)
            heat = Sigmoid(logits)
            sides = Conv<pads=[2,2,2,2], strides=[2,2], kernel_shape=[5,5]>(bright, w3, b3)
        }"""
    )
    blur = np.full((4, 3, 5, 5), 1 / 75, np.float32)
    values = {
        "w1": blur * np.array([1, 0.5, 2, 1], np.float32)[:, None, None, None],
        "b1": np.full(4, -0.12, np.float32),
        "w2": np.full((1, 4, 5, 5), 0.2, np.float32),
        "b2": np.full(1, -6.0, np.float32),
        "w3": np.full((2, 4, 5, 5), 0.01, np.float32),
        "b3": np.full(2, 2.6, np.float32),
    }
    for name, value in values.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    onnx.save(proto, path)
    return path


def write_yolo_detector(path: Path, *, points: bool = False) -> Path:
    """The same finder of bright shapes with the output of a YOLO: 256 candidates of two classes.

    image [1,3,64,64] (RGB / 255, letterbox) -> boxes [1,6,256]: center, sides, two scores; with ``points`` [1,9,256]:
    and one point in the middle.
    """
    import onnx
    import onnx.parser

    more, values_of_one = (", places, first_score", 9) if points else ("", 6)
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        net (float[1,3,64,64] image) => (float[1,ROWS,256] boxes) {
            first = Conv<pads=[2,2,2,2], strides=[2,2], kernel_shape=[5,5]>(image, w1, b1)
            bright = Relu(first)
            logits = Conv<pads=[2,2,2,2], strides=[2,2], kernel_shape=[5,5]>(bright, w2, b2)
            scores = Sigmoid(logits)
            sides = Conv<pads=[2,2,2,2], strides=[2,2], kernel_shape=[5,5]>(bright, w3, b3)
            flat_scores = Reshape(scores, shape)
            flat_sides = Reshape(sides, shape)
            first_score, second_score = Split<axis=1>(flat_scores, ones)
            boxes = Concat<axis=1>(places, flat_sides, first_score, second_score MORE)
        }""".replace("ROWS", str(values_of_one)).replace(" MORE", more)
    )
    blur = np.full((4, 3, 5, 5), 1 / 75, np.float32)
    rows, columns = np.mgrid[0:16, 0:16]
    values = {
        "w1": blur * np.array([1, 0.5, 2, 1], np.float32)[:, None, None, None],
        "b1": np.full(4, -0.12, np.float32),
        "w2": np.full((2, 4, 5, 5), 0.2, np.float32) * np.array([1, 0.8], np.float32)[:, None, None, None],
        "b2": np.full(2, -6.0, np.float32),
        "w3": np.full((2, 4, 5, 5), 0.04, np.float32),
        "b3": np.full(2, 10.4, np.float32),
        "places": (np.stack([columns.ravel(), rows.ravel()])[None] * 4 + 2).astype(np.float32),
        "shape": np.array([1, 2, 256]),
        "ones": np.array([1, 1]),
    }
    for name, value in values.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    onnx.save(proto, path)
    return path


RECIPE = """
title = "bright shapes"
[preprocessing]
resize = [64, 64]
letterbox = true
scale = 0.00392156862745098
[task]
kind = "object-detection"
decoder = "center-points"
classes = ["thing"]
[task.settings]
iou = 0.3
"""


def write_things(root: Path, count: int = 8) -> Path:
    """A YOLO folder in which every shape is a thing, and ``shapes.toml``, the recipe for the detector."""
    write_yolo(root, count, ("thing",))
    for path in (root / "labels").glob("*.txt"):
        path.write_text("\n".join("0" + line[1:] for line in path.read_text().splitlines()))
    (root / "shapes.toml").write_text(RECIPE)
    return root
