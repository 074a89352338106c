"""Tasks, answers and connections that dask loses: everything is handed out again, or ends with what to do; nothing
waits for ever.

The workers are dask's simulated ones, in this process, and a double takes the place of the stage's child.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cluster_stages
import pytest

from edgepack.base.stage import stage_of
from edgepack.errors import ChildError, ToolchainError
from edgepack.pipeline import cluster as module
from edgepack.pipeline import worker
from edgepack.pipeline.cluster import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


class Simulated:
    """Two workers, and a client of them; ``task`` is what takes the place of a stage."""

    def __init__(self, client: Any, folder: Path) -> None:
        self.client, self.folder, self.notes = client, folder, list[str]()

    def cluster(self) -> Cluster:
        return Cluster(self.client, self.folder / "turns", "edgepack.pipeline.cluster", self.notes.append)

    def run(self, cluster: Cluster, number: int = 7) -> int:
        made = cluster.call(
            stage_of(cluster_stages.work), cluster_stages.work, number, 0.0, "", self.folder, limit_s=60.0,
            log=self.folder / "log", track=None, said=lambda _: None, forked=False,
        )  # fmt: skip
        return int(made.number)


@pytest.fixture
def simulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulated]:
    import dask
    from distributed import Client, LocalCluster

    monkeypatch.setattr(module, "_LOOK_S", 0.2)
    none: dict[str, Any] = {"distributed.scheduler.http.routes": [], "distributed.worker.http.routes": []}
    with (
        dask.config.set(none),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=False,
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
        ) as cluster,  # fmt: skip
        Client(cluster, set_as_default=False) as client,
    ):
        yield Simulated(client, tmp_path)


def stands_in(monkeypatch: pytest.MonkeyPatch, before: Callable[[int], None]) -> list[str]:
    """Let a double run stages, which calls ``before`` with how many have begun; return the list of them."""
    monkeypatch.setattr(cluster_stages.DOUBLE, "before", before)
    monkeypatch.setattr(cluster_stages.DOUBLE, "began", [])
    monkeypatch.setattr(module, "run_task", cluster_stages.stand_in)
    began: list[str] = cluster_stages.DOUBLE.began
    return began


def keys_of(client: Any) -> list[Any]:
    return [key for keys in client.processing().values() for key in keys]


def test_what_dask_looks_up_by_itself_hides_no_worker(simulated: Simulated, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own look-up, every few seconds, lists no worker. Where it came between our question and the answer all
    passed for dead: a busy build asked all of them anew what they are, and cancelled what they were at.
    """
    cluster, client = simulated.cluster(), simulated.client
    run, asked = client.run, list[Any]()

    def ask(function: Any, *arguments: Any, **named: Any) -> Any:
        asked.append(function)
        return run(function, *arguments, **named)

    async def look_up() -> None:
        while True:
            await client._update_scheduler_info()
            await asyncio.sleep(0.0005)

    monkeypatch.setattr(client, "run", ask)
    looking = asyncio.run_coroutine_threadsafe(look_up(), client.loop.asyncio_loop)
    try:
        assert all(len(cluster.workers()) == 2 for _ in range(30))
    finally:
        looking.cancel()
    assert asked == []


def test_a_task_that_dask_drops_is_handed_out_again(simulated: Simulated, monkeypatch: pytest.MonkeyPatch) -> None:
    """It passed for a scheduler that is gone, which ended the build."""
    from distributed import Client, Future

    cluster = simulated.cluster()

    def drop(begun: int) -> None:
        if begun == 1:
            with Client(simulated.client.scheduler.address, set_as_default=False) as other:
                other.cancel([Future(key, other) for key in keys_of(other)], force=True)
            time.sleep(0.3)

    began = stands_in(monkeypatch, drop)
    assert simulated.run(cluster) == 7
    assert len(began) == 2
    assert not cluster.gone


def test_an_answer_that_is_lost_on_its_way_is_not_waited_for(
    simulated: Simulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task is done, and its key forgotten before its answer was fetched."""
    from distributed.client import FutureCancelledError

    cluster, gather, lost = simulated.cluster(), simulated.client._gather, list[Any]()

    async def losing(futures: Any, *arguments: Any, **named: Any) -> Any:
        if not lost:
            lost.append(futures)
            raise FutureCancelledError(futures[0].key, None)
        return await gather(futures, *arguments, **named)

    monkeypatch.setattr(simulated.client, "_gather", losing)
    began = stands_in(monkeypatch, lambda _: None)
    assert simulated.run(cluster) == 7
    assert len(began) == 2


def test_an_answer_that_does_not_come_is_asked_for_again(simulated: Simulated, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, gather, asked = simulated.cluster(), simulated.client._gather, list[Any]()

    async def slow(futures: Any, *arguments: Any, **named: Any) -> Any:
        asked.append(futures)
        if len(asked) == 1:
            await asyncio.sleep(60)
        return await gather(futures, *arguments, **named)

    monkeypatch.setattr(module, "_ANSWER_S", 0.5)
    monkeypatch.setattr(simulated.client, "_gather", slow)
    began = stands_in(monkeypatch, lambda _: None)
    assert simulated.run(cluster) == 7
    assert (len(began), len(asked)) == (1, 2)


def test_a_connection_that_is_lost_comes_again(simulated: Simulated, monkeypatch: pytest.MonkeyPatch) -> None:
    """dask drops all tasks of a client then; it is not the scheduler that is gone."""
    cluster, client = simulated.cluster(), simulated.client
    monkeypatch.setattr(client, "cluster", None)  # of whose own scheduler dask knows that it cannot be reached again

    def cut(begun: int) -> None:
        if begun == 1:
            client.loop.add_callback(client.scheduler_comm.comm.abort)
            time.sleep(0.5)

    began = stands_in(monkeypatch, cut)
    assert simulated.run(cluster) == 7
    assert len(began) == 2
    assert not cluster.gone


def test_a_stage_that_runs_out_of_its_own_time_is_its_error(
    simulated: Simulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a file system that does not answer: it passed for a task that still runs, and was waited for, for ever."""
    cluster = simulated.cluster()

    def fail(_: int) -> None:
        raise TimeoutError("the file system does not answer")

    began = stands_in(monkeypatch, fail)
    with pytest.raises(TimeoutError, match="the file system does not answer"):
        simulated.run(cluster)
    assert len(began) == 3  # dask tries again twice


def test_a_task_that_is_always_lost_is_an_error(simulated: Simulated, monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed import CancelledError

    cluster = simulated.cluster()

    async def losing(*_: Any, **__: Any) -> Any:
        raise CancelledError("lost")

    monkeypatch.setattr(simulated.client, "_gather", losing)
    began = stands_in(monkeypatch, lambda _: None)
    with pytest.raises(ChildError, match="8 workers died while they ran it, or lost it"):
        simulated.run(cluster)
    assert len(began) == 8


def test_a_scheduler_that_is_stopped_ends_the_build(simulated: Simulated, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps its connections and answers nothing."""
    cluster = simulated.cluster()

    async def silent(**_: Any) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(module, "_ANSWER_S", 0.3)
    monkeypatch.setattr(simulated.client.scheduler, "identity", silent, raising=False)
    with pytest.raises(ToolchainError, match="the scheduler is gone"):
        simulated.run(cluster)
    assert cluster.gone


def test_a_worker_that_is_stopped_holds_up_no_other_one(simulated: Simulated, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = sorted(simulated.client.scheduler_info(-1)["workers"])[0]
    run, asked = simulated.client.run, list[str]()

    async def ask(function: Any, *arguments: Any, workers: list[str], **named: Any) -> Any:
        asked.extend(workers if function is worker.worker_facts else ())
        if workers == [stopped]:
            await asyncio.sleep(60)
        return await run(function, *arguments, workers=workers, **named)

    monkeypatch.setattr(module, "_ANSWER_S", 6.0)
    monkeypatch.setattr(simulated.client, "run", ask)
    began = stands_in(monkeypatch, lambda _: None)
    cluster = simulated.cluster()
    assert [simulated.run(cluster, number) for number in range(3)] == [0, 1, 2]
    assert len(began) == 3
    assert set(cluster.workers()) == set(simulated.client.scheduler_info(-1)["workers"]) - {stopped}
    assert asked.count(stopped) == 1, "it is not waited for again at each stage"
    assert [note for note in simulated.notes if "does not answer" in note]


def on_a_gpu(cluster: Cluster, folder: Path) -> None:
    from edgepack.specs.model import CompiledModel
    from edgepack.specs.run import RunOptions

    model = CompiledModel("made-up", "fp32", folder, "x", (), (), (), {}, device="GPU")
    cluster.call(
        stage_of(cluster_stages.sees), cluster_stages.sees, model, RunOptions(), 0.0, folder, limit_s=60.0,
        log=folder / "log", track=None, said=lambda _: None, forked=False,
    )  # fmt: skip


def test_a_gpu_that_a_worker_lost_is_given_to_it_again(
    simulated: Simulated, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A worker that was started again on its port has no GPU for dask: what needs one waited for ever."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    began = stands_in(monkeypatch, lambda _: None)
    cluster = simulated.cluster()

    async def forget(dask_worker: Any) -> None:
        await dask_worker.set_resources(**{worker.GPU_RESOURCE: 0.0})

    simulated.client.run(forget)
    done = threading.Event()

    def run() -> None:
        on_a_gpu(cluster, tmp_path)
        done.set()

    threading.Thread(target=run, daemon=True).start()
    assert done.wait(20)
    assert len(began) == 1


def test_a_stage_for_a_gpu_that_no_worker_has_runs_here_alone_and_is_said(
    simulated: Simulated, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    stands_in(monkeypatch, lambda _: None)
    tasks: list[dict[str, Any]] = []
    double = module.run_task
    monkeypatch.setattr(module, "run_task", lambda task: tasks.append(task) or double(task))  # type: ignore[func-returns-value]
    cluster = simulated.cluster()
    for _ in range(2):
        on_a_gpu(cluster, tmp_path)
    assert [task["alone"] for task in tasks] == [True, True]
    assert simulated.notes == ["sees needs a GPU and no worker has one: it runs on this machine"]


def test_a_stage_for_a_gpu_does_not_run_here_when_the_workers_that_had_one_are_gone(
    simulated: Simulated, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It ran on a machine without a GPU, and failed as if the model did."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(module, "_WAIT_S", 0.5)
    began = stands_in(monkeypatch, lambda _: None)
    cluster = simulated.cluster()
    cluster._had_gpu.add("another machine")
    with pytest.raises(ToolchainError, match="sees needs a GPU, and the workers that had one are gone"):
        on_a_gpu(cluster, tmp_path)
    assert began == []
