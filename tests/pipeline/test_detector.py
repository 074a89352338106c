"""A detector from labelled pictures to boxes on the device: the same numbers all the way."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from bare_device import BareDevice
from PIL import Image
from shape_data import draw, write_detector, write_things

from edgepack import api
from edgepack.bundle.archive import open_bundle
from edgepack.data.geometry import frame_of
from edgepack.data.preprocess import read_picture
from edgepack.data.recipes import load_recipe
from edgepack.errors import ConfigError
from edgepack.pipeline.build import build
from edgepack.pipeline.settings import BuildSettings
from edgepack.runtime.limited import run_within
from edgepack.runtime.run import write_drawing
from edgepack.specs.answer import Boxes
from edgepack.tasks import answer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory):
    """int8 and fp32 bundles of the detector, evaluated on other shapes than those that calibrate."""
    from edgepack.execution.store import Store

    root = tmp_path_factory.mktemp("detector")
    write_things(root / "data", 12)
    settings = BuildSettings(
        model=str(write_detector(root / "shapes.onnx")),
        targets=("host-onnxruntime",),
        precisions=("fp32", "int8"),
        data=str(root / "data"),
        recipe=str(root / "data" / "shapes.toml"),
        samples=4,
        out=str(root / "out"),
        min_sqnr=-200,
        benchmark=False,
    )
    return root, build(settings, Store(root / "store"))


def test_a_build_measures_boxes(built) -> None:
    _, result = built
    fp32, int8 = result.rows
    assert (fp32.status, int8.status) == ("ok", "ok")
    for row in result.rows:
        assert row.accuracy is not None
        assert (row.accuracy.metric, row.accuracy.n, row.accuracy.truth) == ("map", 8, "labels")
        assert row.accuracy.fp32 > 0.1
        assert row.accuracy.ci95[0] <= row.accuracy.drop <= row.accuracy.ci95[1]
    assert fp32.accuracy.drop == 0
    assert (fp32.change.answers, fp32.change.samples, fp32.change.changed) == ("boxes", 8, 0)
    assert 0 < int8.change.n == fp32.change.n
    assert int8.notes["answers"].startswith(f"int8 changes {100 * int8.change.share:.2f} % of the answers (")


def test_the_bundle_knows_its_task(built) -> None:
    _, result = built
    manifest = open_bundle(Path(result.rows[0].bundle)).manifest
    assert manifest.task is not None
    assert (manifest.task.kind, manifest.task.decoder, manifest.classes) == (
        "object-detection",
        "center-points",
        ("thing",),
    )


def test_the_device_finds_what_the_builder_found(built) -> None:
    """From a file, from an array, through the command's way: within half a pixel of ONNX Runtime run by hand."""
    root, result = built
    recipe = load_recipe(str(root / "data" / "shapes.toml"))
    session = onnxruntime.InferenceSession(str(root / "shapes.onnx"))
    bundle = Path(result.rows[0].bundle)
    with api.load(bundle) as model:
        for seed in range(12):
            path = root / "data" / "images" / f"{seed:03}.png"
            array = read_picture(path, recipe.preprocessing)[None]
            outputs = dict(zip(("heat", "sides"), session.run(None, {"image": array}), strict=True))
            expected = answer(recipe.task, outputs, frame_of(80, 120, recipe.preprocessing))
            for found in (model.predict(path), model.predict(str(path)), model.predict(draw(seed)[0])):
                assert isinstance(found, Boxes)
                assert np.abs(found.corners - expected.corners).max(initial=0) < 0.5
                assert found.names == ("thing",)
        assert len(expected) > 0
    ran = run_within(bundle, path, None)
    assert isinstance(ran.answer, Boxes)
    assert np.abs(ran.answer.corners - expected.corners).max(initial=0) < 0.5


def test_run_prints_and_draws_boxes(built, tmp_path: Path) -> None:
    root, result = built
    picture = root / "data" / "images" / "003.png"
    words = [sys.executable, "-m", "edgepack", "run", result.rows[0].bundle, "--input", str(picture)]
    drawn = tmp_path / "drawn.png"
    printed = subprocess.run([*words, "--draw", str(drawn)], capture_output=True, text=True, check=True).stdout
    assert all(line.split()[1] == "thing" and len(line.split()) == 6 for line in printed.splitlines())
    assert not np.array_equal(np.asarray(Image.open(drawn)), np.asarray(Image.open(picture)))
    answered = subprocess.run([*words, "--json"], capture_output=True, text=True, check=True).stdout
    assert len(json.loads(answered)["answer"]["boxes"]) == len(printed.splitlines())


def test_what_cannot_be_drawn_is_said(built, tmp_path: Path) -> None:
    from edgepack.errors import DataError

    _, result = built
    np.savez(tmp_path / "x.npz", image=np.zeros((1, 3, 64, 64), np.float32))
    bundle = Path(result.rows[0].bundle)
    ran = run_within(bundle, tmp_path / "x.npz", None)
    assert isinstance(ran.answer, Boxes), "one sample: boxes in pixels of the input"
    with pytest.raises(DataError, match="nothing to draw"):
        write_drawing(tmp_path / "x.png", tmp_path / "x.npz", bundle, ran)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "object-detecton"}, "unknown task"),
        ({"task": "object-detection"}, None),
        ({"task": "object-detection:yolx"}, "unknown decoder"),
        ({"task": "image-classification"}, None),
        ({"task": "object-detection", "metric": "miou"}, "miou is not a metric of object-detection"),
        ({"recipe": None, "metric": "map50"}, "map50 needs a task"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_any_work(built, changes: dict, message: str | None) -> None:
    from dataclasses import replace

    from edgepack.pipeline.plan import resolve

    root, _ = built
    settings = BuildSettings(
        model=str(root / "shapes.onnx"), data=str(root / "data"), recipe=str(root / "data" / "shapes.toml")
    )
    if message is None:
        assert resolve(replace(settings, **changes)).task is not None
        return
    with pytest.raises(ConfigError, match=message):
        resolve(replace(settings, **changes))


DEVICE = """
import sys
import numpy as np
from edgepack import load
bundle, array, picture = sys.argv[1:]
with load(bundle) as model:
    found = [model.predict(np.load(array)), *([model.predict(picture)] if picture else [])]
assert "PIL" in sys.modules or not picture
for boxes in found:
    print(*(f"{b.name} {b.score:.4f} {b.left:.2f} {b.top:.2f} {b.right:.2f} {b.bottom:.2f}" for b in boxes))
"""


@pytest.mark.parametrize("packages", [("onnxruntime",), ("onnxruntime", "PIL")], ids=" ".join)
def test_a_device_with_numpy_alone_finds_the_same(built, packages: tuple[str, ...], tmp_path: Path) -> None:
    """Where nothing but numpy, Click and the engine, and Pillow for files, can be imported."""
    root, result = built
    bundle, picture = Path(result.rows[1].bundle), root / "data" / "images" / "003.png"
    np.save(tmp_path / "picture.npy", draw(3)[0])
    device = BareDevice(tmp_path / "device", *packages)
    read = str(picture) if "PIL" in packages else ""
    done = device.python("-c", DEVICE, bundle, tmp_path / "picture.npy", read)
    assert done.returncode == 0, done.stderr
    with api.load(bundle) as model:
        here = model.predict(picture)
    lines = done.stdout.splitlines()
    assert len(lines) == 1 + bool(read)
    for line in lines:
        values = np.array(line.split()).reshape(-1, 6)
        assert len(values) == len(here) > 0
        assert np.abs(values[:, 2:].astype(float) - here.corners).max() < 0.5
    if not read:
        refused = device.edgepack("run", bundle, "--input", picture)
        assert refused.returncode == 3
        assert "pip install pillow" in refused.stderr
