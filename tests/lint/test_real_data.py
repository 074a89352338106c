"""The lint on trained networks: it finds the known wrong preprocessing and is quiet on the right one."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from edgepack.data.recipes import load_recipe
from edgepack.data.samples import find_samples, read_samples
from edgepack.graph.load import load_model
from edgepack.graph.prepare import prepare
from edgepack.lint import lint
from edgepack.lint.encodings import PLAIN
from edgepack.specs.data import Lint
from edgepack.specs.model import OnnxModel

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def lite0(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> OnnxModel:
    return prepare(load_model(assets / "efficientnet_lite0.onnx"), tmp_path_factory.mktemp("lite0"))


@pytest.fixture(scope="module")
def pseudo_labelled(lite0: OnnxModel, assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 photographs with pseudo-labels: the network's own answers with the right preprocessing, no true labels."""
    import onnxruntime

    folder = tmp_path_factory.mktemp("pseudo_labelled")
    root = assets / "coco_ccby" / "images"
    found = find_samples(str(root), lite0.inputs, load_recipe("efficientnet-lite").preprocessing)
    session = onnxruntime.InferenceSession(str(lite0.path), providers=["CPUExecutionProvider"])
    lines = ["file,label"]
    for path, feed in zip(sorted(root.iterdir()), read_samples(found, lite0.inputs), strict=True):
        shutil.copyfile(path, folder / path.name)
        lines.append(f"{path.name},{int(session.run(None, feed)[0].argmax())}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def checked(model: OnnxModel, data: Path, recipe: str | None, out: Path, evaluation: Path | None = None) -> Lint:
    made = load_recipe(recipe).preprocessing if recipe else None
    sets = [find_samples(str(path), model.inputs, made) if path else None for path in (data, evaluation)]
    assert sets[0] is not None
    return lint(model, sets[0], sets[1], "minmax", 99.99, out)


def test_the_preprocessing_that_lite0s_package_documents_is_found(
    lite0: OnnxModel, pseudo_labelled: Path, tmp_path: Path
) -> None:
    """Its README's mean and std are ImageNet's. -1 to 1 and (x - 127) / 128 differ by half a level: both are right."""
    (finding,) = checked(lite0, pseudo_labelled, "imagenet", tmp_path).warnings
    assert finding.check == "preprocessing"
    assert "does not fit the model: top-1 is 0." in finding.message
    assert re.search(r"(0.9\d\d|1.000) with RGB, -1 to 1 \(calibration samples, n=32;", finding.message)
    assert finding.hint is not None
    assert "mean = [127.5, 127.5, 127.5], std = [127.5, 127.5, 127.5]" in finding.hint


def test_lite0_with_its_own_preprocessing_is_left_alone(
    lite0: OnnxModel, pseudo_labelled: Path, tmp_path: Path
) -> None:
    found = checked(lite0, pseudo_labelled, "efficientnet-lite", tmp_path)
    assert found.warnings == ()
    assert found.model_runs <= 10 * 16 + 4 * 16 + 32


def test_without_labels_it_is_probable_at_most(lite0: OnnxModel, assets: Path, tmp_path: Path) -> None:
    photographs = assets / "coco_ccby" / "images"
    (finding,) = checked(lite0, photographs, "imagenet", tmp_path).warnings
    assert "the preprocessing probably does not fit the model" in finding.message
    assert "RGB, -1 to 1" in finding.message
    assert checked(lite0, photographs, "efficientnet-lite", tmp_path).warnings == ()


@pytest.fixture(scope="module")
def cifar(assets: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(assets / "cifar10_test_b.npz") as data:
        return data["x"], data["y"].astype(np.int64)


@pytest.mark.parametrize("labelled", [True, False], ids=["labelled", "unlabelled"])
@pytest.mark.parametrize(
    ("name", "bgr", "wrong"),
    [("ImageNet mean and std", False, False), ("ImageNet mean and std", True, True), ("/ 255", False, True)],
    ids=["right", "BGR", "divided by 255 only"],
)
def test_resnet20(
    assets: Path,
    cifar: tuple[np.ndarray, np.ndarray],
    tmp_path: Path,
    name: str,
    bgr: bool,
    wrong: bool,
    labelled: bool,
) -> None:
    model = prepare(load_model(assets / "resnet20_cifar10.onnx"), tmp_path)
    made = next(e for e in PLAIN if e.name == name)
    pixels, labels = cifar[0], cifar[1]
    if bgr:
        pixels = pixels[..., ::-1]
    values = np.stack([made.encode(p.astype(np.float64)).transpose(2, 0, 1) for p in pixels[:1256]])
    known = {"labels": labels[:256]} if labelled else {}
    np.savez(tmp_path / "calibration.npz", **{model.inputs[0].name: values[:256]}, **known)
    np.savez(tmp_path / "evaluation.npz", **{model.inputs[0].name: values[256:]})
    began = time.process_time()
    found = checked(model, tmp_path / "calibration.npz", None, tmp_path, tmp_path / "evaluation.npz")
    assert time.process_time() - began < 30
    said = [finding.message for finding in found.warnings]
    if not wrong:
        assert said == []
        return
    kind = "the preprocessing does not fit" if labelled else "the preprocessing probably does not fit"
    assert any(kind in text and "with RGB, ImageNet mean and std" in text for text in said) != bgr
    assert any(kind in text and "with BGR, ImageNet mean and std" in text for text in said) == bgr


def test_the_keyword_network_is_left_alone(assets: Path, tmp_path: Path) -> None:
    model = prepare(load_model(assets / "kws_dscnn.onnx"), tmp_path)
    with np.load(assets / "kws01.npz") as data:
        real, labels = (data["x_int8"].astype(np.float32) - 83) * np.float32(0.58470290899), data["y"].astype(np.int64)
    order = np.random.default_rng(0).permutation(len(real))
    for name, part in (("calibration", order[:256]), ("evaluation", order[256:])):
        np.savez(tmp_path / f"{name}.npz", input_1=real[part], labels=labels[part])
    found = checked(model, tmp_path / "calibration.npz", None, tmp_path, tmp_path / "evaluation.npz")
    assert found.warnings == ()
    assert found.model_runs <= 16 + 64
