"""Native code runs when somebody said so: the caller, the environment, the device's settings, or who built it."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from program import main
from small_bundles import INPUTS, TARGET, small_compiled, small_facts, small_golden

from edgepack.bundle.archive import open_bundle
from edgepack.bundle.pack import pack
from edgepack.errors import ConfigError, StorageError
from edgepack.runtime import native
from edgepack.runtime.install import install
from edgepack.runtime.load import load
from edgepack.runtime.native import may_run_native, note_built, read_settings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that nobody has set up."""
    monkeypatch.setenv("EDGEPACK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(native, "SYSTEM_SETTINGS", tmp_path / "etc" / "device.json")
    for name in (native.VARIABLE, native.SETTINGS_VARIABLE):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A bundle whose payload counts as native code, as its entry is not one that the engine says it compiles."""
    compiled = small_compiled(tmp_path / "compiled")
    golden = small_golden(compiled.folder / "model.onnx", tmp_path / "golden.npz")
    (compiled.folder / "model.onnx").rename(compiled.folder / "model.bin")
    other = dataclasses.replace(compiled, entry="model.bin", files=("model.bin",))
    target = dataclasses.replace(TARGET, compute=dataclasses.replace(TARGET.compute, isa=()))
    facts = dataclasses.replace(small_facts(), target=target)
    return pack(other, golden, facts, tmp_path)


def runs(path: Path, allow_native: bool | None = None) -> bool:
    try:
        with load(path, allow_native=allow_native) as model:
            return bool(model.infer({INPUTS[0].name: np.zeros((1, 3, 8, 8), np.float32)}))
    except ConfigError as error:
        if "holds native code" not in error.message or "--allow-native" not in error.hint:
            raise
        return False


def settings(path: Path, allow: bool) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"allow_native": allow}))
    path.chmod(0o644)


def test_code_from_elsewhere_does_not_run(code: Path) -> None:
    assert not runs(code)
    assert main(["run", str(code), "--input", "nothing.npz"]) == 2
    assert main(["verify", str(code)]) == 2


def test_a_bundle_of_data_is_not_asked_about(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.VARIABLE, "0")
    assert runs(bundle_path)
    assert runs(bundle_path, allow_native=False)


def test_the_caller_decides_first(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.VARIABLE, "0")
    assert runs(code, allow_native=True)
    monkeypatch.setenv(native.VARIABLE, "1")
    assert not runs(code, allow_native=False)


def test_the_option_allows_it_for_one_command(code: Path) -> None:
    assert main(["verify", str(code), "--allow-native"]) == 0
    assert main(["verify", str(code)]) == 2


def test_the_environment_decides_before_the_settings(
    code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings(tmp_path / "etc" / "device.json", allow=False)
    monkeypatch.setenv(native.VARIABLE, "1")
    assert runs(code)
    monkeypatch.setenv(native.VARIABLE, "yes")
    with pytest.raises(ConfigError, match="EDGEPACK_ALLOW_NATIVE is 'yes'"):
        load(code)


def test_the_settings_of_a_device(code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_settings() is None
    settings(tmp_path / "etc" / "device.json", allow=True)
    assert runs(code)
    (tmp_path / "config").mkdir()
    settings(tmp_path / "config" / "edgepack" / "device.json", allow=False)  # the user's go before the system's
    assert not runs(code)
    settings(tmp_path / "mine.json", allow=True)
    monkeypatch.setenv(native.SETTINGS_VARIABLE, str(tmp_path / "mine.json"))
    assert runs(code)


def test_settings_that_others_may_write_or_that_are_wrong_are_no_settings(
    code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.json"
    monkeypatch.setenv(native.SETTINGS_VARIABLE, str(path))
    with pytest.raises(ConfigError, match="cannot read"):
        load(code)
    settings(path, allow=True)
    path.chmod(0o666)
    with pytest.raises(StorageError, match="writable by other users"):
        load(code)
    path.chmod(0o644)
    path.write_text('{"allow_nativ": true}')
    with pytest.raises(ConfigError, match="allow_nativ"):
        load(code)


def test_what_was_built_here_runs_unless_the_device_says_no(code: Path, tmp_path: Path) -> None:
    bundle = open_bundle(code)
    note_built(bundle.sha256)
    note_built(bundle.sha256)
    assert runs(code)
    assert (tmp_path / "cache" / "built").read_text() == bundle.sha256 + "\n"
    settings(tmp_path / "etc" / "device.json", allow=False)
    assert not runs(code)


def test_a_note_that_others_could_have_written_counts_for_nothing(code: Path, tmp_path: Path) -> None:
    note_built(open_bundle(code).sha256)
    (tmp_path / "cache").chmod(0o777)
    assert not may_run_native(open_bundle(code))


@pytest.mark.slow
def test_installing_asks_too(code: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds native code"):
        install(code, tmp_path / "root")
    assert main(["install", str(code), "--root", str(tmp_path / "root"), "--allow-native"]) == 0


def test_inspect_says_what_is_code(code: Path, bundle_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(code)]) == 0
    assert "runs by onnxruntime on CPU: native code, model/onnxruntime/model.bin" in capsys.readouterr().out
    assert main(["inspect", str(code), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["payloads"][0]["native"] is True
    assert main(["inspect", str(bundle_path)]) == 0
    assert "runs by onnxruntime on CPU: data, model/onnxruntime/model.onnx" in capsys.readouterr().out
