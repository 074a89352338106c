"""The doctor's try of OpenVINO, on every device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgepack.engines.openvino.probe import probe
from edgepack.errors import EdgepackError

openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install 'edgepack[openvino]'")


def core_of(**devices: Any) -> type:
    """A core whose devices compute what they say, or raise it."""

    class Core:
        available_devices = tuple(devices)

        def read_model(self, _data: bytes, _weights: bytes) -> str:
            return "model"

        def compile_model(self, _model: str, device: str, settings: dict[str, str]) -> Any:
            assert settings == ({"INFERENCE_PRECISION_HINT": "f32"} if device == "CPU" else {})
            answer = devices[device]
            if isinstance(answer, Exception):
                raise answer
            return lambda _feed: [np.float32(answer)]

        def get_property(self, device: str, _name: str) -> list[str]:
            return ["FP32", "INT8"] if device == "CPU" else ["FP16", "BIN"]

    return Core


def test_this_cpu_works() -> None:
    found = probe()
    assert "CPU" in found.devices
    assert {"fp32", "int8"} <= set(found.precisions)


def test_a_device_that_fails_is_said_beside_those_that_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "Core", core_of(CPU=[0, 2], GPU=RuntimeError("no\n  driver"), NPU=[5, 5]))
    found = probe()
    assert (found.devices, found.precisions) == (("CPU",), ("fp32", "int8"))
    assert "GPU does not work (no driver)" in found.words
    assert "NPU does not work (it computes" in found.words


def test_precisions_are_those_of_any_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "Core", core_of(CPU=[0, 2], GPU=[0, 2]))
    assert probe().precisions == ("fp32", "fp16", "int8")


def test_without_a_working_device_it_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "Core", core_of(CPU=RuntimeError("broken")))
    with pytest.raises(EdgepackError, match="it finds no device"):
        probe()
