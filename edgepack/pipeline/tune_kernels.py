"""``edgepack tune --target``: measures the kernels of a model on a target's processor and keeps what was found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgepack.engines import ENGINES, KernelTuner, get_backend, kernel_tuner
from edgepack.engines.targets import load_target
from edgepack.errors import ConfigError
from edgepack.execution.runner import StageRunner
from edgepack.export import is_onnx
from edgepack.graph.load import read_proto
from edgepack.graph.passes import is_quantized
from edgepack.pipeline.stages.export import export_and_prepare, load_onnx
from edgepack.specs.kernels import KernelRecords, KernelTuning
from edgepack.specs.model import OnnxModel
from edgepack.specs.target import Target
from edgepack.specs.types import Precision


def tune_kernels(
    runner: StageRunner,
    source: str,
    target: Target,
    shapes: Mapping[str, tuple[int | str, ...]],
    budget_ns: int,
    seed: int,
    board: str | None,
    data: str | None = None,
    recipe: str | None = None,
    skip_bad: int = 0,
) -> KernelTuning:
    """Measure the kernels of a model (any that ``build`` takes, or an ONNX file quantized for the target).

    ``data`` and ``recipe`` tell the shapes of a model's inputs, as for ``export``.

    Raises ``ConfigError`` where the target cannot be reached; what building raises.
    """
    tuner = _tuner(target)
    if board is None and not tuner.can_measure_here(target):
        raise ConfigError(
            f"this machine cannot run code for {target.id}, so nothing can be measured here",
            hint=f"give a board of that kind: --ssh USER@HOST; it needs {ENGINES.get(target.backend).title}",
        )
    model = _model(runner, source, shapes, data, recipe, skip_bad)
    precision: Precision = "int8" if is_quantized(read_proto(model)) else "fp32"
    log = runner.logs / "tune.log"
    found = tuner.tune_model(model, target, precision, budget_ns, seed, log, runner.events, board)
    whole = None
    if board is None:
        detail = "the whole model with and without"
        runner.events.begin("compare", detail)
        whole = tuner.measure_whole(model, target, precision, log, runner.events.progress)
        runner.events.end("done", detail)
    return KernelTuning(
        target=target.id,
        precision=precision,
        threads=target.compute.cores or 1,
        seed=seed,
        budget_ns=budget_ns,
        search=found,
        whole=whole,
        versions=dict(get_backend(target.backend).versions()),
    )


def tunable(target_name: str) -> Target:
    """Return a target whose code edgepack generates. Raises ``ConfigError`` for another."""
    target = load_target(target_name)
    _tuner(target)
    return target


def kernel_records(target_name: str, merge: Path | None = None, export: Path | None = None) -> KernelRecords:
    """Return what is known for a target, after taking over the records of ``merge``; write all to ``export``.

    Raises ``ConfigError`` when a file is no such file, damaged, or for another processor.
    """
    target = tunable(target_name)
    return _tuner(target).known_kernels(target, merge, export)


def _tuner(target: Target) -> KernelTuner:
    """Return what tunes a target's kernels. Raises ``ConfigError`` where its engine has nothing that does."""
    tuner = kernel_tuner(target.backend)
    if tuner is None:
        raise ConfigError(
            f"{target.id} runs with {target.backend}, whose kernels are its own",
            hint="tune the bundle's run options on the device: edgepack tune NAME.edgepack",
        )
    return tuner


def _model(
    runner: StageRunner,
    source: str,
    shapes: Mapping[str, tuple[int | str, ...]],
    data: str | None,
    recipe: str | None,
    skip_bad: int,
) -> OnnxModel:
    """Return the model as the compiler will see it: a quantized file as it is, anything else prepared as by a build."""
    path = Path(source)
    if path.suffix == ".edgepack":
        raise ConfigError(f"{path} is a bundle, which holds machine code", hint="give the model that it was built from")
    if is_onnx(path):
        model = load_onnx(runner, path)
        if is_quantized(read_proto(model)):
            return model
    return export_and_prepare(runner, source, shapes, data, recipe, skip_bad=skip_bad)
