"""Stages on workers: the same outputs, nothing lost with a worker but its task, and no worker that would differ."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cluster_stages
import pytest
from in_process import Recorded

from edgepack.device.host import host_facts
from edgepack.errors import ChildError, ConfigError, DataError, StorageError, ToolchainError
from edgepack.execution.runner import StageRunner
from edgepack.execution.store import Store
from edgepack.pipeline import cluster as module
from edgepack.pipeline import open_cluster as opening
from edgepack.pipeline.cluster import Cluster
from edgepack.pipeline.open_cluster import open_cluster
from edgepack.specs.model import CompiledModel
from edgepack.specs.run import RunOptions

pytestmark = pytest.mark.long
ROOT = "edgepack.pipeline.cluster"


def runner(folder: Path, cluster: Cluster | None, events: Recorded | None = None) -> StageRunner:
    return StageRunner(Store(folder / "store"), folder / "logs", events or Recorded(), 60.0, host_facts(), cluster)


def told(diary: Path, what: str) -> list[list[str]]:
    return [line.split() for line in diary.read_text().splitlines() if line.startswith(what)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cluster")


@pytest.fixture(scope="module")
def local(folder: Path) -> Iterator[Cluster]:
    """Two workers on this machine."""
    with open_cluster("local:2", folder / "store", ROOT, lambda _: None) as cluster:
        yield cluster


def listening(pids: set[int]) -> set[str]:
    """The addresses, as the kernel writes them, that processes take connections on."""
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                inodes.add(str(link.readlink()))
    found = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    return {words[1].split(":")[0] for words in found if words[3] == "0A" and f"socket:[{words[9]}]" in inodes}


def test_nobody_else_reaches_workers_of_this_machine(local: Cluster) -> None:
    pids = {os.getpid(), *local._client.run(os.getpid).values()}
    assert listening(pids) == {"0100007F"}  # 127.0.0.1
    assert local._client.scheduler.address.startswith("tls://127.0.0.1:")


def test_outputs_are_those_of_this_process(local: Cluster, folder: Path, tmp_path: Path) -> None:
    diary = str(tmp_path / "diary")
    there = runner(folder, local).run(cluster_stages.work, 3, 0.0, diary)
    here = runner(tmp_path, None).run(cluster_stages.work, 3, 0.0, diary)
    assert (there.number, there.path.read_bytes()) == (here.number, here.path.read_bytes())
    # the same entry under the same key, so that either takes what the other made
    assert there.path.relative_to(folder / "store") == here.path.relative_to(tmp_path / "store")
    assert len({who for _, _, who, _ in told(Path(diary), "begin")}) == 2
    again = runner(folder, local)
    assert again.run(cluster_stages.work, 3, 0.0, diary) == there
    assert again.store.ran == []


def test_errors_crashes_and_what_users_code_says_come_back(local: Cluster, folder: Path) -> None:
    with pytest.raises(DataError, match="sample 1 is broken") as caught:
        runner(folder, local).run(cluster_stages.fails, 1)
    assert caught.value.hint == "look at it"
    with pytest.raises(ChildError, match="SIGSEGV"):
        runner(folder, local).run(cluster_stages.fails, 2)
    assert runner(folder, local).run(cluster_stages.fails, 3).number == 3


def test_stages_are_forked_from_what_has_imported_as_those_of_a_build_are(local: Cluster, folder: Path) -> None:
    """Each imported by itself: two workers took twice the CPU time, and hardly less time, than a build without any."""
    made = [runner(folder, local).run(cluster_stages.looks, number) for number in range(6)]
    found = [one.path.read_text().splitlines()[0] for one in made]
    assert found[-1] == "forked"
    assert found.count("forked") >= 2


def test_a_stage_keeps_its_folder_until_it_is_gone(local: Cluster, folder: Path) -> None:
    """A worker that is killed dies a moment before its stage: another one began in the same folder meanwhile."""
    made = [runner(folder, local).run(cluster_stages.looks, number).path.read_text() for number in range(10, 14)]
    assert all(str(folder / "store" / "logs" / "out-") in text for text in made)


def test_a_stage_that_measures_runs_alone_on_its_machine(local: Cluster, folder: Path, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    stages = [(cluster_stages.timing if n % 3 == 0 else cluster_stages.work, n) for n in range(6)]
    with ThreadPoolExecutor(6) as pool:
        made = pool.map(lambda s: runner(folder, local).run(s[0], s[1], 0.3, str(diary)), stages)
        assert [found.number for found in made] == list(range(6))
    spans = {int(n): float(t) for _, n, _, t in told(diary, "begin")}
    ends = {int(n): float(t) for _, n, _, t in told(diary, "end")}
    for alone in (0, 3):
        for other, began in spans.items():
            assert other == alone or ends[other] <= spans[alone] or began >= ends[alone]


def test_stages_that_do_not_measure_run_beside_each_other(local: Cluster, folder: Path, tmp_path: Path) -> None:
    (place := tmp_path / "place").mkdir()
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda n: runner(folder, local).run(cluster_stages.meets, n, str(place)), range(2)))
    assert [found.number for found in made] == [0, 1]


def test_workers_that_are_killed_at_random_lose_nothing_but_their_task(folder: Path, tmp_path: Path) -> None:
    diary, killed = tmp_path / "diary", []
    with open_cluster("local:2", tmp_path / "store", ROOT, lambda _: None) as cluster:
        ended = threading.Event()

        def kill() -> None:
            chance = random.Random(0)
            while not ended.wait(chance.uniform(0.5, 1.5)) and len(killed) < 4:
                found = cluster._client.run(os.getpid, on_error="ignore")
                if found:
                    killed.append(chance.choice(sorted(found.values())))
                    os.kill(killed[-1], signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        with ThreadPoolExecutor(4) as pool:
            made = list(
                pool.map(lambda n: runner(tmp_path, cluster).run(cluster_stages.work, n, 0.3, str(diary)), range(16))
            )
        ended.set()
        killer.join()
    assert [found.number for found in made] == list(range(16))
    assert killed
    assert all(found.path.read_text() == f"number {found.number}\n" for found in made)
    finished = [n for _, n, _, _ in told(diary, "end")]
    assert len(finished) <= 16 + len(killed)
    assert len(told(diary, "begin")) <= 16 + 2 * len(killed)


def test_all_workers_may_die_for_good_and_others_come(folder: Path, tmp_path: Path) -> None:
    """One that is killed while it begins is not started again by its keeper: the build ended with "none is there"."""
    with open_cluster("local:1", tmp_path / "store", ROOT, lambda _: None) as cluster:
        cluster._client.sync(cluster._client.scheduler.retire_workers, close_workers=True, remove=True)
        made = runner(tmp_path, cluster).run(cluster_stages.work, 5, 0.0, str(tmp_path / "diary"))
    assert made.number == 5


def workers_of(owner: int) -> list[int]:
    """The processes of workers that another one keeps, those among them that are only beginning."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            if parent == owner and "spawn_main" in (path.parent / "cmdline").read_text():
                found.append(int(path.parent.name))
    return found


def test_workers_that_are_killed_while_they_begin_come_again(tmp_path: Path) -> None:
    """dask gives such a worker up for good: with all of them every row of a build failed."""
    with open_cluster("local:2", tmp_path / "store", ROOT, lambda _: None) as cluster:
        killed = 0
        until = time.monotonic() + 60
        while killed < 6 and time.monotonic() < until:
            for pid in workers_of(os.getpid()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
            cluster._look_after()
            time.sleep(0.2)
        assert killed >= 6
        made = [runner(tmp_path, cluster).run(cluster_stages.work, n, 0.0, str(tmp_path / "diary")) for n in range(3)]
    assert [found.number for found in made] == [0, 1, 2]


BEGINS = """
import sys
from pathlib import Path
from edgepack.pipeline.open_cluster import open_cluster
try:
    with open_cluster("local:2", Path(sys.argv[1]), "edgepack.pipeline.cluster", print):
        print("began")
except KeyboardInterrupt:
    print("interrupted")
"""


def test_an_interruption_while_workers_begin_leaves_none_and_no_traceback(tmp_path: Path) -> None:
    """dask printed one, or several, below what the command said."""
    words = [sys.executable, "-c", BEGINS, str(tmp_path / "store")]
    pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(words, text=True, **pipes) as process:
        deadline = time.monotonic() + 60
        while not (begun := workers_of(process.pid)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=120)
    assert said == ("interrupted\n", "")
    assert not [pid for pid in begun if Path(f"/proc/{pid}/cmdline").exists()]


def dask(folder: Path, *words: str, path: Path | None = None) -> subprocess.Popen[bytes]:
    kind, *options = words
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*([str(path)] if path else []), *sys.path])}
    command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--host", "127.0.0.1", *options]
    with (folder / f"{kind}.log").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=environment, start_new_session=True)


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[tuple[str, Path, list[subprocess.Popen[bytes]]]]:
    """A scheduler that runs, where it is, and a list of processes to end."""
    file = tmp_path / "scheduler.json"
    running = [dask(tmp_path, "scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(file))]
    try:
        deadline = time.monotonic() + 60
        while not (file.exists() and file.read_text().strip().endswith("}")):
            assert time.monotonic() < deadline, (tmp_path / "scheduler.log").read_text()
            time.sleep(0.1)
        yield json.loads(file.read_text())["address"], tmp_path, running
    finally:
        for process in running:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


WORKER = ("--no-dashboard", "--nthreads", "1", "--no-nanny", "--name")


def test_a_worker_with_another_tool_is_refused_by_name(scheduler: Any) -> None:
    address, folder, running = scheduler
    old = folder / "old" / "numpy-1.0.0.dist-info"
    old.mkdir(parents=True)
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 1.0.0\n")
    running.append(dask(folder, "worker", address, *WORKER, "stale", path=old.parent))
    where, notes = f"dask:{address.removeprefix('tcp:')}", []
    refused = pytest.raises(ToolchainError, match=r"worker stale: it has numpy 1\.0\.0, this build")
    with refused, open_cluster(where, folder / "store", ROOT, notes.append):
        pass
    running.append(dask(folder, "worker", address, *WORKER, "good"))
    deadline = time.monotonic() + 60
    while True:
        try:
            with open_cluster(where, folder / "store", ROOT, notes.append) as cluster:
                found = [
                    runner(folder, cluster).run(cluster_stages.work, n, 0.0, str(folder / "diary")) for n in range(3)
                ]
            break
        except ToolchainError:
            assert time.monotonic() < deadline
    assert [made.number for made in found] == [0, 1, 2]
    assert {who for _, _, who, _ in told(folder / "diary", "begin")} == {str(running[-1].pid)}
    assert any("worker stale" in note for note in notes)


def test_a_worker_runs_stages_where_the_build_runs(scheduler: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of models and samples are those of the build: a worker looked for them in its own folder."""
    address, folder, running = scheduler
    running.append(dask(folder, "worker", address, *WORKER, "elsewhere"))
    (folder / "here").mkdir()
    monkeypatch.chdir(folder / "here")
    with open_cluster(f"dask:{address.removeprefix('tcp:')}", folder / "store", ROOT, lambda _: None) as cluster:
        runner(folder, cluster).run(cluster_stages.work, 1, 0.0, "diary")
    assert len(told(folder / "here" / "diary", "begin")) == 1


def test_a_scheduler_that_dies_ends_the_build_with_what_to_do(scheduler: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    address, folder, running = scheduler
    monkeypatch.setattr(module, "_LOOK_S", 0.5)
    monkeypatch.setattr(module, "_CONNECT_S", 1.0)
    running.append(dask(folder, "worker", address, *WORKER, "good"))

    def kill_after_one() -> None:
        while not list((folder / "store" / "work").glob("[!.]*/made.txt")):  # kept, not one that is being made
            time.sleep(0.1)
        os.killpg(running[0].pid, signal.SIGKILL)

    with open_cluster(f"dask:{address.removeprefix('tcp:')}", folder / "store", ROOT, lambda _: None) as cluster:
        threading.Thread(target=kill_after_one, daemon=True).start()
        own = runner(folder, cluster)
        with pytest.raises(ToolchainError, match="the scheduler is gone") as caught:
            [own.run(cluster_stages.work, number, 1.0, str(folder / "diary")) for number in range(100)]
    assert "what is done is kept" in caught.value.hint
    assert cluster.gone
    with pytest.raises(ToolchainError, match="the scheduler is gone"):
        cluster.workers()
    # dask would print a traceback of its own before ours
    assert not logging.getLogger("distributed.client").isEnabledFor(logging.ERROR)
    assert len(list((folder / "store" / "work").glob("[!.]*/made.txt"))) >= 1


@pytest.mark.parametrize(
    "workers", ["local", "local:0", "local:x", "local:999", "dask://", "dask:h:1", "http://h:1", ""]
)
def test_workers_that_cannot_be_meant_are_refused(tmp_path: Path, workers: str) -> None:
    with pytest.raises(ConfigError, match="is not known") as caught, open_cluster(workers, tmp_path, ROOT, print):
        pass
    assert "local:N" in caught.value.hint


def test_a_scheduler_that_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_FIND_S", 1.0)
    missing = pytest.raises(ToolchainError, match="no scheduler of dask answers at 127")
    with missing, open_cluster("dask://127.0.0.1:1", tmp_path, ROOT, print):
        pass


def test_stages_that_use_a_gpu_take_one_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two made-up GPUs of three workers: as many stages at once, each sees one, and others see what they did."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    folder = tmp_path / "model"  # apart from the store: what a stage depends on is read while others write there
    folder.mkdir()
    model = CompiledModel("made-up", "fp32", folder, "x", (), (), (), {}, device="GPU")
    with open_cluster("local:3", tmp_path / "store", ROOT, lambda _: None) as cluster, ThreadPoolExecutor(6) as pool:

        def run(number: int) -> str:
            options = RunOptions(threads=number + 1, device="CPU" if number > 3 else None)
            return runner(tmp_path, cluster).run(cluster_stages.sees, model, options, 0.3).path.read_text()

        found = list(pool.map(run, range(6)))
    assert sorted(found[:4]) == ["3", "3", "5", "5"] or set(found[:4]) <= {"3", "5"}
    assert found[4:] == ["3,5", "3,5"]


def test_a_worker_whose_disk_is_full_is_given_nothing_more(tmp_path: Path) -> None:
    notes: list[str] = []
    with open_cluster("local:2", tmp_path / "store", ROOT, notes.append) as cluster:
        made = [runner(tmp_path, cluster).run(cluster_stages.fills, n, str(tmp_path / "first")) for n in range(4)]
    assert [found.number for found in made] == [0, 1, 2, 3]
    assert all(not list(found.path.glob("half*")) for found in made), "what was left of the first try is removed"
    assert len(notes) == 1
    assert "no space left while writing half; it is given nothing more" in notes[0]


def test_disks_that_are_all_full_are_an_error(tmp_path: Path) -> None:
    with (
        open_cluster("local:1", tmp_path / "store", ROOT, lambda _: None) as cluster,
        pytest.raises(StorageError, match="no space left"),
    ):
        runner(tmp_path, cluster).run(cluster_stages.fills, 1, str(tmp_path / "first"))


def test_a_worker_that_says_nothing_any_more_counts_as_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is lost without an end: the worker is stopped, and neither answers nor closes anything."""
    monkeypatch.setattr(opening, "_SILENT_S", 4)
    diary = tmp_path / "diary"
    with open_cluster("local:2", tmp_path / "store", ROOT, lambda _: None) as cluster:
        pids = sorted(cluster._client.run(os.getpid).values())
        with ThreadPoolExecutor(4) as pool:
            made = pool.map(lambda n: runner(tmp_path, cluster).run(cluster_stages.work, n, 0.5, str(diary)), range(8))
            time.sleep(1.0)
            os.kill(pids[0], signal.SIGSTOP)
            try:
                assert [found.number for found in made] == list(range(8))
            finally:
                with contextlib.suppress(ProcessLookupError):  # its keeper ended it
                    os.kill(pids[0], signal.SIGKILL)


def test_workers_that_do_not_start_are_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import distributed

    def fail(**_: object) -> None:
        raise RuntimeError("Nanny failed to start.")

    monkeypatch.setattr(distributed, "LocalCluster", fail)
    failing = pytest.raises(ToolchainError, match="2 workers did not start")
    with failing, open_cluster("local:2", tmp_path / "store", ROOT, print):
        pass
