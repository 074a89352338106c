"""Verifies and measures the bundles of a build on machines that are the targets' own devices, over ssh."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from edgepack.bundle.archive import open_bundle
from edgepack.device.profiles import HOST_PREFIX
from edgepack.errors import EdgepackError, VerificationError
from edgepack.pipeline.rows import with_latency
from edgepack.remote.deploy import remote_benchmark, remote_verify
from edgepack.remote.ssh import Board
from edgepack.report.entries.standing import stands
from edgepack.specs.build import BuildRow
from edgepack.specs.result import Result, Scenario

_WARMUP_NS = 500_000_000
_NO_SPEEDUP = "not measured on another machine: 'edgepack compare' there does"
Watch = Callable[[str], None]


def measure_on(
    hosts: tuple[str, ...], rows: tuple[BuildRow, ...], duration_s: float, seed: int, watch: Watch = lambda _: None
) -> tuple[tuple[BuildRow, ...], tuple[Result, ...]]:
    """Return the rows with what was measured on the first of ``hosts`` that is the row's device, and the results.

    Rows that were measured already, or have no bundle to measure, stay as they are. A row whose device is none of the
    hosts says so; a host that cannot be reached is a note of the rows; one that computes wrong values fails the row.
    """
    scenario = Scenario("SingleStream", int(duration_s * 1e9), _WARMUP_NS, 1, seed, launches=1)
    made = [_measure(hosts, row, scenario, watch) for row in rows]
    return tuple(row for row, _ in made), tuple(result for _, result in made if result is not None)


def _measure(hosts: tuple[str, ...], row: BuildRow, scenario: Scenario, watch: Watch) -> tuple[BuildRow, Result | None]:
    if row.status != "ok" or row.bundle is None or row.latency_ns is not None or row.target.startswith(HOST_PREFIX):
        return row, None  # a target that is this machine is no other one
    reasons = []
    for host in hosts:
        watch(f"{row.target} {row.precision} on {host}")
        try:
            result = _on(host, Path(row.bundle), scenario)
        except VerificationError as error:
            return dataclasses.replace(row, status="failed", reason=error.message, exit_code=error.exit_code), None
        except EdgepackError as error:
            reasons.append(error.message)
            continue
        if _is_of_target(result):
            return _with(row, result, host), result
        reasons.append(f"{host} ({result.host.cpu}) is not {row.target}")
    notes = {**row.notes, "latency": "not measured: " + "; ".join(reasons)}
    return dataclasses.replace(row, notes=notes), None


def _on(host: str, bundle: Path, scenario: Scenario) -> Result:
    """Measure a bundle on a host, then prove it there where it is the target. Raises ``VerificationError``."""
    board = Board(host)
    native = ("--allow-native",)  # it was built here just now
    result = remote_benchmark(bundle, board, scenario, ("--no-limit", *native))
    if _is_of_target(result):
        verification = remote_verify(bundle, board, native)
        if not verification.passed:
            wrong = ", ".join(output.name for output in verification.outputs if not output.passed)
            raise VerificationError(f"{open_bundle(bundle).manifest.name} computes wrong values on {host} ({wrong})")
    return result


def _is_of_target(result: Result) -> bool:
    """Say whether a board knows that it is the target, and nothing of what it is speaks against that."""
    return bool(result.stands_for_target) and stands(result)


def _with(row: BuildRow, result: Result, host: str) -> BuildRow:
    measured = with_latency(row, result, None, None, _NO_SPEEDUP)
    return dataclasses.replace(
        measured, measured_on=f"{host}: {measured.measured_on}", notes={**measured.notes, "verified": f"on {host}"}
    )
