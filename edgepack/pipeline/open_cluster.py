"""Workers that ``--workers`` names: those of a scheduler that runs, or some that are started on this machine."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgepack.base.files import scratch_folder
from edgepack.errors import ConfigError, ToolchainError
from edgepack.pipeline.cluster import DEATHS, Cluster

_SILENT_S = 60.0  # after which a worker of this machine that says nothing counts as lost
_FIND_S = 10.0  # for a scheduler to answer
_MOST_LOCAL = 256


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
        "distributed.scheduler.allowed-failures": DEATHS,
        "distributed.deploy.lost-worker-timeout": "2s",
        "distributed.scheduler.worker-ttl": f"{_SILENT_S}s",
        # Their web servers are started even without a dashboard: on this machine only, with nothing to see.
        "distributed.scheduler.http.routes": [],
        "distributed.worker.http.routes": [],
    }
    with scratch_folder() as folder, dask.config.set(settings):
        try:
            started = _whole(lambda: LocalCluster(
                n_workers=count, threads_per_worker=1, processes=True, host="127.0.0.1",
                dashboard_address="127.0.0.1:0", worker_dashboard_address="127.0.0.1:0",
                memory_limit=0, local_directory=str(folder), security=True, protocol="tls://",
                silence_logs=logging.CRITICAL,
            ))  # fmt: skip
        except RuntimeError as error:
            raise ToolchainError(
                f"{count} workers did not start on this machine: {error}", hint="ask for fewer, or stop other programs"
            ) from error
        with started as cluster, Client(cluster, set_as_default=False) as client:
            yield client, _Keeper(cluster, count)


def _whole(begin: Callable[[], Any]) -> Any:
    """Return what ``begin`` starts; when this thread is interrupted meanwhile, let it start all the same and end it.

    dask cannot end workers that are only beginning: it prints tracebacks at the very end of the process.
    """
    with ThreadPoolExecutor(1) as pool:
        beginning = pool.submit(begin)
        try:
            return beginning.result()
        except BaseException:
            with contextlib.suppress(Exception):  # it did not start, which is what is raised
                beginning.result().close()
            raise


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
            client = Client(address, timeout=_FIND_S, set_as_default=False)
    except OSError as error:
        raise ToolchainError(
            f"no scheduler of dask answers at {address.removeprefix('tcp://')}: {error}",
            hint="start one with 'dask scheduler', and workers with 'dask worker HOST:PORT'",
        ) from None
    with client:
        yield client
