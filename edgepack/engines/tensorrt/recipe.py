"""``recipe.json``: what a device needs besides the ONNX file to build its TensorRT engine. Devices read it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgepack.base import documents
from edgepack.base.files import sha256_json
from edgepack.base.versions import is_older, release
from edgepack.engines import REFERENCE
from edgepack.errors import BundleError, CompileError, ConfigError, ToolchainError
from edgepack.specs.bundle import Payload
from edgepack.specs.model import CompiledModel, TensorSpec
from edgepack.specs.types import Precision

RECIPE = "recipe.json"
FORMAT = 1
_LIMIT_BYTES = 1 << 20


@dataclass(frozen=True)
class InputShapes:
    """The smallest, the preferred and the largest shape of an input that the engine is built for."""

    name: str
    minimum: tuple[int, ...]
    optimum: tuple[int, ...]
    maximum: tuple[int, ...]

    @property
    def is_static(self) -> bool:
        """Say whether there is one shape only."""
        return self.minimum == self.maximum


@dataclass(frozen=True)
class EngineRecipe:
    """How a device builds the engine.

    ``files`` maps the ONNX file and its weights to their sha256. ``oldest`` and ``too_new`` bound the TensorRT versions
    that may build it. ``builder_flags`` are names in ``BuilderFlag`` to set, by TensorRT's major version.
    ``workspace_bytes`` is the most that the builder may use while it tries kernels; ``memory_bytes`` what the build
    needs besides. ``dla_core`` None builds for the GPU; ``gpu_fallback`` lets layers that a DLA lacks run there.
    ``tf32``: products of float32 may be rounded to TF32's 10 bits.
    """

    format: int
    precision: Precision
    onnx: str
    files: Mapping[str, str]
    opset: int
    oldest: str
    too_new: str
    builder_flags: Mapping[str, tuple[str, ...]]
    inputs: tuple[InputShapes, ...]
    workspace_bytes: int
    memory_bytes: int
    dla_core: int | None = None
    gpu_fallback: bool = True
    tf32: bool = False

    @property
    def sha256(self) -> str:
        """Return a digest of everything in the recipe."""
        return sha256_json(documents.encode(self))

    @property
    def onnx_sha256(self) -> str:
        """Return a digest of the ONNX file and its weights."""
        return sha256_json(dict(self.files))

    @property
    def is_static(self) -> bool:
        """Say whether every input has one shape only."""
        return all(shapes.is_static for shapes in self.inputs)


def read_recipe(folder: Path, inputs: tuple[TensorSpec, ...] | None = None) -> EngineRecipe:
    """Return the recipe in ``folder``, checked; with ``inputs``, against the model's.

    Raises ``BundleError`` for a damaged one and ``ToolchainError`` for one of a newer edgepack.
    """
    path = folder / RECIPE
    try:
        with path.open("rb") as file:
            text = file.read(_LIMIT_BYTES + 1)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}", hint="build the bundle again") from None
    if len(text) > _LIMIT_BYTES:
        raise BundleError(f"{path} has more than {_LIMIT_BYTES} bytes", hint="build the bundle again")
    try:
        recipe = documents.from_json(EngineRecipe, text, RECIPE)
    except ConfigError as error:
        raise BundleError(error.message, hint="made by another version of edgepack, or damaged") from None
    if recipe.format > FORMAT:
        raise ToolchainError(
            f"{RECIPE} has format {recipe.format}; this edgepack reads up to {FORMAT}",
            hint="pip install --upgrade edgepack",
        )
    if problem := _problem(recipe, inputs):
        raise BundleError(f"{RECIPE}: {problem}", hint="build the bundle again")
    return recipe


def oldest_versions(compiled: CompiledModel) -> Mapping[str, str]:
    """Return the oldest TensorRT of the recipe, and the oldest ONNX Runtime that runs the same file on the CPU."""
    from edgepack.engines.onnxruntime.oldest import NEWEST_KNOWN, oldest

    recipe = read_recipe(compiled.folder)
    onnx = oldest(compiled.folder / recipe.onnx)
    return {REFERENCE: onnx or release(NEWEST_KNOWN), compiled.backend: recipe.oldest}


def companions(payload: Payload) -> tuple[Payload, ...]:
    """Return how ONNX Runtime runs a payload: its ONNX file is in there anyway."""
    files = tuple(name for name in payload.files if not name.endswith(f"/{RECIPE}"))
    return (dataclasses.replace(payload, backend=REFERENCE, device="CPU", files=files),)


def check_version(recipe: EngineRecipe, version: str) -> None:
    """Raise ``CompileError`` when TensorRT ``version`` is outside the range that the recipe was made for."""
    if is_older(version, recipe.oldest):
        raise CompileError(
            f"TensorRT {version} is older than the {recipe.oldest} that this bundle needs",
            hint="update JetPack, or build a bundle for the profile of this device's JetPack",
        )
    if not is_older(version, recipe.too_new):
        raise CompileError(
            f"TensorRT {version} is newer than this bundle was made for (before {recipe.too_new})",
            hint="build the bundle again with a newer edgepack",
        )


def _problem(recipe: EngineRecipe, inputs: tuple[TensorSpec, ...] | None) -> str | None:
    if recipe.onnx not in recipe.files:
        return f"it does not list {recipe.onnx!r}"
    if recipe.workspace_bytes < 0 or recipe.memory_bytes < 0:
        return "a size is negative"
    for shapes in recipe.inputs:
        ranks = {len(shapes.minimum), len(shapes.optimum), len(shapes.maximum)}
        triples = zip(shapes.minimum, shapes.optimum, shapes.maximum, strict=False)
        if len(ranks) != 1 or not all(0 < low <= best <= high for low, best, high in triples):
            return f"the shapes of {shapes.name!r} are not minimum <= optimum <= maximum"
    if inputs is not None and {spec.name for spec in inputs} != {shapes.name for shapes in recipe.inputs}:
        return "its inputs are not the model's"
    return None
