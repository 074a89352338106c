"""What is shown of a file: a bundle or an ONNX model."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from small_bundles import small_onnx

from edgepack.base.files import sha256_file
from edgepack.engines import ENGINES
from edgepack.errors import ConfigError, IntegrityError, ModelError
from edgepack.profiling import describe as module
from edgepack.profiling.describe import inspect_bundle, inspect_bundle_layers, inspect_model, is_bundle
from edgepack.specs.run import RunOptions


@pytest.mark.parametrize(
    ("name", "data", "bundle"),
    [
        ("a.edgepack", b"anything", True),
        ("a.onnx", b"PK\x03\x04", False),
        ("a", b"PK\x03\x04", True),
        ("a.zip", b"PK", True),
        ("a.bin", b"\x08\x08", False),
        ("a.bin", b"", False),
    ],
)
def test_a_bundle_is_known_by_its_name_or_first_bytes(tmp_path: Path, name: str, data: bytes, bundle: bool) -> None:
    (tmp_path / name).write_bytes(data)
    assert is_bundle(tmp_path / name) == bundle


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no file .*x\.edgepack"):
        is_bundle(tmp_path / "x.edgepack")
    with pytest.raises(ModelError):
        is_bundle(tmp_path)


def test_another_frameworks_file_is_named_with_the_command_that_reads_it(tmp_path: Path) -> None:
    (tmp_path / "pipe.joblib").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ModelError, match="is a Python pickle, not an ONNX file") as caught:
        is_bundle(tmp_path / "pipe.joblib")
    assert "edgepack export" in caught.value.hint


def test_a_bundle_is_described_by_its_manifest(bundle_path: Path) -> None:
    found = inspect_bundle(bundle_path)
    assert found.manifest.name == "small"
    assert (found.sha256, found.size_bytes) == (sha256_file(bundle_path), bundle_path.stat().st_size)
    assert found.functions == {}  # its engine's kernels are its own


def test_functions_of_machine_code_are_those_of_their_file(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Module:
        FUNCTIONS = "model.onnx"

        @staticmethod
        def read_functions(data: bytes) -> dict[str, str]:
            return {"main": f"{len(data)} bytes"}

    record: Any = type("Engine", (), {"functions": "somewhere"})
    monkeypatch.setattr(module, "engine_of", lambda _name: record)
    monkeypatch.setattr(module, "part_of", lambda _name, _reference: Module)
    (size,) = (f.size_bytes for f in inspect_bundle(bundle_path).manifest.files if f.path.endswith("model.onnx"))
    assert inspect_bundle(bundle_path).functions == {"main": f"{size} bytes"}
    monkeypatch.setattr(module, "_FUNCTIONS_LIMIT_BYTES", size - 1)
    assert inspect_bundle(bundle_path).functions == {}
    assert ENGINES.get("onnxruntime").functions == ""


def test_a_damaged_bundle_is_refused(tmp_path: Path, bundle_path: Path) -> None:
    data = bytearray(bundle_path.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "x.edgepack").write_bytes(data)
    with pytest.raises(IntegrityError):
        inspect_bundle(tmp_path / "x.edgepack")


def test_an_onnx_file_is_described_in_a_child_process(tmp_path: Path) -> None:
    found = inspect_model(small_onnx(tmp_path / "m.onnx"))
    assert [layer.name for layer in found.layers] == ["conv", "fc"]
    (tmp_path / "bad.onnx").write_bytes(b"\x08\x08nothing")
    with pytest.raises(ModelError):
        inspect_model(tmp_path / "bad.onnx")


def test_layers_are_of_bundles_only(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--layers needs a bundle, and .* is not one") as caught:
        inspect_bundle_layers(small_onnx(tmp_path / "m.onnx"), RunOptions())
    assert "edgepack build" in str(caught.value.hint)
