"""Kernels whose operations are known, for the peaks of this CPU."""

from __future__ import annotations

import importlib.util

import pytest

from edgepack.engines.onnxruntime import peaks
from edgepack.engines.onnxruntime.peaks import trials, versions
from edgepack.errors import ToolchainError


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peaks, "_SQUARES", (16, 24))


def test_every_precision_has_products_of_its_own_type() -> None:
    found = list(trials(("int8", "fp32"), 1, ()))
    assert [(trial.precision, trial.amount) for trial in found] == [
        (precision, 2 * size**3) for precision in ("fp32", "int8") for size in (16, 24)
    ]
    assert [trial.call()[0].dtype.name for trial in found] == ["float32", "float32", "int32", "int32"]


def test_what_was_not_asked_for_is_not_tried() -> None:
    assert [trial.precision for trial in trials(("int8", "bf16"), 1, ())] == ["int8", "int8"]


def test_a_working_set_is_read_once_a_call() -> None:
    found = list(trials((), 1, (64 << 10, 3)))
    assert [(trial.working_set_bytes, trial.amount) for trial in found] == [(64 << 10, 64 << 10), (3, 4096)]
    assert found[0].call()[0].shape == (1, 16)


def test_without_onnx_nothing_can_be_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(versions({})) == {"onnxruntime"}
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "onnx" else find(name, *more))
    with pytest.raises(ToolchainError, match="the package onnx is not installed"):
        versions({})
