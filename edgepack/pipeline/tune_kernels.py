"""``edgepack tune --target``: measures the kernels of a model on a target's processor and keeps what was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgepack.engines import ENGINES
from edgepack.engines.targets import load_target
from edgepack.engines.tvm import engine as tvm
from edgepack.engines.tvm.records import read_records
from edgepack.engines.tvm.tuning.search import Search
from edgepack.engines.tvm.tuning.tune import can_measure_here, tune_model
from edgepack.engines.tvm.tuning.whole_model import Whole, measure_whole
from edgepack.errors import ConfigError
from edgepack.execution.runner import StageRunner
from edgepack.export import is_onnx
from edgepack.graph.load import read_proto
from edgepack.graph.passes import is_quantized
from edgepack.pipeline.stages.export import export_and_prepare, load_onnx
from edgepack.specs.model import OnnxModel
from edgepack.specs.target import Target
from edgepack.specs.types import Precision


@dataclass(frozen=True)
class KernelTuning:
    """What tuning a model's kernels for a target found; ``whole`` is None where this host cannot run the target's code.

    ``records``: the file that the next build for the target reads.
    """

    target: str
    precision: Precision
    cpu: str
    threads: int
    seed: int
    budget_ns: int
    records: Path
    search: Search
    whole: Whole | None
    versions: Mapping[str, str]


@dataclass(frozen=True)
class KernelRecords:
    """A target's records: the file, how many kernels it holds, for how many a tile is faster than the rule's."""

    target: str
    path: Path
    kernels: int
    faster: int
    merged: int = 0
    cut: bool = False


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
) -> KernelTuning:
    """Measure the kernels of a model (any that ``build`` takes, or an ONNX file quantized for the target).

    ``data`` and ``recipe`` tell the shapes of a model's inputs, as for ``export``.

    Raises ``ConfigError`` where the target cannot be reached; what building raises.
    """
    if board is None and not can_measure_here(target):
        raise ConfigError(
            f"this machine cannot run code for {target.id}, so nothing can be measured here",
            hint="give a board of that kind: --ssh USER@HOST; it needs TVM (see the README)",
        )
    model = _model(runner, source, shapes, data, recipe)
    precision: Precision = "int8" if is_quantized(read_proto(model)) else "fp32"
    log = runner.logs / "tune.log"
    tuned = tune_model(model, target, precision, budget_ns, seed, log, runner.events, board)
    whole = None
    if board is None:
        detail = "the whole model with and without"
        runner.events.begin("compare", detail)
        whole = measure_whole(model, target, precision, log, runner.events.progress)
        runner.events.end("done", detail)
    return KernelTuning(
        target=target.id,
        precision=precision,
        cpu=tuned.cpu,
        threads=target.compute.cores or 1,
        seed=seed,
        budget_ns=budget_ns,
        records=tuned.records,
        search=tuned.search,
        whole=whole,
        versions=dict(tvm.versions()),
    )


def tunable(target_name: str) -> Target:
    """Return a target whose code edgepack generates. Raises ``ConfigError`` for another."""
    target = load_target(target_name)
    if not ENGINES.get(target.backend).kernels:
        raise ConfigError(
            f"{target.id} runs with {target.backend}, whose kernels are its own",
            hint="tune the bundle's run options on the device: edgepack tune NAME.edgepack",
        )
    return target


def kernel_records(target_name: str, merge: Path | None = None, export: Path | None = None) -> KernelRecords:
    """Return what is known for a target, after taking over the records of ``merge``; write all to ``export``.

    Raises ``ConfigError`` when a file is no such file, damaged, or for another processor.
    """
    target = tunable(target_name)
    records = tvm.tuned_records(target, tvm.versions())
    merged = 0
    if merge is not None:
        merged = records.merge(read_records(merge))
    if export is not None:
        records.write(export)
    known = records.by_workload.values()
    return KernelRecords(
        target.id, records.path, len(known), sum(r.best is not None for r in known), merged, records.cut
    )


def _model(
    runner: StageRunner, source: str, shapes: Mapping[str, tuple[int | str, ...]], data: str | None, recipe: str | None
) -> OnnxModel:
    """Return the model as the compiler will see it: a quantized file as it is, anything else prepared as by a build."""
    path = Path(source)
    if path.suffix == ".edgepack":
        raise ConfigError(f"{path} is a bundle, which holds machine code", hint="give the model that it was built from")
    if is_onnx(path):
        model = load_onnx(runner, path)
        if is_quantized(read_proto(model)):
            return model
    return export_and_prepare(runner, source, shapes, data, recipe)
