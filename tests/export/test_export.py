"""Which framework a source is, and what is said about one that is none."""

from __future__ import annotations

import os
import typing
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgepack.errors import ConfigError, EdgepackError, ModelError
from edgepack.execution import child
from edgepack.export import (
    FRAMEWORKS,
    export,
    find_framework,
    find_inputs,
    name_of,
    require_onnx,
    sources_in_words,
)
from edgepack.graph.load import load_model, save_proto
from edgepack.specs.model import OnnxModel
from edgepack.specs.source import SourceOptions


def product() -> onnx.ModelProto:
    weight = numpy_helper.from_array(np.ones((40, 40), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
        "graph",
        [helper.make_tensor_value_info("x", 1, ["N", 40])],
        [helper.make_tensor_value_info("y", 1, ["N", 40])],
        [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("external", [False, True])
def test_onnx_file_is_copied_whole(external: bool, tmp_path: Path) -> None:
    source = save_proto(product(), tmp_path / "source", "net.onnx", external_data=external)
    model = export(str(source.path), None, {}, SourceOptions(), tmp_path / "out")
    assert model.path == tmp_path / "out" / "model.onnx"
    assert model.sha256 == source.sha256
    assert model.external == source.external
    names = {"model.onnx", "net.onnx.data"} if external else {"model.onnx"}
    assert {p.name for p in (tmp_path / "out").iterdir()} == names
    assert find_inputs(str(source.path), None, {}) == model.inputs


def test_bad_onnx_file_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"not ONNX")
    with pytest.raises(ModelError):
        export(str(tmp_path / "bad.onnx"), None, {}, SourceOptions(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "kind", "words", "hint"),
    [
        ("weights.pt", ModelError, "is not a file of torch.save, judging by its contents", "save it again"),
        ("weights.pth", ModelError, "is not a file of torch.save, judging by its contents", "save it again"),
        ("net.tflite", ModelError, "is not a TensorFlow Lite file, judging by its contents", "save it again"),
        ("net.h5", ModelError, "is not an HDF5 file", "save it again"),
        ("nett.tflite", ModelError, "there is no model", "/net.tflite'?"),
        ("missing.keras", ModelError, "there is no model", "check the path"),
        ("make.py", ConfigError, "not a model that edgepack reads", "name the function"),
        ("nets.py", ConfigError, "not a model that edgepack reads", "nets.py:small, "),
        ("net.xyz", ConfigError, "not a model that edgepack reads", ".onnx"),
        ("folder", ModelError, "is a folder", "saved_model.pb"),
        ("missing", ModelError, "there is no model", "check the path"),
        ("missing.onnx", ModelError, "there is no file", "path"),
        ("missing.pt2", ModelError, "there is no file", "path"),
        ("net.onx", ModelError, "there is no model", "/net.onnx'?"),
        ("missing.py:make", ConfigError, "there is no file", "before the colon"),
        ("file.py:", ModelError, "there is no model", "check the path"),
    ],
)
def test_what_is_no_model(name: str, kind: type[EdgepackError], words: str, hint: str, tmp_path: Path) -> None:
    for file in ("weights.pt", "weights.pth", "net.tflite", "net.h5", "make.py", "net.xyz", "net.onnx"):
        (tmp_path / file).touch()
    (tmp_path / "nets.py").write_text("def small(): ...\nclass Large: ...\n")
    (tmp_path / "folder").mkdir()
    source = str(tmp_path / name) if not name.startswith(":") else name
    with pytest.raises(kind) as caught:
        export(source, None, {}, SourceOptions(), tmp_path / "out")
    assert words in caught.value.message
    assert hint in caught.value.hint


def test_runs_as_a_stage_in_a_child_process(tmp_path: Path) -> None:
    source = save_proto(product(), tmp_path / "source")
    made = child.call(
        export, str(source.path), None, {}, SourceOptions(), tmp_path / "out", limit_s=60, log=tmp_path / "log"
    )
    assert made == load_model(tmp_path / "out" / "model.onnx")
    assert typing.get_type_hints(export)["return"] is OnnxModel


@pytest.mark.slow
def test_a_crash_in_the_users_code_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "crash.py").write_text("import os\ndef make():\n    os.kill(os.getpid(), 11)\n")
    with pytest.raises(EdgepackError, match="SIGSEGV"):
        child.call(
            export,
            f"{tmp_path / 'crash.py'}:make",
            None,
            {},
            SourceOptions(),
            tmp_path / "out",
            limit_s=60,
            log=tmp_path / "log",
        )


# --- the table --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("dir/Net.ONNX", "onnx"),
        ("net.pt2", "torch_program"),
        ("my_model.py:make", "torch_module"),
        ("C:/net.tflite", "tflite"),
        ("net.keras", "keras"),
        ("keras:MobileNetV2", "keras"),
        ("timm:resnet18", "timm"),
        ("hf:owner/name", "hugging_face"),
        ("net.pt", "torch_file"),
        ("net.safetensors", "torch_file"),
        ("pipe.joblib", "sklearn"),
        ("package.module:Net", "torch_module"),
    ],
)
def test_each_source_has_its_framework(source: str, name: str) -> None:
    assert find_framework(source) is FRAMEWORKS.get(name)


@pytest.mark.parametrize("source", ["net.pb", "folder", "net", "weights.bin"])
def test_other_sources_have_none(source: str) -> None:
    assert find_framework(source) is None


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("timm:resnet18", "resnet18"),
        ("hf:owner/net", "net"),
        ("dir/net.tflite", "net"),
        ("dir/net.onnx", "net"),
        ("net.pt2", "net"),
        ("dir/my_net.py:make", "my_net"),
        ("pkg.nets:Small", "pkg.nets"),
    ],
)
def test_a_model_is_named_by_its_file_or_module(source: str, name: str) -> None:
    assert name_of(source) == name


def test_a_folder_is_named_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models" / "vit.v2").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "models" / "vit.v2")
    assert name_of("..") == "models"
    assert name_of(".") == name_of(f"{tmp_path}/models/vit.v2/") == "vit.v2"


def test_what_may_be_given_is_said_in_words() -> None:
    words = sources_in_words()
    assert words.startswith(".onnx, .pt2, .keras, .tflite, a SavedModel folder, a Hugging Face folder, timm:NAME")
    assert words.endswith(" or file.py:callable")


def test_a_command_that_wants_an_onnx_file_says_so() -> None:
    require_onnx(Path("net.onnx"))
    with pytest.raises(ModelError, match=r"net\.pt2 is not an ONNX file"):
        require_onnx(Path("net.pt2"))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("suffix", ["onnx", "pt2", "tflite", "h5", "keras", "safetensors", "pt", "txt", "json"])
def test_a_pipe_is_no_model(tmp_path: Path, suffix: str) -> None:
    """It would be waited for, for ever."""
    os.mkfifo(tmp_path / f"net.{suffix}")
    with pytest.raises(ModelError, match="is neither a file nor a folder"):
        export(str(tmp_path / f"net.{suffix}"), None, {}, SourceOptions(), tmp_path / "out")
