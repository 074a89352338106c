"""A loaded model that follows an installation: no query is lost when versions change, and nothing is left open."""

from __future__ import annotations

import gc
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_bundles import onnx_outputs, small_bundle

from edgepack import load
from edgepack.errors import EdgepackError
from edgepack.runtime.install import install, rollback
from edgepack.runtime.watch import WatchedModel

pytestmark = pytest.mark.slow
FEEDS = {"image": np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An installation with two versions that answer differently; 2 is in use."""
    for version in ("1", "2"):
        install(small_bundle(tmp_path / version, int(version) + 2, version=version), tmp_path / "root")
    return tmp_path / "root"


def answers(tmp_path: Path) -> dict[str, Any]:
    return {v: onnx_outputs(tmp_path / v / "compiled" / "model.onnx", FEEDS)["scores"] for v in ("1", "2")}


def watched(root: Path, look_s: float = 0.0) -> WatchedModel:
    return WatchedModel(root / "current" / "small.edgepack", None, look_s=look_s)


def until(model: WatchedModel, version: str) -> None:
    deadline = time.monotonic() + 30
    while model.manifest.version != version:
        assert time.monotonic() < deadline
        model.infer(FEEDS)


def test_it_takes_up_the_version_that_comes_in_use(root: Path, tmp_path: Path) -> None:
    right = answers(tmp_path)
    with load(root / "current" / "small.edgepack", watch=True) as model:
        np.testing.assert_allclose(model.infer(FEEDS)["scores"], right["2"], rtol=1e-4)
        rollback(root)
        until(model, "1")
        np.testing.assert_allclose(model.infer(FEEDS)["scores"], right["1"], rtol=1e-4)
        assert model.backend == "onnxruntime"
        assert model.problem is None
    with pytest.raises(EdgepackError, match="was closed"):
        model.infer(FEEDS)
    model.close()


def test_a_model_without_watch_keeps_its_version(root: Path, tmp_path: Path) -> None:
    with load(root / "current" / "small.edgepack") as model:
        rollback(root)
        assert model.manifest.version == "2"
        np.testing.assert_allclose(model.infer(FEEDS)["scores"], answers(tmp_path)["2"], rtol=1e-4)


def test_it_does_not_look_at_every_call(root: Path) -> None:
    now = [0.0]
    with WatchedModel(root / "current" / "small.edgepack", None, clock=lambda: now[0]) as model:
        rollback(root)
        for _ in range(20):
            model.infer(FEEDS)
        assert model.manifest.version == "2"
        now[0] = 1.0
        model.infer(FEEDS)
        deadline = time.monotonic() + 30
        while model.manifest.version == "2":
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_what_cannot_be_loaded_leaves_the_version_that_is(root: Path, tmp_path: Path) -> None:
    path = root / "current" / "small.edgepack"
    with watched(root) as model:
        rollback(root)
        until(model, "1")
        good = path.read_bytes()
        path.write_bytes(good[:-1])
        deadline = time.monotonic() + 30
        while model.problem is None:
            assert time.monotonic() < deadline
            model.infer(FEEDS)
        assert "more or fewer bytes" in model.problem or "damaged" in model.problem or "cut off" in model.problem
        np.testing.assert_allclose(model.infer(FEEDS)["scores"], answers(tmp_path)["1"], rtol=1e-4)
        path.unlink()
        model.infer(FEEDS)
        path.write_bytes(good)
        while model.problem is not None:
            assert time.monotonic() < deadline
            model.infer(FEEDS)


def open_files() -> int:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


def resident_kb() -> int:
    gc.collect()
    (line,) = [x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmRSS")]
    return int(line.split()[1])


@pytest.mark.parametrize(
    "switches", [20, pytest.param(1000, marks=[pytest.mark.long, pytest.mark.own, pytest.mark.timeout(3600)])]
)
def test_no_query_is_lost_while_versions_change(root: Path, tmp_path: Path, switches: int) -> None:
    """Two clients query all the time; every answer is one version's or the other's, and nothing is left open."""
    right = list(answers(tmp_path).values())
    stop, failed, count = threading.Event(), [], [0, 0]

    def query(i: int, model: WatchedModel) -> None:
        while not stop.is_set():
            try:
                scores = model.infer(FEEDS)["scores"]
                if not any(np.allclose(scores, each, rtol=1e-3, atol=1e-4) for each in right):
                    failed.append("an answer of neither version")
            except BaseException as error:
                failed.append(repr(error))
            count[i] += 1

    with watched(root) as model:
        clients = [threading.Thread(target=query, args=(i, model)) for i in range(2)]
        for client in clients:
            client.start()
        seen, before = set(), (0, 0)
        for i in range(switches):
            record = rollback(root)
            deadline = time.monotonic() + 30
            while model.manifest.version != record.version:
                assert time.monotonic() < deadline, failed[:3]
                time.sleep(0.002)
            seen.add(record.version)
            if i == switches // 4:
                before = (open_files(), resident_kb())
        after = (open_files(), resident_kb())
        stop.set()
        for client in clients:
            client.join()
    print(f"{switches} switches, {sum(count)} queries, {len(failed)} failed; descriptors, kB: {before} then {after}")
    assert failed == []
    assert seen == {"1", "2"}
    assert min(count) > switches
    assert after[0] <= before[0] + 3
    assert after[1] < before[1] * 1.2 + 20_000


def test_a_version_that_is_refused_when_it_is_prepared_is_not_taken_up(root: Path) -> None:
    prepared: list[str] = []

    def prepare(model: Any) -> None:
        prepared.append(model.manifest.version)
        if model.manifest.version == "1":
            raise EdgepackError("not this one")

    with WatchedModel(root / "current" / "small.edgepack", None, prepare=prepare, look_s=0.0) as model:
        assert prepared == ["2"]
        rollback(root)
        deadline = time.monotonic() + 30
        while model.problem is None:
            assert time.monotonic() < deadline
            model.look()
        assert model.problem == "not this one"
        with model.using() as lent:
            assert lent.manifest.version == "2"
            assert lent.infer(FEEDS)["scores"].shape == (1, 5)
    rollback(root)
    rollback(root)
    with pytest.raises(EdgepackError, match="not this one"):
        WatchedModel(root / "current" / "small.edgepack", None, prepare=prepare)


def test_a_version_that_could_not_be_loaded_is_tried_again_at_longer_intervals(root: Path) -> None:
    """What was short, as memory, may be there later; a version that is refused costs less and less."""
    now, tried = [0.0], list[float]()

    def prepare(model: Any) -> None:
        if model.manifest.version == "1":
            tried.append(now[0])
            if now[0] < 200:
                raise MemoryError("no memory")

    path = root / "current" / "small.edgepack"
    with WatchedModel(path, None, prepare=prepare, look_s=0.0, clock=lambda: now[0]) as model:
        rollback(root)
        for now[0] in range(1, 230, 5):
            model.look()
            if model._loader is not None:
                model._loader.join(30)
        assert tried == [1, 31, 91, 211]
        assert (model.problem, model.manifest.version) == (None, "1")


def test_it_may_be_closed_while_a_look_begins(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was to be waited for had not begun, which ended ``close`` with an error of Python's."""
    model = watched(root)
    begun, start = threading.Event(), threading.Thread.start

    def late(thread: threading.Thread) -> None:
        if thread.name == "edgepack-watch":
            begun.set()
            time.sleep(0.3)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", late)
    rollback(root)
    looking = threading.Thread(target=model.look)
    looking.start()
    assert begun.wait(20)
    model.close()
    looking.join()
    assert model._loader is None
