"""What is said of folders and names that no framework takes."""

from __future__ import annotations

from pathlib import Path

import pytest

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


def test_folders_say_what_to_give(tmp_path: Path) -> None:
    (tmp_path / "saved").mkdir()
    assert found(tmp_path / "saved").what == "a folder, not a model"
    assert "saved_model.pb" in found(tmp_path / "saved").hint
    (tmp_path / "saved" / "net.onnx").write_bytes(b"x")
    assert f"edgepack build {tmp_path}/saved/net.onnx" in found(tmp_path / "saved").hint


def test_a_name_on_a_hub_and_a_wrong_path_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "edgepack build hf:google/vit-base --download" in found("google/vit-base").hint
    (tmp_path / "models").mkdir()
    assert look_inside("models/mine") is None
    for name in ("resnet50", "a/b/c", "../x/y", "/no/where"):
        assert look_inside(name) is None
