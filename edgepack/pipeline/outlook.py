"""``edgepack plan`` of many models: what would run, what is reused, what is measured where, how long it takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from edgepack.base.stage import stage_of
from edgepack.device.host import host_facts
from edgepack.device.profiles import HOST_PREFIX
from edgepack.errors import EdgepackError
from edgepack.execution.events import Silent
from edgepack.execution.key import key_of
from edgepack.execution.runner import StageRunner, returned_type
from edgepack.execution.store import Store
from edgepack.pipeline.build_row import build_row
from edgepack.pipeline.matrix import Matrix
from edgepack.pipeline.original import Original, prepare_original
from edgepack.pipeline.pace import earlier_s
from edgepack.pipeline.plan import BuildPlan
from edgepack.pipeline.present import look_for_inputs
from edgepack.pipeline.preview import PlannedRow, preview_plan
from edgepack.specs.build import NOT_HERE
from edgepack.specs.target import Target
from edgepack.specs.types import Precision

T = TypeVar("T")
_LAST = "pack"  # the stage that a row ends with
MEASURED_HERE, MEASURED_ON, _NOT_MEASURED = "measured here", "measured where it is the device, on ", "not measured"


@dataclass(frozen=True)
class OutlookRow:
    """One row of many models: as ``PlannedRow``, and "reused" where nothing of it would run.

    ``next_stage`` is the first stage that would run. ``expected_s`` is what the row took, or rows like it took, in
    earlier builds; None where nothing is known. ``latency`` says where it is measured, or why it is not.
    """

    model: str
    target: str
    precision: Precision
    engine: str
    status: Literal["build", "reused", "skipped", "failed"]
    bundle: str
    latency: str
    next_stage: str | None = None
    expected_s: float | None = None
    reason: str | None = None
    exit_code: int = 0


@dataclass(frozen=True)
class Outlook:
    """What a build of many models would make. ``expected_s`` is of all rows that would run, None where not known."""

    name: str
    out: str
    rows: tuple[OutlookRow, ...]
    expected_s: float | None

    @property
    def exit_code(self) -> int:
        """What the build would end with at best."""
        return max((row.exit_code for row in self.rows), default=0)


class _MissingError(Exception):
    """A stage would run now."""


@dataclass(frozen=True)
class _Looking(StageRunner):
    """A runner that takes what is in the store and runs nothing."""

    def run(self, function: Callable[..., T], *arguments: Any, title: str = "") -> T:  # noqa: ARG002
        known = stage_of(function)
        key = key_of(function, arguments, self.store, self.host)
        kind, shared = returned_type(function), known.host != "speed"
        found = self.store.find(known.name, known.version, key, kind, self._unchanged, shared=shared)
        if found is None:
            raise _MissingError(known.name)
        if known.name == _LAST:
            raise _MissingError("")
        return found.value


def outlook(matrix: Matrix, store: Store) -> Outlook:
    """Return what a build would make of each row; nothing is run or written, files are read to be compared."""
    rows = tuple(row for plan in matrix.plans for row in _rows(plan, store))
    names = [f"{row.model} {row.target} {row.precision}" for row in rows]
    expected = earlier_s(names, matrix.out / "durations.json")
    timed = tuple(
        dataclasses.replace(row, expected_s=expected[name]) if row.status == "build" else row
        for row, name in zip(rows, names, strict=True)
    )
    known = [row.expected_s for row in timed if row.status == "build"]
    total = sum(value for value in known if value is not None)
    return Outlook(matrix.name, str(matrix.out), timed, None if None in known else total)


def _rows(plan: BuildPlan, store: Store) -> Iterator[OutlookRow]:
    # What a row removes or delivers must not be that of a real build.
    nowhere = dataclasses.replace(plan, out=plan.out / ".plan")
    runner = _Looking(store, nowhere.out, Silent(), plan.settings.compile_limit_s, host_facts())
    original, why = _look(lambda: prepare_original(nowhere, runner))
    lacking = _look(lambda: look_for_inputs(plan))[1]
    for (target, precision), row in zip(plan.rows(), preview_plan(plan).rows, strict=True):
        found = _outlook_row(plan, row)
        if row.status == "build" and lacking is not None:
            found = _with_stage(found, lacking)
        elif row.status == "build":
            own = dataclasses.replace(nowhere.of_row(target, precision), out=nowhere.out)
            found = _with_stage(found, why if original is None else _next(own, original, target, precision, runner))
        yield found


def _next(
    plan: BuildPlan, original: Original, target: Target, precision: Precision, runner: StageRunner
) -> str | EdgepackError | None:
    untuned = dataclasses.replace(plan, settings=dataclasses.replace(plan.settings, tune_minutes=0.0))
    return _look(lambda: build_row(untuned, original, target, precision, runner))[1]


def _look(work: Callable[[], T]) -> tuple[T | None, str | EdgepackError | None]:
    """Return what work on stored outputs comes to, else the stage that would run first, or the error it ends with."""
    try:
        return work(), None
    except _MissingError as missing:
        return None, str(missing)
    except EdgepackError as error:
        return None, error


def _outlook_row(plan: BuildPlan, row: PlannedRow) -> OutlookRow:
    return OutlookRow(
        plan.name, row.target, row.precision, row.engine, row.status, row.bundle, _latency(plan, row), None, None,
        row.reason, row.exit_code,
    )  # fmt: skip


def _latency(plan: BuildPlan, row: PlannedRow) -> str:
    """Return where a row is measured; whether a machine of ``--measure-on`` is its device shows when it is asked."""
    if row.status != "build":
        return _NOT_MEASURED
    if row.measured:
        return MEASURED_HERE
    if plan.settings.measure_on and not row.target.startswith(HOST_PREFIX):
        return f"{MEASURED_ON}{' or '.join(plan.settings.measure_on)}"
    return NOT_HERE if plan.settings.benchmark else _NOT_MEASURED


def _with_stage(row: OutlookRow, found: str | EdgepackError | None) -> OutlookRow:
    if isinstance(found, EdgepackError):
        reason = f"{found.message} ({found.hint})" if found.hint else found.message
        return dataclasses.replace(
            row, status="failed", latency=_NOT_MEASURED, reason=reason, exit_code=found.exit_code
        )
    return dataclasses.replace(row, next_stage=found) if found else dataclasses.replace(row, status="reused")
