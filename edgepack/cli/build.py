"""``edgepack build | plan | demo | init``: from a model to bundles."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import click

from edgepack.cli.builder import BuildCommand
from edgepack.cli.duration import SECONDS
from edgepack.cli.options import SOURCE, DropType, F, OneOf, ShareType, complete_file, echo_json, given, options
from edgepack.specs.types import Effort
from edgepack.verify.metrics import metrics_in_words

if TYPE_CHECKING:
    from edgepack.execution.store import Store
    from edgepack.pipeline.matrix import Matrix
    from edgepack.pipeline.settings import BuildSettings
    from edgepack.specs.build import BuildResult

_SETTINGS_FILE = "edgepack.toml"

_SETTINGS = (
    click.argument("models", nargs=-1, metavar="[MODEL]...", shell_complete=complete_file),
    options("target", "precision", "requantize", "data", "eval", "recipe", "task", "samples", "eval_samples"),
    options("skip_bad", "observer", "percentile"),
    click.option(
        "--method",
        type=OneOf(("auto", "plain")),
        help="auto: keep the corrections that help on held-out samples, and return layers to fp32 until --max-drop "
        "holds; plain: neither  [default: auto]",
    ),
    click.option(
        "--effort",
        type=OneOf(get_args(Effort)),
        help="How much work the corrections may do: low for a quick look, high where accuracy is hard  "
        "[default: medium]",
    ),
    click.option("--metric", help=f"{metrics_in_words()}(outputs, labels)  [default: top1]"),
    click.option(
        "--max-drop",
        type=DropType(),
        help="Largest allowed drop of the metric against fp32: 1pt or 0.01 is one percentage point  [default: no gate]",
    ),
    click.option(
        "--min-sqnr",
        type=float,
        help="Smallest balanced SQNR, in dB, of a row in less than fp32; a row below it is poor  [default: 10]",
    ),
    click.option(
        "--max-change",
        type=ShareType(),
        help="Largest allowed share of fp32's answers (classes, boxes, pixels) that change, as 2% or 0.02  "
        "[default: no gate]",
    ),
    click.option("--allow-poor", is_flag=True, help="Let a build with poor rows succeed."),
    options("embed", "gallery"),
    click.option(
        "--strict",
        is_flag=True,
        default=None,
        help="Treat warnings about calibration samples, and precisions that a target does not offer, as errors "
        "(exit code 2).",
    ),
    options("seed", "shape", "set"),
    click.option("--name", help="Name of the bundles  [default: the model's]"),
    click.option("--version", help="Version of the bundles  [default: 1]"),
    click.option("-o", "--out", help="Output folder  [default: artifacts/NAME]"),
    click.option("--no-benchmark", is_flag=True, help="Skip the latency measurement."),
    click.option(
        "--duration", "duration_s", type=SECONDS, help="Measuring time of each bundle in seconds  [default: 2]"
    ),
    click.option(
        "--measure-on",
        metavar="USER@HOST",
        multiple=True,
        help="Machine on which to verify and measure the bundles built for it, over ssh. Repeatable.",
    ),
    click.option("--tune-minutes", type=float, help="Kernel tuning time of each TVM bundle in minutes  [default: 0]"),
    options(*SOURCE, "compile_limit"),
)


def _settings_options(function: F) -> F:
    """Add every option that a setting of a build comes from."""
    for option in reversed(_SETTINGS):
        function = option(function)
    return function


@click.command(cls=BuildCommand)
@_settings_options
@click.option(
    "--workers",
    metavar="local:N|dask://HOST:PORT",
    help="Run stages in N processes on this machine, or on the workers of a dask scheduler.",
)
@options("store", "json")
def build(models: tuple[str, ...], workers: str | None, store: str | None, as_json: bool, **words: Any) -> None:
    """Build verified bundles of a model for each target and precision.

    MODEL is an ONNX file, a .pt2 file, or package.module:callable or file.py:callable that returns a torch module. It
    may also be an edgepack.toml file, by default the one in this folder; options override its settings. Several of
    these, or a models.toml, build many models with one report; a model that fails does not stop the others.
    """
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.progress import Display
    from edgepack.pipeline.build import build as run
    from edgepack.pipeline.many import build_many
    from edgepack.pipeline.matrix import one

    matrix = _matrix(models, words)
    settings = None if matrix is not None else _settings(models, words)
    if settings is not None and workers is not None:
        matrix = one(settings)
    with Display(make_console()) as display:
        if matrix is not None:
            result = build_many(matrix, _store(store), display, workers)
        else:
            result = run(cast("BuildSettings", settings), _store(store), display)
    _show(result, as_json)


@click.command(cls=BuildCommand)
@_settings_options
@options("store", "json")
def plan(models: tuple[str, ...], store: str | None, as_json: bool, **words: Any) -> None:
    """Show what a build would make, and what stands in its way.

    Takes the options of 'edgepack build'. The model and the samples must exist, but are not read. For many models it
    also says what the store already has and how long the rest will take, judged by earlier builds; for that, the
    files are read. The exit code is the best that the build could end with.
    """
    from edgepack.cli.show.built import show_plan
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.many import show_outlook
    from edgepack.pipeline.outlook import Outlook, outlook
    from edgepack.pipeline.preview import preview

    matrix = _matrix(models, words)
    found = preview(_settings(models, words)) if matrix is None else outlook(matrix, _store(store))
    if as_json:
        echo_json(found)
    if isinstance(found, Outlook):
        show_outlook(make_console(as_json), found)
    else:
        show_plan(make_console(as_json), found)
    if found.exit_code:
        raise click.exceptions.Exit(found.exit_code)


_DEMO_TASKS = {"classification": "digits", "detection": "shapes"}


@click.command(cls=BuildCommand)
@click.option(
    "--model",
    type=OneOf(("efficientnet-lite0", "digits", "shapes")),
    help="Network to build  [default: efficientnet-lite0]",
)
@click.option("--task", type=OneOf(tuple(_DEMO_TASKS)), help="Kind of network; detection stands for --model shapes.")
@click.option("-o", "--out", help="Output folder  [default: artifacts/demo-MODEL]")
@options("store", "json")
def demo(model: Any, task: str | None, out: str | None, store: str | None, as_json: bool) -> None:
    """Build and measure a real network on real data from installed packages.

    efficientnet-lite0 is an ImageNet network with photographs without labels. digits is a small network that is
    trained here in under a minute; its data has labels, so accuracy is measured. shapes is a small detector, trained
    here in about a minute on shapes that are rendered; its boxes are measured.
    """
    if model is not None and task is not None and _DEMO_TASKS[task] != model:
        raise click.UsageError(f"--model {model} is not for --task {task}; give one of the two")
    model = model or _DEMO_TASKS.get(task or "", "efficientnet-lite0")
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.progress import Display
    from edgepack.demo.job import demo as run

    with Display(make_console()) as display:
        result = run(model, out, _store(store), display)
    _show(result, as_json)


@click.command()
@click.argument("model", required=False)
@click.option("--model", "named", help="Trained model: an ONNX file, a .pt2 file or file.py:callable; or MODEL alone.")
@options("data", "eval", "recipe", "target", "precision")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("edgepack.toml"),
    show_default=True,
    help="File to write.",
)
@click.option("--yes", is_flag=True, help="Do not ask; use the options and defaults.")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
def init(model: str | None, named: str | None, out: Path, yes: bool, force: bool, **words: Any) -> None:
    """Ask a few questions and write edgepack.toml."""
    from edgepack.cli.init import write_settings

    if model and named:
        raise click.UsageError(f"two models are given: {model} and --model {named}")
    write_settings(out, {"model": model or named, **words}, ask=not yes, force=force)


def _matrix(models: tuple[str, ...], words: dict[str, Any]) -> Matrix | None:
    """Return what is asked for of many models; None where it is one."""
    from edgepack.pipeline.matrix import is_matrix, read_matrix

    paths = models or (_SETTINGS_FILE,)
    return read_matrix(paths, _changes(words)) if is_matrix(paths) else None


def _settings(models: tuple[str, ...], words: dict[str, Any]) -> BuildSettings:
    from edgepack.errors import ConfigError
    from edgepack.pipeline.settings import BuildSettings, read_settings

    model, changes = next(iter(models), None), _changes(words)
    if model is not None and not model.endswith(".toml"):
        return BuildSettings(model=model, **changes)
    path = Path(model or _SETTINGS_FILE)
    if model is None and not path.is_file():
        raise ConfigError(
            "no MODEL given, and no edgepack.toml in this folder",
            hint="give a model, or write edgepack.toml with 'edgepack init'",
        )
    return dataclasses.replace(read_settings(path), **changes)


def _changes(words: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that options set."""
    changes = given(words)
    if changes.pop("no_benchmark", False):
        changes["benchmark"] = False
    if "eval_data" in changes:
        changes["eval"] = changes.pop("eval_data")
    for pairs in ("shapes", "constants"):
        if pairs in changes:
            changes[pairs] = dict(changes[pairs])
    return changes


def _store(folder: str | None) -> Store:
    from edgepack.execution.open_store import open_store

    return open_store(folder)


def _show(result: BuildResult, as_json: bool) -> None:
    from edgepack.cli.show.built import show_build
    from edgepack.cli.show.console import make_console
    from edgepack.pipeline.build import exit_code

    if as_json:
        echo_json(result)
    show_build(make_console(as_json), result)
    code = exit_code(result)
    if code:
        raise click.exceptions.Exit(code)


COMMANDS = (build, plan, demo, init)
