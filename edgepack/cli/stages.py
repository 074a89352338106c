"""``edgepack export | lint | calibrate | quantize | check | compile | pack``: one stage each, as in ``build``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgepack.cli.builder import BuildCommand
from edgepack.cli.options import PRECISIONS, OneOf, echo_json, options, parse_shapes

_out = click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="What to write.")
_onnx = click.argument("model")


@click.command(cls=BuildCommand)
@click.argument("model")
@options("data", "recipe", "shape")
@_out
@options("compile_limit", "store", "json")
def export(
    model: str,
    data: str | None,
    recipe: str | None,
    shapes: tuple[tuple[str, str], ...],
    out: Path,
    compile_limit_s: float | None,
    store: Path | None,
    as_json: bool,
) -> None:
    """Export MODEL to a checked, simplified fp32 ONNX file."""
    from edgepack.build.single_stage import export_and_prepare
    from edgepack.cli.outputs import deliver, workshop

    with workshop(store, compile_limit_s) as shop:
        result = export_and_prepare(shop, model, parse_shapes(shapes), data, recipe)
        deliver(result, out)
    if as_json:
        echo_json(result)


@click.command(cls=BuildCommand)
@_onnx
@options("data", "recipe", "samples", "observer", "percentile", "strict", "seed")
@_out
@options("compile_limit", "store", "json")
def calibrate(
    model: str,
    data: str | None,
    recipe: str | None,
    samples: int | None,
    observer: Any,
    percentile: float | None,
    strict: bool | None,
    seed: int | None,
    out: Path,
    compile_limit_s: float | None,
    store: Path | None,
    as_json: bool,
) -> None:
    """Measure activation ranges of MODEL (a .onnx) on samples; writes a ranges document (JSON)."""
    from edgepack.base.documents import to_json
    from edgepack.base.files import write_text
    from edgepack.build.single_stage import calibrate_model
    from edgepack.cli.outputs import refuse_folder, workshop
    from edgepack.errors import ConfigError

    if data is None:
        raise ConfigError(
            "calibration needs samples", hint="add --data with a folder of pictures, a .npz or module:callable"
        )
    refuse_folder(out)
    with workshop(store, compile_limit_s) as shop:
        ranges = calibrate_model(
            shop, Path(model), data, recipe, samples, observer, percentile, seed or 0, strict=bool(strict)
        )
        write_text(out, to_json(ranges))
    if as_json:
        echo_json(ranges)


@click.command(cls=BuildCommand)
@_onnx
@click.option("--ranges", type=click.Path(path_type=Path), required=True, help="What 'edgepack calibrate' wrote.")
@click.option("--target", required=True, help="Device profile whose rules are followed.")
@_out
@options("compile_limit", "store", "json")
def quantize(
    model: str, ranges: Path, target: str, out: Path, compile_limit_s: float | None, store: Path | None, as_json: bool
) -> None:
    """Quantize MODEL (a .onnx) to int8 with Q/DQ nodes by the rules of a target."""
    from edgepack.build.single_stage import quantize_model
    from edgepack.cli.outputs import deliver, workshop

    with workshop(store, compile_limit_s) as shop:
        result = quantize_model(shop, Path(model), ranges, target)
        deliver(result, out)
    if as_json:
        echo_json(result)


@click.command("compile", cls=BuildCommand)
@_onnx
@click.option("--target", required=True, help="Device profile to compile for.")
@click.option(
    "--precision", type=OneOf(PRECISIONS), default="fp32", show_default=True, help="Precision of the graph given."
)
@_out
@options("compile_limit", "store", "json")
def compile_(
    model: str, target: str, precision: Any, out: Path, compile_limit_s: float | None, store: Path | None, as_json: bool
) -> None:
    """Compile MODEL (a .onnx of that precision) to the engine's own files, in a folder."""
    from edgepack.base.documents import to_json
    from edgepack.base.files import write_text
    from edgepack.build.single_stage import compile_file
    from edgepack.cli.outputs import copy_folder, workshop

    with workshop(store, compile_limit_s) as shop:
        compiled = compile_file(shop, Path(model), target, precision)
        copy_folder(compiled.folder, compiled.files, out)
        write_text(out / "compiled.json", to_json(compiled, compiled.folder))
    if as_json:
        echo_json(compiled)


@click.command(cls=BuildCommand)
@click.argument("compiled", type=click.Path(path_type=Path))
@click.option("--model", required=True, help="The fp32 .onnx that the compiled model must agree with.")
@click.option("--target", required=True, help="Device profile it was compiled for.")
@options("data", "recipe", "seed")
@click.option("--name", help="Name of the bundle.")
@click.option("--version", default="1", show_default=True, help="Version written into the bundle.")
@_out
@options("compile_limit", "store", "json")
def pack(
    compiled: Path,
    model: str,
    target: str,
    data: str | None,
    recipe: str | None,
    seed: int | None,
    name: str | None,
    version: str,
    out: Path,
    compile_limit_s: float | None,
    store: Path | None,
    as_json: bool,
) -> None:
    """Verify the folder COMPILED against its fp32 model and pack it into one .edgepack file."""
    from edgepack.build.single_stage import pack_folder
    from edgepack.cli.outputs import copy_file, refuse_folder, workshop

    refuse_folder(out)
    with workshop(store, compile_limit_s) as shop:
        bundle = pack_folder(shop, compiled, Path(model), target, data, recipe, seed or 0, name, version)
        copy_file(bundle, out)
    if as_json:
        from edgepack.bundle.archive import open_bundle

        echo_json(open_bundle(out).manifest)


@click.command(cls=BuildCommand)
@_onnx
@click.option("--target", required=True, help="Device profile to check for.")
@click.option(
    "--proxy", is_flag=True, help="Also parse and build with tensorrt-rtx, which needs no GPU (TensorRT only)."
)
@options("json")
def check(model: str, target: str, proxy: bool, as_json: bool) -> None:
    """Say what a target will refuse of MODEL (a .onnx), by node and with what to do; exit code 4 on an error."""
    from edgepack.build.check import check_file
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.tables import show_check

    report = check_file(Path(model), target, proxy=proxy)
    if as_json:
        echo_json(report)
    show_check(make_console(), report)
    if not report.passed:
        raise click.exceptions.Exit(4)


COMMANDS = (export, calibrate, quantize, check, compile_, pack)
