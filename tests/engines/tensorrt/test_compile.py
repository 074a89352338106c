"""What a bundle ships for a device to build its engine of."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import helper
from violations import FLOAT, make, quantized

from edgepack.engines.targets import list_targets, load_target
from edgepack.engines.tensorrt.engine import compile_model
from edgepack.engines.tensorrt.recipe import RECIPE, read_recipe
from edgepack.errors import CompileError

if TYPE_CHECKING:
    from pathlib import Path

    from edgepack.specs.target import Target


Save = Any


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


def test_a_dla_needs_low_precision_and_is_named(save: Save, tmp_path: Path) -> None:
    target = load_target("jetson-orin-nx-16gb-jp6")
    dla = dataclasses.replace(target, engine=dataclasses.replace(target.engine, device="DLA.1"))
    with pytest.raises(CompileError, match="not fp32"):
        compile_model(save(quantized()), dla, "fp32", tmp_path / "no")
    assert compile_model(save(quantized()), dla, "int8", tmp_path / "yes").device == "DLA.1"
    assert read_recipe(tmp_path / "yes").dla_core == 1


@pytest.mark.slow
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
