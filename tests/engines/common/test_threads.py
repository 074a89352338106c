"""One loaded model and several threads, in every engine; a close meanwhile, a fork, a pickle."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import backend_models
import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from edgepack.engines.common.threads import EachThread, any_thread
from edgepack.errors import ConfigError, EdgepackError
from edgepack.specs.run import RunOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from edgepack.specs.types import Array

pytestmark = pytest.mark.slow

Load = Any
OPTIONS = {
    "plain": RunOptions(threads=1),
    "reused": RunOptions(threads=1, reuse_outputs=True),
    "fixed": RunOptions(threads=1, fixed_batch=2),
}


def in_threads(work: Callable[[int], None], count: int = 4) -> None:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def scaled(number: int) -> tuple[dict[str, Array], Array]:
    """Inputs that only one thread has, and their answer."""
    feeds = backend_models.feeds("conv", 1 + number % 3)
    feeds = {name: array * np.float32(1 + number) for name, array in feeds.items()}
    return feeds, ReferenceEvaluator(backend_models.MODELS["conv"]()).run(["scores"], feeds)[0]


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_thread_gets_the_answer_to_its_own_inputs(options: RunOptions, load: Load) -> None:
    runner = any_thread(load("conv", options=options))
    wrong: list[str] = []

    def work(number: int) -> None:
        feeds, wanted = scaled(number)
        for _ in range(150):
            try:
                found = runner.infer(feeds)["scores"]
                if found.shape != wanted.shape or not np.allclose(found, wanted, atol=1e-4):
                    wrong.append(f"thread {number} got another answer")
            except Exception as error:  # an engine's errors have no common base
                wrong.append(f"thread {number}: {error}")

    in_threads(work)
    assert wrong == []


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_close_lets_running_calls_end_and_refuses_the_next(options: RunOptions, load: Load) -> None:
    runner = any_thread(load("conv", options=options))
    started, ends, wrong = threading.Barrier(5), [], []

    def work(number: int) -> None:
        feeds, wanted = scaled(number)
        runner.infer(feeds)
        started.wait()
        for _ in range(100_000):
            try:
                found = runner.infer(feeds)["scores"]
            except Exception as error:  # as above
                ends.append(error)
                return
            if not np.allclose(found, wanted, atol=1e-4):
                wrong.append(number)

    closing = threading.Thread(target=lambda: (started.wait(), runner.close()))
    closing.start()
    in_threads(work)
    closing.join()
    assert wrong == []
    assert len(ends) == 4
    for error in ends:
        assert isinstance(error, EdgepackError)
        assert "closed" in error.message, error
    with pytest.raises(EdgepackError, match="this runner was closed"):
        runner.infer(scaled(0)[0])
    runner.close()


def test_a_closed_model_refuses_threads_that_never_called(load: Load) -> None:
    runner = any_thread(load("conv"))
    runner.close()
    said: list[str] = []

    def work(_: int) -> None:
        try:
            runner.infer(scaled(0)[0])
        except EdgepackError as error:
            said.append(error.message)

    in_threads(work, 2)
    assert said == ["this runner was closed"] * 2


class Counting:
    """TEST DOUBLE: a runner with one array for all its answers, that computes for as long as it is told."""

    def __init__(self) -> None:
        self.array = np.zeros(1)
        self.entered, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()
        self.closed = False

    def infer(self, feeds: Mapping[str, Array], /) -> Mapping[str, Array]:
        self.entered.set()
        self.go_on.wait(10)
        self.array[:] = feeds["x"]
        return {"y": self.array}

    def close(self) -> None:
        self.closed = True


class CountingShared(Counting):
    """TEST DOUBLE: one that can be had again."""

    made: list[CountingShared]

    def __init__(self) -> None:
        super().__init__()
        self.made = []

    def another(self) -> CountingShared:
        self.made.append(CountingShared())
        return self.made[-1]


def test_a_runner_that_cannot_be_shared_refuses_a_second_call_and_says_what_to_do() -> None:
    runner = Counting()
    shared = EachThread(runner)
    runner.go_on.clear()
    first = threading.Thread(target=shared.infer, args=({"x": np.ones(1)},))
    first.start()
    runner.entered.wait(10)
    said: list[EdgepackError] = []

    def second() -> None:
        try:
            shared.infer({"x": np.ones(1)})
        except EdgepackError as error:
            said.append(error)

    thread = threading.Thread(target=second)
    thread.start()
    thread.join(10)
    runner.go_on.set()
    first.join()
    assert [error.message for error in said] == ["this model is computing, or being closed, in another call"]
    assert "load it once for each thread" in str(said[0].hint)
    with pytest.raises(ConfigError, match="one inference at a time"):
        shared.another()


def test_answers_of_a_runner_that_cannot_be_shared_outlive_the_calls_of_other_threads() -> None:
    shared = EachThread(Counting())
    answers: dict[int, Array] = {}
    for number in (1, 2, 3):
        thread = threading.Thread(target=lambda n=number: answers.update({n: shared.infer({"x": np.full(1, n)})["y"]}))
        thread.start()
        thread.join()
    assert (answers[2][0], answers[3][0]) == (2, 3)


def test_a_threads_runner_is_freed_when_it_ends() -> None:
    first = CountingShared()
    shared = EachThread(first)
    shared.infer({"x": np.ones(1)})
    in_threads(lambda n: shared.infer({"x": np.full(1, n)}), 3)
    assert [runner.closed for runner in first.made] == [True] * 3
    assert not first.closed
    shared.close()
    assert first.closed


def test_a_runner_that_is_its_own_other_stays_open_when_a_thread_ends() -> None:
    class Same(Counting):
        def another(self) -> Same:
            return self

    same = Same()
    shared = EachThread(same)
    in_threads(lambda n: shared.infer({"x": np.full(1, n)}), 3)
    assert not same.closed


def test_a_call_within_a_call_is_refused() -> None:
    """As a signal's handler would make it: the arrays of the outer call would hold the inner one's answer."""
    said: list[str] = []

    class Nested(CountingShared):
        def infer(self, feeds: Mapping[str, Array], /) -> Mapping[str, Array]:
            if not said:
                said.append("")
                with pytest.raises(EdgepackError, match="in another call") as caught:
                    shared.infer(feeds)
                said.append(caught.value.message)
            return super().infer(feeds)

    shared = EachThread(Nested())
    assert shared.infer({"x": np.ones(1)})["y"][0] == 1
    assert len(said) == 2


FORKED = """
import os, sys, time
import numpy as np
sys.path[:0] = {path!r}
import backend_models
from pathlib import Path
from edgepack.engines import get_backend
from edgepack.engines.common.threads import any_thread
from edgepack.specs.run import RunOptions
from edgepack.specs.target import EngineFacts, Target

backend = get_backend({engine!r})
model = backend_models.save(backend_models.MODELS["conv"](), Path("source.onnx"))
target = Target("t", "t", {engine!r}, "x86_64", engine=EngineFacts())
compiled = backend.compile_model(model, target, "fp32", Path("out"))
runner = any_thread(backend.load_model(compiled, RunOptions(threads=2)))
feeds = backend_models.feeds("conv")
runner.infer(feeds)
child = os.fork()
if child == 0:
    try:
        runner.infer(feeds)
        said = "an answer"
    except Exception as error:
        said = f"{{type(error).__name__}}: {{error}} | {{getattr(error, 'hint', '')}}"
    runner.close()
    del runner
    print(said, flush=True)
    os._exit(0)
for _ in range(200):
    if os.waitpid(child, os.WNOHANG)[0]:
        break
    time.sleep(0.05)
else:
    os.kill(child, 9)
    print("the child hangs")
print("parent", float(abs(runner.infer(feeds)["scores"]).sum()) > 0)
"""


@pytest.mark.slow
def test_after_a_fork_the_child_is_told_and_the_parent_goes_on(engine: str, tmp_path: Path) -> None:
    script = tmp_path / "forks.py"
    script.write_text(FORKED.format(path=sys.path, engine=engine))
    command = [sys.executable, "-W", "ignore", str(script)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True)
    child, parent = done.stdout.splitlines()
    assert child.startswith("EdgepackError: this model was loaded before the process was forked"), done.stderr
    assert "load the bundle in each process" in child
    assert parent == "parent True"


@pytest.mark.parametrize("way", [pickle.dumps, copy.copy, copy.deepcopy])
def test_what_is_loaded_is_not_pickled(way: Callable[[Any], Any], load: Load) -> None:
    runner = any_thread(load("conv"))
    for what in (runner, runner.infer):
        if what is not runner and way is not pickle.dumps:  # copying a method makes no new one
            continue
        with pytest.raises(EdgepackError, match="can be neither pickled nor copied") as caught:
            way(what)
        assert "send the path of the bundle" in str(caught.value.hint)
