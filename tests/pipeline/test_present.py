"""What a build is given is looked for, and nothing of it is run."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgepack.errors import ConfigError, DataError, EdgepackError
from edgepack.execution.store import Store
from edgepack.pipeline.build import build
from edgepack.pipeline.plan import resolve
from edgepack.pipeline.present import look_for_inputs
from edgepack.pipeline.settings import BuildSettings


def look(folder: Path, model: str, data: str | None = None) -> None:
    look_for_inputs(
        resolve(BuildSettings(str(folder / model), ("host-onnxruntime",), data=data and str(folder / data)))
    )


@pytest.mark.parametrize("text", [
    "def make(): ...", "class make: ...", "make = 3", "from os import path as make", "import make.inner",
    "if True:\n    def make(): ...", "try:\n    import make\nexcept ImportError:\n    make = None", "from os import *",
    "def __getattr__(name): ...", "for make in (): ...",
])  # fmt: skip
def test_a_name_that_a_file_may_have(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.py").write_text(text)
    look(tmp_path, "m.py:make", "m.py:make")


@pytest.mark.parametrize("text", ["def other():\n    make = 3", "x = make", "", "other.make = 3"])
def test_a_name_that_it_has_not(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.py").write_text(text)
    with pytest.raises(ConfigError, match="has no 'make'"):
        look(tmp_path, "m.py:make")


@pytest.mark.parametrize("content", [b"\0", b"\xff\xfe", b"(" * 100_000, b"x" * 3 + b"\n\tx"])
def test_a_file_that_is_no_python_is_an_error_of_ours(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.py").write_bytes(content)
    with pytest.raises(EdgepackError):
        look(tmp_path, "m.py:make")


def test_names_of_architectures_are_not_looked_for() -> None:
    look_for_inputs(resolve(BuildSettings("timm:resnet18", ("host-onnxruntime",))))


def test_a_model_whose_reading_would_run_code_needs_leave(tmp_path: Path) -> None:
    (tmp_path / "net.pkl").write_bytes(pickle.dumps(np.zeros(3)))
    settings = BuildSettings(str(tmp_path / "net.pkl"), ("host-onnxruntime",))
    with pytest.raises(ConfigError, match=r"would run code that is in it: numpy"):
        look_for_inputs(resolve(settings))
    look_for_inputs(resolve(replace(settings, trust_code=True)))


@pytest.mark.parametrize("which", ["data", "eval"])
def test_samples_that_are_not_there_are_missed_before_any_work(tmp_path: Path, which: str) -> None:
    (tmp_path / "net.onnx").write_bytes(b"never read")
    store = Store(tmp_path / "store")
    settings = BuildSettings(str(tmp_path / "net.onnx"), ("host-onnxruntime",), out=str(tmp_path / "out"))
    with pytest.raises(DataError, match="there is no file or folder"):
        build(replace(settings, **{which: str(tmp_path / "nowhere")}), store)
    assert store.ran == []
