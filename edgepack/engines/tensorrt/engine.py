"""TensorRT: an engine fits one GPU, one TensorRT and one CUDA, so the device builds it from ONNX and a recipe.

What is compiled here is therefore a checked ONNX file with ``recipe.json``. Loading builds the engine on the device,
or takes the plan that it built before, and runs it by named tensors. All about it is in ``edgepack.engines.tensorrt``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepack.engines.tensorrt.facts import ENGINE
from edgepack.specs.model import CompiledModel

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edgepack.engines import KeptEngine
    from edgepack.engines.tensorrt.runner import TensorRtRunner
    from edgepack.specs.model import Diagnostic, OnnxModel
    from edgepack.specs.run import RunOptions
    from edgepack.specs.target import Target
    from edgepack.specs.types import Precision, Progress

TITLE = ENGINE.title


def versions() -> Mapping[str, str]:
    """Return the versions of TensorRT and CUDA on this device. Raises ``ToolchainError`` where they cannot run here."""
    from edgepack.engines.tensorrt.device import engine_versions

    return engine_versions()


def check(model: OnnxModel, target: Target) -> list[Diagnostic]:
    """Return what the device's TensorRT will refuse: opset, operators, types, quantization, memory; by node."""
    from edgepack.engines.tensorrt.check import check_model

    return check_model(model, target)


def compile_model(model: OnnxModel, target: Target, precision: Precision, out: Path) -> CompiledModel:
    """Write ``model.onnx`` and ``recipe.json``; TensorRT is not needed here. Raises ``CompileError``."""
    from edgepack.engines.tensorrt.compile import ENTRY, ship

    files = ship(model, target, precision, out)
    return CompiledModel(
        backend="tensorrt",
        precision=precision,
        folder=out,
        entry=ENTRY,
        files=files,
        inputs=model.inputs,
        outputs=model.outputs,
        versions={},
        device=target.engine.device,
    )


def load_model(compiled: CompiledModel, options: RunOptions) -> TensorRtRunner:  # noqa: ARG001  a GPU has no threads to choose
    """Build the engine on this device, or take the plan built before, and load it.

    Raises ``ToolchainError`` without a driver or TensorRT, ``CompileError`` when the build fails.
    """
    from edgepack.engines.tensorrt.load import open_engine

    return open_engine(compiled)


def build_on_device(compiled: CompiledModel, progress: Progress) -> str:
    """Build the engine on this device unless it was kept, and say which and why. Raises ``CompileError``."""
    from edgepack.engines.tensorrt.load import ensure_engine

    return ensure_engine(compiled, progress)


def recipe_file() -> str:
    """Return the name of the shipped file by which the device builds its engine."""
    from edgepack.engines.tensorrt.recipe import RECIPE

    return RECIPE


def kept_engine(folder: Path, place: Path | None) -> KeptEngine | None:
    """Add to ``folder``, which has the recipe, the engine that this device built; None where it built none."""
    from edgepack.engines.tensorrt.adopt import kept_engine as find

    return find(folder, place)


def device_key(like: Mapping[str, str]) -> Mapping[str, str]:
    """Return this device's facts as a packed engine's key names them. Raises ``ToolchainError``."""
    from edgepack.engines.tensorrt.device import find_device, key_of

    dla = like.get("dla", "none")
    return key_of(find_device(int(dla) if dla.isdecimal() else None))
