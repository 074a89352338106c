"""What a device must have to run a payload, from the compiled files themselves."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.base.versions import parse_version, release
from edgepack.specs import Requirements

if TYPE_CHECKING:
    from edgepack.specs import CompiledModel, Target

# Graphs that an engine compiles when it loads them run on every machine that the engine runs on. Whatever else an
# engine writes is code for one machine.
_PORTABLE = (".onnx", ".xml")

# The highest operator set and IR version that each ONNX Runtime loads, oldest first. Measured with the wheels on PyPI,
# a model of one Relu each; 1.20 is the oldest that edgepack supports.
_ONNXRUNTIME = (
    ("1.20.0", 21, 10),
    ("1.21.0", 22, 10),
    ("1.23.0", 23, 11),
    ("1.24.1", 25, 13),
    ("1.25.0", 26, 13),
)


# The highest operator set of each OpenVINO, oldest first, as its wheel on PyPI brings it; all read IR version 11. An
# int8 ResNet20 written by 2026.4 gave the same SQNR in each of seven versions back to 2023.3.
_OPENVINO = (("2025.0", 16), ("2026.2", 17))
_OPENVINO_IR = 11


def requirements(compiled: CompiledModel, target: Target) -> Requirements:
    """Return the least that a device must have for ``compiled``; empty where the files run everywhere.

    Raises ``ModelError`` when an ``.onnx`` file among them cannot be read.
    """
    portable = Path(compiled.entry).suffix in _PORTABLE
    return Requirements(
        arch=None if portable else target.arch,
        isa=() if portable else target.compute.isa,
        engine=_engine(compiled, target),
    )


def _engine(compiled: CompiledModel, target: Target) -> dict[str, str]:
    if compiled.backend == "tensorrt":
        return _tensorrt(compiled)
    built = compiled.versions.get(compiled.backend)
    if built is None:
        return {}
    if compiled.backend == "onnxruntime" and compiled.entry.endswith(".onnx"):
        return {compiled.backend: _onnxruntime(compiled.folder / compiled.entry, built)}
    if compiled.backend == "openvino" and compiled.entry.endswith(".xml"):
        return {compiled.backend: _openvino(compiled.folder / compiled.entry, built)}
    # Engines read what older versions of them wrote; of newer ones they promise nothing. A profile that states the
    # device's version was built for that one.
    oldest = release(built)
    stated = target.engine.version
    if stated and parse_version(stated) < parse_version(oldest):
        oldest = stated
    return {compiled.backend: oldest}


def _tensorrt(compiled: CompiledModel) -> dict[str, str]:
    """Return the oldest TensorRT of the recipe, and the oldest ONNX Runtime that runs the same file on the CPU."""
    from edgepack.engines.tensorrt.recipe import read_recipe

    recipe = read_recipe(compiled.folder)
    return {
        "onnxruntime": _onnxruntime(compiled.folder / recipe.onnx, _ONNXRUNTIME[-1][0]),
        "tensorrt": recipe.oldest,
    }


def _onnxruntime(path: Path, built: str) -> str:
    """Return the oldest ONNX Runtime that reads the file's operator set and IR version; ``built`` if none is known."""
    import onnx

    from edgepack.graph.wire import read_skeleton

    proto = onnx.load_model_from_string(read_skeleton(path))
    opset = max((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=1)
    for version, highest_opset, highest_ir in _ONNXRUNTIME:
        if opset <= highest_opset and proto.ir_version <= highest_ir:
            return version
    return release(built)


def _openvino(path: Path, built: str) -> str:
    """Return the oldest OpenVINO that knows the file's operator sets and IR version; ``built`` if none is known."""
    text = path.read_bytes()
    ir = re.search(rb'<net\b[^>]*\bversion="(\d+)"', text)
    sets = set(re.findall(rb'<layer\b[^>]*\bversion="([^"]*)"', text))
    numbers = [int(name[5:]) for name in sets if re.fullmatch(rb"opset\d+", name)]
    if ir is None or int(ir[1]) > _OPENVINO_IR or len(numbers) < len(sets):
        return release(built)
    for version, highest in _OPENVINO:
        if max(numbers, default=1) <= highest:
            return version
    return release(built)
