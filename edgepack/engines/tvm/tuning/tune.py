"""Tunes the kernels of one ONNX model: on this host, or on a board behind ssh."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.device.host import can_run, host_facts
from edgepack.engines import ENGINES
from edgepack.engines.tvm import engine as tvm
from edgepack.engines.tvm.records import Records, read_records
from edgepack.engines.tvm.tuning.remote import serving, time_on_board
from edgepack.engines.tvm.tuning.search import search
from edgepack.engines.tvm.tuning.timing import time_here
from edgepack.engines.tvm.tuning.whole_model import measure_whole
from edgepack.engines.tvm.tuning.workloads import kernels_of
from edgepack.execution import child
from edgepack.execution.events import Events
from edgepack.specs.kernels import KernelRecords, KernelSearch
from edgepack.specs.model import OnnxModel
from edgepack.specs.target import Target
from edgepack.specs.types import Precision

if TYPE_CHECKING:
    from edgepack.engines.tvm.codegen.tile import Blocking
    from edgepack.engines.tvm.codegen.workload import Workload
    from edgepack.engines.tvm.tuning.search import Measure
    from edgepack.engines.tvm.tuning.timing import Timed

# As ``KernelTuner`` has them, with the functions below.
__all__ = ["can_measure_here", "known_kernels", "measure_whole", "tune_model", "tuned_digest"]

tuned_digest = tvm.tuned_digest

_KERNEL_LIMIT_S = 300.0
_BUILD_LIMIT_S = 600.0


def can_measure_here(target: Target) -> bool:
    """Say whether kernels for a target can be timed on this host."""
    return ENGINES.get(target.backend).kernels == __name__ and can_run(target, host_facts())


def tune_model(
    model: OnnxModel,
    target: Target,
    precision: Precision,
    budget_ns: int,
    seed: int,
    log: Path,
    events: Events,
    board: str | None = None,
) -> KernelSearch:
    """Measure the kernels of a model for ``budget_ns`` and keep what is found, on ``board`` or else on this host.

    Raises ``CompileError`` where nothing can be tuned, ``ConfigError`` or ``ToolchainError`` where the board is not
    the target's or cannot be reached.
    """
    records = tvm.tuned_records(target, tvm.versions())
    if records.cut:
        events.note(f"{records.path}: its last line is truncated and was ignored")
    with _stage(events, "kernels", f"{target.id} {precision}"):
        used = child.call(kernels_of, model, target, precision, limit_s=_BUILD_LIMIT_S, log=log)
    detail = f"{len(used)} kernels of {target.id} {precision}"
    with _stage(events, "tune", detail), _measuring(records, target, board, log) as (measure, cpu):
        return search(used, records, measure, budget_ns, seed, cpu=cpu, now=_utc_now, progress=events.progress)


def known_kernels(target: Target, merge: Path | None = None, export: Path | None = None) -> KernelRecords:
    """Return what is known for a target, after taking over the records of ``merge``; write all to ``export``.

    Raises ``ConfigError`` when a file is no such file, damaged, or for another processor.
    """
    records = tvm.tuned_records(target, tvm.versions())
    merged = records.merge(read_records(merge)) if merge is not None else 0
    if export is not None:
        records.write(export)
    known = records.by_workload.values()
    faster = sum(record.best is not None for record in known)
    return KernelRecords(target.id, records.path, len(known), faster, merged, records.cut)


@contextmanager
def _measuring(records: Records, target: Target, board: str | None, log: Path) -> Iterator[tuple[Measure, str]]:
    """Yield what times kernels, each time in a child process, and the processor that it does it on."""
    machine = records.machine
    environment = {"TVM_NUM_THREADS": str(machine.threads)}

    def here(workload: Workload, tiles: tuple[Blocking, ...]) -> tuple[Timed, ...]:
        return child.call(
            time_here, workload, tiles, machine, limit_s=_KERNEL_LIMIT_S, log=log, environment=environment
        )

    if board is None:
        yield here, host_facts().cpu
        return
    with serving(board, target, log=log) as server:

        def there(workload: Workload, tiles: tuple[Blocking, ...]) -> tuple[Timed, ...]:
            return child.call(time_on_board, workload, tiles, target, server, limit_s=_KERNEL_LIMIT_S, log=log)

        yield there, server.cpu


@contextmanager
def _stage(events: Events, name: str, detail: str) -> Iterator[None]:
    events.begin(name, detail)
    try:
        yield
    except BaseException:
        events.end("failed", detail)
        raise
    events.end("done", detail)


def _utc_now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
