"""What keeps a worker from stages, and what of its machine a stage has. How stages run on workers: test_cluster.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgepack.pipeline import worker as module
from edgepack.pipeline.worker import Share, WorkerFacts, shares_of

HERE = WorkerFacts({"edgepack's code": "a", "onnx": "1"}, ("cpu", "x86_64", "avx2"), "m", sees=True)


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (HERE, None),
        (WorkerFacts(HERE.tools, HERE.processor, "other", sees=True), None),
        (WorkerFacts(HERE.tools, HERE.processor, "m", sees=False), "does not see the folder of the store"),
        (WorkerFacts(HERE.tools, HERE.processor, "m", sees=True, lacks="/x"), "does not see /x, the folder that the"),
        (WorkerFacts({**HERE.tools, "onnx": "2"}, HERE.processor, "m", sees=True), "onnx 2, this build 1"),
        (WorkerFacts({"onnx": "1"}, HERE.processor, "m", sees=True), "edgepack's code not at all, this build a"),
        (WorkerFacts({**HERE.tools, "more": "2"}, HERE.processor, "m", sees=True), "more 2, this build not at all"),
        (WorkerFacts(HERE.tools, ("cpu", "x86_64"), "m", sees=True), "its processor is another one"),
    ],
)
def test_what_keeps_a_worker_from_stages(there: WorkerFacts, said: str | None) -> None:
    found = there.differs(HERE)
    assert (found is None) if said is None else (said in str(found))


# --- what stages need -------------------------------------------------------------------------------------------------


def facts(machine: str, memory_bytes: int = 1000, gpus: tuple[str, ...] = ()) -> WorkerFacts:
    return WorkerFacts({}, ("cpu",), machine, sees=True, memory_bytes=memory_bytes, gpus=gpus)


def test_workers_of_a_machine_share_its_memory_and_take_a_gpu_each() -> None:
    workers = {"a": facts("m", gpus=("0", "1")), "b": facts("m", gpus=("0", "1")), "c": facts("n", 500)}
    found = shares_of(workers, {"a": 1, "b": 3, "c": 1}, {})
    assert found == {"a": Share(250, "0"), "b": Share(250, "1"), "c": Share(500)}
    later = {name: workers[name] for name in ("b", "c")} | {"A": workers["a"]}  # "a" was lost, "A" came
    again = shares_of(later, {}, found)
    assert (again["A"].gpu, again["b"].gpu, again["b"].memory_bytes) == ("0", "1", 500)
    more = shares_of({**later, "d": workers["a"]}, {}, again)
    assert more["d"].gpu is None


@pytest.mark.parametrize(
    ("allowed", "count", "named", "found"),
    [
        (None, 2, True, ("0", "1")),
        (None, 0, True, ("0",)),
        (None, 0, False, ()),
        ("3, 5", 8, True, ("3", "5")),
        ("", 2, True, ()),
        ("-1", 2, True, ()),
    ],
)
def test_gpus_are_those_that_cuda_may_use(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    allowed: str | None,
    count: int,
    named: bool,
    found: tuple[str, ...],
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if allowed is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", allowed)
    for number in range(count):
        (tmp_path / str(number)).mkdir()
    assert module._gpus(named=named, root=tmp_path) == found
