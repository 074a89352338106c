"""``edgepack inspect | verify | run | benchmark | compare | import | report``: work with bundles and results."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepack.cli.builder import require_builder
from edgepack.cli.duration import DURATION
from edgepack.cli.options import PRECISIONS, OneOf, complete_target, echo_json, on_board, options

if TYPE_CHECKING:
    from edgepack.remote.ssh import Board
    from edgepack.specs.run import RunOptions

SCENARIOS = ("SingleStream", "MultiStream", "Server", "Offline")
_limit = click.option(
    "--limit", type=DURATION, help="Stop after this long  [default: 10min, 2h where TensorRT builds engines]"
)
_bundle = click.argument("bundle", type=click.Path(path_type=Path))


@click.command()
@click.argument("path", metavar="MODEL|BUNDLE", type=click.Path(path_type=Path))
@click.option(
    "--layers", is_flag=True, help="Run the bundle and show the executed precision, SQNR and time of each layer."
)
@options("threads", "allow_native", "json")
def inspect(path: Path, layers: bool, threads: int | None, as_json: bool) -> None:
    """Show the contents of an ONNX model or a bundle.

    Inputs and outputs, operators, precision and size of the layers, and for a bundle its accuracy and provenance.
    """
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.inspected import show_bundle, show_model
    from edgepack.cli.show.layer_table import show_layers
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
@_limit
@on_board
@options("threads", "allow_native", "json")
def verify(bundle: Path, limit: int | None, on: str | None, python: str, threads: int | None, as_json: bool) -> None:
    """Check a bundle's outputs against its golden vectors, on this machine or, with --on, on another.

    Exit code 5 when an output is out of tolerance.
    """
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.inspected import show_verification
    from edgepack.runtime.limited import verify_within

    if on is None:
        result = verify_within(bundle, _run_options(threads), _seconds(limit))
    else:
        from edgepack.remote.deploy import remote_verify

        result = remote_verify(bundle, _board(on, python), _words(threads, limit))
    if as_json:
        echo_json(result)
    show_verification(make_console(as_json), bundle, result)
    if not result.passed:
        raise click.exceptions.Exit(5)


@click.command()
@_bundle
@click.option(
    "--input",
    "source",
    metavar="FILE|TEXT",
    required=True,
    help="What the bundle's task takes: a picture, a .wav, a .csv of one row, a sentence; or a .npz with the inputs.",
)
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Write the outputs to this .npz file.")
@click.option(
    "--draw", type=click.Path(path_type=Path, dir_okay=False), help="Write the picture with the answer drawn in."
)
@_limit
@on_board
@options("threads", "allow_native", "json")
def run(
    bundle: Path,
    source: str,
    out: Path | None,
    draw: Path | None,
    limit: int | None,
    on: str | None,
    python: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Run a bundle on one input and show its answer.

    Boxes are name, score, left, top, right and bottom in pixels of the picture. Without a task the outputs are shown.
    """
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.inspected import show_outputs
    from edgepack.runtime.limited import run_within
    from edgepack.runtime.run import write_drawing

    if on is None:
        result = run_within(bundle, source, None if threads is None else _run_options(threads), _seconds(limit))
    else:
        from edgepack.remote.deploy import remote_run

        result = remote_run(bundle, source, _board(on, python), _words(threads, limit))
    if out is not None:
        _write_npz(out, result.arrays())
    if draw is not None:
        write_drawing(draw, Path(source), bundle, result)
    if as_json:
        echo_json(result.summary())
    else:
        show_outputs(make_console(), result)


@click.command()
@click.argument("bundles", metavar="BUNDLE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--scenario", type=OneOf(SCENARIOS), default="SingleStream", show_default=True, help="How queries are issued."
)
@click.option(
    "--duration", type=DURATION, default="10s", show_default=True, help="Measuring time, such as 500ms, 10s or 2min."
)
@click.option(
    "--official-length", is_flag=True, help="Measure for 600 s, as MLPerf requires. The result is not an MLPerf result."
)
@click.option("--warmup", type=DURATION, default="1s", show_default=True, help="Untimed warm-up.")
@click.option(
    "--until-steady", type=DURATION, help="First run until temperature and latency are steady, for at most this long."
)
@click.option(
    "--batch", type=click.IntRange(1, 65536), default=1, show_default=True, help="Offline: samples per query."
)
@click.option("--latency-bound", type=DURATION, help="Server: largest allowed p99 latency, such as 20ms.")
@click.option(
    "--launches",
    type=click.IntRange(1, 100),
    default=5,
    show_default=True,
    help="Number of fresh processes to measure in.",
)
@click.option(
    "--limit/--no-limit", default=True, show_default=True, help="Compare with the roofline limit of this machine."
)
@click.option(
    "--tuned/--untuned", default=True, show_default=True, help="Use the settings saved by 'edgepack tune', if any."
)
@click.option(
    "--loadgen", is_flag=True, help="Issue the queries with MLCommons' LoadGen. The result is not an MLPerf result."
)
@on_board
@options("threads", "seed", "allow_native")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    help="Write the result to this JSON file, or the results of several bundles to this folder.",
)
@click.option(
    "--sign",
    "key",
    type=click.Path(path_type=Path),
    help="Private key to sign the result with  [default: this device's, device.key.pem, if any]",
)
@options("json")
def benchmark(
    bundles: tuple[Path, ...],
    scenario: Any,
    duration: int,
    official_length: bool,
    warmup: int,
    until_steady: int | None,
    batch: int,
    latency_bound: int | None,
    launches: int,
    limit: bool,
    tuned: bool,
    loadgen: bool,
    on: str | None,
    python: str,
    threads: int | None,
    seed: int | None,
    out: Path | None,
    key: Path | None,
    as_json: bool,
) -> None:
    """Measure latency and throughput of bundles, on this machine or, with --on, on another.

    Each bundle runs in fresh processes. Scenarios are those of MLPerf LoadGen: SingleStream (p90 latency), MultiStream
    (p99 latency of 8 samples per query), Server (highest rate with p99 within --latency-bound), Offline (throughput).
    """
    from edgepack.cli.measure import attested, attesting_key, measure, write_results
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.measured import show_results
    from edgepack.cli.show.progress import Bar
    from edgepack.specs.result import Scenario

    duration = 600_000_000_000 if official_length else duration
    plan = Scenario(
        scenario, duration, warmup, batch, seed or 0, latency_bound_ns=latency_bound, launches=launches,
        steady_ns=until_steady or 0,
    )  # fmt: skip
    if loadgen and until_steady:
        raise click.UsageError("--until-steady cannot be used with --loadgen")
    if key is not None and on is not None:
        raise click.UsageError("--sign cannot be used with --on: the other machine signs with its own device.key.pem")
    with Bar(make_console(), "benchmark") as bar:
        chosen = None if tuned and threads is None else _run_options(threads)
        if on is None:
            private = attesting_key(key)  # before the minutes that measuring takes
            results = attested(measure(bundles, plan, chosen, bar, loadgen=loadgen, limit=limit), private)
        else:
            from edgepack.remote.deploy import remote_benchmark

            words = (*_words(threads), *(() if limit else ("--no-limit",)), *(("--loadgen",) if loadgen else ()))
            results = tuple(remote_benchmark(path, _board(on, python), plan, words, tuned, bar) for path in bundles)
    if out is not None:
        write_results(results, out)
    if as_json:
        echo_json(results[0] if len(results) == 1 else results)
    show_results(make_console(as_json), results)


@click.command()
@click.argument("first", metavar="A", type=click.Path(path_type=Path))
@click.argument("others", metavar="B...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--duration", type=DURATION, default="30s", show_default=True, help="Largest measuring time of each pair."
)
@options("threads", "seed", "allow_native", "json")
def compare(
    first: Path, others: tuple[Path, ...], duration: int, threads: int | None, seed: int | None, as_json: bool
) -> None:
    """Test whether one bundle is faster than another on this machine.

    Paired, interleaved runs give the ratio of the times with a 95 % confidence interval. Each B is compared with A;
    with several B, --json prints a list.
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
        show_comparison(make_console(as_json), first, other, result)


@click.command()
@click.argument("sources", metavar="RESULT|DIR...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    "outs",
    type=click.Path(path_type=Path),
    multiple=True,
    default=(Path("report.html"),),
    help="Report to write: .html, .md, .csv, .parquet or .xml (JUnit), or - for stdout. Repeatable  "
    "[default: report.html]",
)
@click.option(
    "--format",
    "report_format",
    type=OneOf(("html", "md", "csv", "parquet", "xml")),
    default="md",
    help="Format for --out -  [default: md]",
)
@click.option("--baseline", type=click.Path(path_type=Path), help="Older results to compare with (.html and .md).")
@click.option(
    "--fail-if",
    "conditions",
    multiple=True,
    help="Exit with code 5 if this holds, as 'p90 > 20ms' or 'drop > 1pt'. Repeatable.",
)
@click.option("--github", is_flag=True, help="Print GitHub annotations and add the report to the step summary.")
@click.option(
    "--trusted",
    type=click.Path(path_type=Path),
    help="A device's public key, or a folder of them; the report says which results they signed.",
)
@click.option("--mlflow", metavar="EXPERIMENT", help="Log each row as a run of this experiment (MLFLOW_TRACKING_URI).")
@click.option("--wandb", metavar="PROJECT", help="Log each row as a run of this Weights & Biases project.")
@options("json")
def report(
    sources: tuple[Path, ...],
    outs: tuple[Path, ...],
    report_format: str,
    baseline: Path | None,
    conditions: tuple[str, ...],
    github: bool,
    trusted: Path | None,
    mlflow: str | None,
    wandb: str | None,
    as_json: bool,
) -> None:
    """Compare results and builds in one report.

    Reads results of 'edgepack benchmark -o' and build.json files of builds, and folders of them. For results of other
    machines, copy their JSON files into one folder. An HTML report is one self-contained file.
    """
    from edgepack.cli.measure import STDOUT, say_attested, tell_github, track, write_reports
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.layout import safe
    from edgepack.report.formats.summary import summarise

    if as_json and (github or STDOUT in outs):
        raise click.UsageError("--json, --github and --out - each write to stdout: give one of them")
    # What goes to stdout must stay whole: what failed is said beside it.
    console = make_console(as_json or STDOUT in outs)
    found = write_reports(sources, outs, baseline, conditions, report_format, trusted)
    for text in found.texts:
        sys.stdout.buffer.write(text)
    for line in (*(f"wrote {out}" for out in outs if out != STDOUT), *say_attested(found.results)):
        console.remark(safe(line))
    if as_json:
        echo_json(summarise(found.results, found.rows, found.violated))
    if github:
        tell_github(found)
    if mlflow or wandb:
        track(found, mlflow, wandb, tuple(out for out in outs if out != STDOUT))
    for violated in found.violated:
        console.print(f"[bold red]failed:[/] {safe(violated)}")
    if found.violated:
        raise click.exceptions.Exit(5)


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--bundle", type=click.Path(path_type=Path), help="Measured bundle; replaces --name, --target and --precision."
)
@click.option("--name", help="Name of the model  [default: the file's]")
@click.option("-t", "--target", shell_complete=complete_target, help="Id of the device profile.")
@click.option("-p", "--precision", type=OneOf(PRECISIONS), help="Precision of the model.")
@click.option("--cpu", help="CPU or board that it was measured on.")
@click.option("--here", is_flag=True, help="It was measured on this machine; replaces --cpu.")
@click.option(
    "--batch", type=click.IntRange(1, 65536), default=1, show_default=True, help="trtexec: samples per query."
)
@click.option("-o", "--out", type=click.Path(path_type=Path), help="JSON file to write; required without --json.")
@options("json")
def import_(
    file: Path,
    bundle: Path | None,
    name: str | None,
    target: str | None,
    precision: Any,
    cpu: str | None,
    here: bool,
    batch: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Convert another tool's measurement to a result.

    FILE is a JSON report of benchmark_app, the exported times of trtexec, or a folder with LoadGen's logs.
    """
    if out is None and not as_json:
        raise click.UsageError("where should the result go? Give --out result.json, or --json for stdout")
    from edgepack.cli.measure import import_file, write_results
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.measured import show_results

    result = import_file(file, bundle, name, target, precision, cpu, here=here, batch=batch)
    if out is not None:
        write_results((result,), out)
    if as_json:
        echo_json(result)
    show_results(make_console(as_json), (result,))


def _seconds(limit: int | None) -> float | None:
    return None if limit is None else limit / 1e9


def _board(on: str, python: str) -> Board:
    from edgepack.remote.ssh import Board

    return Board(on, python)


def _words(threads: int | None, limit: int | None = None) -> tuple[str, ...]:
    """Return the options that a command on another machine is given too."""
    from edgepack.runtime.native import VARIABLE

    native = ("--allow-native",) if os.environ.get(VARIABLE) == "1" else ()
    some = (("--threads", threads), ("--limit", None if limit is None else f"{limit / 1e9:g}s"))
    return (*native, *(word for name, value in some if value is not None for word in (name, str(value))))


def _run_options(threads: int | None) -> RunOptions:
    from edgepack.specs.run import RunOptions

    return RunOptions(threads=threads)


def _write_npz(out: Path, outputs: Any) -> None:
    import numpy as np

    from edgepack.base.files import atomic_write

    with atomic_write(out) as file:
        np.savez(file, **outputs)


COMMANDS = (inspect, verify, run, benchmark, compare, import_, report)
