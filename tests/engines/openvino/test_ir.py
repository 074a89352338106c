"""What an IR asks for, and whose nodes its operators are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from backend_models import MODELS, save

from edgepack.engines.openvino import engine as openvino_engine
from edgepack.engines.openvino.ir import asked_of_ir, call_openvino, original_name
from edgepack.errors import CompileError
from edgepack.specs.target import Target

pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install 'edgepack[openvino]'")


def asked(tmp_path: Path, name: str) -> dict[str, Any]:
    model = save(MODELS[name](), tmp_path / "m.onnx")
    target = Target("t", "T", "openvino", "x86_64")
    compiled = openvino_engine.compile_model(model, target, "fp32", tmp_path / "out")
    return {found.layer.name: found for found in asked_of_ir(compiled.folder / compiled.entry)}


def test_a_float_model_asks_for_fp32(tmp_path: Path) -> None:
    found = asked(tmp_path, "conv")
    assert {found[name].layer.asked for name in ("first", "second", "third")} == {"fp32"}
    assert found["first"].layer.weighted
    assert not found["second"].layer.weighted
    assert found["second"].reads == ("first",)


def test_a_layer_between_integers_asks_for_int8(tmp_path: Path) -> None:
    found = asked(tmp_path, "quantized")
    assert found["conv"].layer.asked == "int8"
    assert not [name for name in found if "Dequantize" in name]


def test_a_16_bit_model_asks_for_fp16(tmp_path: Path) -> None:
    assert asked(tmp_path, "half")["first"].layer.asked == "fp16"


@pytest.mark.parametrize(
    ("name", "original"),
    [
        ("conv", "conv"),
        ("conv/WithoutBiases", "conv"),
        ("q/DequantizationMultiply", "q"),
        ("WithoutBiases", "WithoutBiases"),
    ],
)
def test_what_openvino_adds_to_a_name_is_taken_off(name: str, original: str) -> None:
    assert original_name(name) == original


def test_a_file_that_it_refuses_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.xml").write_text("<net/>")
    with pytest.raises(CompileError, match=r"OpenVINO refused bad\.xml"):
        asked_of_ir(tmp_path / "bad.xml")
    assert call_openvino(tmp_path / "bad.xml", lambda core: "CPU" in core.available_devices)
