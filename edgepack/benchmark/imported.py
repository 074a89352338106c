"""import_result(): a measurement of another tool as a result, so that a comparison needs no rerun.

Read are benchmark_app's JSON (OpenVINO), trtexec's exported times (TensorRT) and LoadGen's logs. What they did not
record is not made up: a percentile that their number of queries does not support is left out, there are intervals only
where every latency was exported, and whether the machine was quiet is said to be unknown. Files are untrusted, so
everything in them is checked.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import numpy as np

from edgepack.base import documents
from edgepack.base.files import read_regular
from edgepack.benchmark.measure.loadgen import parse_summary, problems, summary_fields
from edgepack.benchmark.measure.summary import FORMAT, MOST_LATENCIES
from edgepack.benchmark.statistics.percentiles import (
    coefficient_of_variation,
    distribution,
    percentiles,
    queries_needed,
)
from edgepack.errors import ConfigError, EdgepackError, StorageError
from edgepack.specs.bundle import MeasuredAccuracy
from edgepack.specs.result import Imported, Percentile, Result, Scenario
from edgepack.specs.run import RunOptions
from edgepack.specs.target import Host
from edgepack.specs.types import Precision

ScenarioName: TypeAlias = Literal["SingleStream", "MultiStream", "Server", "Offline"]

_LIMIT_BYTES = 256 << 20
_MOST = 10**15  # of a count or a time in ns: above, it is not a measurement
_SUMMARY, _DETAIL = "mlperf_log_summary.txt", "mlperf_log_detail.txt"
_HINT = "give benchmark_app's JSON (-json_stats -report_type no_counters), trtexec's --exportTimes or LoadGen's folder"
_ROUNDING_MS = 1e-3
_NO_WAITING = "a latency of trtexec is copying in, computing and copying out, without waiting for other queries"
_UNKNOWN = "its circumstances were not recorded: whether the machine was quiet is not known"


@dataclass(frozen=True)
class Of:
    """What the file does not say: which model, for which target, in which precision, on which machine.

    ``batch`` is the samples of a call in trtexec's times, which do not tell it.
    """

    name: str
    target: str
    precision: Precision
    host: Host
    sha256: str = ""
    size_bytes: int = 0
    source_sha256: str = ""
    accuracy: MeasuredAccuracy | None = None
    batch: int = 1
    stands_for_target: bool | None = None


@dataclass(frozen=True)
class _Read:
    """What stands in a file. ``latencies_ns`` [n] in the order of issue where all are there, else ``percentiles``."""

    tool: str
    version: str
    engine: str
    scenario: Scenario
    queries: int
    duration_ns: int
    samples_per_second: float
    percentiles: tuple[Percentile, ...] = ()
    latencies_ns: Any = None
    measured_at: str = ""
    invalid: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    options: RunOptions = RunOptions()  # noqa: RUF009  frozen


def unknown_host(cpu: str) -> Host:
    """Return a host of which only the name of the CPU, or of the board, is known."""
    return Host(cpu or "unknown", "unknown", (), 0, 0, "unknown", "unknown", "unknown")


def import_result(path: Path, of: Of) -> Result:
    """Return the measurement in ``path`` as a result. Raises ``ConfigError`` when it is none of the three kinds."""
    file = path / _SUMMARY if path.is_dir() else path
    try:
        size = file.stat().st_size
        text = read_regular(file, _LIMIT_BYTES) if size <= _LIMIT_BYTES else b""
    except OSError as error:
        raise StorageError(f"{file} cannot be read: {error.strerror}", hint=_HINT) from None
    if size > _LIMIT_BYTES:
        raise ConfigError(f"{file} is larger than {_LIMIT_BYTES >> 20} MiB: not a measurement", hint=_HINT)
    found, digest = _read(file, text, of), hashlib.sha256(text).hexdigest()
    latencies = found.latencies_ns
    return Result(
        format=FORMAT,
        bundle_sha256=of.sha256 or digest,
        bundle_name=of.name,
        target=of.target,
        precision=of.precision,
        host=of.host,
        engine=found.engine,
        versions={},
        options=found.options,
        scenario=found.scenario,
        queries=found.queries,
        warmup_queries=0,
        duration_ns=found.duration_ns,
        percentiles=found.percentiles if latencies is None else percentiles(latencies, 0),
        samples_per_second=found.samples_per_second,
        samples_per_second_ci95=None,
        memory_load_bytes=None,
        memory_peak_bytes=None,
        energy_uj=None,
        energy_source=f"not in what {found.tool} wrote",
        load_before={},
        load_after={},
        valid=not found.invalid,
        invalid_reasons=found.invalid,
        accuracy=of.accuracy,
        size_bytes=of.size_bytes,
        latencies_ns=tuple(latencies.tolist()) if latencies is not None and len(latencies) <= MOST_LATENCIES else (),
        distribution_ns=distribution(latencies) if latencies is not None else (),
        coefficient_of_variation=coefficient_of_variation(latencies) if latencies is not None else None,
        source_sha256=of.source_sha256,
        measured_at=found.measured_at,
        notes=(f"imported from {found.tool}: {_UNKNOWN}", *found.notes),
        imported=Imported(found.tool, found.version, file.name, digest),
        stands_for_target=of.stands_for_target,
    )


def _read(file: Path, text: bytes, of: Of) -> _Read:
    if text.lstrip()[:1] in (b"{", b"["):
        try:
            data = documents.read_json(text)
        except ValueError as error:
            raise ConfigError(f"{file}: not valid JSON: {str(error)[:200]}", hint=_HINT) from None
        if isinstance(data, dict) and isinstance(data.get("execution_results"), dict):
            return _benchmark_app(data, file)
        if isinstance(data, list) and data and all(isinstance(item, dict) and "latencyMs" in item for item in data):
            return _trtexec(data, file, of.batch)
    elif b"MLPerf Results Summary" in text:
        return _loadgen(text.decode(errors="replace"), file)
    raise ConfigError(f"{file} is not a measurement that edgepack can import", hint=_HINT)


# --- OpenVINO's benchmark_app -----------------------------------------------------------------------------------------


def _benchmark_app(data: Mapping[str, Any], file: Path) -> _Read:
    """Read the report of ``-json_stats``: texts, with times in ms to two decimals.

    One request of the synchronous interface is LoadGen's SingleStream; several at once are Offline, of which latencies
    say little.
    """
    results = data["execution_results"]
    setup, words = _table(data.get("configuration_setup")), _table(data.get("cmd_options"))
    queries = round(_number(results.get("total number of iterations"), file, "total number of iterations"))
    duration_ns = _nanoseconds(results.get("total execution time (ms)"), file, "total execution time (ms)")
    size = str(setup.get("batch size", "1"))
    batch = max(1, int(size)) if size.isdecimal() and len(size) < 7 else 1  # else it is free, as "{1..8}"
    requests = str(setup.get("number of parallel infer requests", "1"))
    alone = str(setup.get("API", "")) == "sync" and requests in ("1", "None")
    name: ScenarioName = "SingleStream" if alone and batch == 1 else "Offline"
    device = _plain(setup.get("target device", "CPU"))
    p = _number(words.get("-latency_percentile", "50"), file, "-latency_percentile")
    value_ns = _nanoseconds(results.get("latency (ms)"), file, "latency (ms)")
    notes = [f"benchmark_app wrote times in steps of 0.01 ms; {requests} requests at once"]
    threads, streams = (_optional(words.get(name), file, name) for name in ("-nthreads", "-nstreams"))
    hint, said = _hint(words, is_sync=str(setup.get("API", "")) == "sync")
    return _Read(
        tool="benchmark_app",
        version="not recorded",
        engine="openvino" if device == "CPU" else f"openvino {device}",
        scenario=Scenario(name, duration_ns, 0, batch=batch, launches=1),
        queries=queries,
        duration_ns=duration_ns,
        samples_per_second=_number(results.get("throughput"), file, "throughput"),
        percentiles=_supported(p, value_ns, queries),
        options=RunOptions(threads=threads, hint=hint, streams=streams),
        notes=(*notes, *said),
    )


def _hint(words: Mapping[str, Any], *, is_sync: bool) -> tuple[Literal["latency", "throughput"], tuple[str, ...]]:
    """Return the hint that a model was loaded with, and what a reader must know of it.

    Without ``-hint`` benchmark_app takes throughput, and latency for ``-api sync`` (tools/benchmark/main.py,
    ``set_performance_hint``, OpenVINO 2026.4); a configuration file may say otherwise.
    """
    given = str(words.get("-hint", ""))
    said = ("options from a configuration file were not recorded",) if "-load_config" in words else ()
    if given in ("latency", "none"):
        return "latency", said if given == "latency" else ("no hint was given to the engine", *said)
    if given:
        return "throughput", said if given in ("throughput", "tput") else (f"the hint was {_plain(given)}", *said)
    chosen: Literal["latency", "throughput"] = "latency" if is_sync else "throughput"
    return chosen, (f"no hint was given, for which benchmark_app takes {chosen}", *said)


# --- TensorRT's trtexec -----------------------------------------------------------------------------------------------


def _trtexec(items: list[Any], file: Path, batch: int) -> _Read:
    """Read ``--exportTimes``: one record a query, in ms. Its latency is copying in, computing and copying out.

    A query that begins before another has ended waits for it, or shares the device with it: its latency is not that of
    one sample after another, and the run is one of throughput.
    """
    latencies = np.array([_nanoseconds(item["latencyMs"], file, "latencyMs") for item in items], np.int64)
    starts = [_number(item.get("startH2dMs", item.get("startComputeMs")), file, "startH2dMs") for item in items]
    ends = [_number(item.get("endD2hMs", item.get("endComputeMs")), file, "endD2hMs") for item in items]
    duration_ns = _nanoseconds(max(max(ends) - min(starts), 0.0), file, "the time of all queries")
    if not duration_ns:
        raise ConfigError(f"{file}: its queries end before they begin", hint=_HINT)
    overlapping = _overlapping(starts, ends)
    notes = [_NO_WAITING]
    if overlapping:
        notes.append(
            f"{overlapping} of {len(items)} queries began before another had ended, so this is throughput and no "
            "latency of single samples (trtexec --streams=1 --exposeDMA gives that)"
        )
    return _Read(
        tool="trtexec",
        version="not recorded",
        engine="tensorrt",
        scenario=Scenario(
            "SingleStream" if batch == 1 and not overlapping else "Offline", duration_ns, 0, batch=batch, launches=1
        ),
        queries=len(items),
        duration_ns=duration_ns,
        samples_per_second=len(items) * batch / (duration_ns / 1e9),
        latencies_ns=latencies,
        notes=tuple(notes),
    )


def _overlapping(starts: list[float], ends: list[float]) -> int:
    """Return how many queries began, by more than what rounding makes, before one that began earlier had ended."""
    order = np.argsort(starts, kind="stable")
    begun, ended = np.array(starts)[order], np.maximum.accumulate(np.array(ends)[order])
    return int(np.sum(begun[1:] < ended[:-1] - _ROUNDING_MS))


# --- MLCommons' LoadGen -----------------------------------------------------------------------------------------------


def _loadgen(text: str, file: Path) -> _Read:
    """Read mlperf_log_summary.txt, and mlperf_log_detail.txt beside it for the version and the time."""
    fields = summary_fields(text)
    name = fields.get("Scenario", "").replace(" ", "")  # older versions write "Single Stream"
    if name not in ("SingleStream", "MultiStream", "Server", "Offline"):
        raise ConfigError(f"{file}: the scenario {name[:40]!r} is not one of LoadGen's four", hint=_HINT)
    detail, errors, said = _details(file.with_name(_DETAIL))
    samples = max(1, round(_number(fields.get("samples_per_query", "1"), file, "samples_per_query")))
    processed = re.search(r"[Pp]rocessed (?:at least \d{1,18} queries \((\d{1,18})\)|(\d{1,18}) queries)", text)
    queries = int(processed[1] or processed[2]) if processed else 0
    queries = round(_number(detail.get("result_query_count", queries), file, "result_query_count"))
    try:
        found = parse_summary(text, queries, samples if name != "Offline" else 1)
    except EdgepackError as error:
        raise ConfigError(f"{file}: {error.message}", hint=_HINT) from None
    rate = _number(found.samples_per_second or 0, file, "samples per second")
    for known in found.percentiles:
        _number(known.value_ns or 0, file, f"the latency at {known.p} %")
    minimum_ns = _nanoseconds(fields.get("min_duration (ms)", "0"), file, "min_duration (ms)")
    bound = round(_number(fields.get("target_latency (ns)", "0"), file, "target_latency (ns)"))
    if name == "Offline":  # one query of all samples
        samples = round(_number(detail.get("generated_samples_per_query", 0), file, "generated_samples_per_query"))
    duration_ns = minimum_ns
    if rate > 0 and samples:
        duration_ns = _nanoseconds(queries * samples * 1e3 / rate, file, "the time of all queries")
    return _Read(
        tool="LoadGen",
        version=_plain(detail.get("loadgen_version", "not recorded")),
        engine="not recorded",
        scenario=Scenario(
            cast("ScenarioName", name),
            minimum_ns,
            0,
            launches=1,
            latency_bound_ns=bound if name == "Server" and bound else None,
        ),
        queries=queries,
        duration_ns=duration_ns,
        samples_per_second=rate,
        percentiles=found.percentiles if name != "Offline" else (),
        measured_at=_plain(detail.get("test_datetime", "")),
        invalid=problems(text, errors),
        notes=(
            *said,
            "measured by LoadGen; this is not an MLPerf result, which is one that MLCommons has published",
        ),
    )


def _details(path: Path) -> tuple[dict[str, Any], int, tuple[str, ...]]:
    """Return the values of LoadGen's detail log by their keys, how many are errors, and what is to be said of it.

    Nothing when it is not there: the summary counts errors too.
    """
    found: dict[str, Any] = {}
    errors = 0
    try:
        text = read_regular(path, _LIMIT_BYTES).decode(errors="replace")
    except FileNotFoundError:
        return {}, 0, ()
    except OSError as error:
        return {}, 0, (f"{path.name} was not read ({error.strerror}): errors that stand only there are not counted",)
    for line in text.splitlines():
        if line.startswith(":::MLLOG "):
            try:
                record = json.loads(line.removeprefix(":::MLLOG "))
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict) and isinstance(record.get("key"), str):
                found[record["key"]] = record.get("value")
                errors += bool(_table(record.get("metadata")).get("is_error"))
    return found, errors, ()


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


# --- values -----------------------------------------------------------------------------------------------------------


def _supported(p: float, value_ns: int, queries: int) -> tuple[Percentile, ...]:
    """Return a percentile, without its value where the queries do not support it; nothing where no number would."""
    try:
        needed = queries_needed(p) if 0 < p < 100 else None
    except ValueError:
        needed = None
    return () if needed is None else (Percentile(p, value_ns if queries >= needed else None, None, needed),)


def _number(value: Any, file: Path, what: str) -> float:
    """Return a finite number that is not negative. Raises ``ConfigError``."""
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and 0 <= number <= _MOST):
        raise ConfigError(f"{file}: {what} is {str(value)[:40]!r}, which is not valid", hint=_HINT)
    return number


def _nanoseconds(ms: Any, file: Path, what: str) -> int:
    return round(_number(1e6 * _number(ms, file, what), file, what))


def _optional(value: Any, file: Path, what: str) -> int | None:
    return None if value in (None, "", "None") else max(1, round(_number(value, file, what)))


def _plain(value: Any) -> str:
    """Return untrusted text without what would act on a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(value)[:100])
