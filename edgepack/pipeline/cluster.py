"""Stages on other processes and machines: handed to dask.distributed, which schedules them, as tasks.

The key of a stage, and whether its output is there, are settled where the build runs; a worker runs the stage in a
child process as the build would, and writes into the folder in the store that it is given. So workers and the build see
the same folders: one machine, or a file system that they share. What a worker computes must not depend on which one it
is: one with another edgepack, Python or package, or on another processor, is named and given nothing.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from edgepack import errors
from edgepack.base import documents
from edgepack.base.files import scratch_folder
from edgepack.base.stage import Stage
from edgepack.errors import ChildError, ConfigError, ToolchainError
from edgepack.execution import child
from edgepack.pipeline.needs import Needs, needs_of
from edgepack.pipeline.worker import GPU_RESOURCE, Share, WorkerFacts, run_task, shares_of, take_gpu, worker_facts

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
_LOOK_S = 5.0  # how often it is asked whether workers that a task may run on are left
_LOOK_AFTER_S = 3.0  # how often workers of this machine are looked after
_WAIT_S = 60.0  # for a first worker, and for one again after all have died
_SILENT_S = 60.0  # after which a worker of this machine that says nothing counts as lost
_DEATHS = 8  # of workers while they ran a task, after which it is at fault
_MOST_LOCAL = 256


class Cluster:
    """Workers that stages are handed to. ``lanes`` is how many rows are worked on at once.

    ``gone`` says that the scheduler is: what failed since then did not fail by itself.
    """

    gone = False

    def __init__(
        self,
        client: Any,
        turns: Path,
        root: str,
        note: Callable[[str], None],
        refill: Callable[[], bool] = lambda: False,
    ) -> None:
        """Take a client of dask.distributed, the folder of the turns, and the module whose code must be the same.

        ``refill`` is called now and then, and says whether it has started workers again.
        """
        self._looked = time.monotonic()
        self._refill = refill
        self._client, self._turns, self._note = client, turns, note
        self._lock = threading.Lock()
        self._good: dict[str, WorkerFacts] = {}
        self._shares: dict[str, Share] = {}
        self._full: set[str] = set()
        self._refused: set[str] = set()
        turns.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        turns.mkdir(exist_ok=True, mode=0o755)
        text = secrets.token_hex(16)
        self._probe = turns / f"probe-{secrets.token_hex(4)}.log"
        self._probe.write_text(text, encoding="ascii")
        self._asked = (root, str(self._probe), text, str(Path.cwd()))
        self._here = worker_facts(*self._asked)
        self.workers()

    def close(self) -> None:
        """Remove what was made to find out what workers see."""
        self._probe.unlink(missing_ok=True)

    @property
    def lanes(self) -> int:
        """The number of stages that run at once, and one for what is done between them."""
        counts: dict[str, int] = self._client.nthreads()
        return max(1, sum(counts.get(address, 1) for address in self._good)) + 1

    def workers(self) -> dict[str, WorkerFacts]:
        """Return the workers that may be given stages now, new ones among them; wait where there is none.

        Raises ``ToolchainError`` that names those that were refused where no other one comes.
        """
        deadline = time.monotonic() + _WAIT_S
        with self._lock:
            while True:
                self._need_scheduler()
                try:
                    self._ask_new()
                except OSError:
                    self._need_scheduler()
                    raise
                if self._look_after():
                    deadline = time.monotonic() + _WAIT_S
                if self._good:
                    return dict(self._good)
                if self._refused or time.monotonic() > deadline:
                    raise ToolchainError(
                        "no worker may be given a stage: " + ("; ".join(sorted(self._refused)) or "none is there"),
                        hint="start workers with the same edgepack and packages, "
                        "which see this folder and the one of --store",
                    )
                time.sleep(0.2)

    def _look_after(self) -> bool:
        """Start workers again that were given up, when it is time to look; say whether there were any."""
        if time.monotonic() - self._looked < _LOOK_AFTER_S:
            return False
        self._looked = time.monotonic()
        return self._refill()

    def _need_scheduler(self) -> None:
        """Raise ``ToolchainError`` when the scheduler is gone."""
        if self._client.status != "running":
            self.gone = True
            raise gone()

    def _ask_new(self) -> None:
        """Ask workers that were not there before what they are, and forget those that are gone."""
        known = {address: info["name"] for address, info in self._client.scheduler_info(-1)["workers"].items()}
        self._good = {address: facts for address, facts in self._good.items() if address in known}
        new = [address for address in known if address not in self._good]
        if not new:
            return
        found = self._client.run(worker_facts, *self._asked, workers=new, on_error="return")
        for address, facts in found.items():
            if isinstance(facts, OSError):
                continue  # it went away while it was asked
            why = facts.differs(self._here) if isinstance(facts, WorkerFacts) else f"it has no edgepack ({facts})"
            if why is None:
                self._good[address] = facts
            elif (said := f"worker {known[address]}: {why}") not in self._refused:
                self._refused.add(said)
                self._note(f"{said}; it is given nothing")
        self._share()

    def _share(self) -> None:
        """Divide each machine among its workers anew."""
        shares = shares_of(self._good, self._client.nthreads(), self._shares)
        new = {a: share.gpu for a, share in shares.items() if share.gpu is not None and a not in self._shares}
        if new:
            self._client.run(take_gpu, new, workers=list(new), on_error="ignore")
        self._shares = shares

    def call(
        self,
        known: Stage,
        function: Callable[..., T],
        *arguments: Any,
        limit_s: float,
        log: Path,
        track: Path | None,
        said: Callable[[str], None],
    ) -> T:
        """Return ``function(*arguments)`` of a stage, run by a worker; what is lost with a worker is run by another.

        A stage that measures time runs on this machine, while no other stage does. Raises what ``child.call`` raises.
        """
        task = {
            "function": f"{function.__module__}:{function.__qualname__}",
            "arguments": [documents.encode(argument) for argument in arguments],
            "limit_s": limit_s,
            "log": str(log.absolute()),
            "track": str(track) if track is not None else None,
            "turns": str(self._turns),
            "alone": known.host == "speed",
            "gpu": False,
            "out": str(arguments[-1]),
            "folder": str(Path.cwd()),
        }
        answer = self._answer(task, known, needs_of(arguments))
        for line in answer["said"]:
            said(line)
        if "error" in answer:
            raise child.rebuilt(answer["error"], answer["log"])
        found: T = child.decode_result(function, answer["result"])
        return found

    def _answer(self, task: dict[str, Any], known: Stage, needs: Needs) -> dict[str, Any]:
        answer: dict[str, Any] | None = None
        for _ in range(_DEATHS):
            allowed = self._allowed(known, needs)
            if not allowed:  # it needs this machine, on which no worker runs
                return run_task(task)
            answer = self._ask(self._fitted(task, allowed, needs), allowed)
            if answer is not None and not self._is_full(answer):
                return answer
            _LOG.info("%s is handed out again", known.name)
        if answer is not None:
            return answer
        raise ChildError(
            f"{known.name}: {_DEATHS} workers died while they ran it",
            log="",
            hint="see the logs of the workers; one that runs out of memory is ended",
        )

    def _allowed(self, known: Stage, needs: Needs) -> list[str]:
        """Return the addresses of the workers that a stage may run on."""
        workers, shares, here = self.workers(), self._shares, self._here.machine
        found = [a for a, facts in workers.items() if known.host != "speed" or facts.machine == here]
        found = [a for a in found if a not in self._full] or found
        if needs.gpu:
            found = [a for a in found if a in shares and shares[a].gpu is not None]
        return [a for a in found if a in shares and shares[a].memory_bytes >= needs.memory_bytes] or found

    def _fitted(self, task: dict[str, Any], allowed: list[str], needs: Needs) -> dict[str, Any]:
        """Return the task as it is handed out: what needs more memory than a worker's share runs alone there."""
        shares = [self._shares[address].memory_bytes for address in allowed if address in self._shares]
        fits = all(share >= needs.memory_bytes for share in shares)
        return {**task, "alone": task["alone"] or not fits, "gpu": needs.gpu}

    def _is_full(self, answer: dict[str, Any]) -> bool:
        """Say whether a stage failed on a worker whose disk is full, and another one is left to run it."""
        worker = answer.get("worker", "")
        if answer.get("error", {}).get("kind") != errors.StorageError.__name__ or not worker:
            return False
        if worker not in self._full:
            self._full.add(worker)
            self._note(f"worker at {worker}: {answer['error']['message']}; it is given nothing more")
        return bool(set(self._good) - self._full)

    def _ask(self, task: dict[str, Any], allowed: list[str]) -> dict[str, Any] | None:
        """Return the answer of a worker; None where those that were asked are gone."""
        from distributed import CancelledError
        from distributed.scheduler import KilledWorker

        resources = {GPU_RESOURCE: 1} if task["gpu"] else None
        pool = self._client.get_executor(
            pure=False, workers=allowed, allow_other_workers=False, retries=2, resources=resources
        )
        future = pool.submit(run_task, task)
        while True:
            try:
                answer: dict[str, Any] = future.result(timeout=_LOOK_S)
            except TimeoutError:
                self._need_scheduler()
                if not set(allowed) & set(self._client.scheduler_info(-1)["workers"]):
                    future.cancel()
                    return None
            except KilledWorker:
                return None
            except CancelledError:
                self.gone = True
                raise gone() from None
            else:
                return answer


def gone() -> ToolchainError:
    """Return the error of a build whose scheduler is gone."""
    return ToolchainError(
        "the scheduler is gone", hint="start it, and run the same command again; what is done is kept"
    )


@contextmanager
def open_cluster(workers: str, store: Path, root: str, note: Callable[[str], None]) -> Iterator[Cluster]:
    """Yield the cluster that ``workers`` names: ``local:N``, which is started, or ``dask://HOST:PORT``, which runs.

    ``store`` is a folder that workers see too. Raises ``ConfigError``, ``ToolchainError``.
    """
    kind, _, where = workers.partition(":")
    with contextlib.ExitStack() as stack:
        _load_dask()
        if kind == "local" and where.isdigit() and 1 <= int(where) <= _MOST_LOCAL:
            client, refill = stack.enter_context(_local(int(where)))
        elif kind == "dask" and where.startswith("//") and ":" in where:
            client, refill = stack.enter_context(_running(f"tcp:{where}")), lambda: False
        else:
            raise ConfigError(
                f"--workers {workers!r} is not known",
                hint=f"write local:N with N from 1 to {_MOST_LOCAL}, or dask://HOST:PORT of a scheduler",
            )
        cluster = Cluster(client, store / "logs", root, note, refill)
        stack.callback(cluster.close)
        yield cluster


def _load_dask() -> None:
    """Import dask.distributed, and let it say nothing by itself. Raises ``ToolchainError`` where it is not there."""
    try:
        import distributed  # noqa: F401
    except ModuleNotFoundError:
        raise ToolchainError("dask.distributed is not installed", hint="pip install 'edgepack[cluster]'") from None
    for name in ("distributed", "distributed.client"):  # these two have levels of their own
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what ends or is gone is told by us


@contextmanager
def _local(count: int) -> Iterator[tuple[Any, Callable[[], bool]]]:
    """Start workers on this machine, which nobody but this process can reach: connections are proven by a fresh key."""
    import dask
    from distributed import Client, LocalCluster

    settings = {
        "distributed.scheduler.allowed-failures": _DEATHS,
        "distributed.deploy.lost-worker-timeout": "2s",
        "distributed.scheduler.worker-ttl": f"{_SILENT_S}s",
        # Their web servers are started even without a dashboard: on this machine only, with nothing to see.
        "distributed.scheduler.http.routes": [],
        "distributed.worker.http.routes": [],
    }
    with scratch_folder() as folder, dask.config.set(settings):
        try:
            started = LocalCluster(
                n_workers=count, threads_per_worker=1, processes=True, host="127.0.0.1",
                dashboard_address="127.0.0.1:0", worker_dashboard_address="127.0.0.1:0",
                memory_limit=0, local_directory=str(folder), security=True, protocol="tls://",
                silence_logs=logging.CRITICAL,
            )  # fmt: skip
        except RuntimeError as error:
            raise ToolchainError(
                f"{count} workers did not start on this machine: {error}", hint="ask for fewer, or stop other programs"
            ) from error
        with started as cluster, Client(cluster, set_as_default=False) as client:
            yield client, _Keeper(cluster, count)


class _Keeper:
    """Starts workers of this machine again that dask has given up: those that died while they began."""

    def __init__(self, cluster: Any, count: int) -> None:
        self._cluster, self._count, self._dead = cluster, count, set[Any]()

    def __call__(self) -> bool:
        """Replace the workers without a process at two looks in a row; say whether there were any."""
        nannies = dict(self._cluster.workers)
        dead = {name for name, nanny in nannies.items() if not nanny.is_alive()}
        given_up = dead & self._dead
        self._dead = dead - given_up
        for name in given_up:
            self._cluster.workers.pop(name, None)
            self._cluster.loop.add_callback(nannies[name].close)
        missing = len(self._cluster.workers) < self._count
        self._cluster.scale(self._count)
        return bool(given_up) or missing


@contextmanager
def _running(address: str) -> Iterator[Any]:
    from distributed import Client
    from distributed.versions import VersionMismatchWarning

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", VersionMismatchWarning)  # workers that differ are told by us
            client = Client(address, timeout=10, set_as_default=False)
    except OSError as error:
        raise ToolchainError(
            f"no scheduler of dask answers at {address.removeprefix('tcp://')}: {error}",
            hint="start one with 'dask scheduler', and workers with 'dask worker HOST:PORT'",
        ) from None
    with client:
        yield client
