"""Builds many models: every row of every model, one report over all; a model that fails is its rows, never the run."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path

from edgepack.base import documents
from edgepack.base.files import sweep, write_text
from edgepack.device.host import host_facts
from edgepack.errors import EdgepackError, StorageError
from edgepack.execution.events import Events, Named, Silent
from edgepack.execution.open_store import open_store
from edgepack.execution.runner import StageRunner
from edgepack.execution.store import Store
from edgepack.execution.turns import build_turn
from edgepack.pipeline.build import build_planned
from edgepack.pipeline.build_row import build_row
from edgepack.pipeline.cluster import Cluster, gone
from edgepack.pipeline.matrix import Matrix
from edgepack.pipeline.open_cluster import open_cluster
from edgepack.pipeline.original import Original, prepare_original
from edgepack.pipeline.pace import Pace
from edgepack.pipeline.plan import BuildPlan
from edgepack.pipeline.rows import failed_row, skipped_row
from edgepack.pipeline.toolchain import tool_versions
from edgepack.report.html.page import write_report
from edgepack.specs.build import BuildResult, BuildRow
from edgepack.specs.result import Result
from edgepack.specs.target import Target
from edgepack.specs.types import Precision

_LOG = logging.getLogger(__name__)
_REPORT, _ROWS = "report.html", "build.json"


def build_many(
    matrix: Matrix, store: Store | None = None, events: Events | None = None, workers: str | None = None
) -> BuildResult:
    """Build all rows of all models; return them as one result, and write one report and ``build.json`` over all.

    Each model has its folder with its bundles and a report of its own. What cannot be built at all becomes the reason
    of a model's rows. Stopped and started again, what is unchanged comes from ``store``. ``workers``, ``local:N`` or
    ``dask://HOST:PORT``, run the stages of several rows at once; what they make is what this process would. Raises
    ``ToolchainError`` where there is none, or their scheduler is gone.
    """
    store, events = store or open_store(), events or Silent()
    store.tell_by(events.note)
    if workers is None:
        work = _Work(matrix, store, events)
        return _together(matrix, tuple(_build_model(plan, work) for plan in matrix.plans))
    with open_cluster(workers, store.folder, __name__, events.note) as cluster:
        work = _Work(matrix, store, events, cluster, cluster.lanes)
        try:
            with _threads(work.lanes) as models, _threads(work.lanes) as work.rows:
                results = tuple(models.map(lambda plan: _build_model(plan, work), matrix.plans))
        except EdgepackError:
            if cluster.gone:
                raise gone() from None
            raise
        finally:
            work.over = True
    return _together(matrix, results)


@contextlib.contextmanager
def _threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Yield threads; those that wait for work when this ends by an error are not waited for."""
    pool = ThreadPoolExecutor(count)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


class _Work:
    """What the models of one build share: the store, whom to tell, and how far the whole is."""

    def __init__(
        self, matrix: Matrix, store: Store, events: Events, cluster: Cluster | None = None, lanes: int = 1
    ) -> None:
        self.store, self.events, self.cluster, self.lanes = store, events, cluster, lanes
        self.rows: ThreadPoolExecutor | None = None
        self.over = False  # what fails from now on fails because all is being ended
        self._total, self._begun = matrix.size, set[str]()
        self._several = len(matrix.plans) > 1
        self._lock = threading.Lock()
        names = [name for plan in matrix.plans for name in _names(plan)]
        self._pace = Pace(names, matrix.out / "durations.json")

    def runner(self, plan: BuildPlan) -> StageRunner:
        """Return what runs the stages of a model, or of one row of it."""
        # Of several models each line must say of which it is.
        events = Named(self.events, plan.name) if self._several else self.events
        limit_s = plan.settings.compile_limit_s
        return StageRunner(self.store.beside(), plan.out / "logs", events, limit_s, host_facts(), self.cluster)

    def row(self, title: str) -> None:
        """Say that a row begins."""
        with self._lock:
            self._begun.add(title)
            number, left = len(self._begun), self._pace.left_s()
        self.events.row(number, self._total, title, None if left is None else left / self.lanes)

    @contextlib.contextmanager
    def timed(self, name: str, store: Store) -> Iterator[None]:
        """Keep what a part of the work took."""
        began, ran = time.monotonic(), len(store.ran)
        yield
        with self._lock:
            self._pace.finished(time.monotonic() - began, ran=len(store.ran) > ran, name=name)

    def give_up(self, plan: BuildPlan) -> None:
        """Say that the rows of a model are over."""
        with self._lock:
            self._begun.update(_name(plan, *row) for row in plan.rows())
            self._pace.drop(_names(plan))


def _names(plan: BuildPlan) -> Iterator[str]:
    """Yield the names of the parts of the work on a model: what its rows have in common, and each row."""
    yield f"{plan.name} original"
    for target, precision in plan.rows():
        yield _name(plan, target, precision)


def _name(plan: BuildPlan, target: Target, precision: Precision) -> str:
    return f"{plan.name} {target.id} {precision}"


def _build_model(plan: BuildPlan, work: _Work) -> BuildResult:
    """Build a model; whatever goes wrong becomes the reason of its rows."""
    runner = work.runner(plan)
    try:
        with build_turn(plan.out, work.events.note):
            sweep(plan.out, plan.name)
            with work.timed(f"{plan.name} original", runner.store):
                original = prepare_original(plan, runner)
            return build_planned(plan, original, runner, lambda p, o, r: _build_rows(p, o, r, work))
    except EdgepackError as error:
        return _failed(plan, error, work, runner)
    except OSError as error:
        return _failed(plan, StorageError(f"{error.strerror or error}: {error.filename or plan.out}"), work, runner)
    except CancelledError:  # everything is being ended
        raise
    except Exception as error:
        # A model that edgepack stumbles over must not cost the others.
        _LOG.exception("%s", plan.name)
        found = EdgepackError(
            f"internal error: {type(error).__name__}: {error}", hint=f"build {plan.settings.model} alone with --debug"
        )
        return _failed(plan, found, work, runner)
    finally:
        with contextlib.suppress(EdgepackError, OSError):  # what is lost is time
            runner.store.save()


def _build_rows(plan: BuildPlan, original: Original, runner: StageRunner, work: _Work) -> Iterator[BuildRow]:
    def build_one(row: tuple[Target, Precision]) -> tuple[BuildRow, Store]:
        own = work.runner(plan)
        name = _name(plan, *row)
        work.row(name)
        with work.timed(name, own.store):
            return build_row(plan.of_row(*row), original, *row, own), own.store

    each = map if work.rows is None else work.rows.map
    for row, store in each(build_one, plan.rows()):
        runner.store.count(store)
        yield row


def _failed(plan: BuildPlan, error: EdgepackError, work: _Work, runner: StageRunner) -> BuildResult:
    """Return the rows of a model that cannot be built; a bundle of an earlier build must not pass for this one's."""
    if work.over or (work.cluster is not None and work.cluster.gone):
        raise error
    work.give_up(plan)
    work.events.note(f"{plan.name}: {error.message}")
    rows = []
    for target, precision in plan.rows():
        with contextlib.suppress(OSError):
            plan.bundle(target, precision).unlink(missing_ok=True)
        offered = precision in target.compute.precisions or plan.settings.strict
        row = failed_row(target.id, precision, error, None, ()) if offered else skipped_row(target, precision)
        rows.append(dataclasses.replace(row, model=plan.name))
    ran, reused = len(runner.store.ran), len(runner.store.reused)
    result = BuildResult(plan.name, tuple(rows), (), str(plan.out), None, tool_versions(), ran, reused)
    with contextlib.suppress(EdgepackError, OSError):
        (plan.out / _REPORT).unlink(missing_ok=True)
        write_text(plan.out / _ROWS, documents.to_json(result))
    return result


def _together(matrix: Matrix, results: tuple[BuildResult, ...]) -> BuildResult:
    """Write one report and ``build.json`` over all models; return all rows. One model alone has its own already."""
    if len(results) == 1 and results[0].out == str(matrix.out):
        return results[0]
    rows = tuple(row for result in results for row in result.rows)
    report = matrix.out / _REPORT
    write_report(tuple(_measured(results)), rows, report)
    whole = BuildResult(
        name=matrix.name,
        rows=rows,
        warnings=tuple(f"{result.name}: {text}" for result in results for text in result.warnings),
        out=str(matrix.out),
        report=str(report),
        versions=tool_versions(),
        stages_run=sum(result.stages_run for result in results),
        stages_reused=sum(result.stages_reused for result in results),
    )
    write_text(matrix.out / _ROWS, documents.to_json(whole))
    return whole


def _measured(results: tuple[BuildResult, ...]) -> Iterator[Result]:
    """Yield what was measured, from the file that each model's build wrote."""
    for result in results:
        for row in result.rows:
            file = Path(result.out) / "results" / f"{result.name}-{row.target}-{row.precision}.json"
            if row.latency_ns is not None and file.is_file():
                yield documents.from_json(Result, file.read_bytes(), str(file))
