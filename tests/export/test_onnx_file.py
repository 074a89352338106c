"""An ONNX file is taken as it is."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from graph_models import small_conv, write

from edgepack.errors import ConfigError, ModelError
from edgepack.export.onnx_file import FRAMEWORK, export, find_inputs
from edgepack.graph.load import load_model


@pytest.fixture(params=["inside", "outside"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "inside":
        return write(small_conv(), tmp_path / "in", "net.onnx")
    (tmp_path / "in").mkdir()
    onnx.save(
        small_conv(), tmp_path / "in" / "net.onnx", save_as_external_data=True, location="w.bin", size_threshold=0
    )
    return tmp_path / "in" / "net.onnx"


def test_the_copy_is_the_same_model_under_its_usual_name(path: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    found = export(str(path), None, {}, tmp_path / "out")
    assert found.path == tmp_path / "out" / "model.onnx"
    assert found.path.read_bytes() == path.read_bytes()
    assert found.external == load_model(path).external
    for name in found.external:
        assert (tmp_path / "out" / name).read_bytes() == (path.parent / name).read_bytes()


def test_its_inputs_are_those_that_it_states(path: Path) -> None:
    (spec,) = find_inputs(str(path), None, {"image": (1, 3, 9, 9)})
    assert (spec.name, spec.shape) == ("image", ("N", 3, 8, 8))


def test_a_bad_file_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    with pytest.raises(ModelError):
        export(str(tmp_path / "bad.onnx"), None, {}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_it_needs_no_samples_and_advises_on_other_formats() -> None:
    assert not FRAMEWORK.uses_samples
    assert FRAMEWORK.suffixes == (".onnx",)
    assert "SavedModel" in FRAMEWORK.advice[".pb"]


@pytest.mark.parametrize(
    "shapes", [{"picture": (1, 3, 8, 8)}, {"image": (1, 3)}, {"image": (1, 4, 8, 8)}, {"": (3, 8, 8)}]
)
def test_shapes_that_are_not_the_files_are_refused(path: Path, tmp_path: Path, shapes) -> None:
    with pytest.raises(ConfigError, match="--shape"):
        export(str(path), None, shapes, tmp_path / "out")
    assert not (tmp_path / "out").exists()
