"""``edgepack tune --target``: measures the kernels of a model on a target's processor and keeps what was found."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack import children
from edgepack.backends import tvm
from edgepack.errors import ConfigError
from edgepack.events import Events
from edgepack.graph.load import read_proto
from edgepack.graph.passes import is_quantized
from edgepack.host import can_run, host_facts
from edgepack.single import export_and_prepare, load_step
from edgepack.specs import OnnxModel, Precision, Target
from edgepack.targets import load_target
from edgepack.tuning.board import serving, time_on_board
from edgepack.tuning.kernels import kernels_of
from edgepack.tuning.records import Records, read_records
from edgepack.tuning.search import Search, search
from edgepack.tuning.trial import time_here
from edgepack.tuning.whole import Whole, measure_whole
from edgepack.workshop import Workshop

if TYPE_CHECKING:
    from edgepack.codegen.blocking import Blocking
    from edgepack.codegen.workload import Workload
    from edgepack.tuning.search import Measure
    from edgepack.tuning.trial import Timed

_KERNEL_LIMIT_S = 300.0
_BUILD_LIMIT_S = 600.0


@dataclass(frozen=True)
class KernelTuning:
    """What tuning a model's kernels for a target found; ``whole`` is None where this host cannot run the target's code.

    ``records``: the file that the next build for the target reads.
    """

    target: str
    precision: Precision
    cpu: str
    threads: int
    seed: int
    budget_ns: int
    records: Path
    search: Search
    whole: Whole | None
    versions: Mapping[str, str]


@dataclass(frozen=True)
class KernelRecords:
    """A target's records: the file, how many kernels it holds, for how many a tile is faster than the rule's."""

    target: str
    path: Path
    kernels: int
    faster: int
    merged: int = 0
    cut: bool = False


def tune_kernels(
    shop: Workshop,
    source: str,
    target_name: str,
    shapes: Mapping[str, tuple[int | str, ...]],
    budget_ns: int,
    seed: int,
    board: str | None,
) -> KernelTuning:
    """Measure the kernels of a model (any that ``build`` takes, or an ONNX file quantized for the target).

    Raises ``ConfigError`` where the target has no such kernels or cannot be reached; what building raises.
    """
    target = tunable(target_name)
    host, known = host_facts(), tvm.versions()
    if board is None and not can_run(target, host):
        raise ConfigError(
            f"this machine cannot run code for {target.id}, so that nothing can be measured here",
            hint="name a board of that kind: --ssh USER@HOST; it needs TVM (see the README)",
        )
    records = tvm.tuned_records(target, known)
    model = _model(shop, source, shapes)
    precision: Precision = "int8" if is_quantized(read_proto(model)) else "fp32"
    log = shop.logs / "tune.log"
    with _stage(shop.events, "kernels", target.id):
        used = children.call(kernels_of, model, target, precision, limit_s=_BUILD_LIMIT_S, log=log)
    with _stage(shop.events, "tune", f"{len(used)} kernels"), _measuring(records, target, board, log) as (measure, cpu):
        found = search(used, records, measure, budget_ns, seed, cpu=cpu, now=_utc_now, progress=shop.events.progress)
    whole = None
    if board is None:
        with _stage(shop.events, "compare", "the whole model with and without"):
            whole = measure_whole(model, target, precision, log, shop.events.progress)
    threads = target.compute.cores or 1
    return KernelTuning(target.id, precision, cpu, threads, seed, budget_ns, records.path, found, whole, dict(known))


def tunable(target_name: str) -> Target:
    """Return a target whose code edgepack generates. Raises ``ConfigError`` for another."""
    target = load_target(target_name)
    if target.backend != "tvm":
        raise ConfigError(
            f"{target.id} runs with {target.backend}, whose kernels are its own",
            hint="tune the bundle's run options on the device: edgepack tune NAME.edgepack",
        )
    return target


def kernel_records(target_name: str, merge: Path | None = None, export: Path | None = None) -> KernelRecords:
    """Return what is known for a target, after taking over the records of ``merge``; write all to ``export``.

    Raises ``ConfigError`` when a file is no such file, damaged, or for another processor.
    """
    target = tunable(target_name)
    records = tvm.tuned_records(target, tvm.versions())
    merged = 0
    if merge is not None:
        other = read_records(merge)
        if other.tvm != records.tvm:
            raise ConfigError(
                f"{merge} was measured with TVM {other.tvm}, and this is TVM {records.tvm}",
                hint="measure again, or use the TVM that it was measured with",
            )
        merged = records.merge(other)
    if export is not None:
        records.write(export)
    known = records.by_workload.values()
    return KernelRecords(
        target.id, records.path, len(known), sum(r.best is not None for r in known), merged, records.cut
    )


def _model(shop: Workshop, source: str, shapes: Mapping[str, tuple[int | str, ...]]) -> OnnxModel:
    """Return the model as the compiler will see it: a quantized file as it is, anything else prepared as by a build."""
    path = Path(source)
    if path.suffix == ".edgepack":
        raise ConfigError(f"{path} is a bundle, which holds machine code", hint="name the model that it was built from")
    if path.suffix == ".onnx":
        model = load_step(shop, path)
        if is_quantized(read_proto(model)):
            return model
    return export_and_prepare(shop, source, shapes, None, None)


@contextmanager
def _measuring(records: Records, target: Target, board: str | None, log: Path) -> Iterator[tuple[Measure, str]]:
    """Yield what times kernels, each time in a child process, and the processor that it does it on."""
    machine = records.machine
    environment = {"TVM_NUM_THREADS": str(machine.threads)}

    def here(workload: Workload, tiles: tuple[Blocking, ...]) -> tuple[Timed, ...]:
        return children.call(
            time_here, workload, tiles, machine, limit_s=_KERNEL_LIMIT_S, log=log, environment=environment
        )

    if board is None:
        yield here, host_facts().cpu
        return
    with serving(board, target, log=log) as server:

        def there(workload: Workload, tiles: tuple[Blocking, ...]) -> tuple[Timed, ...]:
            return children.call(
                time_on_board, workload, tiles, machine, target, server.port, limit_s=_KERNEL_LIMIT_S, log=log
            )

        yield there, server.cpu


@contextmanager
def _stage(events: Events, name: str, detail: str) -> Iterator[None]:
    events.begin(name, detail)
    try:
        yield
    except BaseException:
        with contextlib.suppress(Exception):
            events.end("failed", detail)
        raise
    events.end("done", detail)


def _utc_now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
