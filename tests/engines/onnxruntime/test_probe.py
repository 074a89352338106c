"""The doctor's try of ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from edgepack.engines.onnxruntime.probe import probe
from edgepack.errors import EdgepackError


def test_it_lists_what_computes_here(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["AzureExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
    found = probe()
    assert found.devices == ("CPU", "CUDA")  # Azure's computes nothing here
    assert {"fp32", "int8"} <= set(found.precisions)


def test_wrong_values_are_no_working_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    class Session:
        def __init__(self, *_: object, **__: object) -> None: ...

        def run(self, *_: object) -> list[np.ndarray]:
            return [np.float32([-1, 2])]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    with pytest.raises(EdgepackError, match="it computes"):
        probe()
