"""The process that holds one bundle: requests as lines, answers as lines, errors among them."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgepack.base import documents
from edgepack.benchmark.measure import worker
from edgepack.benchmark.measure.worker import ANSWERS, REQUESTS, Block, Closing, Holder, Open
from edgepack.errors import DataError
from edgepack.specs.result import Scenario
from edgepack.specs.run import RunOptions

SCENARIO = Scenario("SingleStream", 10**7, 10**6)
ONE = RunOptions(threads=1)


@pytest.fixture
def holder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Holder]:
    """One that is closed, and whose objects are garbage again: here they are not frozen."""
    monkeypatch.setattr(gc, "freeze", lambda: None)
    held = Holder()
    yield held
    if held._session is not None:
        held._session.close()


def message(kind: str, request: Any) -> dict[str, Any]:
    return {"kind": kind, "request": documents.encode(request)}


def test_requests_and_answers_come_in_pairs() -> None:
    assert set(REQUESTS) == set(ANSWERS)


def test_a_bundle_is_measured_in_blocks_that_go_on(holder: Holder, bundle_path: Path) -> None:
    opened = holder.answer(Open(bundle_path, SCENARIO, ONE))
    assert opened.subject.manifest.name == "small"
    holder.rest()
    blocks = [holder.answer(Block(0, 3, 10**9, refresh_ns=0)) for _ in range(2)]
    for block in blocks:
        assert len(block.latencies_ns) == 3
        assert block.refreshed == 1
        assert block.used.cpu_s >= 0
    assert holder._issued == opened.warmup.queries + 2 * (3 + 1)
    memory = holder.answer(Closing()).memory
    assert memory is None or memory.before_bytes > 0


class Spinning:
    """A process whose threads take all of a core for ``spins_ns``, and 3 % of one after that; its time is simulated."""

    def __init__(self, spins_ns: int) -> None:
        self.spins_ns, self.now = spins_ns, 0

    def cpu_ns(self) -> int:
        return min(self.now, self.spins_ns) + max(self.now - self.spins_ns, 0) * 3 // 100

    def settle(self) -> bool:
        def sleep(seconds: float) -> None:
            self.now += round(seconds * 1e9)

        return worker.settle(self.cpu_ns, lambda: self.now, sleep)


@pytest.mark.parametrize(("spins_ms", "waits_ms"), [(0, 4), (13, 18), (40, 44)])
def test_threads_that_spin_after_a_query_come_to_rest_before_others_are_measured(spins_ms: int, waits_ms: int) -> None:
    process = Spinning(spins_ms * 10**6)
    assert process.settle()
    assert process.now == waits_ms * 10**6


def test_threads_that_spin_for_ever_do_not_stop_the_others() -> None:
    process = Spinning(10**12)
    assert not process.settle()
    assert process.now == 50 * 10**6


def test_a_block_ends_when_its_threads_are_at_rest(
    holder: Holder, bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(worker, "settle", lambda: done.append("settled"))
    holder.answer(Open(bundle_path, SCENARIO, ONE))
    holder.answer(Block(0, 3, 10**9))
    assert done == ["settled", "settled"]


def test_a_slow_down_prolongs_each_query(holder: Holder, bundle_path: Path) -> None:
    holder.answer(Open(bundle_path, SCENARIO, ONE, spin_ns=3_000_000))
    assert min(holder.answer(Block(0, 3, 10**9)).latencies_ns) >= 3_000_000


def test_a_known_error_keeps_its_kind_and_hint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> Any:
        raise DataError("does not fit", hint="compare")

    monkeypatch.setattr(Holder, "answer", fail)
    found = worker._reply(Holder(), message("close", Closing()))
    assert found == {"error": {"kind": "DataError", "message": "does not fit", "hint": "compare"}}
    assert "Traceback" in capsys.readouterr().err  # for the log


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        ({"kind": "dance", "request": {}}, "KeyError"),
        ({"kind": "block", "request": {"minimum_ns": "x"}}, "ConfigError"),
        ({}, "KeyError"),
    ],
)
def test_what_cannot_be_meant_is_an_error_too(request_: dict[str, Any], kind: str) -> None:
    assert worker._reply(Holder(), request_)["error"]["kind"] == kind


def test_words_of_an_unknown_error_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Holder, "answer", lambda *_: (_ for _ in ()).throw(RuntimeError("x" * 5000)))
    found = worker._reply(Holder(), message("close", Closing()))["error"]
    assert (len(found["message"]), found["hint"]) == (2000, "")


def serve(*lines: str) -> tuple[int, list[dict[str, Any]]]:
    """Run the process with these lines on its input; return its exit status and its answers."""
    read, write = os.pipe()
    words = [sys.executable, "-m", "edgepack.benchmark.measure.worker", str(write)]
    text = "".join(f"{line}\n" for line in lines)
    done = subprocess.run(words, input=text.encode(), pass_fds=(write,), capture_output=True, check=False)
    os.close(write)
    with os.fdopen(read, "rb") as answers:
        return done.returncode, [json.loads(line) for line in answers.read().splitlines()]


def test_the_end_of_the_input_is_the_end_of_the_process() -> None:
    assert serve() == (0, [])


def test_an_error_is_the_last_answer() -> None:
    code, answers = serve(json.dumps({"kind": "dance"}), json.dumps(message("close", Closing())))
    assert code == 0
    assert [set(answer) for answer in answers] == [{"error"}]
