"""Weights of another quantizer, as each writes them, are named and refused before an environment is made."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from edgepack.errors import ModelError
from edgepack.export import find_framework
from edgepack.export.worker import refuse_code
from edgepack.specs.source import SourceOptions

pytestmark = pytest.mark.slow

WEIGHT = {"conv.weight": torch.zeros(2, 2)}
FILES: dict[str, dict[str, Any]] = {
    "NVIDIA's ModelOpt": {"modelopt_state": {}, "model_state_dict": WEIGHT},
    "NNCF": {"__nncf_hooks.post_hooks.conv/0.0.scale": torch.zeros(1), **WEIGHT},
    "torch.ao.quantization": {"line.scale": torch.ones(1), "line._packed_params.dtype": torch.zeros(1)},
}


def asked(source: Path, **options: object) -> None:
    framework = find_framework(str(source))
    assert framework is not None
    assert framework.worker is not None
    refuse_code(framework.worker, str(source), SourceOptions(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize("tool", FILES)
def test_a_file_of_torch_names_the_tool(tool: str, tmp_path: Path) -> None:
    torch.save(FILES[tool], tmp_path / "m.pt")
    with pytest.raises(ModelError, match=f"that {tool} quantized") as raised:
        asked(tmp_path / "m.pt")
    assert "--precision as-is" in raised.value.hint
    asked(tmp_path / "m.pt", python="mine", module="net.py:Net", trust_code=True)


def test_classes_of_torchao_in_a_pickle_and_names_in_safetensors(tmp_path: Path) -> None:
    (tmp_path / "ao.pt").write_bytes(b"\x80\x02ctorchao.quantization\nInt8Tensor\n." + b"torch")
    with pytest.raises(ModelError, match="that torchao quantized"):
        asked(tmp_path / "ao.pt")
    header = json.dumps({"c.weight_quantizer._amax": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}).encode()
    (tmp_path / "m.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(ModelError, match="ModelOpt quantized"):
        asked(tmp_path / "m.safetensors")


def test_plain_weights_are_let_through(tmp_path: Path) -> None:
    torch.save(torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.BatchNorm2d(1)).state_dict(), tmp_path / "m.pt")
    asked(tmp_path / "m.pt")


def test_a_folder_of_hugging_face_with_quantized_weights(tmp_path: Path) -> None:
    config = {"model_type": "bert", "quantization_config": {"quant_method": "gptq", "bits": 4}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="weights that gptq quantized"):
        asked(tmp_path)
    asked(tmp_path, python="mine")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    asked(tmp_path)
