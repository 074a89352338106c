"""measure_limit(): a floor for a bundle's latency on this host, layer by layer, and how near it comes to it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from edgepack.benchmark.measure.queries import batch_is_dynamic, make_queries
from edgepack.benchmark.measure.summary import samples_per_query
from edgepack.bundle.archive import read_member
from edgepack.profiling.layers import LayerRow, LayersReport, report_loaded
from edgepack.profiling.peaks import bandwidth_of, peak_of
from edgepack.runtime.load import load
from edgepack.specs.result import LayerLimit, Limit, Peaks, Scenario
from edgepack.specs.run import RunOptions
from edgepack.verify.golden import GOLDEN, read_golden

Bound = Literal["compute", "memory", "overhead", "precision"]

SLOWEST = 10
# Below this share of the roofline neither arithmetic nor memory explains the time: most of it is something else.
OVERHEAD = 0.25
_BYTES = {"int8": 1, "fp16": 2, "bf16": 2, "fp32": 4}


def measure_limit(bundle: Path, scenario: Scenario, options: RunOptions, p50_ns: int, peaks: Peaks) -> Limit:
    """Return the limit of a query of ``scenario`` with a bundle whose median latency was ``p50_ns``.

    The engine runs in this process with its profiler on, on the bundle's golden inputs. Raises what ``load`` raises,
    ``ConfigError`` for an engine that does not tell its layers, ``CompileError``.
    """
    samples = samples_per_query(scenario)
    with load(bundle, options, batch=samples) as model:
        golden = read_golden(read_member(model.bundle, GOLDEN)).inputs
        together = samples if batch_is_dynamic(model.inputs) else 1
        report = report_loaded(model, make_queries(golden, model.inputs, together), options)
    return limit_of(report, peaks, p50_ns, together, samples // together)


def limit_of(report: LayersReport, peaks: Peaks, p50_ns: int, samples: int = 1, calls: int = 1) -> Limit:
    """Return the limit of a query of ``calls`` inferences, one after another, of ``samples`` samples each.

    A layer needs at least the time of its operations at the highest rate measured for the precision that it is asked to
    run in (or does run in, if that is faster), and the time of its bytes: weights at the bandwidth of all that an
    inference touches, because they come back only after all the rest, others at that of the layer alone.
    """
    rows = [row for row in report.layers if row.time_ns > 0 or row.executed != "fused"]
    touched = sum(row.weight_bytes for row in rows) + max((_activations(row) for row in rows), default=0)
    layers = tuple(_layer(row, peaks, touched, samples) for row in rows)
    floor_ns = calls * sum(layer.floor_ns for layer in layers)
    by_time = sorted(layers, key=lambda layer: -layer.time_ns)
    return Limit(
        floor_ns=floor_ns,
        fraction=floor_ns / max(p50_ns, 1),
        samples=samples * calls,
        ops=calls * sum(layer.ops or 0 for layer in layers),
        moved_bytes=calls * sum(layer.moved_bytes or 0 for layer in layers),
        roof=peaks,
        runs=report.runs,
        profiled_ns=calls * report.time_ns,
        layers=layers,
        costliest=tuple(layer.name for layer in by_time[:SLOWEST]),
    )


def _activations(row: LayerRow) -> int:
    return max((row.moved_bytes or 0) - row.weight_bytes, 0)


def _layer(row: LayerRow, peaks: Peaks, touched: int, samples: int) -> LayerLimit:
    known = row.macs is not None or row.inside_macs > 0
    ops = 2 * ((row.macs or 0) + row.inside_macs) * samples if known else None
    compute_ns = (ops or 0) * 1e9 / peak_of(peaks, row.asked, row.executed)
    smaller = min(1.0, _BYTES.get(row.asked, 4) / _BYTES.get(row.executed, 4))
    weights = row.weight_bytes * 1e9 / bandwidth_of(peaks, touched)
    others = _activations(row) * 1e9 / bandwidth_of(peaks, row.moved_bytes or 0)
    memory_ns = smaller * (weights + others)
    floor_ns = max(compute_ns, memory_ns)
    fraction = floor_ns / row.time_ns if row.time_ns > 0 else None
    bound = _bound(row, compute_ns, memory_ns, fraction)
    return LayerLimit(
        name=row.name,
        operator=row.operator,
        asked=row.asked,
        executed=row.executed,
        ops=ops,
        moved_bytes=row.moved_bytes,
        floor_ns=round(floor_ns),
        time_ns=row.time_ns,
        fraction=fraction,
        bound=bound,
        reason=_reason(row, bound, ops, fraction),
    )


def _bound(row: LayerRow, compute_ns: float, memory_ns: float, fraction: float | None) -> Bound:
    if row.executed not in (row.asked, "fused", "unknown"):
        return "precision"
    if fraction is None or fraction < OVERHEAD:
        return "overhead"
    return "compute" if compute_ns >= memory_ns else "memory"


def _reason(row: LayerRow, bound: Bound, ops: int | None, fraction: float | None) -> str:
    """Return in words why a layer takes its time, with the figures."""
    share = f"{100 * (fraction or 0):.0f} %"
    if bound == "precision":
        return row.reason or f"asked for {row.asked}, runs in {row.executed}"
    if bound == "compute":
        return (
            f"compute-bound: {(ops or 0) / row.time_ns:.3g} billion operations a second, {share} of what this host can"
        )
    if bound == "memory":
        return f"memory-bound: {(row.moved_bytes or 0) / row.time_ns:.3g} GB a second, {share} of what this host can"
    known = "arithmetic and memory explain" if ops else "its bytes explain"
    uncounted = "" if ops else "; its arithmetic is not counted"
    return f"overhead: {known} {share} of its time{uncounted}" + (f"; {row.reason}" if row.reason else "")
