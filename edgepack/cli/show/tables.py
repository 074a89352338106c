"""Results as tables on the terminal."""

from __future__ import annotations

import shlex
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.cli.show import format as show
from edgepack.cli.show.console import Console
from edgepack.cli.show.layout import Table, safe
from edgepack.report.units import is_fraction
from edgepack.specs.build import NOT_HERE
from edgepack.verify.metrics import has_own_unit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from edgepack.data.suggest import Suggestion
    from edgepack.execution.prune import StageSize
    from edgepack.pipeline.check import CheckReport
    from edgepack.pipeline.preview import BuildPreview
    from edgepack.specs.build import BuildResult, BuildRow
    from edgepack.specs.bundle import MeasuredAccuracy
    from edgepack.specs.data import Recipe
    from edgepack.specs.model import Diagnostic
    from edgepack.specs.run import Accuracy, OutputDistance, Verification
    from edgepack.specs.target import Host, Target

_WRAP = (
    "options",
    "value",
    "reason",
    "source",
    "title",
    "values",
    "capabilities, or how to install",
)
# Notes of a row that explain how it came to be rather than what it is worth.
_EXPERT = ("corrections", "saturation", "agreement", "sqnr_db")
_MOST_NAMES = 8
_VALUES = 16  # of an output that are shown
_STATUS = {
    "failed": "[red]failed[/]",
    "gate_missed": "[yellow]gate missed[/]",
    "poor": "[yellow]poor[/]",
    "skipped": "[dim]skipped[/]",
}


def make_table(
    *columns: str,
    right: tuple[str, ...] = (),
    units: Mapping[str, str] | None = None,
    cut: tuple[str, ...] = (),
    spare: tuple[str, ...] = (),
    scarce: tuple[str, ...] = (),
) -> Table:
    """Return an empty table; the columns in ``right`` hold figures. The others are as in ``Table``."""
    wrapped = tuple(column for column in columns if column in _WRAP)
    return Table(columns, right, wrapped, units=units or {}, cut=cut, spare=spare, scarce=scarce)


def show_build(console: Console, result: BuildResult) -> None:
    """Print one row per target and precision, the reasons of failures, and the commands to run next."""
    console.remark()
    console.print(_build_table(result.rows))
    for row in result.rows:
        if row.reason:
            colour = "dim" if row.status == "skipped" else "red"
            model = f"{safe(row.model)} " if _are_of_several(result.rows) else ""
            console.print(f"[{colour}]{model}{safe(row.target)} {row.precision}[/]: {safe(row.reason)}")
    for text in _answer(result.rows):
        console.remark(f"\n{safe(text)}")
    for text in _remarks(result, expert=False):
        console.remark(f"[dim]{safe(text)}[/]")
    for text in _remarks(result, expert=True):
        console.detail(f"[dim]{safe(text)}[/]")
    if result.report:
        console.remark(f"\nreport: [bold]{safe(result.report)}[/]")
    good = [row.bundle for row in result.rows if row.bundle]
    if good:
        console.remark("next:")
        console.remark(f"  edgepack inspect {safe(shlex.quote(good[-1]))}")
    # Measured here, another device's bundle would say nothing of that device.
    if here := [row.bundle for row in result.rows if row.bundle and row.notes.get("latency") != NOT_HERE]:
        console.remark(f"  edgepack benchmark {safe(shlex.quote(here[-1]))}")


def _answer(rows: tuple[BuildRow, ...]) -> Iterator[str]:
    """Yield what to take, as the report says it, and each device on which a precision is not faster than fp32."""
    from edgepack.report.entries import make_groups
    from edgepack.report.entries.choice import default_limits
    from edgepack.report.text.devices import devices
    from edgepack.report.text.sentences import recommendation

    for group in make_groups((), rows):
        if any(entry.measured for entry in group.entries):
            yield recommendation(group.entries, default_limits(group.entries))
        for device in devices(group.entries):
            if device.gain in ("same", "slower"):
                yield f"{device.name}: {device.text}"


def show_plan(console: Console, plan: BuildPreview) -> None:
    """Print what would be built for each target and precision, and what would not, with the reason."""
    table = make_table(
        "target", "precision", "status", "engine", "latency", "bundle", cut=("bundle",), spare=("bundle",)
    )
    for row in plan.rows:
        latency = "measured here" if row.measured else "-"
        status = _STATUS.get(row.status, row.status)
        table.add_row(safe(row.target), row.precision, status, safe(row.engine), latency, safe(row.bundle))
    console.print(table)
    for row in plan.rows:
        if row.reason:
            colour = "dim" if row.status == "skipped" else "red"
            console.print(f"[{colour}]{safe(row.target)} {row.precision}[/]: {safe(row.reason)}")
    console.remark("build it:")
    console.remark(f"  {safe(shlex.join(plan.command))}")


def _build_table(rows: tuple[BuildRow, ...]) -> Table:
    """Return one row a target and precision; a figure that no row has gets no column."""
    latencies = [row.latency_ns for row in rows]
    time, factor = show.unit_for([latency.p50 if latency else None for latency in latencies], show.TIMES)
    # The engines' own files: golden vectors are most of a small bundle, and no device loads them.
    size, sizes = show.column([row.model_bytes or row.size_bytes for row in rows], show.SIZES)
    quality, unit, values = _quality(rows)
    alike = [is_fraction(row.accuracy.metric) for row in rows if row.accuracy]
    drops = [_drop(row, named=len(set(alike)) > 1) for row in rows]
    figures = {
        "size": (size, sizes),
        quality: (unit, values),
        "drop": ("points" if all(alike) and alike else "", drops),
        **({"SQNR": ("dB", [_sqnr(row) for row in rows])} if quality != "SQNR" else {}),
        "p50": (time, [show.digits(latency.p50 / factor) if latency else "-" for latency in latencies]),
        "p90": (time, [show.digits(x.p90 / factor) if x and x.p90 is not None else "-" for x in latencies]),
        "speed-up": ("x fp32", ["-" if (x := row.speedup_over_fp32) is None else f"{x:.2f}" for row in rows]),
    }
    shown = {name: found for name, found in figures.items() if set(found[1]) != {"-"} or name in (quality, "size")}
    several = _are_of_several(rows)
    table = make_table(
        *(("model",) if several else ()), "target", "precision", "status", *shown,
        right=tuple(shown), units={name: found[0] for name, found in shown.items()}, cut=("model", "target", quality),
        spare=_in((*(("SQNR",) if quality != "SQNR" else ()), "p50", "size"), shown),
        scarce=_in(("p90", quality, "drop", "speed-up"), shown),
    )  # fmt: skip
    for i, row in enumerate(rows):
        status = _STATUS.get(row.status, row.status)
        model = (safe(row.model),) if several else ()
        table.add_row(*model, safe(row.target), row.precision, status, *(found[1][i] for found in shown.values()))
    return table


def _are_of_several(rows: tuple[BuildRow, ...]) -> bool:
    """Say whether rows are of more than one model."""
    return len({row.model for row in rows}) > 1


def _in(names: tuple[str, ...], shown: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(name for name in names if name in shown)


def _quality(rows: tuple[BuildRow, ...]) -> tuple[str, str, list[str]]:
    """Return by what the rows are judged, its unit and a cell a row: accuracy, else agreement, else closeness."""
    metrics = dict.fromkeys(row.accuracy.metric for row in rows if row.accuracy)
    if len(metrics) > 1:  # of several models: each row names its own
        return "metric", "", [_named(row) for row in rows]
    if metrics:
        metric = next(iter(metrics))
        percent = is_fraction(metric)
        return metric, "%" if percent else "", [_accuracy(row, percent) for row in rows]
    if all(row.agreement is None for row in rows) and any(_sqnr(row) != "-" for row in rows):
        return "SQNR", "dB", [_sqnr(row) for row in rows]
    return "agreement", "%", ["-" if row.agreement is None else f"{100 * row.agreement:.1f}" for row in rows]


def _named(row: BuildRow) -> str:
    if row.accuracy is None:
        return "-"
    percent = is_fraction(row.accuracy.metric)
    return f"{row.accuracy.metric} {_accuracy(row, percent)}{' %' if percent else ''}"


def _accuracy(row: BuildRow, percent: bool) -> str:
    if row.accuracy is None:
        return "-"
    return f"{100 * row.accuracy.value:.2f}" if percent else f"{row.accuracy.value:.4g}"


def _drop(row: BuildRow, *, named: bool) -> str:
    """Return the drop; where rows have several units, points are ``named``."""
    if row.accuracy is None:
        return "-"
    if not is_fraction(row.accuracy.metric):
        return f"{row.accuracy.drop:+.4g}"
    return f"{show.points(row.accuracy.drop)}{' pt' if named else ''}"


def _sqnr(row: BuildRow) -> str:
    """Return the balanced SQNR in dB; of decisions the share that is equal, which no dB can say."""
    if row.judged_sqnr_db is not None:
        return f"{row.judged_sqnr_db:.1f}"
    if row.cosine is None:
        return "-"
    # It was evaluated, and no amount differs.
    return f"{show.percent(1 - row.mismatch, 2)} equal" if row.mismatch else "exact"


def _remarks(result: BuildResult, *, expert: bool) -> list[str]:
    """Collect what was not measured and why, each once with its rows; or what experts ask for."""
    texts: dict[str, list[str]] = {}
    several = _are_of_several(result.rows)
    for row in result.rows:
        if row.status in ("failed", "skipped"):
            continue
        name = f"{row.model} {row.target} {row.precision}" if several else f"{row.target} {row.precision}"
        for what, why in row.notes.items():
            if what == "latency" and why in row.notes.get("verification", ""):
                continue  # said there already
            if (what in _EXPERT) == expert:
                texts.setdefault(f"{what}: {why}", []).append(name)
    return [text if len(rows) == len(result.rows) else f"{_some(rows)}: {text}" for text, rows in texts.items()]


def _some(names: list[str]) -> str:
    """Return names in words, of very many the first ones."""
    if len(names) <= _MOST_NAMES:
        return ", ".join(names)
    return f"{', '.join(names[:_MOST_NAMES])} and {len(names) - _MOST_NAMES} more"


def show_targets(console: Console, targets: tuple[Target, ...]) -> None:
    """Print one line per profile."""
    columns = ("target", "engine", "arch", "precisions", "device")
    table = make_table(*columns, cut=("device",), spare=("arch", "engine"), scarce=("device",))
    for target in targets:
        engine = target.backend if target.engine.device == "CPU" else f"{target.backend} {target.engine.device}"
        row = (target.id, engine, target.arch, " ".join(target.compute.precisions), target.title)
        table.add_row(*map(safe, row))
    console.print(table)


def show_target(console: Console, target: Target) -> None:
    """Print every value of a profile with its source."""
    _show_facts(console, target, target.sources)


def show_recipe(console: Console, recipe: Recipe) -> None:
    """Print every value of a recipe with its source."""
    _show_facts(console, recipe, recipe.sources)


def show_store(console: Console, stages: tuple[StageSize, ...]) -> None:
    """Print how much is stored of each stage, and the sum."""
    unit, sizes = show.column([stage.size_bytes for stage in stages], show.SIZES)
    figures = ("entries", "size")
    table = make_table("stage", *figures, "last used", right=figures, units={"size": unit})
    for stage, size in zip(stages, sizes, strict=True):
        table.add_row(safe(stage.stage), str(stage.entries), size, f"{datetime.fromtimestamp(stage.used_s):%Y-%m-%d}")
    console.print(table)
    whole = sum(stage.size_bytes for stage in stages)
    console.print(f"{sum(stage.entries for stage in stages)} outputs of stages, {show.size(whole)}")


def _show_facts(console: Console, document: Any, sources: Mapping[str, str]) -> None:
    from edgepack.base.documents import encode

    table = make_table("key", "value", "source")
    data = encode(document)
    for key, value in data.items():
        if key == "sources":
            continue
        facts = {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {key: value}
        for name, fact in facts.items():
            if fact not in (None, [], {}):
                source = sources.get(name) or sources.get(name.partition(".")[0], "")
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
    table = make_table("recipe", "samples", "observer", "title", right=("samples",), cut=("title",))
    for recipe in recipes:
        table.add_row(*map(safe, (recipe.name, recipe.samples, recipe.observer, recipe.title)))
    console.print(table)


def show_suggestions(
    console: Console, found: tuple[Suggestion, ...], model: str = "MODEL", out: Path | None = None
) -> None:
    """Print suggested recipes, the surest first, with what of them must be changed, and what to do next."""
    if not found:
        console.print("no recipe is suggested: the model takes no pictures, sounds, texts or rows of a known kind")
        return
    table = make_table("recipe", "sure", "reason", "change")
    for one in found:
        table.add_row(*map(safe, (one.recipe, one.sure, one.why, one.change or "-")))
    console.print(table)
    if found[0].proposed is not None:
        height, width = found[0].proposed
        console.print(f"its height and width are free: {height}x{width} is taken, another by --size HEIGHTxWIDTH")
    if out is not None:
        console.print(f"wrote {safe(out)}")
        console.remark(f"next: edgepack build {safe(model)} --data PICTURES --recipe {safe(out)} --precision fp32,int8")
    elif found[0].change:
        console.remark("write it with these changes: add -o my.toml")


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
        first = " ".join(f"{v:.4g}" for v in value.ravel()[:_VALUES].tolist())
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
