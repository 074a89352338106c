"""The recipe holds what a device needs, the same each time; a wrong one is refused; the table of shapes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from violations import quantized

from edgepack.base import documents
from edgepack.base.files import sha256_file
from edgepack.bundle.requirements import requirements
from edgepack.engines.tensorrt.engine import compile_model
from edgepack.engines.tensorrt.recipe import RECIPE, EngineRecipe, check_version, read_recipe
from edgepack.errors import BundleError, CompileError, ToolchainError
from edgepack.specs.model import TensorSpec

if TYPE_CHECKING:
    from pathlib import Path

    from edgepack.specs.target import Target

Save = Any


@pytest.fixture
def recipe(save: Save, jetson: Target, tmp_path: Path) -> EngineRecipe:
    compile_model(save(quantized()), jetson, "int8", tmp_path / "out")
    return read_recipe(tmp_path / "out")


def test_a_recipe_holds_what_the_device_needs(recipe: EngineRecipe, tmp_path: Path) -> None:
    assert recipe.files == {"model.onnx": sha256_file(tmp_path / "out" / "model.onnx")}
    assert (recipe.opset, recipe.oldest, recipe.too_new) == (17, "10.3", "12")
    assert recipe.builder_flags == {"8": ("INT8",), "10": (), "11": ()}
    assert recipe.inputs[0].minimum == recipe.inputs[0].maximum == (1, 3, 8, 8)
    assert recipe.is_static
    assert recipe.workspace_bytes == 2 << 30
    assert (recipe.dla_core, recipe.tf32) == (None, False)


def test_a_device_must_have_what_the_files_need(save: Save, jetson: Target, jetson_5: Target, tmp_path: Path) -> None:
    compiled = compile_model(save(quantized()), jetson_5, "int8", tmp_path / "five")
    assert requirements(compiled, jetson_5).engine == {"tensorrt": "8.5", "onnxruntime": "1.20.0"}
    assert requirements(compiled, jetson_5).arch is None, "the ONNX file runs anywhere; the engine is built there"
    compiled = compile_model(save(quantized()), jetson, "int8", tmp_path / "six")
    assert requirements(compiled, jetson).engine["tensorrt"] == "10.3"


def test_versions_outside_the_range_are_refused(recipe: EngineRecipe) -> None:
    check_version(recipe, "10.3.0")
    check_version(recipe, "11.4.1")
    with pytest.raises(CompileError, match=r"older than the 10\.3"):
        check_version(recipe, "10.2.0.19")
    with pytest.raises(CompileError, match="newer than"):
        check_version(recipe, "12.0")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda d: d.update(format=2), ToolchainError),
        (lambda d: d.update(onnx="../../etc/passwd"), BundleError),
        (lambda d: d.update(surprise=1), BundleError),
        (lambda d: d.pop("files"), BundleError),
        (lambda d: d.update(workspace_bytes=-1), BundleError),
        (lambda d: d["inputs"][0].update(minimum=[9, 9, 9, 9]), BundleError),
        (lambda d: d["inputs"][0].update(minimum=[1]), BundleError),
        (lambda d: d["inputs"][0].update(name="other"), BundleError),
        (lambda d: d["inputs"][0].update(minimum=[0, 3, 8, 8]), BundleError),
    ],
)
def test_a_wrong_recipe_is_refused(recipe: EngineRecipe, tmp_path: Path, change: Any, error: Any) -> None:
    data = json.loads(documents.to_json(recipe))
    change(data)
    (tmp_path / RECIPE).write_text(json.dumps(data))
    with pytest.raises(error):
        read_recipe(tmp_path, (TensorSpec("x", "float32", (1, 3, 8, 8)),))


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff\xfe", b"[" * 100000, b" " * (2 << 20)])
def test_junk_in_place_of_a_recipe_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / RECIPE).write_bytes(text)
    with pytest.raises(BundleError):
        read_recipe(tmp_path)
