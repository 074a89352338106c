"""build(): the stages in order, each target and precision a row of the result."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator

from edgepack.base import documents
from edgepack.base.files import sweep, write_text
from edgepack.device.host import host_facts
from edgepack.errors import ConfigError
from edgepack.execution.events import Events, Silent
from edgepack.execution.open_store import open_store
from edgepack.execution.runner import StageRunner
from edgepack.execution.store import Store
from edgepack.execution.turns import build_turn
from edgepack.pipeline.build_row import build_row
from edgepack.pipeline.command_line import build_command
from edgepack.pipeline.measure_on import measure_on
from edgepack.pipeline.not_faster import explain
from edgepack.pipeline.original import Original, prepare_original
from edgepack.pipeline.pace import Pace
from edgepack.pipeline.plan import BuildPlan, resolve
from edgepack.pipeline.rows import with_latency, with_ratio_explained, with_size_explained
from edgepack.pipeline.settings import BuildSettings
from edgepack.pipeline.stages.benchmark import Measured, measure_rows_here
from edgepack.pipeline.toolchain import tool_versions
from edgepack.report.html.page import write_report
from edgepack.specs.build import BuildResult, BuildRow
from edgepack.specs.types import Wanted


def build(settings: BuildSettings, store: Store | None = None, events: Events | None = None) -> BuildResult:
    """Build every target and precision asked for; return one row for each, and write bundles, results and a report.

    A target that fails costs one row. Raises ``ConfigError``, ``ModelError`` or ``DataError`` when nothing can be
    built at all. What is unchanged since an earlier build comes from ``store``.
    """
    plan = resolve(settings)
    store, events = store or open_store(), events or Silent()
    store.tell_by(events.note)
    runner = StageRunner(store, plan.out / "logs", events, settings.compile_limit_s, host_facts())
    with build_turn(plan.out, events.note):
        sweep(plan.out, plan.name)
        try:
            return build_planned(plan, prepare_original(plan, runner), runner, _build_rows)
        finally:
            store.save()


def build_planned(
    plan: BuildPlan,
    original: Original,
    runner: StageRunner,
    build_rows: Callable[[BuildPlan, Original, StageRunner], Iterable[BuildRow]],
) -> BuildResult:
    """Build the rows of a plan by ``build_rows``, which keeps their order, measure them and write what they come to."""
    settings = plan.settings
    rows = tuple(build_rows(plan, original, runner))
    measured = Measured()
    if settings.benchmark:
        measured = measure_rows_here(runner, plan.targets, rows, settings.duration_s, settings.seed)
    return _finish(plan, original, rows, measured, runner)


def _build_rows(plan: BuildPlan, original: Original, runner: StageRunner) -> Iterator[BuildRow]:
    """Build one row after the other, and tell how far all of them are."""
    pairs = tuple(plan.rows())
    names = tuple(f"{target.id} {precision}" for target, precision in pairs)
    pace = Pace(names, runner.logs / "durations.json")
    for number, (name, (target, precision)) in enumerate(zip(names, pairs, strict=True), 1):
        runner.events.row(number, len(pairs), name, pace.left_s())
        began, ran = time.monotonic(), len(runner.store.ran)
        yield build_row(plan.of_row(target, precision), original, target, precision, runner)
        pace.finished(time.monotonic() - began, ran=len(runner.store.ran) > ran)


def exit_code(result: BuildResult) -> int:
    """Return what the command ends with: the highest exit code of a row; ConfigError's where none was even tried."""
    if all(row.status == "skipped" for row in result.rows):
        return ConfigError.exit_code
    return max((row.exit_code for row in result.rows), default=0)


def _finish(
    plan: BuildPlan,
    original: Original,
    rows: tuple[BuildRow, ...],
    measured: Measured,
    runner: StageRunner,
) -> BuildResult:
    """Measure on other machines where that was asked for, write results, report and build.json; return the result."""
    named = (
        dataclasses.replace(
            row, model=plan.name, source_sha256=original.source.sha256, command=command, facts=original.facts
        )
        for row, command in zip(rows, _commands(plan), strict=True)
    )
    engines = {target.id: target.backend for target in plan.targets}
    finished = _with_ratios(explain(runner, (_with_measurement(row, measured) for row in named), engines))
    results = tuple(row.result for row in measured.rows.values() if row.result is not None)
    if plan.settings.measure_on:
        hosts, seconds, seed = plan.settings.measure_on, plan.settings.duration_s, plan.settings.seed
        finished, others = measure_on(hosts, finished, seconds, seed, runner.events.note)
        results += others
    for result in results:
        name = f"{plan.name}-{result.target}-{result.precision}.json"
        write_text(plan.out / "results" / name, documents.to_json(result))
    report = plan.out / "report.html"
    built = BuildResult(
        name=plan.name,
        rows=finished,
        warnings=(*original.selection.notes, *(finding.message for finding in original.warnings)),
        out=str(plan.out),
        report=str(report),
        versions=tool_versions(),
        stages_run=len(runner.store.ran),
        stages_reused=len(runner.store.reused),
        lint=original.lint,
    )
    write_text(plan.out / "build.json", documents.to_json(built))
    write_report(results, finished, report)  # last: it is the largest, and made of the others
    return built


def _with_ratios(rows: tuple[BuildRow, ...]) -> tuple[BuildRow, ...]:
    """Return the rows, each explained beside the fp32 one of its target."""
    bases = {row.target: row for row in rows if row.precision == "fp32"}
    return tuple(
        with_size_explained(with_ratio_explained(row, base), base) for row in rows for base in (bases.get(row.target),)
    )


def _commands(plan: BuildPlan) -> Iterator[tuple[str, ...]]:
    """Yield the command that makes each row's bundle alone, in the order of the rows."""
    names = {target.id: name for target, name in zip(plan.targets, plan.settings.targets, strict=True)}
    for target, precision in plan.rows():
        settings = plan.of_row(target, precision).settings
        own: tuple[Wanted, ...] = settings.precisions if plan.as_is else (precision,)
        yield build_command(dataclasses.replace(settings, targets=(names[target.id],), precisions=own, out=None))


def _with_measurement(row: BuildRow, measured: Measured) -> BuildRow:
    if row.status != "ok":
        return row
    found = measured.rows.get(f"{row.target} {row.precision}")
    if found is None:
        reason = row.notes.get("latency") or measured.reason or "not measured: --no-benchmark"
        return dataclasses.replace(row, notes={**row.notes, "latency": reason})
    if found.result is None:
        return dataclasses.replace(row, notes={**row.notes, "latency": f"not measured: {found.reason}"})
    ratio, interval = (found.speedup.ratio, found.speedup.ci95) if found.speedup else (None, None)
    return with_latency(row, found.result, ratio, interval, "there is no fp32 bundle of this target to compare with")
