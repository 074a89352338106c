"""One network, saved by seven ways of five frameworks, becomes one graph, and one int8 model by each engine's rules.

``recorded/record.py`` made the recordings with the real exporters. Equal graphs take equal time: what is compared is
operators, attributes, shapes and every constant.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from quantize_models import minmax_ranges, random_feeds
from same_graph import Form, unlike

from edgepack.engines.targets import load_target
from edgepack.graph.load import load_model, read_proto
from edgepack.graph.prepare import prepare
from edgepack.quantize import quantize
from edgepack.specs.model import OnnxModel

pytestmark = pytest.mark.slow
RECORDED = Path(__file__).parent / "recorded" / "resnet8.zip"
FIRST = "Keras .keras (TensorFlow)"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, OnnxModel]:
    """Return the prepared models by how they were saved."""
    folder = tmp_path_factory.mktemp("resnet8")
    made = {}
    with zipfile.ZipFile(RECORDED) as archive:
        for number, entry in enumerate(archive.namelist()):
            (folder / f"{number}.onnx").write_bytes(archive.read(entry))
            made[entry.removesuffix(".onnx")] = prepare(load_model(folder / f"{number}.onnx"), folder / str(number))
    return made


def form(model: OnnxModel) -> Form:
    return Form(read_proto(model))


def test_all_are_recorded(models: dict[str, OnnxModel]) -> None:
    assert list(models) == [
        FIRST, "Keras .h5 (TensorFlow)", "Keras .keras (torch)", "SavedModel", "TensorFlow Lite float", "torch module",
        "Flax nnx",
    ]  # fmt: skip


def test_prepared_they_are_one_graph_with_the_same_weights(models: dict[str, OnnxModel]) -> None:
    first = form(models[FIRST])
    for name, model in models.items():
        other = form(model)
        assert unlike(first, other) == [], name
        assert first.outputs == other.outputs, name
        for one, two in zip(first.constants(), other.constants(), strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6 * np.abs(one).max(initial=0), err_msg=name)


@pytest.mark.parametrize("target", ["host-onnxruntime", "host-openvino"])
def test_quantized_they_are_one_graph_with_the_same_integers(
    target: str, models: dict[str, OnnxModel], tmp_path: Path
) -> None:
    rules = load_target(target).quantization
    forms = {}
    for number, (name, model) in enumerate(models.items()):
        ranges = minmax_ranges(model, random_feeds(model, 4))
        forms[name] = form(quantize(model, ranges, rules, tmp_path / str(number)))
    first = forms.pop(FIRST)
    for name, other in forms.items():
        assert unlike(first, other) == [], name
        assert first.outputs == other.outputs, name
        for one, two in zip(first.constants(), other.constants(), strict=True):
            if one.dtype.kind == "f":
                np.testing.assert_allclose(one, two, rtol=1e-4, err_msg=name)
            else:  # a weight that lies between two integers falls to either by float32's last digit
                assert np.abs(one.astype(np.int64) - two).max(initial=0) <= 1, name
                assert (one != two).mean() < 1e-3, name
