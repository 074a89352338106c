"""Measurements as tables and sentences on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.cli.show import format as show
from edgepack.cli.show.console import Console
from edgepack.cli.show.layout import Table, safe
from edgepack.cli.show.tables import make_table

if TYPE_CHECKING:
    from edgepack.runtime.tuning import Tuning
    from edgepack.specs.result import Percentile, Result


def show_results(console: Console, results: tuple[Result, ...]) -> None:
    """Print latency with intervals, throughput and memory of each measurement."""
    console.print(_results_table(results))
    for result in results:
        for reason in result.invalid_reasons:
            console.print(f"[red]{safe(result.target)} {result.precision}[/]: {safe(reason)}")
        if result.stands_for_target is False:
            console.print(
                f"[red]{safe(result.target)} {result.precision}[/]: measured on {safe(result.host.cpu)} with "
                f"{safe(result.engine)}, which is not {safe(result.target)}: no report counts it as that device's"
            )
        if result.limit is not None:
            _show_limit(console, result, layers=len(results) == 1)
        for note in (note for note in result.notes if note.startswith("the limit")):
            console.remark(f"[dim]{safe(result.target)} {result.precision}: {safe(note)}[/]")


def _show_limit(console: Console, result: Result, *, layers: bool) -> None:
    """Print the roofline limit of the latency and, of a single result, its slowest layers with the reason."""
    limit = result.limit
    assert limit is not None
    peaks = ", ".join(f"{p.precision} {p.ops_per_s / 1e9:.0f}" for p in limit.roof.peaks)
    console.print(
        f"{safe(result.target)} {result.precision}: roofline limit {show.time_ns(limit.floor_ns)}; "
        f"{show.percent(limit.fraction)} of that speed reached "
        f"[dim](peak Gop/s with {limit.roof.threads} threads: {peaks})[/]"
    )
    if not layers:
        return
    known = {layer.name: layer for layer in limit.layers}
    costliest = [known[name] for name in limit.costliest]
    unit, factor = show.unit_for([layer.time_ns for layer in costliest], show.TIMES)
    table = make_table(
        "layer", "operator", "executed", "time", "limit", "reason",
        right=("time", "limit"), units={"time": unit, "limit": unit}, cut=("layer",),
    )  # fmt: skip
    for layer in costliest:
        floor, spent = ("-" if ns is None else show.digits(ns / factor) for ns in (layer.floor_ns, layer.time_ns))
        table.add_row(*map(safe, (layer.name, layer.operator, layer.executed, spent, floor, layer.reason)))
    console.print(table)


def _results_table(results: tuple[Result, ...]) -> Table:
    """Return one row a measurement; intervals stand in columns of their own, so that each row is one line."""
    values = [{p.p: p for p in result.percentiles} for result in results]
    unit, factor = show.unit_for([x[50.0].value_ns if 50.0 in x else None for x in values], show.TIMES)
    memory, memories = show.column([result.memory_peak_bytes for result in results], show.SIZES)
    figures: dict[str, tuple[str, list[str]]] = {}
    for p, name in ((50.0, "p50"), (90.0, "p90"), (99.0, "p99")):
        found = [x.get(p) for x in values]
        figures[name] = unit, [_percentile(x, factor) for x in found]
        if any(x is not None and x.ci95_ns is not None for x in found):
            figures[f"{name} 95 %"] = unit, [_interval(x, factor) for x in found]
    figures["samples/s"] = "", [f"{result.samples_per_second:.4g}" for result in results]
    figures["memory"] = memory, list(memories)
    figures["queries"] = "", [str(result.queries) for result in results]
    alike = ("bundle",) if len({result.bundle_name for result in results}) == 1 else ()
    spare = ("p99 95 %", "scenario", "queries", "p90 95 %", "memory", *alike, "p99", "p50 95 %")
    table = make_table(
        "bundle", "target", "precision", "scenario", "status", *figures,
        right=tuple(figures), units={name: found[0] for name, found in figures.items()}, cut=("bundle", "target"),
        spare=tuple(name for name in spare if name in figures or name in ("scenario", *alike)),
        scarce=("samples/s", "p90"),
    )  # fmt: skip
    for i, result in enumerate(results):
        words = map(safe, (result.bundle_name, result.target, result.precision, result.scenario.name))
        table.add_row(*words, _status(result), *(found[1][i] for found in figures.values()))
    return table


def _status(result: Result) -> str:
    if result.stands_for_target is False:
        return "[red]not on the target[/]"
    return "ok" if result.valid else "[red]not valid[/]"


def _percentile(value: Percentile | None, factor: float) -> str:
    if value is None or value.value_ns is None:
        return "-" if value is None else f"[dim]needs {value.queries_needed}[/]"
    return show.digits(value.value_ns / factor)


def _interval(value: Percentile | None, factor: float) -> str:
    if value is None or value.ci95_ns is None:
        return "-"
    return "..".join(show.digits(end / factor) for end in value.ci95_ns)


def show_comparison(console: Console, first: Path, second: Path, result: Any) -> None:
    """Print the verdict of ``compare``."""
    for note in result.notes:
        console.remark(f"[dim]{safe(note)}[/]")
    low, high = result.ci95
    console.print(
        f"[bold]{safe(result.verdict)}[/]: {safe(second.name)} takes {result.ratio:.3f} times as long as "
        f"{safe(first.name)} (95 % interval {low:.3f}..{high:.3f})"
    )
    if result.minutes_needed is not None:
        minutes = max(1, round(result.minutes_needed))
        needed = f"a verdict needs about {minutes} minute{'s' if minutes > 1 else ''}: --duration {minutes}min"
        console.print(f"undecided at this level of noise: {needed}")
    for reason in result.invalid_reasons:
        console.print(f"[red]disturbed[/]: {safe(reason)}")


def show_tuning(console: Console, tuning: Tuning, path: Path) -> None:
    """Print what was tried and what was saved."""
    table = make_table("options", "time / default", "rounds", "reason", right=("time / default", "rounds"))
    for trial in tuning.trials:
        ratio = f"{trial.ratio:.3f}" if trial.ratio is not None else "-"
        table.add_row(*map(safe, (trial.changes, ratio, trial.rounds, trial.reason or "")))
    console.print(table)
    low, high = tuning.ci95
    if tuning.verdict == "faster":
        console.print(
            f"[green]faster[/]: {safe(_options(tuning))} takes {tuning.ratio:.3f} times as long as the engine's "
            f"defaults (95 % interval {low:.3f}..{high:.3f}), {show.time_ns(tuning.tuned_ns)} per sample"
        )
    else:
        console.print(
            f"nothing is measurably faster than the engine's defaults: {show.time_ns(tuning.default_ns)} per sample"
        )
    for note in tuning.notes:
        console.remark(f"[dim]{safe(note)}[/]")
    for reason in tuning.invalid_reasons:
        console.print(f"[red]disturbed[/]: {safe(reason)}")
    console.print(f"saved to {safe(path)}, for this device only")


def _options(tuning: Tuning) -> str:
    """Return the options that differ from the defaults."""
    from edgepack.base.documents import encode
    from edgepack.benchmark.tune.space import describe_changes
    from edgepack.specs.run import RunOptions

    default = encode(RunOptions())
    made = [(name, value) for name, value in encode(tuning.options).items() if value != default[name]]
    return describe_changes([*made, *([("batch", tuning.batch)] if tuning.batch != 1 else [])])
