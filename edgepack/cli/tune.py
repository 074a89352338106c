"""``edgepack tune``: the run options of a bundle on this device, or the kernels of a model for a target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgepack.cli.builder import require_builder
from edgepack.cli.duration import DURATION
from edgepack.cli.options import OneOf, complete_file, complete_target, echo_json, options, parse_shapes

_BUNDLE_NS = 60_000_000_000
_MINUTES = 10.0


@click.command()
@click.argument("source", required=False, shell_complete=complete_file)
@click.option("-t", "--target", shell_complete=complete_target, help="Tune the kernels of a model for this target.")
@click.option(
    "--minutes", type=click.FloatRange(0.01, 1440), help="With --target: measuring time in minutes  [default: 10]"
)
@click.option("--ssh", "board", help="With --target: measure on the board USER@HOST, which has the engine.")
@options("data", "recipe", "skip_bad", "shape")
@click.option(
    "--export",
    type=click.Path(path_type=Path, dir_okay=False),
    help="With --target: write the tuning records to this file.",
)
@click.option("--merge", type=click.Path(path_type=Path), help="With --target: merge the tuning records of this file.")
@click.option(
    "--scenario",
    type=OneOf(("SingleStream", "Offline")),
    help="For a bundle: optimize latency (SingleStream) or throughput (Offline)  [default: SingleStream]",
)
@click.option("--duration", type=DURATION, help="For a bundle: search time  [default: 60s]")
@options("seed")
@click.option(
    "--into",
    type=click.Path(path_type=Path),
    help="For a bundle: also write a copy of the bundle that contains the settings (unsigned).",
)
@options("allow_native", "compile_limit", "store", "json")
def tune(
    source: str | None,
    target: str | None,
    minutes: float | None,
    board: str | None,
    data: str | None,
    recipe: str | None,
    skip_bad: int | None,
    shapes: tuple[tuple[str, str], ...],
    export: Path | None,
    merge: Path | None,
    scenario: Any,
    duration: int | None,
    seed: int | None,
    into: Path | None,
    compile_limit_s: float | None,
    store: str | None,
    as_json: bool,
) -> None:
    """Find and save the fastest settings of a bundle or of a model's kernels.

    A bundle: searches the run options on this machine and saves them to BUNDLE.tuning.json beside the bundle, for this
    device only. 'run', 'benchmark' and programs that load the bundle use them. The engine's defaults are kept unless
    something is measurably faster.

    A model with --target: searches for the fastest way to compute its kernels, measured here or on a board (--ssh),
    if the target's engine lets edgepack tune them. The results are saved in one file per target and used by all later
    builds for it, those of other models too; see --export and --merge.
    """
    if target is None:
        _refuse(
            "--target", minutes=minutes, ssh=board, data=data, recipe=recipe, skip_bad=skip_bad,
            shape=shapes or None, export=export, merge=merge,
        )  # fmt: skip
        if source is None:
            raise click.UsageError("give a bundle, or a model with --target")
        _tune_bundle(Path(source), scenario or "SingleStream", duration or _BUNDLE_NS, seed, into, as_json=as_json)
        return
    require_builder("edgepack tune --target")
    _refuse("a bundle", scenario=scenario, duration=duration, into=into)
    if source is None:
        _refuse(
            "a model", minutes=minutes, ssh=board, data=data, recipe=recipe, skip_bad=skip_bad, shape=shapes or None
        )
    else:
        from edgepack.cli.outputs import stage_runner
        from edgepack.cli.show.console import make_console
        from edgepack.cli.show.tuned import show_kernel_tuning
        from edgepack.pipeline.tune_kernels import tunable, tune_kernels

        profile, budget_ns = tunable(target), round((_MINUTES if minutes is None else minutes) * 60e9)
        with stage_runner(store, compile_limit_s) as runner:
            found = tune_kernels(
                runner, source, profile, parse_shapes(shapes), budget_ns, seed or 0, board, data, recipe, skip_bad or 0
            )
        if as_json:
            echo_json(found)
        show_kernel_tuning(make_console(as_json), found)
    if source is None or export is not None or merge is not None:
        _show_records(target, merge, export, as_json=as_json and source is None)


def _refuse(needed: str, **given: Any) -> None:
    """Raise a usage error for options that need something that was not given."""
    for name, value in given.items():
        if value is not None:
            raise click.UsageError(f"--{name.replace('_', '-')} needs {needed}")


def _tune_bundle(
    bundle: Path, scenario: Any, duration: int, seed: int | None, into: Path | None, *, as_json: bool
) -> None:
    from edgepack.benchmark.tune import tune_and_store
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.measured import show_tuning
    from edgepack.cli.show.progress import Bar

    with Bar(make_console(), "tune") as bar:
        found, path = tune_and_store(bundle, scenario, duration, seed or 0, bar, into=into)
    if as_json:
        echo_json(found)
    show_tuning(make_console(as_json), found, path)


def _show_records(target: str, merge: Path | None, export: Path | None, *, as_json: bool) -> None:
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.tuned import show_kernel_records
    from edgepack.pipeline.tune_kernels import kernel_records

    found = kernel_records(target, merge, export)
    if as_json:
        echo_json(found)
    show_kernel_records(make_console(as_json), found, merge, export)


COMMANDS = (tune,)
