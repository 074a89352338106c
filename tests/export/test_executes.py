"""What reading a source would execute is said of its bytes alone: every trap here would leave a file if it were run."""

from __future__ import annotations

import io
import json
import lzma
import pickle
import zipfile
from pathlib import Path

import joblib
import pytest
import torch

from edgepack.errors import ConfigError, ModelError
from edgepack.export import find_framework
from edgepack.export.executes import (
    HIDDEN,
    UNREAD,
    beyond_weights,
    lambda_layers,
    pickle_names,
    remote_code,
    side_effects,
)
from edgepack.export.worker import refuse_code
from edgepack.specs.source import SourceOptions

pytestmark = pytest.mark.slow


class Trap:
    """Runs ``Path.touch`` of a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_names_in_a_pickle_are_listed_and_not_called(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "trap.pkl").write_bytes(pickle.dumps([Trap(tmp_path / "ran"), Trap(tmp_path / "ran")], protocol))
    names = pickle_names(tmp_path / "trap.pkl")
    assert any(name.endswith(("Path.touch", "getattr")) for name in names), names
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3), ("bz2", 3), ("xz", 3)], ids=str)
def test_joblib_compresses_in_several_ways(tmp_path: Path, compress: object) -> None:
    joblib.dump(Trap(tmp_path / "ran"), tmp_path / "trap.joblib", compress=compress)
    assert pickle_names(tmp_path / "trap.joblib")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_weights_and_modules_of_torch_are_told_apart(tmp_path: Path, zipped: bool) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)).half()
    for name, value in (("weights", module.state_dict()), ("check", {"model": module.state_dict(), "epoch": 3})):
        torch.save(value, tmp_path / f"{name}.pt", _use_new_zipfile_serialization=zipped)
        assert beyond_weights(tmp_path / f"{name}.pt") == ()
    torch.save(module, tmp_path / "whole.pt", _use_new_zipfile_serialization=zipped)
    assert "torch.nn.modules.linear.Linear" in beyond_weights(tmp_path / "whole.pt")


def test_lambda_layers_are_found_in_both_formats(tmp_path: Path) -> None:
    layer = json.dumps({"layers": [{"class_name": "Lambda", "config": {}}, {"class_name": "Dense"}]})
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("config.json", layer)
    (tmp_path / "m.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + layer.encode())
    assert (
        lambda_layers(tmp_path / "m.keras")
        == lambda_layers(tmp_path / "m.h5")
        == ("the Python code of 1 Lambda layer",)
    )
    (tmp_path / "plain.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + layer.replace("Lambda", "Dense").encode())
    assert lambda_layers(tmp_path / "plain.h5") == ()


@pytest.mark.parametrize(
    "spelled",
    ['"class_name" : "Lambda"', '"class_name":\n"Lambda"', r'"class_name": "\u004cambda"',
     r'"class\u005Fname": "Lambda"', '"class_name": "__lambda__"', '"class_name": "Custom>Lambda"'],
)  # fmt: skip
def test_lambda_layers_are_found_however_json_spells_them(spelled: str, tmp_path: Path) -> None:
    (tmp_path / "m.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + spelled.encode() + b"\xff\x00")
    assert lambda_layers(tmp_path / "m.h5") == ("the Python code of 1 Lambda layer",)
    (tmp_path / "m.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + b'"class_name": "TFOpLambda", "name": "Lambda"')
    assert lambda_layers(tmp_path / "m.h5") == ()


def test_operators_that_reach_outside_a_saved_model(tmp_path: Path) -> None:
    def node(op: str) -> bytes:
        return b"\x0a\x01n\x12" + bytes([len(op)]) + op.encode()

    (tmp_path / "saved_model.pb").write_bytes(node("MatMul") + node("RestoreV2") + node("Identity"))
    assert side_effects(tmp_path) == ()
    (tmp_path / "saved_model.pb").write_bytes(node("MatMul") + node("WriteFile") + node("EagerPyFunc"))
    assert set(side_effects(tmp_path)) == {"WriteFile", "EagerPyFunc"}


def test_code_that_a_folder_asks_to_import(tmp_path: Path) -> None:
    config = {"model_type": "x", "auto_map": {"AutoModel": "modeling_x.Net", "AutoConfig": ["conf.C", None]}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert remote_code(tmp_path) == ("conf.C", "modeling_x.Net")


_EXEC = b"(S'pass'\ntR."  # calls what was imported
_ZIP = io.BytesIO()
zipfile.ZipFile(_ZIP, "w").close()
HIDING = {
    "an old opcode": (b"(S'pass'\nibuiltins\nexec\n.", "builtins.exec"),
    "the extension registry": (b"\x80\x02\x82\x01.", "extension 1 of copyreg"),
    "one string twice": (b"\x80\x04\x8c\x04this2\x93.", HIDDEN),
    "strings thrown away": (
        b"\x80\x04\x8c\x08builtins\x8c\x04exec\x8c\x05torch\x8c\x04Size00\x93" + _EXEC, HIDDEN
    ),
    "many opcodes before": (b"\x80\x02" + b"N0" * 40 + b"cbuiltins\nexec\n" + _EXEC, UNREAD),
    "bytes of arrays before": (b"\x80\x02" + b"N0\xff" + b"cbuiltins\nexec\n" + _EXEC, UNREAD),
    "a packing that is not looked into": (
        lzma.compress(b"cbuiltins\nexec\n" + _EXEC, format=lzma.FORMAT_ALONE), UNREAD
    ),
    "a zip file behind it": (b"cbuiltins\nexec\n" + _EXEC + _ZIP.getvalue(), "builtins.exec"),
}  # fmt: skip


@pytest.mark.parametrize("way", HIDING)
def test_a_pickle_that_hides_what_it_imports_is_not_taken_for_data(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgepack.export.executes._MOST_OPCODES", 60)
    data, expected = HIDING[way]
    (tmp_path / "pipe.pkl").write_bytes(data)
    assert expected in pickle_names(tmp_path / "pipe.pkl")
    assert beyond_weights(tmp_path / "pipe.pkl")


def test_data_alone_imports_nothing(tmp_path: Path) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        (tmp_path / "pipe.pkl").write_bytes(pickle.dumps({"a": [1, 2.5, "b" * 100_000]}, protocol))
        assert pickle_names(tmp_path / "pipe.pkl") == ()


def test_it_is_refused_with_what_it_would_run_and_allowed_by_the_user(tmp_path: Path) -> None:
    path = tmp_path / "pipe.pkl"
    path.write_bytes(pickle.dumps(Trap(tmp_path / "ran")))
    framework = find_framework(str(path))
    assert framework is not None
    assert framework.worker is not None
    with pytest.raises(ConfigError, match=r"would run code that is in it: .*Path") as raised:
        refuse_code(framework.worker, str(path), SourceOptions())
    assert "--trust-code" in raised.value.hint
    refuse_code(framework.worker, str(path), SourceOptions(trust_code=True))
    assert not (tmp_path / "ran").exists()


def test_a_damaged_file_is_an_error_of_the_model(tmp_path: Path) -> None:
    path = tmp_path / "pipe.joblib"
    path.write_bytes(b"\x78\x9c broken")
    framework = find_framework(str(path))
    assert framework is not None
    assert framework.worker is not None
    with pytest.raises(ModelError, match=r"pipe\.joblib cannot be read"):
        refuse_code(framework.worker, str(path), SourceOptions())
