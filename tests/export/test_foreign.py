"""What is said of models that no framework takes: files made by the real libraries, and damaged ones."""

from __future__ import annotations

import json
import pickle
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgepack.errors import ModelError
from edgepack.export import find_inputs
from edgepack.export.foreign import Foreign, look_inside


def found(path: Path | str) -> Foreign:
    answer = look_inside(str(path))
    assert answer is not None
    with pytest.raises(ModelError) as raised:
        find_inputs(str(path), None, {})
    assert (raised.value.message, raised.value.hint) == (f"{path} is {answer.what}", answer.hint)
    return answer


@pytest.mark.parametrize("zipped", [True, False])
def test_weights_and_modules_of_torch_are_told_apart_without_loading_them(tmp_path: Path, zipped: bool) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    torch.save(module.state_dict(), tmp_path / "weights.pt", _use_new_zipfile_serialization=zipped)
    torch.save(
        {"model": module.state_dict(), "epoch": 3}, tmp_path / "check.pth", _use_new_zipfile_serialization=zipped
    )
    torch.save(module, tmp_path / "whole.pt", _use_new_zipfile_serialization=zipped)
    for name in ("weights.pt", "check.pth"):
        assert found(tmp_path / name).what == "a state dict: weights without the network"
        assert "weights_only=True" in found(tmp_path / name).hint
    whole = found(tmp_path / "whole.pt")
    assert whole.what.startswith("a pickled torch.nn.modules.")
    assert "if you trust it" in whole.hint


def test_torchscript_is_loaded_by_a_function(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # which is why people ask for something else
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "script.pt"))
    answer = found(tmp_path / "script.pt")
    assert answer.what == "a TorchScript file"
    assert f"torch.jit.load({str(tmp_path / 'script.pt')!r})" in answer.hint


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "ran",)  # type: ignore[return-value]

    (tmp_path / "trap.pkl").write_bytes(pickle.dumps(Trap()))
    assert found(tmp_path / "trap.pkl").what.startswith("a Python pickle of pathlib")
    assert not (tmp_path / "ran").exists()


def test_safetensors_and_folders(tmp_path: Path) -> None:
    header = json.dumps({"__metadata__": {}, "w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    weights = tmp_path / "hub" / "model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    assert found(weights).what == "weights without the network, 1 tensors"
    assert "load_file" in found(weights).hint
    (weights.parent / "config.json").write_text(json.dumps({"architectures": ["BertModel"], "model_type": "bert"}))
    assert "optimum-cli export onnx" in found(weights).hint
    assert found(weights.parent).what == "a Hugging Face model (BertModel)"
    (tmp_path / "saved").mkdir()
    assert found(tmp_path / "saved").what == "a folder, not a model"
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"x")
    assert "tf2onnx" in found(tmp_path / "saved").hint
    (tmp_path / "saved" / "net.onnx").write_bytes(b"x")
    assert f"edgepack build {tmp_path}/saved/net.onnx" in found(tmp_path / "saved").hint


def test_a_name_on_a_hub_and_a_wrong_path_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "--model google/vit-base" in found("google/vit-base").hint
    (tmp_path / "models").mkdir()
    assert look_inside("models/mine") is None
    for name in ("resnet50", "a/b/c", "../x/y", "/no/where"):
        assert look_inside(name) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.sampled_from([b"PK\x03\x04", b"\x80\x02", b"\x10\0\0\0\0\0\0\0", b"\xff" * 8, b""]), st.binary(max_size=60),
    st.sampled_from(["m.pt", "m.safetensors", "m.pkl"]),
)  # fmt: skip
def test_whatever_the_bytes_nothing_is_raised(tmp_path: Path, begin: bytes, rest: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(begin + rest)
    look_inside(str(tmp_path / name))
