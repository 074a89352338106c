"""What a build is, or would be, as tables on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgepack.cli.show import format as show
from edgepack.cli.show.console import Console
from edgepack.cli.show.layout import Table, safe
from edgepack.cli.show.tables import make_table
from edgepack.report.units import is_fraction
from edgepack.specs.build import NOT_HERE

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from edgepack.pipeline.preview import BuildPreview, PlannedRow
    from edgepack.specs.build import BuildResult, BuildRow


# Notes of a row that explain how it came to be rather than what it is worth.
_EXPERT = ("corrections", "saturation", "agreement", "sqnr_db", "placement", "speed-up")
_ANSWERED = ("not faster", "size")  # what the answer's sentence of a device says already, where it has one
_MOST_NAMES = 8
_STATUS = {
    "failed": "[red]failed[/]",
    "gate_missed": "[yellow]gate missed[/]",
    "poor": "[yellow]poor[/]",
    "skipped": "[dim]skipped[/]",
}


def show_build(console: Console, result: BuildResult) -> None:
    """Print one row per target and precision, the reasons of failures, and the commands to run next."""
    console.remark()
    console.print(_build_table(result.rows))
    several = _are_of_several(result.rows)
    _show_reasons(
        console,
        [(f"{row.model} {row.target}" if several else row.target, row.precision, row) for row in result.rows],
    )
    texts, answered = _answer(result.rows)
    for text in texts:
        console.remark(f"\n{safe(text)}")
    for text in _remarks(result, answered, expert=False):
        console.remark(f"[dim]{safe(text)}[/]")
    for text in _remarks(result, answered, expert=True):
        console.detail(f"[dim]{safe(text)}[/]")
    if result.report:
        console.remark(f"\nreport: [bold]{safe(result.report)}[/]")
    _show_next(console, result.rows)


def _show_next(console: Console, rows: tuple[BuildRow, ...]) -> None:
    """Print what to do next with the bundle that is recommended, or else with the last one."""
    if not (good := [row.bundle for row in rows if row.bundle]):
        return
    best = _recommended(rows)
    console.remark("next:")
    console.command("edgepack", "inspect", best or good[-1])
    # Measured here, another device's bundle would say nothing of that device.
    if here := [row.bundle for row in rows if row.bundle and row.notes.get("latency") != NOT_HERE]:
        bundle = best or here[-1]
        console.command("edgepack", "run", bundle, "--input", "FILE")
        console.command("edgepack", "benchmark", bundle)


def _recommended(rows: tuple[BuildRow, ...]) -> str | None:
    """Return the bundle that the answer says to take, of several models that of the first."""
    from edgepack.report.entries import make_groups
    from edgepack.report.entries.choice import choose, default_limits

    for group in make_groups((), rows):
        best = choose(group.entries, default_limits(group.entries)).best
        row = None if best is None else group.entries[best].row
        if row is not None and row.bundle:
            return row.bundle
    return None


def _answer(rows: tuple[BuildRow, ...]) -> tuple[list[str], set[tuple[str, str]]]:
    """Return what to take, as the report says it, and each device on which a precision is not faster than fp32.

    With them come the model and target of the rows of those devices. Of several models each line says of which it is.
    """
    from edgepack.report.entries import make_groups
    from edgepack.report.entries.choice import default_limits
    from edgepack.report.text.devices import devices
    from edgepack.report.text.sentences import recommendation

    texts: list[str] = []
    answered: set[tuple[str, str]] = set()
    groups = make_groups((), rows)
    for group in groups:
        model = f"{group.title}: " if len(groups) > 1 else ""
        if any(entry.measured for entry in group.entries):
            texts.append(model + recommendation(group.entries, default_limits(group.entries)))
        for device in devices(group.entries):
            if device.gain in ("same", "slower"):
                texts.append(f"{model}{device.name}: {device.text}")
                of_device = [e.row for e in group.entries if e.row is not None and e.target == device.name]
                answered |= {(row.model, row.target) for row in of_device}
    return texts, answered


def show_plan(console: Console, plan: BuildPreview) -> None:
    """Print what would be built for each target and precision, and what would not, with the reason."""
    table = make_table(
        "target", "precision", "status", "engine", "latency", "bundle", cut=("bundle",), spare=("bundle",)
    )
    for row in plan.rows:
        latency = "measured here" if row.measured else "not measured" if row.status == "build" else "-"
        status = _STATUS.get(row.status, row.status)
        table.add_row(safe(row.target), row.precision, status, safe(row.engine), latency, safe(row.bundle))
    console.print(table)
    _show_reasons(console, [(row.target, row.precision, row) for row in plan.rows])
    if any(row.status == "build" for row in plan.rows):
        console.remark("build it:")
        console.command(*plan.command)
    else:
        console.remark("none of it can be built")


def _show_reasons(console: Console, rows: Sequence[tuple[str, str, BuildRow | PlannedRow]]) -> None:
    """Print why rows failed or were skipped, each reason once with its rows: target, precision and row."""
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for target, precision, row in rows:
        if row.reason:
            found.setdefault((row.status, row.reason), []).append((target, precision))
    for (status, reason), named in found.items():
        colour = "dim" if status == "skipped" else "red"
        console.print(f"[{colour}]{safe(_some(named))}[/]: {safe(reason)}")


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
    measured = dict.fromkeys(row.accuracy.what for row in rows if row.accuracy)
    if len(measured) > 1:  # of several models: each row names its own
        return "metric", "", [_named(row) for row in rows]
    if measured:
        metric, truth = next(iter(measured))
        percent = is_fraction(metric)
        return metric, _unit(percent, of_fp32=truth == "fp32"), [_accuracy(row, percent) for row in rows]
    if all(row.agreement is None for row in rows) and any(_sqnr(row) != "-" for row in rows):
        return "SQNR", "dB", [_sqnr(row) for row in rows]
    return "agreement", "%", ["-" if row.agreement is None else f"{100 * row.agreement:.1f}" for row in rows]


def _named(row: BuildRow) -> str:
    if row.accuracy is None:
        return "-"
    percent = is_fraction(row.accuracy.metric)
    unit = _unit(percent, of_fp32=row.accuracy.truth == "fp32")
    return f"{row.accuracy.metric} {_accuracy(row, percent)} {unit}".rstrip()


def _unit(percent: bool, *, of_fp32: bool) -> str:
    """Return the unit of a figure; ``of_fp32`` where fp32's own answers were taken for right."""
    return " ".join((*(("%",) if percent else ()), *(("fp32",) if of_fp32 else ())))


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


def _remarks(result: BuildResult, answered: Container[tuple[str, str]], *, expert: bool) -> list[str]:
    """Collect what was not measured and why, each once with its rows; or what experts ask for.

    ``answered`` are model and target of the rows whose device has a sentence above.
    """
    texts: dict[str, list[tuple[str, str]]] = {}
    several = _are_of_several(result.rows)
    for row in result.rows:
        if row.status in ("failed", "skipped"):
            continue
        name = (f"{row.model} {row.target}" if several else row.target, row.precision)
        for what, why in row.notes.items():
            if what == "latency" and why in row.notes.get("verification", ""):
                continue  # said there already
            said = what in _ANSWERED and (row.model, row.target) in answered
            if (what in _EXPERT or said) == expert:
                texts.setdefault(f"{what}: {why}", []).append(name)
    return [text if len(rows) == len(result.rows) else f"{_some(rows)}: {text}" for text, rows in texts.items()]


def _some(rows: list[tuple[str, str]]) -> str:
    """Return targets in words, each once with its precisions; of very many the first ones."""
    by_target: dict[str, list[str]] = {}
    for target, precision in rows:
        by_target.setdefault(target, []).append(precision)
    names = [f"{target} {' '.join(precisions)}" for target, precisions in by_target.items()]
    if len(names) <= _MOST_NAMES:
        return ", ".join(names)
    return f"{', '.join(names[:_MOST_NAMES])} and {len(names) - _MOST_NAMES} more"
