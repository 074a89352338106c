"""``edgepack build``, ``demo``, ``init``: the main job."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepack.cli.builder import BuildCommand
from edgepack.cli.options import OneOf, echo_json, given, options

if TYPE_CHECKING:
    from edgepack.build.settings import BuildSettings
    from edgepack.execution.store import Store
    from edgepack.specs import BuildResult


@click.command(cls=BuildCommand)
@click.argument("model", required=False)
@options("target", "precision", "data", "eval", "recipe", "samples", "eval_samples", "observer", "percentile")
@click.option(
    "--method",
    type=OneOf(("auto", "plain")),
    help="auto: corrections that help on unseen samples are kept, and layers go back to fp32 when --max-drop is "
    "missed; plain: neither [auto].",
)
@click.option("--metric", help="top1, top5, agreement, sqnr, cosine, or module:function(outputs, labels).")
@click.option(
    "--max-drop", type=float, help="Largest drop of the metric against fp32 that passes, as a fraction: 0.01."
)
@options("strict", "seed", "shape")
@click.option("--name", help="Name of the bundles.")
@click.option("--version", help="Version written into the bundles.")
@click.option("--out", help="Output folder [artifacts/NAME].")
@click.option("--no-benchmark", is_flag=True, help="Do not measure latency at the end.")
@click.option("--duration", "duration_s", type=float, help="Seconds each bundle is measured [2].")
@click.option("--tune-minutes", type=float, help="For TVM targets: measure kernels so long for each bundle [0].")
@options("compile_limit", "store", "json")
def build(model: str | None, store: Path | None, as_json: bool, **words: Any) -> None:
    """Build verified bundles of MODEL for every target and precision.

    MODEL is a .onnx, a .pt2, package.module:callable or file.py:callable that returns a torch module; or an
    edgepack.toml. Without MODEL, the edgepack.toml of this folder is built; options override what it says.
    """
    from edgepack.build.pipeline import build as run
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.progress import Display

    settings = _settings(model, words)
    console = make_console()
    with Display(console) as display:
        result = run(settings, _store(store), display)
    _show(result, as_json)


@click.command(cls=BuildCommand)
@click.option("--model", type=OneOf(("efficientnet-lite0", "digits")), default="efficientnet-lite0", show_default=True)
@click.option("--out", help="Output folder.")
@options("store", "json")
def demo(model: Any, out: str | None, store: Path | None, as_json: bool) -> None:
    """Do the main job on a real network and real data that come with installed packages.

    efficientnet-lite0: ImageNet network, photographs without labels. digits: a small network trained here in under a
    minute, with labels, so that accuracy is measured.
    """
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.progress import Display
    from edgepack.demo.job import demo as run

    with Display(make_console()) as display:
        result = run(model, out, _store(store), display)
    _show(result, as_json)


@click.command()
@click.option("--model", help="The trained model.")
@options("data", "eval", "recipe", "target", "precision")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), default=Path("edgepack.toml"), show_default=True
)
@click.option("--yes", is_flag=True, help="Ask nothing: take the options given and the defaults.")
@click.option("--force", is_flag=True, help="Overwrite a file that is there.")
def init(out: Path, yes: bool, force: bool, **words: Any) -> None:
    """Ask what a build needs to know, write edgepack.toml, and print the command it stands for."""
    from edgepack.cli.init import write_settings

    write_settings(out, words, ask=not yes, force=force)


def _settings(model: str | None, words: dict[str, Any]) -> BuildSettings:
    from edgepack.build.settings import BuildSettings, read_settings
    from edgepack.errors import ConfigError

    changes = given(words)
    if changes.pop("no_benchmark", False):
        changes["benchmark"] = False
    if "eval_data" in changes:
        changes["eval"] = changes.pop("eval_data")
    if "shapes" in changes:
        changes["shapes"] = dict(changes["shapes"])
    if model is not None and not model.endswith(".toml"):
        return BuildSettings(model=model, **changes)
    path = Path(model or "edgepack.toml")
    if model is None and not path.is_file():
        raise ConfigError(
            "no MODEL was given and there is no edgepack.toml here",
            hint="give a model, or write one with 'edgepack init'",
        )
    return dataclasses.replace(read_settings(path), **changes)


def _store(folder: Path | None) -> Store:
    from edgepack.execution.store import Store, default_folder

    return Store(folder or default_folder())


def _show(result: BuildResult, as_json: bool) -> None:
    from edgepack.build.pipeline import exit_code
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.tables import show_build

    if as_json:
        echo_json(result)
    show_build(make_console(), result)
    code = exit_code(result)
    if code:
        raise click.exceptions.Exit(code)


COMMANDS = (build, demo, init)
