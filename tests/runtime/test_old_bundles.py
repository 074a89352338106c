"""Bundles of an edgepack whose package was laid out otherwise still open, verify and run.

They were built on 30 November 2026 with commit 00aa94b, before the package was moved, from one small network of random
weights, by ``edgepack build net.py:make --target ... --precision int8 --data data.npz``. TVM's, of 6 MB, is not kept.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgepack import load
from edgepack.bundle.archive import open_bundle
from edgepack.bundle.layers import read_layers
from edgepack.engines import get_backend
from edgepack.errors import ToolchainError
from edgepack.runtime.verify import verify

BUNDLES = sorted((Path(__file__).parent / "old_bundles").glob("*.edgepack"))


@pytest.fixture(params=BUNDLES, ids=lambda path: path.stem)
def bundle(request: pytest.FixtureRequest) -> Path:
    """Each old bundle in turn; skipped with the reason where no engine here runs it."""
    path: Path = request.param
    payloads = open_bundle(path).manifest.payloads
    reasons = []
    for payload in payloads:
        try:
            get_backend(payload.backend).versions()
        except ToolchainError as error:
            reasons.append(f"{error.message}: {error.hint}")
    if len(reasons) == len(payloads):
        pytest.skip("; ".join(reasons))
    return path


def test_they_are_there() -> None:
    assert [path.stem for path in BUNDLES] == ["onnxruntime-int8", "openvino-int8", "tensorrt-int8"]


def test_its_layers_are_read(bundle: Path) -> None:
    records = read_layers(open_bundle(bundle))
    assert records is not None
    assert sum(layer.asked == "int8" for layer in records.layers if layer.weighted) >= 2


def test_its_golden_vectors_agree(bundle: Path) -> None:
    assert verify(bundle).passed


def test_it_runs(bundle: Path) -> None:
    with load(bundle) as model:
        found = model.infer({"input": np.zeros((1, 1, 8, 8), np.float32)})
    assert found["output"].shape == (1, 10)
    assert np.isfinite(found["output"]).all()
