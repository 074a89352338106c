"""``edgepack export | lint | calibrate | quantize | check | compile | pack``: one stage each, as in ``build``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepack.cli.builder import BuildCommand, require_builder
from edgepack.cli.options import (
    PRECISIONS,
    SOURCE,
    F,
    OneOf,
    complete_file,
    complete_target,
    echo_json,
    given,
    options,
    parse_shapes,
)

if TYPE_CHECKING:
    from edgepack.execution.runner import StageRunner

# What chooses ranges, and so has no say where values are only counted.
_CHOOSING = ("observer", "percentile", "strict")
_SAMPLES = ("data", "samples", "seed", "skip_bad")

_onnx = click.argument("model", shell_complete=complete_file)


def _out(written: str) -> Callable[[F], F]:
    return click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help=f"{written} to write.")


@click.command(cls=BuildCommand)
@click.argument("model", shell_complete=complete_file)
@options("data", "recipe", "skip_bad", "shape", "set", *SOURCE)
@_out("ONNX file")
@options("compile_limit", "store", "json")
def export(
    model: str,
    data: str | None,
    recipe: str | None,
    skip_bad: int | None,
    shapes: tuple[tuple[str, str], ...],
    constants: tuple[tuple[str, str], ...],
    out: Path,
    compile_limit_s: float | None,
    store: str | None,
    as_json: bool,
    **words: Any,
) -> None:
    """Export a model to a checked, simplified fp32 ONNX file.

    MODEL is as for 'edgepack build'.
    """
    from edgepack.cli.outputs import deliver, refuse_folder, refuse_out, stage_runner
    from edgepack.pipeline.stages.export import export_and_prepare
    from edgepack.specs.source import SourceOptions

    refuse_folder(out)
    refuse_out(model, out)
    with stage_runner(store, compile_limit_s) as runner:
        reading = SourceOptions(**given(words))
        result = export_and_prepare(
            runner, model, parse_shapes(shapes), data, recipe, dict(constants), reading, skip_bad=skip_bad or 0
        )
        deliver(result, out)
    if as_json:
        echo_json(result)


@click.command()
@click.argument("model", metavar="MODEL|JOB...", nargs=-1, required=True, shell_complete=complete_file)
@options("data", "recipe", "skip_bad", "samples", "observer", "percentile", "strict", "seed")
@click.option(
    "--statistics", is_flag=True, help="Write statistics instead of ranges, to merge with those of other machines."
)
@click.option("--merge", is_flag=True, help="Merge the --statistics documents given in place of MODEL.")
@click.option(
    "--job",
    is_flag=True,
    help="Write a job, which devices that have only numpy and ONNX Runtime take in place of MODEL.",
)
@_out("JSON file, or with --job the job,")
@options("compile_limit", "store", "json")
def calibrate(
    model: tuple[str, ...],
    statistics: bool,
    merge: bool,
    job: bool,
    out: Path,
    compile_limit_s: float | None,
    store: str | None,
    as_json: bool,
    **words: Any,
) -> None:
    """Measure the activation ranges of an ONNX model on samples.

    Writes a ranges document (JSON) for 'edgepack quantize'. Where samples must stay on several machines, run it there
    with --statistics, then merge the results with --merge: the ranges are those that one machine would have measured.
    --job turns a model into a JOB, with which a device collects the statistics of its own samples.
    """
    from edgepack.base.documents import to_json
    from edgepack.base.files import write_text
    from edgepack.cli.outputs import copy_file, refuse_folder, stage_runner

    asked = given(words)
    made: Any
    if merge:
        if job:
            raise click.UsageError("--merge and --job cannot be used together: a job is made of a model")
        _refuse(asked, "--merge", (*_SAMPLES, "recipe", "strict"), "its samples are counted already")
        refuse_folder(out)
        made = _merged(model, asked, statistics=statistics)
        write_text(out, to_json(made))
    else:
        measure = _chosen(model, asked, statistics=statistics, job=job)
        refuse_folder(out)
        with stage_runner(store, compile_limit_s) as runner:
            made = measure(runner, model[0], asked)
            if job:
                copy_file(made.path, out)
            else:
                write_text(out, to_json(made))
    if as_json:
        echo_json(made.job if job else made)


def _chosen(
    model: tuple[str, ...], asked: dict[str, Any], *, statistics: bool, job: bool
) -> Callable[[StageRunner, str, dict[str, Any]], Any]:
    """Return what 'calibrate' is to do with one model or job. Raises for words that do not go with it."""
    from edgepack.bundle.job import is_job
    from edgepack.errors import ConfigError

    measured = is_job(Path(model[0]))
    if not measured:
        require_builder("edgepack calibrate")
    if len(model) != 1:
        raise click.UsageError(f"calibrate takes one model, not {len(model)}; statistics are merged with --merge")
    if job:
        _refuse(asked, "a job", (*_SAMPLES, *_CHOOSING), "it is for samples that a device has")
        if measured or statistics:
            raise click.UsageError("--job takes a model, not --statistics: a job always collects statistics")
        return _job
    if "data" not in asked:
        raise ConfigError(
            "calibration needs samples", hint="add --data with a folder of pictures, a .npz or module:callable"
        )
    if measured:
        _refuse(
            asked,
            "a job",
            ("recipe", *_CHOOSING),
            "a recipe goes into it when it is made, and ranges are chosen with --merge",
        )
        _refuse(asked, "a job", ("skip_bad",), "a device counts all samples: take broken ones away")
        return _measured_job
    return _counted if statistics else _ranges


def _refuse(asked: dict[str, Any], what: str, names: tuple[str, ...], why: str) -> None:
    for name in names:
        if name in asked:
            raise click.UsageError(f"--{name.replace('_', '-')} cannot be used with {what}: {why}")


def _merged(model: tuple[str, ...], asked: dict[str, Any], *, statistics: bool) -> Any:
    from edgepack.pipeline.single_stage import merge_statistics, ranges_of

    found = merge_statistics([Path(part) for part in model])
    return found if statistics else ranges_of(found, asked.get("observer"), asked.get("percentile"))


def _job(runner: StageRunner, model: str, asked: dict[str, Any]) -> Any:
    from edgepack.pipeline.single_stage import make_job

    return make_job(runner, Path(model), asked.get("recipe"))


def _measured_job(runner: StageRunner, model: str, asked: dict[str, Any]) -> Any:
    from edgepack.runtime.calibrate import measure_job

    title = f"{Path(model).name} on {asked['data']}"
    return runner.run(measure_job, Path(model), asked["data"], asked.get("samples"), asked.get("seed", 0), title=title)


def _counted(runner: StageRunner, model: str, asked: dict[str, Any]) -> Any:
    from edgepack.pipeline.single_stage import measure_model

    return measure_model(
        runner, Path(model), asked["data"], asked.get("recipe"), asked.get("samples"), asked.get("seed", 0),
        asked.get("skip_bad", 0),
    )  # fmt: skip


def _ranges(runner: StageRunner, model: str, asked: dict[str, Any]) -> Any:
    from edgepack.pipeline.single_stage import calibrate_model

    return calibrate_model(
        runner, Path(model), asked["data"], asked.get("recipe"), asked.get("samples"), asked.get("observer"),
        asked.get("percentile"), asked.get("seed", 0), strict=asked.get("strict", False),
        skip_bad=asked.get("skip_bad", 0),
    )  # fmt: skip


@click.command(cls=BuildCommand)
@_onnx
@click.option(
    "--ranges", type=click.Path(path_type=Path), required=True, help="Ranges document of 'edgepack calibrate'."
)
@click.option(
    "-t",
    "--target",
    shell_complete=complete_target,
    required=True,
    help="Device profile whose quantization rules are used.",
)
@_out("ONNX file")
@options("compile_limit", "store", "json")
def quantize(
    model: str, ranges: Path, target: str, out: Path, compile_limit_s: float | None, store: str | None, as_json: bool
) -> None:
    """Quantize an ONNX model to int8 by the rules of a target.

    Writes an ONNX model with QuantizeLinear and DequantizeLinear nodes.
    """
    from edgepack.cli.outputs import deliver, refuse_folder, refuse_out, stage_runner
    from edgepack.pipeline.single_stage import quantize_model

    refuse_folder(out)
    refuse_out(model, out)
    with stage_runner(store, compile_limit_s) as runner:
        result = quantize_model(runner, Path(model), ranges, target)
        deliver(result, out)
    if as_json:
        echo_json(result)


@click.command("compile", cls=BuildCommand)
@_onnx
@click.option("-t", "--target", shell_complete=complete_target, required=True, help="Device profile to compile for.")
@click.option(
    "-p",
    "--precision",
    type=OneOf(PRECISIONS),
    help="Precision of MODEL  [default: int8 if it is quantized, else fp32]",
)
@_out("Folder")
@options("compile_limit", "store", "json")
def compile_(
    model: str, target: str, precision: Any, out: Path, compile_limit_s: float | None, store: str | None, as_json: bool
) -> None:
    """Compile an ONNX model to the files of a target's engine."""
    from edgepack.base.documents import to_json
    from edgepack.base.files import write_text
    from edgepack.cli.outputs import copy_folder, stage_runner
    from edgepack.pipeline.single_stage import compile_file

    with stage_runner(store, compile_limit_s) as runner:
        compiled = compile_file(runner, Path(model), target, precision)
        copy_folder(compiled.folder, compiled.files, out)
        write_text(out / "compiled.json", to_json(compiled, compiled.folder))
    if as_json:
        echo_json(compiled)


@click.command(cls=BuildCommand)
@click.argument("compiled", type=click.Path(path_type=Path))
@click.option("--model", required=True, help="fp32 ONNX file that the compiled model must agree with.")
@click.option(
    "-t", "--target", shell_complete=complete_target, required=True, help="Device profile that it was compiled for."
)
@options("data", "recipe", "skip_bad", "seed")
@click.option("--name", help="Name of the bundle  [default: the model's]")
@click.option("--version", default="1", show_default=True, help="Version of the bundle.")
@_out("Bundle")
@options("compile_limit", "store", "json")
def pack(
    compiled: Path,
    model: str,
    target: str,
    data: str | None,
    recipe: str | None,
    skip_bad: int | None,
    seed: int | None,
    name: str | None,
    version: str,
    out: Path,
    compile_limit_s: float | None,
    store: str | None,
    as_json: bool,
) -> None:
    """Verify a compiled model and pack it into a bundle.

    COMPILED is the folder that 'edgepack compile' wrote.
    """
    from edgepack.bundle.archive import open_bundle
    from edgepack.cli.outputs import copy_file, refuse_folder, stage_runner
    from edgepack.pipeline.single_stage import pack_folder
    from edgepack.runtime.native import note_built

    refuse_folder(out)
    with stage_runner(store, compile_limit_s) as runner:
        bundle = pack_folder(
            runner, compiled, Path(model), target, data, recipe, seed or 0, name, version, skip_bad or 0
        )
        copy_file(bundle, out)
    packed = open_bundle(out)
    note_built(packed.sha256)
    if as_json:
        echo_json(packed.manifest)


@click.command(cls=BuildCommand)
@_onnx
@click.option("-t", "--target", shell_complete=complete_target, required=True, help="Device profile to check for.")
@click.option(
    "--proxy", is_flag=True, help="TensorRT targets: also parse and build with tensorrt-rtx, which needs no GPU."
)
@options("json")
def check(model: str, target: str, proxy: bool, as_json: bool) -> None:
    """Find what a target will refuse in an ONNX model.

    Lists each problem with its node and a hint. Exit code 4 when the target will refuse the model.
    """
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.tables import show_check
    from edgepack.pipeline.check import check_file

    report = check_file(Path(model), target, proxy=proxy)
    if as_json:
        echo_json(report)
    show_check(make_console(as_json), report)
    if not report.passed:
        raise click.exceptions.Exit(4)


COMMANDS = (export, calibrate, quantize, check, compile_, pack)
