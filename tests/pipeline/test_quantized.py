"""Builds of models that came quantized: as they are, and from the float model that is taken out of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from imported_models import by_onnxruntime, float_network, pictures

from edgepack.cli.main import cli
from edgepack.pipeline.quantized import notes_as_is

Build = Callable[..., tuple[int, dict[str, Any] | None, str]]


@pytest.fixture
def build(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Build:
    """Build a model on samples; return the exit code, build.json and what was said."""
    monkeypatch.setenv("COLUMNS", "400")

    def run(model: onnx.ModelProto, *words: str) -> tuple[int, dict[str, Any] | None, str]:
        onnx.save(model, tmp_path / "m.onnx")
        np.savez(tmp_path / "data.npz", x=pictures(24))
        said = ["build", tmp_path / "m.onnx", "--eval", tmp_path / "data.npz", "--no-benchmark", "--json", *words]
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main([str(word) for word in (*said, "--out", tmp_path / "out", "--store", tmp_path / "store")])
        out = capfd.readouterr()
        assert "Traceback" not in out.err
        assert isinstance(ended.value.code, int)
        return ended.value.code, json.loads(out.out) if out.out else None, out.err

    return run


@pytest.mark.slow
@pytest.mark.parametrize("form", ["QDQ", pytest.param("QOperator", marks=pytest.mark.long)])
def test_as_it_is_it_answers_as_it_did_on_each_engine(form: str, build: Build, tmp_path: Path) -> None:
    targets = "host-onnxruntime,host-openvino,amd-zen3,jetson-agx-orin-32gb-jp6"
    code, result, err = build(by_onnxruntime(tmp_path / "q", form, "s8s8"), "-p", "as-is", "-t", targets)
    assert code == 0, err
    assert result is not None
    rows = {row["target"]: row for row in result["rows"]}
    assert {row["precision"] for row in rows.values()} == {"int8"}
    assert all((row["sqnr_db"] or 200) > 20 for row in rows.values())
    assert "from int8 to uint8" in rows["host-onnxruntime"]["notes"]["as it came"]
    assert "rounded again" not in rows["host-onnxruntime"]["notes"]["as it came"]
    assert "around zero" in rows["jetson-agx-orin-32gb-jp6"]["notes"]["as it came"]
    assert "own answers" in rows["amd-zen3"]["notes"]["reference"]
    assert all("as-is" in row["command"] for row in rows.values())


@pytest.mark.slow
def test_requantized_it_is_built_as_a_float_model_is(build: Build, tmp_path: Path) -> None:
    words = ("--requantize", "-p", "fp32,int8", "--method", "plain", "-d", str(tmp_path / "data.npz"))
    code, result, err = build(by_onnxruntime(tmp_path / "q", "QOperator", "u8u8"), *words)
    assert code == 0, err
    assert result is not None
    assert [row["status"] for row in result["rows"]] == ["ok", "ok"]
    assert result["rows"][1]["sqnr_db"] > 15
    assert all("--requantize" in row["command"] for row in result["rows"])
    assert "pairs taken out" in err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("quantized", "words", "message", "hint"),
    [
        (True, ("-p", "fp32"), "quantized already", "--precision as-is"),
        (False, ("-p", "as-is"), "not quantized", "--precision int8"),
        (False, ("--requantize",), "not quantized", "leave --requantize out"),
    ],
)
def test_what_the_model_is_not_is_refused(
    quantized: bool, words: tuple[str, ...], message: str, hint: str, build: Build, tmp_path: Path
) -> None:
    model = by_onnxruntime(tmp_path / "q", "QDQ", "u8s8") if quantized else float_network()
    code, result, err = build(model, *words)
    assert (code, result) == (2, None)
    assert message in err
    assert hint in err


def test_a_row_says_which_roundings_its_engine_leaves_out() -> None:
    assert "roundings" not in notes_as_is("nothing was changed", 0, "OpenVINO")
    assert notes_as_is("nothing was changed", 1, "OpenVINO")["roundings"].startswith("in 1 sum OpenVINO adds")
    assert notes_as_is("nothing was changed", 3, "OpenVINO")["roundings"].startswith("in 3 sums OpenVINO adds")
