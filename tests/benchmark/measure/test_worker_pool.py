import os
import signal
from pathlib import Path

import pytest
from small_bundles import small_bundle

from edgepack.benchmark.measure import worker_pool
from edgepack.benchmark.measure.worker import Block, Closing, Open
from edgepack.errors import BundleError, ChildError
from edgepack.specs.result import Scenario
from edgepack.specs.run import RunOptions

pytestmark = pytest.mark.slow

HELPERS = Path(__file__).resolve().parents[2] / "helpers"

SCENARIO = Scenario("SingleStream", 10**8, 10**7)
OPTIONS = RunOptions(threads=1)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return small_bundle(tmp_path_factory.mktemp("worker"))


@pytest.fixture
def hostile(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(HELPERS))
    return "hostile_worker"


def test_blocks_continue_where_the_last_ended(bundle, tmp_path):
    with worker_pool.Worker(tmp_path / "log") as worker:
        opened = worker.ask(Open(bundle, SCENARIO, OPTIONS))
        blocks = [worker.ask(Block(10**6, 20, 10**9)) for _ in range(3)]
        memory = worker.ask(Closing()).memory
    assert opened.subject.manifest.name == "small"
    assert opened.warmup.queries > 0
    assert all(len(block.latencies_ns) >= 20 and min(block.latencies_ns) > 0 for block in blocks)
    assert all(block.used.cpu_s > 0 for block in blocks)
    assert memory is None or memory.infer_bytes >= memory.before_bytes


def test_a_known_slow_down_is_measured(bundle, tmp_path):
    with worker_pool.Worker(tmp_path / "log") as worker:
        worker.ask(Open(bundle, SCENARIO, OPTIONS, spin_ns=2_000_000))
        block = worker.ask(Block(10**6, 5, 10**9))
    assert min(block.latencies_ns) >= 2_000_000


def test_an_error_in_the_worker_is_the_same_error_here(tmp_path):
    broken = tmp_path / "broken.edgepack"
    broken.write_bytes(b"no bundle")
    with worker_pool.Worker(tmp_path / "log") as worker, pytest.raises(BundleError, match="not a zip archive"):
        worker.ask(Open(broken, SCENARIO, OPTIONS))


@pytest.mark.parametrize(
    ("name", "words"), [("segfault", "killed by SIGSEGV"), ("silent", "exit status 3"), ("other", "exit status 1")]
)
def test_a_process_that_dies_says_how(hostile, tmp_path, name, words):
    with worker_pool.Worker(tmp_path / "log", hostile) as worker, pytest.raises(ChildError, match=words) as caught:
        worker.ask(Open(Path(name), SCENARIO, OPTIONS))
    if name == "other":
        assert "the engine said something" in caught.value.hint


def test_a_process_that_hangs_is_stopped(hostile, tmp_path, monkeypatch):
    monkeypatch.setattr(worker_pool, "LOAD_LIMIT_S", 0.5)
    with worker_pool.Worker(tmp_path / "log", hostile) as worker, pytest.raises(ChildError, match="did not answer"):
        worker.ask(Open(Path("hang"), SCENARIO, OPTIONS))


def test_the_process_is_gone_afterwards(bundle, tmp_path):
    worker = worker_pool.Worker(tmp_path / "log")
    pid = worker._process.pid
    worker.ask(Open(bundle, SCENARIO, OPTIONS))
    worker.close()
    worker.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def test_all_are_closed_even_if_one_resists():
    class Resisting:
        closed = False

        def close(self):
            self.closed = True
            raise OSError("no")

    both = [Resisting(), Resisting()]
    with pytest.raises(OSError, match="no"):
        worker_pool.close_all(both)
    assert both[0].closed
    assert both[1].closed
