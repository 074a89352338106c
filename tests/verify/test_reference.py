"""The fp32 model's outputs on the evaluation samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_bundles import INPUTS, onnx_outputs, small_onnx

from edgepack.data.samples import find_samples
from edgepack.graph.load import load_model
from edgepack.verify.outputs import OutputReader
from edgepack.verify.reference import reference

IMAGES = np.random.default_rng(2).standard_normal((3, 3, 8, 8), np.float32)


@pytest.fixture
def data(tmp_path: Path) -> str:
    np.savez(tmp_path / "data.npz", image=IMAGES)
    return str(tmp_path / "data.npz")


def test_each_samples_outputs_are_those_of_onnx_runtime(tmp_path: Path, data: str) -> None:
    model = load_model(small_onnx(tmp_path / "model.onnx"))
    stored = reference(model, find_samples(data, INPUTS, None), tmp_path / "out")
    assert (stored.names, stored.n) == (("scores",), 3)
    reader = OutputReader(stored)
    for i, image in enumerate(IMAGES):
        expected = onnx_outputs(model.path, {"image": image[None]})["scores"]
        np.testing.assert_allclose(reader.sample(i)["scores"], expected, rtol=1e-5)


def test_it_tells_how_far_it_is(tmp_path: Path, data: str) -> None:
    told: list[tuple[str, int, int]] = []
    model = load_model(small_onnx(tmp_path / "model.onnx"))
    reference(model, find_samples(data, INPUTS, None), tmp_path / "out", lambda *what: told.append(what))
    assert told == [("reference", n, 3) for n in (1, 2, 3)]
