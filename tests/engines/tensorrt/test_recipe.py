"""The recipe holds what a device needs, the same each time; a wrong one is refused; the table of shapes."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import helper
from violations import FLOAT, make, quantized

from edgepack.base import documents
from edgepack.base.files import sha256_file
from edgepack.bundle.requirements import requirements
from edgepack.engines.targets import list_targets, load_target
from edgepack.engines.tensorrt.engine import compile_model
from edgepack.engines.tensorrt.recipe import RECIPE, EngineRecipe, check_version, read_recipe
from edgepack.engines.tensorrt.shapes import input_shapes
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


def test_the_same_model_gives_the_same_bytes(save: Save, jetson: Target, tmp_path: Path) -> None:
    model = save(quantized())
    for name in ("a", "b"):
        compile_model(model, jetson, "int8", tmp_path / name)
    for name in ("model.onnx", RECIPE):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_flags_are_those_of_the_precision(save: Save, jetson_5: Target, tmp_path: Path) -> None:
    model = save(make([helper.make_node("Relu", ["x"], ["y"])]))
    flags = {}
    for precision in ("fp32", "fp16"):
        compile_model(model, jetson_5, precision, tmp_path / precision)  # type: ignore[arg-type]
        flags[precision] = read_recipe(tmp_path / precision).builder_flags["8"]
    assert flags == {"fp32": (), "fp16": ("FP16",)}


def test_a_device_must_have_what_the_files_need(save: Save, jetson: Target, jetson_5: Target, tmp_path: Path) -> None:
    compiled = compile_model(save(quantized()), jetson_5, "int8", tmp_path / "five")
    assert requirements(compiled, jetson_5).engine == {"tensorrt": "8.5", "onnxruntime": "1.20.0"}
    assert requirements(compiled, jetson_5).arch is None, "the ONNX file runs anywhere; the engine is built there"
    compiled = compile_model(save(quantized()), jetson, "int8", tmp_path / "six")
    assert requirements(compiled, jetson).engine["tensorrt"] == "10.3"


def test_a_dla_needs_low_precision_and_is_named(save: Save, tmp_path: Path) -> None:
    target = load_target("jetson-orin-nx-16gb-jp6")
    dla = dataclasses.replace(target, engine=dataclasses.replace(target.engine, device="DLA.1"))
    with pytest.raises(CompileError, match="not fp32"):
        compile_model(save(quantized()), dla, "fp32", tmp_path / "no")
    assert compile_model(save(quantized()), dla, "int8", tmp_path / "yes").device == "DLA.1"
    assert read_recipe(tmp_path / "yes").dla_core == 1


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


def test_free_axes_get_their_limits() -> None:
    found = input_shapes((TensorSpec("ids", "int64", ("N", "length")), TensorSpec("image", "float32", (1, 3, 4, 4))))
    assert (found[0].minimum, found[0].optimum, found[0].maximum) == ((1, 1), (1, 128), (8, 512))
    assert found[1].is_static
    with pytest.raises(CompileError, match="how many dimensions"):
        input_shapes((TensorSpec("x", "float32", ("...",)),))


def test_large_weights_lie_beside_the_model(save: Save, jetson: Target, tmp_path: Path) -> None:
    weights = {"w": np.ones((4096, 4200), np.float32)}
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "product")
    compiled = compile_model(
        save(make([node], weights, inputs=[("x", FLOAT, ("N", 4096))])), jetson, "fp32", tmp_path / "out"
    )
    assert compiled.files == ("model.onnx", "model.onnx.data", RECIPE)
    assert set(read_recipe(tmp_path / "out").files) == {"model.onnx", "model.onnx.data"}


@pytest.mark.parametrize("target", [t for t in list_targets() if t.backend == "tensorrt"], ids=lambda t: t.id)
def test_every_profile_of_tensorrt_makes_a_recipe(target: Target, save: Save, tmp_path: Path) -> None:
    compile_model(save(make([helper.make_node("Relu", ["x"], ["y"])])), target, "fp16", tmp_path / "out")
    recipe = read_recipe(tmp_path / "out")
    memory = target.limits.memory_bytes
    assert memory is None or recipe.workspace_bytes <= memory // 4
