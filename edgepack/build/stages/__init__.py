"""Each stage of a build with what its output depends on: one function a stage, run through the ``Workshop``."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack.base.user_functions import is_callable_reference, load_callable
from edgepack.benchmark.measure.rank import median_latencies
from edgepack.calibrate import calibrate
from edgepack.data.samples import find_samples, read_samples, take_samples
from edgepack.data.split import RANDOM_INPUTS, SampleRequest, Selection, choose_samples, random_inputs, with_shapes
from edgepack.device.host import host_facts
from edgepack.engines import OWN_KERNELS, get_backend
from edgepack.engines.fallback import build_versions, runs_here
from edgepack.engines.tvm import engine as tvm
from edgepack.engines.tvm.tuning.tune import can_measure_here, tune_model
from edgepack.errors import CompileError
from edgepack.execution.reads import ReadFiles
from edgepack.execution.runner import Workshop
from edgepack.export import export
from edgepack.graph import overflow
from edgepack.graph.cast import cast
from edgepack.graph.freeze import freeze
from edgepack.graph.prepare import prepare
from edgepack.quantize import quantize
from edgepack.quantize.correct import Corrected, quantize_corrected
from edgepack.quantize.layer_sqnr import layer_sqnr
from edgepack.specs import (
    CompiledModel,
    LayerRecords,
    Observer,
    OnnxModel,
    Precision,
    Preprocessing,
    Progress,
    QuantizationRules,
    Ranges,
    RunOptions,
    SampleSet,
    Target,
    TensorSpec,
    no_progress,
)
from edgepack.verify.evaluate import Evaluation, evaluate
from edgepack.verify.golden import make_golden
from edgepack.verify.outputs import StoredOutputs
from edgepack.verify.reference import reference

GOLDEN_SAMPLES = 4
EXPORT_SAMPLES = 4
_SHOWN = 50


@dataclass(frozen=True)
class Compiled:
    """A compiled model with the digest of all that it was made from."""

    model: CompiledModel
    key: str


def check_callable(reference: str, out: Path) -> bool:
    """Import the user's function, so that what is wrong with it is said before any work. Raises ``ConfigError``."""
    reads = ReadFiles()
    load_callable(reference)
    reads.write(out)
    return True


def fingerprint(source: str | None) -> Any:
    """Return a cheap fingerprint of a file or folder: names, sizes and times; a callable's name alone."""
    if source is None or is_callable_reference(source):
        return source
    path = Path(source)
    if not path.exists():
        return source
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    marks = [[str(p), s.st_size, s.st_mtime_ns, s.st_ino] for p in files for s in [p.stat()]]
    return [str(path.absolute()), marks]


def short(place: str) -> str:
    """Return a path or reference as it is shown beside a stage: the last part of a long one."""
    return place if len(place) <= _SHOWN else "…/" + place.rstrip("/").rpartition("/")[2]


def export_tracked(
    source: str, samples: SampleSet | None, shapes: Mapping[str, tuple[int | str, ...]], out: Path
) -> OnnxModel:
    """Export, and keep the digests of the files that were read meanwhile."""
    reads = ReadFiles()
    model = export(source, samples, shapes, out)
    reads.write(out)
    return model


def find_for_export(data: str, preprocessing: Preprocessing | None, seed: int, out: Path) -> SampleSet:
    """Return a few samples of ``data``, which give an exported module its input shapes and are compared on."""
    reads = ReadFiles()
    found = find_samples(data, None, preprocessing)
    few = take_samples(found, min(EXPORT_SAMPLES, len(found.indices)), seed)
    reads.write(out)
    return few


def export_step(
    shop: Workshop,
    source: str,
    data: str | None,
    preprocessing: Preprocessing | None,
    shapes: Mapping[str, tuple[int | str, ...]],
    seed: int,
) -> OnnxModel:
    """Return the exported ONNX model of a trained model; one that is no ONNX file yet is compared on samples."""
    samples = None
    if data is not None and not source.endswith(".onnx"):
        key = {"data": fingerprint(data), "preprocessing": preprocessing, "seed": seed}
        samples = shop.run("samples", f"{short(data)} for the export", key, find_for_export, data, preprocessing, seed)
    inputs = {"source": fingerprint(source), "samples": samples.sha256 if samples else None, "shapes": shapes}
    return shop.run("export", short(source), inputs, export_tracked, source, samples, shapes)


def prepare_step(shop: Workshop, model: OnnxModel) -> OnnxModel:
    """Return the simplified model."""
    return shop.run("prepare", f"opset {model.opset}", {"model": model.sha256}, prepare, model)


def choose_step(shop: Workshop, request: SampleRequest, inputs: tuple[TensorSpec, ...]) -> Selection:
    """Return calibration and evaluation samples; without any data, random inputs evaluate."""
    notes: tuple[str, ...] = ()
    if request.data is None and request.eval_data is None:
        sized = with_shapes(inputs, request.shapes)
        key = {"inputs": sized, "seed": request.seed}
        path = shop.run("data", "random inputs", key, random_inputs, sized, request.seed, kind=Path)
        request = dataclasses.replace(request, eval_data=str(path))
        notes = (
            f"no data was given: numerics are verified on {RANDOM_INPUTS} random inputs, accuracy is not measured",
        )
    key = {
        "data": fingerprint(request.data),
        "eval": fingerprint(request.eval_data),
        "request": request,
        "inputs": inputs,
    }
    shown = short(request.data or request.eval_data or "")
    selection = shop.run("samples", shown, key, choose_samples, request, inputs)
    return dataclasses.replace(selection, notes=(*notes, *selection.notes))


def golden_step(shop: Workshop, model: OnnxModel, samples: SampleSet) -> Path:
    """Return golden vectors: a few samples and the fp32 model's outputs for them."""
    key = {"model": model.sha256, "samples": samples.sha256, "count": GOLDEN_SAMPLES, "host": _host_key()}
    count = min(GOLDEN_SAMPLES, len(samples.indices))
    return shop.run("golden", f"{count} golden vectors", key, make_golden, model, samples, count, kind=Path)


def reference_step(shop: Workshop, model: OnnxModel, samples: SampleSet) -> StoredOutputs:
    """Return the fp32 outputs on the evaluation samples."""
    key = {"model": model.sha256, "samples": samples.sha256, "host": _host_key()}
    return shop.run("reference", f"fp32 on {len(samples.indices)} samples", key, reference, model, samples)


def calibrate_step(
    shop: Workshop, model: OnnxModel, samples: SampleSet, observer: Observer, percentile: float
) -> Ranges:
    """Return the activation ranges."""
    key = {"model": model.sha256, "samples": samples.sha256, "observer": observer, "percentile": percentile}
    detail = f"{observer} ranges on {len(samples.indices)} samples"
    return shop.run("calibrate", detail, key, calibrate, model, samples, observer, percentile)


def cast_on_samples(
    model: OnnxModel, precision: Precision, samples: SampleSet, out: Path, progress: Progress = no_progress
) -> OnnxModel:
    """Cast, looking at up to 16 of ``samples``."""
    feeds = list(itertools.islice(read_samples(samples, model.inputs), overflow.SAMPLES))
    return cast(model, precision, feeds, out, progress)


def cast_step(shop: Workshop, model: OnnxModel, precision: Precision, samples: SampleSet) -> OnnxModel:
    """Return the model in fp16 or bf16, with casts in the graph."""
    key = {"model": model.sha256, "precision": precision, "samples": samples.sha256}
    return shop.run("cast", precision, key, cast_on_samples, model, precision, samples)


def quantize_step(shop: Workshop, model: OnnxModel, ranges: Ranges, rules: QuantizationRules, detail: str) -> OnnxModel:
    """Return the model with Q/DQ nodes by a target's rules."""
    key = {"model": model.sha256, "ranges": ranges, "rules": rules}
    return shop.run("quantize", detail, key, quantize, model, ranges, rules)


def freeze_step(shop: Workshop, model: OnnxModel, shapes: Mapping[str, tuple[int | str, ...]]) -> OnnxModel:
    """Return the model with the sizes that the user gave for its inputs, for an engine that compiles for fixed ones."""
    inputs = with_shapes(model.inputs, shapes)
    if inputs == model.inputs:
        return model
    return shop.run("freeze", "sizes of --shape", {"model": model.sha256, "inputs": inputs}, freeze, model, inputs)


def layers_step(
    shop: Workshop, model: OnnxModel, quantized: OnnxModel, samples: SampleSet, detail: str
) -> LayerRecords:
    """Return how far each layer of the int8 model is from the fp32 model's."""
    key = {"model": model.sha256, "quantized": quantized.sha256, "samples": samples.sha256}
    return shop.run("layers", detail, key, layer_sqnr, model, quantized, samples)


def correct_step(
    shop: Workshop, model: OnnxModel, ranges: Ranges, rules: QuantizationRules, samples: SampleSet, detail: str
) -> Corrected:
    """Return the model with Q/DQ nodes by a target's rules, and the corrections that help on unseen samples."""
    key = {"model": model.sha256, "ranges": ranges, "rules": rules, "samples": samples.sha256}
    return shop.run("quantize", detail, key, quantize_corrected, model, ranges, rules, samples)


def compile_for_target(model: OnnxModel, target: Target, precision: Precision, out: Path) -> CompiledModel:
    """Compile, after asking the backend what it will refuse. Raises ``CompileError`` naming the first such node."""
    backend = get_backend(target.backend)
    refused = [d for d in backend.check(model, target) if d.severity == "error"]
    if refused:
        first = refused[0]
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        where = f" at node {first.node}" if first.node else ""
        raise CompileError(f"{target.id} will refuse the model: {first.message}{where}{more}", hint=first.hint)
    return backend.compile_model(model, target, precision, out)


def tune_step(
    shop: Workshop, model: OnnxModel, target: Target, precision: Precision, minutes: float, seed: int
) -> None:
    """Measure the kernels of a TVM row, for this build and later ones; what cannot be measured here is reported."""
    if target.backend not in OWN_KERNELS:
        return
    if not can_measure_here(target):
        shop.events.note(
            f"{target.id}: not tuned, as this machine cannot run its code: edgepack tune MODEL --target {target.id} "
            "--ssh USER@HOST does it on a board"
        )
        return
    tune_model(model, target, precision, round(minutes * 60e9), seed, shop.logs / "tune.log", shop.events)


def compile_step(shop: Workshop, model: OnnxModel, target: Target, precision: Precision, detail: str) -> Compiled:
    """Return the engine's own files. Raises ``ToolchainError`` when the engine is not installed."""
    versions = build_versions(target)
    tuned = tvm.tuned_digest(target) if target.backend in OWN_KERNELS else None
    key = {"model": model.sha256, "target": target, "precision": precision, "versions": versions, "tuned": tuned}
    compiled = shop.run("compile", detail, key, compile_for_target, model, target, precision)
    return Compiled(compiled, model.sha256 + precision + target.id + (tuned or ""))


def times_step(
    shop: Workshop, models: tuple[Compiled, ...], golden: Path, options: RunOptions, detail: str
) -> tuple[int, ...]:
    """Return the median latency of each compiled model on this host, in ns."""
    key = {"models": [compiled.key for compiled in models], "options": options, "host": _host_key()}
    found = tuple(compiled.model for compiled in models)
    return shop.run("latency", detail, key, median_latencies, found, golden, options)


def evaluate_step(
    shop: Workshop,
    compiled: Compiled,
    target: Target,
    golden: Path,
    stored: StoredOutputs,
    samples: SampleSet,
    metric: str,
    seed: int,
    options: RunOptions,
    key: Mapping[str, Any],
    detail: str,
) -> Evaluation:
    """Return numerics and accuracy of a compiled model on this host."""
    model = runs_here(compiled.model, options)
    whole = {
        **key,
        "compiled": compiled.key,
        "target": target,
        "versions": model.versions,
        "samples": samples.sha256,
        "metric": metric,
        "seed": seed,
        "options": options,
        "host": _host_key(),
    }
    detail = f"{detail} on {len(samples.indices)} samples"
    arguments = (model, golden, stored, samples, metric, seed, options)
    return shop.run("verify", detail, whole, evaluate, *arguments)


def _host_key() -> list[Any]:
    host = host_facts()
    return [host.cpu, host.arch, host.isa]
