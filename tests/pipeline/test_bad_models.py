"""Models and samples that are odd or broken, through the command: each ends in a bundle or in one clear error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

from edgepack.cli.main import cli

pytestmark = pytest.mark.long

_NET = """<ir_version: 8, opset_import: ["" : 17]> net (float[N,3,H,W] image) => (float[N,5] logits) {
    first = Conv<pads=[1,1,1,1]>(image, w1)
    second = Relu(first)
    third = Conv<pads=[1,1,1,1]>(second, w1)
    pooled = GlobalAveragePool(third)
    flat = Flatten(pooled)
    logits = Gemm(flat, w2) }"""
_QUANTIZED = """<ir_version: 8, opset_import: ["" : 17]> net (float[N,3,8,8] image) => (float[N,3,8,8] y) {
    q = QuantizeLinear(image, scale, zero)
    d = DequantizeLinear(q, scale, zero)
    y = Conv<pads=[1,1,1,1]>(d, w1) }"""


@pytest.fixture
def build(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, dict[str, Any] | None, str]]:
    """Build int8 of a model for ONNX Runtime; return the exit code, build.json and what was said."""
    monkeypatch.setenv("COLUMNS", "400")

    def run(model: Path, data: Path) -> tuple[int, dict[str, Any] | None, str]:
        words = ["build", model, "--data", data, "--eval", data, "--precision", "int8", "--no-benchmark"]
        words += ["--method", "plain", "--out", tmp_path / "out", "--store", tmp_path / "store", "--json"]
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main([str(word) for word in words])
        said = capfd.readouterr()
        assert "Traceback" not in said.err
        assert isinstance(ended.value.code, int)
        return ended.value.code, json.loads(said.out) if said.out else None, said.err

    return run


def _model(path: Path, text: str, *, infinite: bool = False) -> Path:
    rng = np.random.default_rng(0)
    arrays = {
        "w1": rng.normal(size=(3, 3, 3, 3)).astype(np.float32),
        "w2": rng.normal(size=(3, 5)).astype(np.float32),
        "scale": np.float32(0.02),
        "zero": np.uint8(128),
    }
    if infinite:
        arrays["w2"][0, 0] = np.inf
    proto = onnx.parser.parse_model(text)
    for name, array in arrays.items():
        if f"{name})" in text or f" {name}," in text:
            proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    onnx.save(proto, path)
    return path


def _samples(path: Path, count: int, *, constant: bool = False) -> Path:
    image = np.random.default_rng(1).normal(size=(count, 3, 8, 8)).astype(np.float32)
    np.savez(path, image=np.full_like(image, 0.5) if constant else image)
    return path


@pytest.mark.parametrize(
    ("count", "constant", "warning"),
    [(20, False, None), (1, False, "there is only one calibration sample"), (20, True, "constant over all samples")],
    ids=["dynamic shape and shared initializer", "one sample", "constant activations"],
)
def test_odd_samples_and_models_are_built(
    build: Callable[..., Any], tmp_path: Path, count: int, constant: bool, warning: str | None
) -> None:
    data = _samples(tmp_path / "data.npz", count, constant=constant)
    code, result, err = build(_model(tmp_path / "m.onnx", _NET), data)
    assert code == 0, err
    assert result is not None
    assert result["rows"][0]["status"] == "ok"
    assert warning is None or any(warning in text for text in result["warnings"])


def test_infinite_weights_cost_a_row_or_the_build_with_a_reason(build: Callable[..., Any], tmp_path: Path) -> None:
    code, result, err = build(_model(tmp_path / "m.onnx", _NET, infinite=True), _samples(tmp_path / "data.npz", 20))
    assert code != 0
    said = err if result is None else result["rows"][0]["reason"]
    assert "infinite" in said or "NaN" in said
    assert not list((tmp_path / "out").glob("*.edgepack"))


def test_no_samples_are_refused(build: Callable[..., Any], tmp_path: Path) -> None:
    code, result, err = build(_model(tmp_path / "m.onnx", _NET), _samples(tmp_path / "data.npz", 0))
    assert (code, result) == (2, None)
    assert "contains no samples" in err


def test_a_quantized_model_is_refused(build: Callable[..., Any], tmp_path: Path) -> None:
    code, result, err = build(_model(tmp_path / "m.onnx", _QUANTIZED), _samples(tmp_path / "data.npz", 20))
    assert (code, result) == (2, None)
    assert "quantized already" in err


def test_control_flow_and_state_are_built(build: Callable[..., Any], assets: Path, tmp_path: Path) -> None:
    """A voice activity detector with If and LSTM, fed with noise: no labels, so its numerics alone are judged."""
    rng = np.random.default_rng(0)
    arrays = {
        "input": rng.normal(scale=0.1, size=(20, 1, 576)).astype(np.float32),
        "state": np.zeros((20, 2, 1, 128), np.float32),
        "sr": np.full(20, 16000, np.int64),
    }
    np.savez(tmp_path / "data.npz", **arrays)
    code, result, err = build(assets / "silero_vad_16k_op15.onnx", tmp_path / "data.npz")
    assert result is not None, err
    assert (code == 0) == (result["rows"][0]["status"] == "ok")
    assert code in (0, 5), err
    assert result["rows"][0]["status"] == "ok" or result["rows"][0]["reason"]
