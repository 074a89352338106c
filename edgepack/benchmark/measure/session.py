"""A bundle loaded for measuring in this process: its runner, its queries, and what loading it took."""

from __future__ import annotations

import dataclasses
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgepack.benchmark.machine.nvml import gpu_bytes
from edgepack.benchmark.measure import loop, memory
from edgepack.benchmark.measure.queries import batch_is_dynamic, check_batch, group_queries, make_queries
from edgepack.benchmark.measure.summary import SAMPLES_PER_QUERY, Subject, samples_per_query
from edgepack.device.host import host_facts
from edgepack.engines.targets import is_device

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgepack.specs.bundle import Manifest, Payload
    from edgepack.specs.result import Memory, Scenario
    from edgepack.specs.run import RunOptions
    from edgepack.specs.target import Host
    from edgepack.specs.types import Feeds


@dataclass(frozen=True)
class Session:
    """A loaded bundle. ``issue`` runs one of ``queries``; ``resident`` is what memory was before and after loading.

    ``others`` do the same as ``issue`` in threads of their own, where several queries are to run at once.
    """

    subject: Subject
    issue: Callable[[Any], Any]
    queries: tuple[Any, ...]
    close: Callable[[], None]
    resident: Resident
    notes: tuple[str, ...] = ()
    others: tuple[Callable[[Any], Any], ...] = ()


@dataclass(frozen=True)
class Resident:
    """Resident bytes before and after loading and the peak of loading; None where Linux does not tell.

    ``gpu`` are the bytes of GPU memory after loading.
    """

    before: int | None
    loaded: int | None
    load_peak: int | None
    gpu: int | None = None


def open_session(bundle: Path, scenario: Scenario, options: RunOptions) -> Session:
    """Check, load and prepare a bundle for a scenario. The engine is imported here, so its memory counts as loading.

    Raises what ``runtime.load`` raises, and ``ConfigError`` for a batch that the model cannot take.
    """
    before = memory.resident_bytes()
    memory.reset_peak()
    from edgepack.bundle.archive import read_member
    from edgepack.runtime.load import load
    from edgepack.verify.golden import GOLDEN, read_golden

    began = time.perf_counter_ns()
    loaded = load(bundle, options, batch=samples_per_query(scenario))
    load_ns = time.perf_counter_ns() - began
    resident = Resident(before, memory.resident_bytes(), memory.peak_bytes(), _gpu_bytes(loaded.device))
    try:
        manifest = loaded.manifest
        if scenario.name == "Offline":
            check_batch(manifest.inputs, scenario.batch, bundle.name)
        samples = read_golden(read_member(loaded.bundle, GOLDEN)).inputs
        issue, queries, notes = _prepare(loaded.infer, samples, manifest.inputs, scenario)
        first_ns = _first_answer_ns(issue, queries)
        streams = options.streams or 1 if scenario.name == "Offline" else 1
        others = tuple(loaded.another().infer for _ in range(streams - 1))
        for other in others:
            other(queries[0])
    except BaseException:
        loaded.close()
        raise
    host = host_facts()
    subject = Subject(
        manifest=manifest,
        sha256=loaded.bundle.sha256,
        size_bytes=loaded.bundle.size_bytes,
        engine=loaded.backend if loaded.device == "CPU" else f"{loaded.backend} {loaded.device}",
        versions=loaded.versions,
        options=options,
        host=host,
        stands_for_target=_stands_for_target(manifest, loaded.payload, host),
        load_ns=load_ns,
        first_answer_ns=load_ns + first_ns,
    )
    if others:
        notes = (*notes, f"{streams} queries ran at once")
    return Session(subject, issue, queries, loaded.close, resident, notes, others)


def _first_answer_ns(issue: Callable[[Any], Any], queries: tuple[Any, ...]) -> int:
    """Run one query, which is untimed otherwise: an engine may still prepare itself in it. Return what it took."""
    began = time.perf_counter_ns()
    issue(queries[0])
    return time.perf_counter_ns() - began


def _stands_for_target(manifest: Manifest, payload: Payload, host: Host) -> bool | None:
    """Say whether this host, with the engine that runs the bundle here, is what the bundle is for."""
    if payload.backend != manifest.payloads[0].backend:
        return False
    return is_device(manifest.target, host, manifest.options)


def measure(
    session: Session, minimum_ns: int, *, minimum_queries: int, maximum_ns: int | None, first: int
) -> loop.Timed:
    """Issue queries in turn from number ``first`` on, each when the last has completed; in each of its threads."""
    queries = session.queries
    if session.others:
        issues = (session.issue, *session.others)
        return loop.parallel_loop(
            issues, queries, minimum_ns, minimum_queries=minimum_queries, maximum_ns=maximum_ns, first=first
        )
    return loop.closed_loop(
        session.issue, queries, minimum_ns, minimum_queries=minimum_queries, maximum_ns=maximum_ns, first=first
    )


def _prepare(
    infer: Callable[[Feeds], Any], samples: Any, inputs: Any, scenario: Scenario
) -> tuple[Callable[[Any], Any], tuple[Any, ...], tuple[str, ...]]:
    """Return the function to time, the queries for it, and what a reader should know of them."""
    distinct = f"{len(samples)} distinct golden inputs in turn"
    if scenario.name == "Offline":
        return infer, make_queries(samples, inputs, scenario.batch), (distinct,)
    size = SAMPLES_PER_QUERY[scenario.name]
    if size == 1 or batch_is_dynamic(inputs):
        return infer, make_queries(samples, inputs, size), (distinct,)
    groups = group_queries(make_queries(samples, inputs, 1), size)
    return (
        _one_by_one(infer),
        groups,
        (distinct, f"the batch is fixed: the {size} samples of a query ran one after another"),
    )


def _one_by_one(infer: Callable[[Feeds], Any]) -> Callable[[tuple[Feeds, ...]], None]:
    def issue(feeds: tuple[Feeds, ...]) -> None:
        for feed in feeds:
            infer(feed)

    return issue


def prolonged(session: Session, spin_ns: int) -> Session:
    """Return the session with every query made longer by ``spin_ns`` of spinning."""

    def issue(query: Any) -> None:
        session.issue(query)
        end = time.perf_counter_ns() + spin_ns
        while time.perf_counter_ns() < end:
            pass

    return dataclasses.replace(session, issue=issue)


def used_memory(resident: Resident) -> Memory | None:
    """Return the memory of loading and, as of now, of inference."""
    from edgepack.specs.result import Memory

    now = memory.resident_bytes()
    if resident.before is None or resident.loaded is None or now is None:
        return None
    return Memory(
        before_bytes=resident.before,
        load_bytes=resident.loaded,
        load_peak_bytes=resident.load_peak,
        infer_bytes=now,
        infer_peak_bytes=memory.peak_bytes(),
        gpu_load_bytes=resident.gpu,
        gpu_infer_bytes=None if resident.gpu is None else gpu_bytes(),
    )


def _gpu_bytes(device: str) -> int | None:
    return None if device == "CPU" else gpu_bytes()


def machine_cores() -> int:
    """Return the cores of the whole machine, to which the CPU times of ``host.load_facts()`` belong."""
    return os.cpu_count() or 1


def warm_up(session: Session, scenario: Scenario) -> loop.Warmup:
    """Warm a session up, then let the peak of memory count from here, so that loading is not in it."""
    warmup = loop.warm_up(session.issue, session.queries, scenario.warmup_ns)
    memory.reset_peak()
    return warmup


def clock_s() -> float:
    """Return a clock in seconds that never goes back."""
    return time.perf_counter()


def utc_now() -> str:
    """Return the time as ISO 8601 in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
