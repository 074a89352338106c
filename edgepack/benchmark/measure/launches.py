"""Measures one bundle in several fresh processes, so that the intervals know how much two loads of it differ."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgepack.base.files import scratch_folder
from edgepack.benchmark.machine import energy, validity
from edgepack.benchmark.machine.nvml import these_gpus
from edgepack.benchmark.machine.state import facts
from edgepack.benchmark.machine.steady import until_steady
from edgepack.benchmark.machine.usage import Usage, usage
from edgepack.benchmark.measure import session, summary
from edgepack.benchmark.measure.worker import Block, Closing, Open
from edgepack.benchmark.measure.worker_pool import Asked, Worker
from edgepack.bundle.archive import open_bundle
from edgepack.specs.result import Memory, Result, Scenario, Steady
from edgepack.specs.run import RunOptions
from edgepack.specs.types import Progress, no_progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgepack.benchmark.measure.worker import Measured, Opened

_LEAST_QUERIES = {"SingleStream": 64, "MultiStream": 662, "Offline": 1}  # for p90 and p99 by early stopping
_BLOCKS = 20  # of a whole measurement: between them progress is told
_LEAST_BLOCK_NS = 100_000_000
_PATIENCE_NS = 60_000_000_000
_LEAST_WARMUP_NS = 200_000_000
_IDLE_S = 1.0


@dataclass
class Launch:
    """One process's part: its blocks in order, its memory, and the machine's energy while it measured."""

    opened: Opened
    blocks: list[Measured] = field(default_factory=list)
    memory: Memory | None = None
    energy: energy.Reading = field(default_factory=energy.Reading)

    @property
    def queries(self) -> int:
        """Return how many queries were timed."""
        return sum(len(block.latencies_ns) for block in self.blocks)

    @property
    def issued(self) -> int:
        """Return how many queries were issued while energy was recorded: the timed ones and the untimed between."""
        return self.queries + sum(block.refreshed for block in self.blocks)

    @property
    def duration_ns(self) -> int:
        """Return the time in which the timed ones were."""
        return sum(block.duration_ns for block in self.blocks)

    @property
    def used(self) -> Usage:
        """Return what the process took: loading, warm-up and blocks."""
        return sum((block.used + block.at_rest for block in self.blocks), self.opened.used)


def benchmark_launches(
    bundle: Path, scenario: Scenario, options: RunOptions, progress: Progress = no_progress
) -> Result:
    """``benchmark`` for the scenarios in which a query follows another: SingleStream, MultiStream, Offline."""
    with scratch_folder() as folder:

        def start(number: int) -> Worker:
            return Worker(folder / f"{number}.log")

        request = Open(bundle, _of_one_launch(scenario), options)
        return measure_launches(start, request, scenario, progress, on_gpu=_is_on_gpu(bundle, options))


def _is_on_gpu(bundle: Path, options: RunOptions) -> bool:
    device = options.device or open_bundle(bundle).manifest.payloads[0].device
    return device not in ("CPU", "NPU")


def measure_launches(
    start: Callable[[int], Asked],
    request: Open,
    scenario: Scenario,
    progress: Progress = no_progress,
    *,
    on_gpu: bool = False,
) -> Result:
    """``benchmark_launches`` with the processes that ``start`` makes and the request that opens the bundle.

    ``on_gpu``: it runs on a GPU, whose energy is then taken where the GPU counts it.
    """
    sensor, source = energy.find_sensor(gpus=these_gpus() if on_gpu else ())
    idle = energy.rest(sensor, _IDLE_S)
    steady = _warmed(start, request, scenario, progress) if scenario.steady_ns else None
    before, began, used = facts(), session.clock_s(), usage()
    measured_at = session.utc_now()
    launches: list[Launch] = []
    for number in range(scenario.launches):
        worker = start(number)
        try:
            launches.append(_launch(worker, request, scenario, number, sensor, progress))
        finally:
            worker.close()
    own = sum((launch.used for launch in launches), usage() - used)
    around = summary.Circumstances(
        before=before,
        after=facts(),
        run=validity.Run(session.clock_s() - began, own, session.machine_cores()),
        measured_at=measured_at,
        warmup_queries=sum(launch.opened.warmup.queries for launch in launches),
        warmup_ns=sum(launch.opened.warmup.duration_ns for launch in launches),
        warmup_stable=all(launch.opened.warmup.stable for launch in launches),
        memory=_largest([launch.memory for launch in launches]),
        energy_uj=_energy(launches, idle, summary.samples_per_query(scenario)),
        energy_source=source,
        energy_idle_uw=idle.power_uw,
        steady=steady,
        notes=(*launches[0].opened.notes, *_notes(launches)),
    )
    latencies = [np.array(block.latencies_ns, dtype=np.int64) for launch in launches for block in launch.blocks]
    return summary.summarise(
        launches[0].opened.subject,
        scenario,
        np.concatenate(latencies),
        sum(launch.duration_ns for launch in launches),
        around,
        lengths=[launch.queries for launch in launches],
    )


def _warmed(start: Callable[[int], Asked], request: Open, scenario: Scenario, progress: Progress) -> Steady:
    """Run the bundle in a process of its own until the machine is at its steady state."""
    worker = start(scenario.launches)
    try:
        worker.ask(request)
        return until_steady(
            lambda block_ns: worker.ask(Block(block_ns, 1, _PATIENCE_NS)).latencies_ns,
            facts,
            scenario.steady_ns,
            lambda done, total: progress("until steady", round(100 * done / total), 100),
        )
    finally:
        worker.close()


def _of_one_launch(scenario: Scenario) -> Scenario:
    """Return the scenario of one process: its share of the warm-up, which loading must be followed by."""
    share = max(scenario.warmup_ns // scenario.launches, min(scenario.warmup_ns, _LEAST_WARMUP_NS))
    return dataclasses.replace(scenario, warmup_ns=share)


def _launch(
    worker: Asked, request: Open, scenario: Scenario, number: int, sensor: energy.Sensor | None, progress: Progress
) -> Launch:
    """Let one process measure its share of the duration and of the queries, in blocks."""
    launch = Launch(worker.ask(request))
    duration_ns = math.ceil(scenario.duration_ns / scenario.launches)
    least = math.ceil(max(scenario.queries, _LEAST_QUERIES[scenario.name]) / scenario.launches)
    patience_ns = duration_ns + max(2 * scenario.duration_ns, _PATIENCE_NS) // scenario.launches
    block_ns = max(scenario.duration_ns // _BLOCKS, min(_LEAST_BLOCK_NS, duration_ns))
    with energy.record(sensor) as reading:
        while (launch.duration_ns < duration_ns or launch.queries < least) and launch.duration_ns < patience_ns:
            launch.blocks.append(worker.ask(Block(block_ns, 1, patience_ns - launch.duration_ns)))
            done = min(launch.duration_ns / duration_ns, launch.queries / least, 1.0)
            progress(scenario.name, round(100 * (number + done) / scenario.launches), 100)
    launch.energy = reading
    launch.memory = worker.ask(Closing()).memory
    return launch


def _largest(found: list[Memory | None]) -> Memory | None:
    """Return the memory of the launch that had the highest peak."""
    known = [memory for memory in found if memory is not None]
    return max(known, key=lambda m: (m.infer_peak_bytes or 0, m.infer_bytes), default=None)


def _energy(launches: list[Launch], idle: energy.Reading, per_query: int) -> int | None:
    """Return the energy of one sample above the machine's at rest, over all launches."""
    readings = [launch.energy for launch in launches]
    values = [reading.energy_uj for reading in readings]
    if any(value is None for value in values):
        return None
    total = energy.Reading(sum(r.duration_ns for r in readings), sum(v for v in values if v is not None))
    return energy.per_inference_uj(total, idle, per_query * sum(launch.issued for launch in launches))


def _notes(launches: list[Launch]) -> list[str]:
    if len(launches) == 1:
        return ["measured in one process: how much another load would differ is not in the intervals"]
    return [f"measured in {len(launches)} fresh processes; the intervals hold what differs between them"]
