"""The work of ``benchmark``, ``import`` and ``report``: measure, read and write files."""

from __future__ import annotations

import dataclasses
import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepack.base.files import scratch_folder, storage_errors
from edgepack.errors import ConfigError

if TYPE_CHECKING:
    from edgepack.benchmark.imported import Of
    from edgepack.specs.build import BuildRow
    from edgepack.specs.result import Peaks, Result, Scenario
    from edgepack.specs.run import RunOptions
    from edgepack.specs.target import Host
    from edgepack.specs.types import Precision, Progress
    from edgepack.trust.keys import PrivateKey, PublicKey

_STARTUP_S = 600.0
STDOUT = Path("-")
_FORMATS = (".html", ".md", ".csv", ".parquet", ".xml")


def measure(
    bundles: tuple[Path, ...],
    scenario: Scenario,
    options: RunOptions | None,
    progress: Progress,
    *,
    loadgen: bool = False,
    limit: bool = False,
) -> tuple[Result, ...]:
    """Return one result a bundle, each measured alone in a fresh process, with ``loadgen`` by MLCommons' LoadGen.

    With ``limit`` each is compared with the roofline limit of this host. Without ``options`` a bundle runs with those
    that were tuned for it here, else with its engine's defaults.
    """
    from edgepack.benchmark import benchmark
    from edgepack.benchmark.measure.loadgen import benchmark_with_loadgen
    from edgepack.benchmark.tune.options import plan_of, with_tuning
    from edgepack.bundle.archive import open_bundle
    from edgepack.execution import child

    for bundle in bundles[1:]:  # a path that is wrong is said before the others are measured
        open_bundle(bundle)
    function = benchmark_with_loadgen if loadgen else benchmark
    results = []
    with scratch_folder() as folder:
        for bundle in bundles:
            limit_s = _STARTUP_S + (3 * (scenario.duration_ns + scenario.warmup_ns) + scenario.steady_ns) / 1e9
            log = folder / "benchmark.log"
            plan, chosen, tuning = plan_of(bundle, scenario, options)
            found = child.call(function, bundle, plan, chosen, limit_s=limit_s, log=log, progress=progress)
            results.append(with_tuning(found, tuning))
        if limit:
            results = _limited(results, bundles, Path(folder), progress)
    return tuple(results)


def _limited(results: list[Result], bundles: tuple[Path, ...], folder: Path, progress: Progress) -> list[Result]:
    """Return the results with their limits, or with a note why a limit was not measured."""
    from edgepack.errors import EdgepackError
    from edgepack.execution import child
    from edgepack.profiling.peaks import measure_peaks
    from edgepack.profiling.roofline import measure_limit

    log = folder / "limit.log"
    precisions = tuple(sorted({result.precision for result in results}))
    limited = []
    roofs: dict[int | None, Peaks] = {}
    for bundle, result in zip(bundles, results, strict=True):
        median = next((p.value_ns for p in result.percentiles if p.p == 50.0), None)
        try:
            if median is None or result.scenario.name == "Server":
                raise ConfigError("it needs a median latency without queueing", hint="measure SingleStream, for longer")
            options, scenario = result.options, result.scenario
            if options.threads not in roofs:
                roofs[options.threads] = child.call(
                    measure_peaks, precisions, options.threads, limit_s=_STARTUP_S, log=log, progress=progress
                )
            roof = roofs[options.threads]
            found = child.call(
                measure_limit, bundle.absolute(), scenario, options, median, roof, limit_s=_STARTUP_S, log=log
            )
            limited.append(dataclasses.replace(result, limit=found))
        except EdgepackError as error:
            note = f"the limit was not measured: {error.message}"
            limited.append(dataclasses.replace(result, notes=(*result.notes, note)))
    return limited


def import_file(
    file: Path,
    bundle: Path | None,
    name: str | None,
    target: str | None,
    precision: Precision | None,
    cpu: str | None,
    *,
    here: bool,
    batch: int,
) -> Result:
    """Return another tool's measurement as a result. Raises ``ConfigError`` when target or precision are unknown."""
    from edgepack.benchmark.imported import Of, import_result, unknown_host
    from edgepack.device.host import host_facts
    from edgepack.engines.targets import expand_targets, is_device

    target = None if target is None else expand_targets([target])[0]
    if here and cpu is not None:
        raise ConfigError("--here and --cpu cannot be used together", hint="give one of them")
    host = host_facts() if here else unknown_host(cpu or "")
    if bundle is not None:
        if name or target or precision:
            raise ConfigError("--bundle cannot be used with --name, --target or --precision", hint="leave them out")
        of = _of_bundle(bundle, host, batch, here=here)
    elif target is None or precision is None:
        raise ConfigError(
            "target and precision of the measurement are unknown", hint="give --bundle, or --target and --precision"
        )
    else:
        stands = is_device(target, host, {}) if here else None
        of = Of(name or file.stem, target, precision, host, batch=batch, stands_for_target=stands)
    return import_result(file, of)


def _of_bundle(bundle: Path, host: Host, batch: int, *, here: bool) -> Of:
    from edgepack.benchmark.imported import Of
    from edgepack.bundle.archive import open_bundle
    from edgepack.engines.targets import is_device

    opened = open_bundle(bundle)
    manifest = opened.manifest
    return Of(
        name=manifest.name,
        target=manifest.target,
        precision=manifest.precision,
        host=host,
        sha256=opened.sha256,
        size_bytes=opened.size_bytes,
        source_sha256=manifest.source_sha256,
        accuracy=manifest.accuracy,
        batch=batch,
        stands_for_target=is_device(manifest.target, host, manifest.options) if here else None,
    )


def attesting_key(key: Path | None) -> PrivateKey | None:
    """Return the key that signs results: ``key``, else this device's own, else None. Raises what reading it raises."""
    from edgepack.cli.trust import passphrase
    from edgepack.trust.attest import device_key
    from edgepack.trust.keys import read_private

    return read_private(key, passphrase()) if key is not None else device_key()


def attested(results: tuple[Result, ...], private: PrivateKey | None) -> tuple[Result, ...]:
    """Return the results signed; as they are without a key."""
    from edgepack.trust.attest import attest

    return results if private is None else tuple(attest(result, private) for result in results)


def say_attested(results: tuple[Result, ...]) -> tuple[str, ...]:
    """Return in words which measurements are signed, and by whom; nothing where none is."""
    if not any(result.attestation for result in results):
        return ()
    good = [result for result in results if result.attestation and result.attestation.trusted]
    lines = [f"{len(good)} of {len(results)} measurements are signed by trusted keys"]
    for result in results:
        if result.attestation is None or not result.attestation.trusted:
            why = result.attestation.verdict if result.attestation else "not signed"
            lines.append(f"  {result.bundle_name} for {result.target}, {result.precision}: {why}")
    return tuple(lines)


def write_results(results: tuple[Result, ...], out: Path) -> None:
    """Write one result to the file ``out``, or several into the folder ``out``."""
    from edgepack.base.documents import to_json
    from edgepack.base.files import write_text

    if len(results) == 1 and not out.is_dir():
        write_text(out, to_json(results[0]))
        return
    if out.is_file():
        raise ConfigError(f"{out} is a file, and there are {len(results)} results", hint="give a folder")
    for result in results:
        write_text(out / f"{result.bundle_name}-{result.target}-{result.precision}.json", to_json(result))


@contextmanager
def _uncollected() -> Iterator[None]:
    """Do without the collector of circles, which takes a quarter of the time of ten thousand rows and finds none.

    What was made meanwhile is put aside, else the first collection afterwards goes through all of it.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@dataclass(frozen=True)
class Reported:
    """What was read and judged for a report; ``texts`` are what goes to stdout."""

    results: tuple[Result, ...]
    rows: tuple[BuildRow, ...]
    violated: tuple[str, ...]
    texts: tuple[bytes, ...]


@_uncollected()
def write_reports(
    sources: tuple[Path, ...],
    outs: tuple[Path, ...],
    baseline: Path | None,
    conditions: tuple[str, ...],
    stdout_format: str = "md",
    trusted: Path | None = None,
) -> Reported:
    """Write the reports of all results and builds found in ``sources``; the suffix of a name is its format.

    All are made before the first is written. ``-`` is made as ``stdout_format`` and returned. ``violated`` are the
    ``--fail-if`` conditions that hold, as text. ``trusted`` is a device's public key, or a folder of them.
    """
    from edgepack.base.files import atomic_write
    from edgepack.report.entries.read import read_results
    from edgepack.report.formats.csv import to_csv
    from edgepack.report.formats.junit import to_junit, violations
    from edgepack.report.formats.markdown import to_markdown
    from edgepack.report.formats.parquet import to_parquet
    from edgepack.report.html.page import to_html
    from edgepack.report.text.conditions import parse_condition

    kinds = {out: f".{stdout_format}" if out == STDOUT else out.suffix for out in outs}
    for out, kind in kinds.items():
        if kind not in _FORMATS:
            raise ConfigError(f"{out}: unknown report format", hint=f"use one of {', '.join(_FORMATS)}")
    if baseline is not None and not {".html", ".md"} & set(kinds.values()):
        raise ConfigError(f"--baseline does not work with {next(iter(kinds.values()))}", hint="write .html or .md")
    parsed = tuple(parse_condition(text) for text in conditions)
    results, rows = read_results(sources, () if trusted is None else _keys(trusted))
    old = read_results((baseline,)) if baseline is not None else None
    formats: dict[str, Callable[[], bytes]] = {
        ".html": lambda: to_html(results, rows, old).encode(),
        ".md": lambda: to_markdown(results, rows, old).encode(),
        ".csv": lambda: to_csv(results, rows).encode(),
        ".parquet": lambda: to_parquet(results, rows),
        ".xml": lambda: to_junit(results, rows, parsed).encode(),
    }
    texts = []
    for out, content in [(out, formats[kind]()) for out, kind in kinds.items()]:
        if out == STDOUT:
            texts.append(content)
            continue
        with atomic_write(out) as file:
            file.write(content)
    return Reported(results, rows, violations(results, rows, parsed), tuple(texts))


def _keys(trusted: Path) -> tuple[PublicKey, ...]:
    """Return the public keys of a folder, or that of a file."""
    from edgepack.trust.keys import read_folder, read_public

    return read_folder(trusted) if trusted.is_dir() else (read_public(trusted),)


def tell_github(found: Reported) -> None:
    """Print annotations for GitHub's runner, and append the report to the step's summary where it has one."""
    from edgepack.base.text import printable
    from edgepack.report.formats.github import to_annotations
    from edgepack.report.formats.markdown import to_markdown

    for line in to_annotations(found.results, found.rows, found.violated):
        click.echo(printable(line))
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with storage_errors(Path(summary)), Path(summary).open("a", encoding="utf-8") as file:
            file.write(to_markdown(found.results, found.rows))


def track(found: Reported, experiment: str | None, project: str | None, files: tuple[Path, ...]) -> None:
    """Log what was reported to MLflow's ``experiment`` and to the ``project`` of Weights & Biases."""
    from edgepack.report.formats.tracked import log_to_mlflow, log_to_wandb, make_runs

    runs = make_runs(found.results, found.rows)
    if experiment:
        log_to_mlflow(runs, experiment, files)
    if project:
        log_to_wandb(runs, project, files)
