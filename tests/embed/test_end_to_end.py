"""Bundles that answer themselves, from a build to the program on the device: what the outer way answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from bare_device import BareDevice
from shape_data import draw, write_detector, write_pictures, write_yolo_detector

from edgepack.bundle.archive import open_bundle
from edgepack.execution.store import Store
from edgepack.pipeline.build import build
from edgepack.pipeline.settings import BuildSettings
from edgepack.runtime.install import install
from edgepack.runtime.load import load
from edgepack.runtime.verify import verify
from edgepack.specs.answer import Boxes, Mask
from edgepack.specs.build import BuildRow

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]  # three builds of three engines for each task

TARGETS = ("host-onnxruntime", "host-openvino", "host-tvm")
SUPPRESSING = TARGETS[:2]
PICTURES = """title = "shapes"
[preprocessing]
resize = [64, 64]
letterbox = true
scale = 0.00392156862745098
mean = [0.1, 0.1, 0.1]
[task]
"""
TASKS = {
    "boxes": """kind = "object-detection"
decoder = "yolo"
classes = ["thing", "other"]
[task.settings]
score = 0.5
iou = 0.3
""",
    "points": """kind = "keypoints"
decoder = "yolo"
classes = ["thing", "other"]
[task.settings]
score = 0.5
iou = 0.3
[task.parameters]
points = 1
""",
    "peaks": """kind = "object-detection"
decoder = "center-points"
classes = ["thing"]
[task.settings]
score = 0.5
""",
    "mask": """kind = "semantic-segmentation"
classes = ["ground", "shape"]
""",
}
SEGMENTER = """<ir_version: 8, opset_import: ["" : 17]>
net (float[1,3,64,64] image) => (float[1,2,32,32] scores) {
    grey = Conv<kernel_shape=[4,4], strides=[2,2], pads=[1,1,1,1]>(image, w1, b1)
    bright = Relu(grey)
    scores = Conv<kernel_shape=[1,1]>(bright, w2, b2)
}"""


def write_segmenter(path: Path) -> Path:
    """Bright pixels are shapes: image [1,3,64,64] -> scores [1,2,32,32]."""
    model = onnx.parser.parse_model(SEGMENTER)
    values = {
        "w1": np.full((1, 3, 4, 4), 1 / 48), "b1": [-0.1], "w2": np.array([[[[-1.0]]], [[[1.0]]]]), "b2": [0.15, -0.15],
    }  # fmt: skip
    for name, value in values.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value, np.float32), name))
    onnx.save(model, path)
    return path


@dataclass(frozen=True)
class Built:
    """The int8 rows of one model in all engines with postprocessing in the graph and without, and those with both parts
    there, int8 and fp32, in the first engine.
    """

    root: Path
    answering: tuple[BuildRow, ...]
    both: tuple[BuildRow, ...]
    plain: tuple[BuildRow, ...]

    def pictures(self) -> list[Path]:
        return sorted((self.root / "data").iterdir())


def settings(root: Path, kind: str, **changes: Any) -> BuildSettings:
    (root / "own.toml").write_text(PICTURES + TASKS[kind])
    model = root / "net.onnx"
    writers = {"mask": write_segmenter, "peaks": write_detector}
    made = writers[kind](model) if kind in writers else write_yolo_detector(model, points=kind == "points")
    known: dict[str, Any] = dict(  # noqa: C408
        model=str(made), targets=TARGETS, precisions=("int8",), data=str(root / "data"),
        recipe=str(root / "own.toml"), samples=4, out=str(root / "out"), min_sqnr=-200, benchmark=False, method="plain",
    )  # fmt: skip
    return BuildSettings(**{**known, **changes})


# TVM compiles for longer than all else takes: two kinds of answers in it are left to make test-embed.
CASES = [
    pytest.param("boxes", TARGETS, id="boxes"),
    pytest.param("points", SUPPRESSING, id="points"),
    pytest.param("peaks", SUPPRESSING, id="peaks"),
    pytest.param("mask", TARGETS, id="mask"),
    pytest.param("points", ("host-tvm",), id="points-tvm", marks=pytest.mark.own),
    pytest.param("peaks", ("host-tvm",), id="peaks-tvm", marks=pytest.mark.own),
]


@pytest.fixture(scope="module")
def built(kind: str, targets: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Built:
    root = tmp_path_factory.mktemp(kind)
    write_pictures(root / "data", 12)
    store = Store(root / "store")
    both = ("preprocessing", "postprocessing")
    rows = [
        build(settings(root, kind, embed=parts, out=str(root / f"out{len(parts)}"), **how), store).rows
        for parts, how in (
            (("postprocessing",), {"targets": targets}),
            (both, {"targets": TARGETS[:1], "precisions": ("fp32", "int8")}),
            ((), {"targets": targets}),
        )
    ]
    return Built(root, *rows)


def same(found: object, expected: object) -> int:
    """Assert that two answers are the same, and return how many things they hold."""
    if isinstance(expected, Mask):
        assert isinstance(found, Mask)
        # the nearest label of the input's size, where the outer way looks between cells of the map
        assert (found.labels != expected.labels).mean() < 0.02
        return len(np.unique(expected.labels)) - 1
    assert isinstance(found, Boxes)
    assert isinstance(expected, Boxes)
    assert len(found) == len(expected)
    if not len(expected):
        return 0
    distance = np.abs(found.corners[:, None] - expected.corners[None]).max(axis=2)
    partner = distance.argmin(axis=0)
    assert sorted(partner.tolist()) == list(range(len(expected)))  # of equal scores any may come first
    np.testing.assert_allclose(found.corners[partner], expected.corners, atol=0.5)
    np.testing.assert_allclose(found.scores[partner], expected.scores, atol=0.01)
    np.testing.assert_array_equal(found.numbers[partner], expected.numbers)
    assert (found.points is None) == (expected.points is None)
    if expected.points is not None:
        np.testing.assert_allclose(found.points[partner], expected.points, atol=0.5)
    return len(expected)


of_every_kind = pytest.mark.parametrize(("kind", "targets"), CASES, scope="module")


@of_every_kind
def test_every_engine_answers_as_the_outer_way_does(built: Built, kind: str) -> None:
    for row, other in zip(built.answering, built.plain, strict=True):
        assert (row.status, other.status) == ("ok", "ok"), row.reason or other.reason
        assert row.embedded is not None
        assert row.embedded.samples == row.embedded.same == 8
        assert row.embedded.things >= 8
        assert (row.embedded.enlarged is not None) == (kind == "mask")
        with load(Path(str(row.bundle))) as inner, load(Path(str(other.bundle))) as outer:
            things = [same(inner.predict(path), outer.predict(path)) for path in built.pictures()]
        assert sum(things) >= 8


@of_every_kind
def test_from_the_cameras_bytes_too(built: Built) -> None:
    """A model whose normalisation was folded is quantized otherwise: its own outer way is what the build compared."""
    for row in built.both:
        assert row.status == "ok", row.reason
        assert row.embedded is not None
        assert row.embedded.samples == row.embedded.same == 8
        assert row.embedded.things >= 8
        assert open_bundle(Path(str(row.bundle))).manifest.inputs[0].dtype == "uint8"


@of_every_kind
def test_the_bundle_is_verified_and_installed_by_what_it_answers(built: Built, tmp_path: Path) -> None:
    for number, row in enumerate((*built.answering, *built.both)):
        bundle = Path(str(row.bundle))
        found = verify(bundle)
        assert found.passed
        assert all("0 of 0" not in str(output.note) for output in found.outputs)
        answers = "compared by what they answer"
        suppressed = row.target in SUPPRESSING or open_bundle(bundle).manifest.task.kind == "semantic-segmentation"
        assert not suppressed or all(answers in str(output.note) for output in found.outputs)
        record = install(bundle, tmp_path / str(number))
        assert record.verification.passed


DEVICE = """
import json, sys
import numpy as np
from edgepack import load
bundle, *arrays = sys.argv[1:]
with load(bundle) as model:
    answers = [model.predict(np.load(array)) for array in arrays]
print(json.dumps([a.labels.tolist() if hasattr(a, "labels") else [a.scores.tolist(), a.numbers.tolist(),
      a.corners.tolist(), None if a.points is None else a.points.tolist()] for a in answers]))
"""


@of_every_kind
def test_the_devices_program_answers_with_numpy_alone(built: Built, tmp_path: Path) -> None:
    arrays = [tmp_path / f"{seed}.npy" for seed in range(12)]
    for seed, path in enumerate(arrays):
        np.save(path, draw(seed)[0])
    device = BareDevice(tmp_path / "device", "onnxruntime")
    for rows in (built.answering, built.both):
        for row in (row for row in rows if row.target == "host-onnxruntime"):
            done = device.python("-c", DEVICE, row.bundle, *arrays)
            assert done.returncode == 0, done.stderr
            with load(Path(str(row.bundle))) as model:
                here = [model.predict(path) for path in built.pictures()]
            for told, answer in zip(json.loads(done.stdout), here, strict=True):
                same(_read(told, answer), answer)


def _read(told: Any, like: object) -> Boxes | Mask:
    if isinstance(like, Mask):
        return Mask(np.array(told, np.uint16), like.names)
    assert isinstance(like, Boxes)
    scores, numbers, corners, points = told
    read = None if points is None else np.array(points, float).reshape(len(scores), -1, 3)
    shape = (len(scores), 4)
    return Boxes(np.reshape(corners, shape), np.array(scores), np.array(numbers, int), 80, 120, like.names, read)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": "score = 0.999"}, "nothing is found in any of 8 samples"),
        ({"decoder": 'decoder = "yolox"'}, "grids of strides"),
    ],
)
def test_what_shows_nothing_is_refused(tmp_path: Path, change: dict[str, str], message: str) -> None:
    write_pictures(tmp_path / "data", 12)
    made = settings(
        tmp_path, "boxes", embed=("postprocessing",), targets=TARGETS[:1], precisions=("fp32",)
    )  # fmt: skip
    text = (PICTURES + TASKS["boxes"]).replace("score = 0.5", change.get("score", "score = 0.5"))
    (tmp_path / "own.toml").write_text(text.replace('decoder = "yolo"', change.get("decoder", 'decoder = "yolo"')))
    (row,) = build(made, Store(tmp_path / "store")).rows
    assert row.status != "ok"
    assert message in str(row.reason)
