"""Writes what a TensorRT bundle ships: the checked ONNX file and the recipe by which a device builds its engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepack.base import documents
from edgepack.base.files import sha256_file, write_text
from edgepack.base.versions import parse_version
from edgepack.engines.common.weights import copy_model
from edgepack.engines.tensorrt.api_versions import OLDEST, SURFACES, TOO_NEW
from edgepack.engines.tensorrt.check import dla_core
from edgepack.engines.tensorrt.footprint import measure_footprint
from edgepack.engines.tensorrt.graph_view import read_view
from edgepack.engines.tensorrt.recipe import FORMAT, RECIPE, EngineRecipe
from edgepack.engines.tensorrt.shapes import input_shapes
from edgepack.errors import CompileError

if TYPE_CHECKING:
    from pathlib import Path

    from edgepack.specs.model import OnnxModel
    from edgepack.specs.target import Target
    from edgepack.specs.types import Precision

ENTRY = "model.onnx"
# The builder tries kernels in a workspace; a quarter of a Jetson's memory, which the CPU shares, leaves the system
# room. More than 4 GiB was never needed by an edge model's kernels (trtexec's own default is all memory).
_SHARE_OF_MEMORY = 4
_LARGEST_WORKSPACE = 4 << 30
_UNKNOWN_MEMORY_WORKSPACE = 1 << 30


def ship(model: OnnxModel, target: Target, precision: Precision, out: Path) -> tuple[str, ...]:
    """Write ``model.onnx`` (large weights beside it) and ``recipe.json`` into ``out``; return the file names.

    Raises ``CompileError`` for inputs of unknown rank, and where a DLA would need fixed shapes.
    """
    out.mkdir(parents=True, exist_ok=True)
    files = copy_model(model, out, ENTRY)
    recipe = make_recipe(model, target, precision, {name: sha256_file(out / name) for name in files})
    write_text(out / RECIPE, documents.to_json(recipe))
    return (*files, RECIPE)


def make_recipe(model: OnnxModel, target: Target, precision: Precision, files: dict[str, str]) -> EngineRecipe:
    """Return how the device builds the engine of ``model``, whose files' digests are ``files``."""
    core = dla_core(target)
    if core is not None and precision not in ("fp16", "int8"):
        raise CompileError(f"a DLA computes in fp16 and int8, not {precision}", hint="use --precision int8 or fp16")
    shapes = input_shapes(model.inputs, fixed=core is not None)
    need = measure_footprint(read_view(model), model.size_bytes, shapes)
    return EngineRecipe(
        format=FORMAT,
        precision=precision,
        onnx=ENTRY,
        files=files,
        opset=model.opset,
        oldest=_oldest(model, target),
        too_new=TOO_NEW,
        builder_flags=_flags(precision),
        inputs=shapes,
        workspace_bytes=_workspace(target),
        memory_bytes=need.build_bytes,
        dla_core=core,
    )


def _oldest(model: OnnxModel, target: Target) -> str:
    """Return the oldest version that may build it: of the profile's release, but one whose parser knows the opset."""
    stated = target.engine.version or OLDEST
    knowing = next((s.since for s in SURFACES if s.max_opset >= model.opset), SURFACES[-1].since)
    return max(OLDEST, knowing, stated, key=parse_version)


def _flags(precision: Precision) -> dict[str, tuple[str, ...]]:
    """Return the flags by major version: the newest row of each major has what all of it need."""
    return {str(parse_version(s.since)[0]): s.builder_flags.get(precision, ()) for s in SURFACES}


def _workspace(target: Target) -> int:
    memory = target.limits.memory_bytes
    return min(memory // _SHARE_OF_MEMORY, _LARGEST_WORKSPACE) if memory else _UNKNOWN_MEMORY_WORKSPACE
