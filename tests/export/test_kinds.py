"""Of which kind a file is by what is in it: files of the real libraries, made-up headers, and damaged ones."""

from __future__ import annotations

import json
import pickle
import warnings
import zipfile
from pathlib import Path

import joblib
import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edgepack.errors import ModelError
from edgepack.export import FRAMEWORKS, find_framework, find_inputs
from edgepack.export.kinds import KINDS, kind_of, lie

pytestmark = pytest.mark.slow


def zipped(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "{}")
    return path


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def safetensors(path: Path) -> Path:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return write(path, len(header).to_bytes(8, "little") + header + bytes(4))


def script(path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit, which people's files are of all the same
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
    return path


def saved(path: Path, value: object, **options: bool) -> Path:
    torch.save(value, path, **options)
    return path


def program(path: Path) -> Path:
    torch.export.save(torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),)), path)
    return path


def tiny_onnx(path: Path) -> Path:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    other = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    onnx.save(
        helper.make_model(helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [other])), path
    )
    return path


def folder(path: Path, name: str, text: str) -> Path:
    path.mkdir()
    (path / name).write_text(text)
    return path


def dumped(path: Path, compress: int = 0) -> Path:
    joblib.dump({"weights": np.ones(3)}, path, compress=compress)
    return path


LINEAR = torch.nn.Linear(2, 2)
MADE = {
    "keras": lambda d: zipped(d / "m.keras", "config.json", "metadata.json", "model.weights.h5"),
    "h5": lambda d: write(d / "m.h5", b"\x89HDF\r\n\x1a\n" + bytes(20)),
    "tflite": lambda d: write(d / "m.tflite", b"\x1c\0\0\0TFL3" + bytes(20)),
    "saved_model": lambda d: folder(d / "m", "saved_model.pb", "x"),
    "hugging_face": lambda d: folder(d / "hf", "config.json", '{"model_type": "bert"}'),
    "timm": lambda d: folder(d / "timm", "config.json", '{"architecture": "resnet18", "pretrained_cfg": {}}'),
    "torch": lambda d: saved(d / "m.pt", LINEAR.state_dict()),
    "torchscript": lambda d: script(d / "s.pt"),
    "torch_program": lambda d: program(d / "m.pt2"),
    "safetensors": lambda d: safetensors(d / "m.safetensors"),
    "xgboost": lambda d: write(d / "m.json", b'{"learner":{"attributes":{}}}'),
    "lightgbm": lambda d: write(d / "m.txt", b"tree\nversion=v4\n"),
    "flax": lambda d: write(d / "m.msgpack", b"\x81\xa6params\x80"),
    "orbax": lambda d: folder(d / "orbax", "_CHECKPOINT_METADATA", "{}"),
    "pickle": lambda d: write(d / "m.pkl", pickle.dumps([1])),
    "onnx": lambda d: tiny_onnx(d / "m.bin"),
}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_each_kind_is_known_by_its_contents(kind: str, tmp_path: Path) -> None:
    assert kind_of(str(MADE[kind](tmp_path))) == kind


def test_older_files_of_torch_and_compressed_ones_of_joblib(tmp_path: Path) -> None:
    old = saved(tmp_path / "old.pth", LINEAR.state_dict(), _use_new_zipfile_serialization=False)
    assert kind_of(str(old)) == "torch"
    assert [kind_of(str(dumped(tmp_path / f"{n}.joblib", n))) for n in (0, 3)] == ["pickle", "pickle"]
    assert kind_of(str(write(tmp_path / "m.ubj", b"{L\0\0\0\0\0\0\0\x07learner{"))) == "xgboost"


@pytest.mark.parametrize(
    ("kind", "framework"),
    [
        ("keras", "keras"), ("h5", "keras"), ("tflite", "tflite"), ("saved_model", "saved_model"),
        ("hugging_face", "hugging_face"), ("timm", "timm"), ("torch", "torch_file"), ("torchscript", "torch_file"),
        ("torch_program", "torch_program"), ("safetensors", "torch_file"), ("xgboost", "sklearn"),
        ("lightgbm", "sklearn"), ("pickle", "sklearn"), ("flax", "flax"), ("orbax", "flax"),
    ],
)  # fmt: skip
def test_each_kind_has_its_framework(kind: str, framework: str, tmp_path: Path) -> None:
    assert find_framework(str(MADE[kind](tmp_path))) is FRAMEWORKS.get(framework)


@pytest.mark.parametrize(
    ("kind", "wrong", "said", "right"),
    [
        ("h5", "m.keras", "an HDF5 file of Keras", "m.h5"),
        ("tflite", "m.onnx", "a TensorFlow Lite file", "m.tflite"),
        ("onnx", "m.tflite", "an ONNX file", "m.onnx"),
        ("torch", "m.pt2", "a file of torch.save", "m.pt"),
        ("safetensors", "m.pt", "a safetensors file", "m.safetensors"),
        ("pickle", "m.pt", "a Python pickle", "m.pkl"),
    ],
)
def test_a_suffix_that_lies_is_named_with_the_right_one(
    kind: str, wrong: str, said: str, right: str, tmp_path: Path
) -> None:
    source = MADE[kind](tmp_path)
    path = source.rename(tmp_path / wrong)
    with pytest.raises(ModelError) as raised:
        find_inputs(str(path), None, {})
    assert raised.value.message == f"{path} is {said}, judging by its contents"
    assert raised.value.hint == f"rename it to {right}"


def test_a_suffix_that_is_right_or_says_nothing_is_no_lie(tmp_path: Path) -> None:
    assert lie(str(MADE["torch"](tmp_path))) is None
    assert lie(str(MADE["lightgbm"](tmp_path).rename(tmp_path / "model"))) is None
    assert lie(str(tmp_path / "none.onnx")) is None
    assert lie(str(saved(tmp_path / "learner.pkl", LINEAR.state_dict()))) is None, "as fastai writes them"


def keras_file(path: Path, version: str, layer: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps({"config": {"layers": [{"class_name": layer}]}}))
        archive.writestr("metadata.json", json.dumps({"keras_version": version}))
        archive.writestr("model.weights.h5", b"")
    return path


def test_files_of_keras_2_and_of_its_optimization_toolkit_are_told_from_keras_3(tmp_path: Path) -> None:
    old, new, wrapped = FRAMEWORKS.get("keras2"), FRAMEWORKS.get("keras"), b'{"class_name": "QuantizeWrapperV2"}'
    assert find_framework(str(keras_file(tmp_path / "old.keras", "2.21.0", "Conv2D"))) is old
    assert find_framework(str(keras_file(tmp_path / "new.keras", "3.15.1", "Conv2D"))) is new
    assert find_framework(str(keras_file(tmp_path / "int8.keras", "3.15.1", "QuantizedDTypePolicy"))) is new
    assert find_framework(str(keras_file(tmp_path / "pruned.keras", "3.15.1", "Pruning>PruneLowMagnitude"))) is old
    assert find_framework(str(write(tmp_path / "q.h5", b"\x89HDF\r\n\x1a\n" + bytes(99) + wrapped))) is old
    assert find_framework(str(write(tmp_path / "far.h5", b"\x89HDF\r\n\x1a\n" + bytes(40 << 20) + wrapped))) is old
    assert find_framework(str(write(tmp_path / "plain.h5", b"\x89HDF\r\n\x1a\n" + bytes(99)))) is new


def test_a_message_without_entries_is_no_pickle(tmp_path: Path) -> None:
    assert kind_of(str(write(tmp_path / "m.msgpack", b"\x80"))) == "flax"
    assert kind_of(str(write(tmp_path / "p.msgpack", pickle.dumps([1])))) == "pickle"


def test_a_folder_of_steps_of_orbax_is_known(tmp_path: Path) -> None:
    folder(tmp_path / "1000", "_CHECKPOINT_METADATA", "{}")
    assert kind_of(str(tmp_path)) == "orbax"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.sampled_from(
        [
            b"\x81\xa6params",
            b"PK\x03\x04",
            b"\x80\x02",
            b"\x10\0\0\0\0\0\0\0{",
            b"\x08\x07\x12",
            b"{L",
            b"\x1c\0\0\0TFL3",
            b"",
        ]
    ),
    st.binary(max_size=60),
    st.sampled_from(["m.pt", "m.safetensors", "m.pkl", "m.joblib", "m.keras", "m.msgpack"]),
)
def test_whatever_the_bytes_nothing_is_raised(tmp_path: Path, begin: bytes, rest: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(begin + rest)
    kind_of(str(tmp_path / name))
