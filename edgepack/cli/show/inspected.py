"""What inspect, verify and run show of a model or a bundle."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.cli.show import format as show
from edgepack.cli.show.console import Console
from edgepack.cli.show.layout import safe
from edgepack.cli.show.tables import make_table
from edgepack.verify.metrics import has_own_unit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgepack.specs.bundle import MeasuredAccuracy
    from edgepack.specs.run import Accuracy, OutputDistance, Verification


_VALUES = 16  # of an output that are shown


def show_verification(console: Console, bundle: Path, result: Verification) -> None:
    """Print the distance of each output from the golden vectors."""
    figures = ("SQNR", "required", "cosine", "max. error")
    table = make_table("output", "status", *figures, right=figures, cut=("output",), spare=("cosine", "max. error"))
    for output in result.outputs:
        table.add_row(
            ", ".join(_output_names(output)),
            "[green]ok[/]" if output.passed else "[red]failed[/]",
            *_closeness_cells(output),
            f"{output.cosine:.6f}",
            f"{output.max_abs:.3g}",
        )
    console.print(table)
    for output in result.outputs:
        if output.note and not output.identical:
            console.print(f"{', '.join(_output_names(output))}: {safe(output.note)}")
    verdict = "[green]verified[/]" if result.passed else "[red]not verified[/]"
    versions = ", ".join(f"{k} {v}" for k, v in result.versions.items())
    together = "".join(f" and {n} at once" for n in sorted({output.batch for output in result.outputs} - {1}))
    console.print(f"{verdict}: {safe(bundle)} on {result.samples} golden vectors{together} with {safe(versions)}")
    if result.note:
        console.remark(f"[dim]{safe(result.note)}[/]")


def _output_names(output: OutputDistance) -> tuple[str, ...]:
    """Return an output's name and how it was run, where that is not the usual way."""
    batch = f"{output.batch} at once" if output.batch > 1 else ""
    return safe(output.name), *filter(None, (batch, safe(output.way)))


def _closeness_cells(output: OutputDistance) -> tuple[str, str]:
    """Return how close an output is and has to be: an SQNR, or of decisions the share that is equal."""
    if output.mismatch is not None:
        least = None if output.tolerance_mismatch is None else 1 - output.tolerance_mismatch
        found = "exact" if output.identical else f"{show.percent(1 - output.mismatch, 2)} equal"
        return found, "-" if least is None else f"{show.percent(least, 2)} equal"
    if output.sqnr_db is None:  # all alike, or no signal to compare with
        return "exact" if output.identical else "-", show.decibel(output.tolerance_sqnr_db)
    return show.decibel(output.sqnr_db), show.decibel(output.tolerance_sqnr_db)


def show_outputs(console: Console, result: Any) -> None:
    """Print what the bundle's task makes of them; else the shapes of the outputs, and of known classes the top five."""
    if result.answer is not None:
        for line in result.answer.lines() or ("nothing was found",):
            console.print(safe(line))
        for note in result.notes:
            console.remark(f"[dim]{safe(note)}[/]")
        return
    table = make_table("output", "dtype", "shape", "values", cut=("output",))
    for name, value in result.outputs.items():
        # whole numbers are ids, places and counts: each digit of them means something
        first = " ".join(f"{v:.4g}" if isinstance(v, float) else f"{v:d}" for v in value.ravel()[:_VALUES].tolist())
        more = " ..." if value.size > _VALUES else ""
        table.add_row(*map(safe, (name, value.dtype, show.shape(value.shape), first + more)))
    console.print(table)
    for label, score in result.top5 or ():
        console.print(f"  {safe(label):<24} {score:.4f}")
    for note in result.notes:
        console.remark(f"[dim]{safe(note)}[/]")


def show_model(console: Console, model: Any) -> None:
    """Print what ``inspect`` found in an ONNX file."""
    console.print(f"ONNX opset {model.opset}, {model.parameters:,} parameters, {show.size(model.size_bytes)}")
    _show_specs(console, model.inputs, model.outputs)
    _show_layers(console, model)


def _show_specs(console: Console, inputs: Any, outputs: Any) -> None:
    table = make_table("", "name", "dtype", "shape", cut=("name",))
    for kind, specs in (("input", inputs), ("output", outputs)):
        for spec in specs:
            table.add_row(kind, *map(safe, (spec.name, spec.dtype, show.shape(spec.shape))))
    console.print(table)


def _show_layers(console: Console, model: Any) -> None:
    counts = ", ".join(f"{name} {n}" for name, n in sorted(model.operators.items(), key=lambda x: (-x[1], x[0])))
    console.print(f"[bold]operators[/]: {safe(counts)}")
    figures = ("weights", "multiply-adds")
    unit, weights = show.column([layer.weight_bytes for layer in model.layers], show.SIZES)
    units = {"weights": unit, "multiply-adds": "million"}
    table = make_table("layer", "operator", "precision", *figures, right=figures, units=units, cut=("layer",))
    for layer, size in zip(model.layers, weights, strict=True):
        macs = f"{layer.macs / 1e6:.2f}" if layer.macs is not None else "-"
        table.add_row(*map(safe, (layer.name, layer.op, layer.precision, size, macs)))
    console.print(table)
    for key, value in sorted(model.metadata.items()):
        console.print(f"[dim]{safe(key)}: {safe(value)[:200]}[/]")


def _manifest_sqnr(measured: MeasuredAccuracy) -> str:
    """Return the SQNR that a manifest states: none where nothing differs, nor where all outputs are decisions."""
    if measured.sqnr_db is None and measured.cosine == 1.0:
        return "exact"
    return show.decibel(measured.sqnr_db)


def _show_functions(console: Console, functions: Mapping[str, str]) -> None:
    """Print how many functions each rule generated, and which use TVM's default loops, with the reason."""
    kinds = Counter(rule.partition(":")[0] for rule in functions.values())
    console.print("[bold]functions[/]: " + ", ".join(f"{n} {safe(kind)}" for kind, n in sorted(kinds.items())))
    for name, rule in functions.items():
        if rule.startswith("default"):
            console.print(
                f"  {safe(name)} uses TVM's default loops: {safe(rule.partition(': ')[2] or 'no rule matches')}"
            )


def _measured_accuracy(found: Accuracy) -> str:
    low, high = found.ci95
    if has_own_unit(found.metric):
        return (
            f"{safe(found.metric)} {found.value:.4g}, fp32 {found.fp32:.4g}, drop {found.drop:+.4g} "
            f"(95 % interval {low:+.4g}..{high:+.4g}, n={found.n})"
        )
    return (
        f"{safe(found.metric)} {show.percent(found.value, 2)}, fp32 {show.percent(found.fp32, 2)}, drop "
        f"{show.points(found.drop)} points (95 % interval {show.points(low)}..{show.points(high)}, n={found.n})"
    )


def show_bundle(console: Console, bundle: Any) -> None:
    """Print what ``inspect`` found in a bundle."""
    manifest = bundle.manifest
    console.print(
        f"[bold]{safe(manifest.name)} {safe(manifest.version)}[/] for {safe(manifest.target)}, "
        f"{manifest.precision}, {show.size(bundle.size_bytes)}, sha256 {bundle.sha256}"
    )
    _show_specs(console, manifest.inputs, manifest.outputs)
    for part, words in sorted(manifest.embedded.items()):
        console.print(f"[bold]{safe(part)} in the graph[/]: {safe(words)}")
    measured = manifest.accuracy
    if measured is not None:
        found = measured.accuracy
        if found is not None:
            console.print(_measured_accuracy(found))
        console.print(
            f"SQNR {_manifest_sqnr(measured)}, cosine {measured.cosine:.6f}, agreement "
            f"{show.percent(measured.agreement)} (n={measured.n}), measured with {safe(measured.engine)}"
        )
        if measured.note:
            console.print(f"[dim]{safe(measured.note)}[/]")
    for i, payload in enumerate(bundle.payloads):
        what = "[bold yellow]native code[/]" if payload.native else "data"
        only = ", ".join(f"{name} {value}" for name, value in sorted(payload.key.items()))
        console.print(
            f"[bold]{'runs by' if i == 0 else 'else by'}[/] {safe(payload.backend)} on {safe(payload.device)}: {what}, "
            f"{safe(payload.entry)}" + (f", only for {safe(only)}" if only else "")
        )
    unit, sizes = show.column([entry.size_bytes for entry in manifest.files], show.SIZES)
    table = make_table("file", "size", "sha256", right=("size",), units={"size": unit}, cut=("file",))
    for entry, size in zip(manifest.files, sizes, strict=True):
        table.add_row(safe(entry.path), size, entry.sha256[:16])
    console.print(table)
    if manifest.layers:
        console.print("[bold]layers[/]: " + ", ".join(f"{n} {safe(p)}" for p, n in sorted(manifest.layers.items())))
    if bundle.functions:
        _show_functions(console, bundle.functions)
    tools = ", ".join(f"{k} {v}" for k, v in sorted(manifest.toolchain.items()))
    console.print(f"[dim]built with {safe(tools)}[/]")
    console.print(f"[dim]source model {manifest.source_sha256}, calibration {manifest.calibration_sha256 or 'none'}[/]")
