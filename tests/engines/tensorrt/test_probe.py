"""The doctor's look for TensorRT."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from edgepack.engines.tensorrt import device
from edgepack.engines.tensorrt.probe import probe
from edgepack.errors import ToolchainError


def test_what_is_here_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    found = SimpleNamespace(device="Made-up GPU", sm="8.7", tensorrt="10.3.0", cuda="12.6")
    monkeypatch.setattr(device, "find_device", lambda: found)
    assert probe().words == "builds and runs on Made-up GPU (SM 8.7), TensorRT 10.3.0, CUDA 12.6"
    assert probe().devices == ("GPU",)


def test_a_version_that_is_not_driven_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    found = SimpleNamespace(device="Made-up GPU", sm="8.7", tensorrt="8.2.1", cuda="10.2")
    monkeypatch.setattr(device, "find_device", lambda: found)
    with pytest.raises(ToolchainError, match=r"TensorRT 8\.2\.1 is not supported"):
        probe()
