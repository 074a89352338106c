"""Compiles a model for a target, and measures the kernels of engines whose kernels are edgepack's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgepack.base.files import scratch_folder
from edgepack.base.stage import stage
from edgepack.engines import ENGINES, get_backend, kernel_tuner, part_of
from edgepack.engines.fallback import build_versions
from edgepack.errors import CompileError
from edgepack.execution.runner import StageRunner
from edgepack.graph.signedness import as_unsigned
from edgepack.specs.model import CompiledModel, OnnxModel
from edgepack.specs.target import Target
from edgepack.specs.types import Precision


def _toolchain(_model: OnnxModel, target: Target, _precision: Precision) -> dict[str, Any]:
    """Return the versions of the engine that compiles here, what was measured of its kernels, and what it adds."""
    tuner, carried = kernel_tuner(target.backend), ENGINES.get(target.backend).carried
    return {
        "versions": build_versions(target),
        "tuned": tuner.tuned_digest(target) if tuner is not None else None,
        "carried": part_of(target.backend, carried)(target) if carried else None,
    }


@stage("compile", depends=_toolchain)
def compile_for_target(model: OnnxModel, target: Target, precision: Precision, out: Path) -> CompiledModel:
    """Compile, after asking the backend what it will refuse. Raises ``CompileError`` naming the first such node.

    The activations of a model that came quantized are moved to uint8 where the engine's rules want these, which changes
    no value.
    """
    if precision == "int8" or target.quantization.activation_type != "uint8":
        return _compile(model, target, precision, out)
    with scratch_folder() as place:
        return _compile(as_unsigned(model, place), target, precision, out)


def _compile(model: OnnxModel, target: Target, precision: Precision, out: Path) -> CompiledModel:
    backend = get_backend(target.backend)
    refused = [d for d in backend.check(model, target) if d.severity == "error"]
    if refused:
        first = refused[0]
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        where = f" at node {first.node}" if first.node else ""
        raise CompileError(f"{target.id} will refuse the model: {first.message}{where}{more}", hint=first.hint)
    return backend.compile_model(model, target, precision, out)


def tune_kernels_of(
    runner: StageRunner, model: OnnxModel, target: Target, precision: Precision, minutes: float, seed: int
) -> None:
    """Measure the kernels of a row's model, for this build and later ones; what cannot be measured here is reported."""
    tuner = kernel_tuner(target.backend)
    if tuner is None:
        return
    if not tuner.can_measure_here(target):
        runner.events.note(
            f"{target.id}: not tuned, as this machine cannot run its code: edgepack tune MODEL --target {target.id} "
            "--ssh USER@HOST does it on a board"
        )
        return
    tuner.tune_model(model, target, precision, round(minutes * 60e9), seed, runner.logs / "tune.log", runner.events)
