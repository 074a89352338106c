"""One transformer of two layers from six exporters: the same products, and the same int8 nodes by each engine's rules.

``recorded/attention.zip`` holds what the real exporters wrote, with weights rounded to eighths: torch's and Flax's
modules, Keras' MultiHeadAttention through TensorFlow and through TensorFlow Lite. Layer norms keep two spellings, each
of which the engines fuse (``graph/clean/norms.py``), so they are left out of what is compared.
"""

from __future__ import annotations

import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from quantize_models import minmax_ranges, random_feeds, run_onnxruntime

from edgepack.engines.targets import load_target
from edgepack.graph.load import load_model, read_proto
from edgepack.graph.prepare import prepare
from edgepack.quantize import quantize
from edgepack.specs.model import OnnxModel

pytestmark = pytest.mark.slow
RECORDED = Path(__file__).parent / "recorded" / "attention.zip"
# Six of each layer norm's eight nodes are of no other kind, but for the Add, Div and ReduceMean of the rest.
COMPARED = ("Einsum", "Erf", "Gemm", "MatMul", "Mul", "Reshape", "Softmax", "Transpose")
QUANTIZED = ("DequantizeLinear", "QuantizeLinear", *COMPARED)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[OnnxModel, OnnxModel]]:
    """Return the models as they were written and prepared, by their exporter."""
    folder = tmp_path_factory.mktemp("attention")
    made = {}
    with zipfile.ZipFile(RECORDED) as archive:
        for number, entry in enumerate(archive.namelist()):
            (folder / f"{number}.onnx").write_bytes(archive.read(entry))
            model = load_model(folder / f"{number}.onnx")
            made[entry.removesuffix(".onnx")] = (model, prepare(model, folder / str(number)))
    return made


def counted(model: OnnxModel, operators: tuple[str, ...]) -> dict[str, int]:
    found = Counter(node.op_type for node in read_proto(model).graph.node)
    return {name: found[name] for name in operators}


def test_they_have_the_same_products(models: dict[str, tuple[OnnxModel, OnnxModel]]) -> None:
    assert len(models) == 6
    for name, (_, prepared) in models.items():
        assert counted(prepared, COMPARED) == {
            "Einsum": 0, "Erf": 2, "Gemm": 1, "MatMul": 16, "Mul": 4, "Reshape": 8, "Softmax": 2, "Transpose": 8,
        }, name  # fmt: skip


def test_they_are_one_network(models: dict[str, tuple[OnnxModel, OnnxModel]]) -> None:
    feeds = random_feeds(next(iter(models.values()))[0], 2)
    answers = [run_onnxruntime(model, feeds, optimized=False)[0][0] for pair in models.values() for model in pair]
    for answer in answers:
        np.testing.assert_allclose(answer, answers[0], atol=2e-5)


@pytest.mark.parametrize("target", ["host-onnxruntime", "host-openvino"])
def test_they_have_the_same_nodes_in_int8(
    target: str, models: dict[str, tuple[OnnxModel, OnnxModel]], tmp_path: Path
) -> None:
    rules = load_target(target).quantization
    found = {}
    for number, (name, (_, prepared)) in enumerate(models.items()):
        ranges = minmax_ranges(prepared, random_feeds(prepared, 4))
        found[name] = counted(quantize(prepared, ranges, rules, tmp_path / str(number)), QUANTIZED)
    first = found.pop(next(iter(found)))
    assert first["QuantizeLinear"] > 10
    for name, other in found.items():
        assert other == first, name
