"""Results as tables on the terminal."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.cli.show import format as show
from edgepack.cli.show.console import Console, Table, safe
from edgepack.specs.build import NOT_HERE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgepack.pipeline.check import CheckReport
    from edgepack.specs.build import BuildResult, BuildRow
    from edgepack.specs.data import Recipe
    from edgepack.specs.model import Diagnostic
    from edgepack.specs.run import OutputDistance, Verification
    from edgepack.specs.target import Host, Target

_WRAP = (
    "options",
    "target",
    "bundle",
    "device",
    "value",
    "reason",
    "source",
    "title",
    "first values",
    "capabilities, or how to install",
)
_STATUS = {"failed": "[red]failed[/]", "gate_missed": "[yellow]gate missed[/]", "poor": "[yellow]poor[/]"}


def make_table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """Return an empty table; the columns in ``right`` hold figures."""
    return Table(columns, right, tuple(column for column in columns if column in _WRAP))


def show_build(console: Console, result: BuildResult) -> None:
    """Print one row per target and precision, the reasons of failures, and the commands to run next."""
    measured = any(row.accuracy for row in result.rows)
    metric = next((row.accuracy.metric for row in result.rows if row.accuracy), "agreement")
    quality = metric if measured else "agreement"
    figures = ("size", quality, "drop", "SQNR", "p50", "p90", "speed")
    table = make_table("target", *figures, right=figures)
    for row in result.rows:
        table.add_row(*_build_cells(row, measured))
    console.print()
    console.print(table)
    for row in result.rows:
        if row.reason:
            console.print(f"[red]{safe(row.target)} {row.precision}[/]: {safe(row.reason)}")
    for text in _remarks(result):
        console.print(f"[dim]{safe(text)}[/]")
    if result.report:
        console.print(f"\nreport: [bold]{safe(result.report)}[/]")
    good = [row.bundle for row in result.rows if row.bundle]
    if good:
        console.print("next:")
        console.print(f"  edgepack inspect {shlex.quote(good[-1])}")
    # Measured here, another device's bundle would say nothing of that device.
    if here := [row.bundle for row in result.rows if row.bundle and row.notes.get("latency") != NOT_HERE]:
        console.print(f"  edgepack benchmark {shlex.quote(here[-1])}")


def _build_cells(row: BuildRow, measured: bool) -> list[str]:
    if row.accuracy:
        value = show.percent(row.accuracy.value, 2)
        drop = show.points(row.accuracy.drop)
    else:
        value = "-" if measured else show.percent(row.agreement)
        drop = "-"
    latency = row.latency_ns
    speed = f"{row.speedup_over_fp32:.2f}x" if row.speedup_over_fp32 is not None else "-"
    sqnr = show.decibel(row.sqnr_db)
    if row.sqnr_db is None and row.cosine is not None:  # it was evaluated, and no amount differs
        sqnr = f"{show.percent(1 - row.mismatch, 2)} equal" if row.mismatch else "exact"
    name = f"{safe(row.target)} {row.precision}" + (f"\n{_STATUS[row.status]}" if row.status != "ok" else "")
    return [
        name, show.size(row.size_bytes), value, drop, sqnr, show.time_ns(latency.p50 if latency else None),
        show.time_ns(latency.p90 if latency else None), speed,
    ]  # fmt: skip


def _remarks(result: BuildResult) -> list[str]:
    """Collect what was not measured and why, each once with its rows."""
    texts: dict[str, list[str]] = {}
    for row in result.rows:
        if row.status == "failed":
            continue
        for what, why in row.notes.items():
            if what == "latency" and why in row.notes.get("verification", ""):
                continue  # said there already
            texts.setdefault(f"{what}: {why}", []).append(f"{row.target} {row.precision}")
    return [text if len(rows) == len(result.rows) else f"{', '.join(rows)}: {text}" for text, rows in texts.items()]


def show_targets(console: Console, targets: tuple[Target, ...]) -> None:
    """Print one line per profile."""
    table = make_table("target", "engine", "arch", "precisions")
    for target in targets:
        engine = target.backend if target.engine.device == "CPU" else f"{target.backend} {target.engine.device}"
        name = f"{safe(target.id)}\n[dim]{safe(target.title)}[/]"
        table.add_row(name, *map(safe, (engine, target.arch, " ".join(target.compute.precisions))))
    console.print(table)


def show_target(console: Console, target: Target) -> None:
    """Print every value of a profile with its source."""
    from edgepack.base.documents import encode

    table = make_table("key", "value", "source")
    data = encode(target)
    for key, value in data.items():
        if key == "sources":
            continue
        facts = {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {key: value}
        for name, fact in facts.items():
            if fact not in (None, [], {}):
                source = target.sources.get(name) or target.sources.get(name.partition(".")[0], "")
                table.add_row(*map(safe, (name, _plain(fact), source)))
    console.print(table)


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    return str(value)


def show_recipes(console: Console, recipes: tuple[Recipe, ...]) -> None:
    """Print one line per recipe."""
    table = make_table("recipe", "title", "samples", "observer", right=("samples",))
    for recipe in recipes:
        table.add_row(*map(safe, (recipe.name, recipe.title, recipe.samples, recipe.observer)))
    console.print(table)


def show_doctor(console: Console, host: Host, reports: tuple[Any, ...]) -> None:
    """Print the host's facts and one line per engine."""
    console.print(f"[bold]{safe(host.cpu)}[/], {host.cores} cores, {show.size(host.memory_bytes)}, {safe(host.arch)}")
    console.print(f"[dim]{safe(' '.join(host.isa))}[/]")
    table = make_table("engine", "version", "capabilities, or how to install")
    for report in reports:
        table.add_row(safe(report.name), safe(report.version or "-"), safe(report.summary))
    console.print(table)


def show_diagnostics(console: Console, found: tuple[Diagnostic, ...]) -> None:
    """Print what disturbs measurements here, worst first, with hints."""
    _print_diagnostics(console, found)
    if not found:
        console.print("nothing found that disturbs measurements")


def show_check(console: Console, report: CheckReport) -> None:
    """Print what a target refuses in a model, and what the proxy reported."""
    _print_diagnostics(console, report.diagnostics)
    if report.proxy is not None:
        _print_diagnostics(console, report.proxy.diagnostics)
        console.print(safe(report.proxy.summary))
    verdict = "[green]no problem found[/] for" if report.passed else "[red]will be refused[/] by"
    console.print(f"{safe(report.model)}: {verdict} {safe(report.target)}")


def _print_diagnostics(console: Console, found: tuple[Diagnostic, ...]) -> None:
    colours = {"error": "red", "warning": "yellow", "note": "dim"}
    for severity, colour in colours.items():
        for item in (d for d in found if d.severity == severity):
            where = f" (node {safe(item.node)})" if item.node else ""
            console.print(f"[{colour}]{severity}[/]: {safe(item.message)}{where}")
            if item.hint:
                console.print(f"  [dim]hint: {safe(item.hint)}[/]")


def show_verification(console: Console, bundle: Path, result: Verification) -> None:
    """Print the distance of each output from the golden vectors."""
    table = make_table(
        "output", "SQNR", "required", "cosine", "max. error", "", right=("SQNR", "required", "cosine", "max. error")
    )
    for output in result.outputs:
        table.add_row(
            "\n".join(_output_names(output)),
            *_closeness_cells(output),
            f"{output.cosine:.6f}",
            f"{output.max_abs:.3g}",
            "[green]ok[/]" if output.passed else "[red]failed[/]",
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
        console.print(f"[dim]{safe(result.note)}[/]")


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
    """Print the shapes of the outputs and, for a classifier with known classes, the top five."""
    table = make_table("output", "dtype", "shape", "first values")
    for name, value in result.outputs.items():
        first = " ".join(f"{v:.4g}" for v in value.ravel()[:6].tolist())
        table.add_row(*map(safe, (name, value.dtype, show.shape(value.shape), first)))
    console.print(table)
    for label, score in result.top5 or ():
        console.print(f"  {safe(label):<24} {score:.4f}")
    for note in result.notes:
        console.print(f"[dim]{safe(note)}[/]")


def show_model(console: Console, model: Any) -> None:
    """Print what ``inspect`` found in an ONNX file."""
    console.print(f"ONNX opset {model.opset}, {model.parameters:,} parameters, {show.size(model.size_bytes)}")
    _show_specs(console, model.inputs, model.outputs)
    _show_layers(console, model)


def _show_specs(console: Console, inputs: Any, outputs: Any) -> None:
    table = make_table("", "name", "dtype", "shape")
    for kind, specs in (("input", inputs), ("output", outputs)):
        for spec in specs:
            table.add_row(kind, *map(safe, (spec.name, spec.dtype, show.shape(spec.shape))))
    console.print(table)


def _show_layers(console: Console, model: Any) -> None:
    counts = ", ".join(f"{name} {n}" for name, n in sorted(model.operators.items(), key=lambda x: (-x[1], x[0])))
    console.print(f"[bold]operators[/]: {safe(counts)}")
    table = make_table("layer", "operator", "precision", "weights", "multiply-adds", right=("weights", "multiply-adds"))
    for layer in model.layers:
        macs = f"{layer.macs / 1e6:.2f} M" if layer.macs is not None else "-"
        table.add_row(*map(safe, (layer.name, layer.op, layer.precision, show.size(layer.weight_bytes), macs)))
    console.print(table)
    for key, value in sorted(model.metadata.items()):
        console.print(f"[dim]{safe(key)}: {safe(value)[:200]}[/]")


def _show_functions(console: Console, functions: Mapping[str, str]) -> None:
    """Print how many functions each rule generated, and which use TVM's default loops, with the reason."""
    kinds = Counter(rule.partition(":")[0] for rule in functions.values())
    console.print("[bold]functions[/]: " + ", ".join(f"{n} {safe(kind)}" for kind, n in sorted(kinds.items())))
    for name, rule in functions.items():
        if rule.startswith("default"):
            console.print(
                f"  {safe(name)} uses TVM's default loops: {safe(rule.partition(': ')[2] or 'no rule matches')}"
            )


def show_bundle(console: Console, bundle: Any) -> None:
    """Print what ``inspect`` found in a bundle."""
    manifest = bundle.manifest
    console.print(
        f"[bold]{safe(manifest.name)} {safe(manifest.version)}[/] for {safe(manifest.target)}, "
        f"{manifest.precision}, {show.size(bundle.size_bytes)}, sha256 {bundle.sha256}"
    )
    _show_specs(console, manifest.inputs, manifest.outputs)
    measured = manifest.accuracy
    if measured is not None:
        found = measured.accuracy
        if found is not None:
            low, high = found.ci95
            console.print(
                f"{safe(found.metric)} {show.percent(found.value, 2)}, fp32 {show.percent(found.fp32, 2)}, drop "
                f"{show.points(found.drop)} points (95 % interval {show.points(low)}..{show.points(high)}, n={found.n})"
            )
        console.print(
            f"SQNR {show.decibel(measured.sqnr_db)}, cosine {measured.cosine:.6f}, agreement "
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
    table = make_table("file", "size", "sha256", right=("size",))
    for entry in manifest.files:
        table.add_row(safe(entry.path), show.size(entry.size_bytes), entry.sha256[:16])
    console.print(table)
    if manifest.layers:
        console.print("[bold]layers[/]: " + ", ".join(f"{n} {safe(p)}" for p, n in sorted(manifest.layers.items())))
    if bundle.functions:
        _show_functions(console, bundle.functions)
    tools = ", ".join(f"{k} {v}" for k, v in sorted(manifest.toolchain.items()))
    console.print(f"[dim]built with {safe(tools)}[/]")
    console.print(f"[dim]source model {manifest.source_sha256}, calibration {manifest.calibration_sha256 or 'none'}[/]")
