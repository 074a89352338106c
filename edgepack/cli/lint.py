"""``edgepack lint``: checks calibration samples before they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgepack.cli.builder import BuildCommand
from edgepack.cli.options import complete_file, echo_json, options

if TYPE_CHECKING:
    from edgepack.cli.show.console import Console
    from edgepack.specs.data import Lint


@click.command(cls=BuildCommand)
@click.argument("model", shell_complete=complete_file)
@options("data")
@click.option("--eval", "eval_data", help="Evaluation samples to compare the calibration samples with.")
@options("recipe", "skip_bad", "samples", "observer", "percentile", "strict", "seed", "compile_limit")
@options("store", "json")
def lint(
    model: str,
    data: str | None,
    eval_data: str | None,
    recipe: str | None,
    skip_bad: int | None,
    samples: int | None,
    observer: Any,
    percentile: float | None,
    strict: bool | None,
    seed: int | None,
    compile_limit_s: float | None,
    store: str | None,
    as_json: bool,
) -> None:
    """Check calibration samples for common mistakes.

    Looks for duplicates, value ranges, preprocessing and channel order that do not fit the model, missing classes and
    too few samples. MODEL is as for 'edgepack build'. Warnings do not change the exit code, except with --strict.
    """
    from edgepack.cli.outputs import stage_runner
    from edgepack.cli.show.console import make_console
    from edgepack.errors import ConfigError
    from edgepack.pipeline.single_stage import lint_model
    from edgepack.pipeline.stages.lint import refuse_warnings

    if data is None:
        raise ConfigError("no samples to check", hint="add --data with a folder of pictures, a .npz or module:callable")
    with stage_runner(store, compile_limit_s) as runner:
        found = lint_model(
            runner, model, data, eval_data, recipe, samples, observer, percentile, seed or 0, skip_bad or 0
        )
    if as_json:
        echo_json(found)
    _show(make_console(as_json), found)
    if strict:
        refuse_warnings(found)


def _show(console: Console, found: Lint) -> None:
    from edgepack.cli.show.layout import safe

    for finding in found.findings:
        mark = "[yellow]warning[/]" if finding.severity == "warning" else "[dim]note[/]"
        console.print(f"{mark} [bold]{finding.check}[/]: {safe(finding.message)}")
        if finding.hint:
            console.print(f"  hint: {safe(finding.hint)}")
    others = f", {found.eval_samples} for evaluation" if found.eval_samples is not None else ""
    count = len(found.warnings)
    console.print(
        f"{count or 'no'} warning{'' if count == 1 else 's'}: {found.samples} calibration samples{others}, "
        f"{found.model_runs} runs of the model"
    )


COMMANDS = (lint,)
