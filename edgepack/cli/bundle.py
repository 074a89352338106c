"""``edgepack inspect | verify | run | benchmark | compare | report``: what is done with a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepack.cli.builder import require_builder
from edgepack.cli.duration import DURATION
from edgepack.cli.options import OneOf, echo_json, options

if TYPE_CHECKING:
    from edgepack.specs import RunOptions

SCENARIOS = ("SingleStream", "MultiStream", "Server", "Offline")
_bundle = click.argument("bundle", type=click.Path(path_type=Path))


@click.command()
@click.argument("path", metavar="MODEL|BUNDLE", type=click.Path(path_type=Path))
@click.option(
    "--layers", is_flag=True, help="Run a bundle here and show each layer: precision executed, SQNR, time, and why."
)
@options("threads", "json")
def inspect(path: Path, layers: bool, threads: int | None, as_json: bool) -> None:
    """Show inputs, operators, precision of each layer, sizes and provenance of a .onnx or .edgepack file."""
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.layer_table import show_layers
    from edgepack.cli.show.tables import show_bundle, show_model
    from edgepack.profiling.describe import inspect_bundle, inspect_bundle_layers, inspect_model, is_bundle

    if layers:
        report = inspect_bundle_layers(path, _run_options(threads))
        echo_json(report) if as_json else show_layers(make_console(), report)
    elif is_bundle(path):
        bundle = inspect_bundle(path)
        echo_json(bundle) if as_json else show_bundle(make_console(), bundle)
    else:
        require_builder("edgepack inspect MODEL")
        model = inspect_model(path)
        echo_json(model) if as_json else show_model(make_console(), model)


@click.command()
@_bundle
@options("threads", "json")
def verify(bundle: Path, threads: int | None, as_json: bool) -> None:
    """Run the golden vectors of BUNDLE on this machine; exit code 5 when an output is too far off."""
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.tables import show_verification
    from edgepack.runtime.verify import verify as run

    result = run(bundle, _run_options(threads))
    if as_json:
        echo_json(result)
    show_verification(make_console(), bundle, result)
    if not result.passed:
        raise click.exceptions.Exit(5)


@click.command()
@_bundle
@click.option(
    "--input", "source", type=click.Path(path_type=Path), required=True, help="A .npz with the inputs, or a picture."
)
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Write the outputs to this .npz.")
@options("threads", "json")
def run(bundle: Path, source: Path, out: Path | None, threads: int | None, as_json: bool) -> None:
    """Run BUNDLE on one input and show what comes out."""
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.tables import show_outputs
    from edgepack.runtime.run import run as infer

    result = infer(bundle, source, None if threads is None else _run_options(threads))
    if out is not None:
        _write_npz(out, result.outputs)
    if as_json:
        echo_json(result.summary())
    else:
        show_outputs(make_console(), result)


@click.command()
@click.argument("bundles", metavar="BUNDLE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--scenario", type=OneOf(SCENARIOS), default="SingleStream", show_default=True)
@click.option(
    "--duration", type=DURATION, default="10s", show_default=True, help="How long to measure: 500ms, 10s, 2min."
)
@click.option("--official-length", is_flag=True, help="Measure for 600 s, as MLPerf asks; it is no MLPerf result.")
@click.option("--warmup", type=DURATION, default="1s", show_default=True, help="Untimed queries before.")
@click.option("--batch", type=click.IntRange(1, 65536), default=1, show_default=True, help="Samples a call (Offline).")
@click.option("--latency-bound", type=DURATION, help="What the p99 of Server must keep.")
@click.option(
    "--launches", type=click.IntRange(1, 100), default=5, show_default=True, help="Fresh processes to measure in."
)
@click.option(
    "--limit/--no-limit", default=True, show_default=True, help="Say how near it comes to what this machine can do."
)
@click.option(
    "--tuned/--untuned", default=True, show_default=True, help="Use what 'edgepack tune' found here, if anything."
)
@click.option("--loadgen", is_flag=True, help="Let MLCommons' LoadGen issue the queries (no MLPerf result).")
@options("threads", "seed")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="Write the result (JSON); a folder for several bundles."
)
@options("json")
def benchmark(
    bundles: tuple[Path, ...],
    scenario: Any,
    duration: int,
    official_length: bool,
    warmup: int,
    batch: int,
    latency_bound: int | None,
    launches: int,
    limit: bool,
    tuned: bool,
    loadgen: bool,
    threads: int | None,
    seed: int | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Measure latency and throughput of each BUNDLE on this machine, in fresh processes.

    Scenarios are defined as in MLPerf LoadGen: SingleStream (p90), MultiStream (8 samples a query, p99), Server
    (highest rate whose p99 keeps --latency-bound), Offline (throughput).
    """
    from edgepack.cli.measure import measure, write_results
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.measured import show_results
    from edgepack.cli.show.progress import Bar
    from edgepack.specs import Scenario

    duration = 600_000_000_000 if official_length else duration
    plan = Scenario(
        scenario, duration, warmup, batch, seed or 0, latency_bound_ns=latency_bound, launches=launches
    )  # fmt: skip
    with Bar(make_console(), "benchmark") as bar:
        chosen = None if tuned and threads is None else _run_options(threads)
        results = measure(bundles, plan, chosen, bar, loadgen=loadgen, limit=limit)
    if out is not None:
        write_results(results, out)
    if as_json:
        echo_json(results[0] if len(results) == 1 else results)
    show_results(make_console(), results)


@click.command()
@click.argument("first", metavar="A", type=click.Path(path_type=Path))
@click.argument("others", metavar="B...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--duration", type=DURATION, default="30s", show_default=True, help="At most this long for each pair.")
@options("threads", "seed", "json")
def compare(
    first: Path, others: tuple[Path, ...], duration: int, threads: int | None, seed: int | None, as_json: bool
) -> None:
    """Is bundle B faster than bundle A on this machine? Paired and interleaved, with a confidence interval.

    Of several B each is compared with A; with --json they are then a list.
    """
    from edgepack.benchmark.compare import compare as run
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.measured import show_comparison
    from edgepack.cli.show.progress import Bar

    found = []
    for other in others:
        with Bar(make_console(), "compare") as bar:
            found.append(run(first, other, duration, _run_options(threads), seed or 0, bar))
    if as_json:
        echo_json(found[0] if len(found) == 1 else found)
    for other, result in zip(others, found, strict=True):
        show_comparison(make_console(), first, other, result)


@click.command()
@click.argument("sources", metavar="RESULT|DIR...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    "outs",
    type=click.Path(path_type=Path),
    multiple=True,
    default=(Path("report.html"),),
    show_default="report.html",
    help="What to write: .html, .md, .csv, .parquet, or .xml (JUnit). May be repeated.",
)
@click.option("--baseline", type=click.Path(path_type=Path), help="Older results: say what changed since (.html, .md).")
@click.option("--fail-if", "conditions", multiple=True, help="Exit with 5 when it holds: 'p90 > 20ms', 'drop > 1.0'.")
def report(
    sources: tuple[Path, ...], outs: tuple[Path, ...], baseline: Path | None, conditions: tuple[str, ...]
) -> None:
    """Compare results and builds in one page: .html (self-contained), .md, .csv, .parquet or .xml (JUnit).

    Results of other machines: copy their JSON files into one folder and name it.
    """
    from edgepack.cli.measure import write_reports

    violated = write_reports(sources, outs, baseline, conditions)
    for out in outs:
        click.echo(f"wrote {out}", err=True)
    for text in violated:
        click.echo(f"{click.style('failed:', fg='red', bold=True)} {text}", err=True)
    if violated:
        raise click.exceptions.Exit(5)


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--bundle", type=click.Path(path_type=Path), help="The bundle measured: it tells the next three.")
@click.option("--name", help="The model's name; else that of the file.")
@click.option("--target", help="The device's id.")
@click.option("--precision", type=OneOf(("fp32", "fp16", "bf16", "int8")))
@click.option("--cpu", help="The machine's CPU or board; --here where it is this one.")
@click.option("--here", is_flag=True, help="It was measured on this machine.")
@click.option("--batch", type=click.IntRange(1, 65536), default=1, show_default=True, help="Samples a call (trtexec).")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Write the result (JSON) here.")
def import_(
    file: Path,
    bundle: Path | None,
    name: str | None,
    target: str | None,
    precision: Any,
    cpu: str | None,
    here: bool,
    batch: int,
    out: Path,
) -> None:
    """Make a result of what another tool measured, for 'edgepack report'.

    FILE is benchmark_app's JSON, trtexec's exported times, or the folder of LoadGen's logs.
    """
    from edgepack.cli.measure import import_file, write_results
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.measured import show_results

    result = import_file(file, bundle, name, target, precision, cpu, here=here, batch=batch)
    write_results((result,), out)
    show_results(make_console(), (result,))


def _run_options(threads: int | None) -> RunOptions:
    from edgepack.specs import RunOptions

    return RunOptions(threads=threads)


def _write_npz(out: Path, outputs: Any) -> None:
    import numpy as np

    from edgepack.base.files import atomic_write

    with atomic_write(out) as file:
        np.savez(file, **outputs)


COMMANDS = (inspect, verify, run, benchmark, compare, import_, report)
