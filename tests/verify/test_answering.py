"""Samples are answered one by one, in order, several at once only where that changes no bit."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_bundles import small_compiled

from edgepack.engines.onnxruntime import engine
from edgepack.engines.onnxruntime.engine import OnnxRuntimeRunner
from edgepack.engines.targets import load_target
from edgepack.errors import DataError
from edgepack.graph.load import load_model
from edgepack.specs.run import RunOptions
from edgepack.verify import answering
from edgepack.verify.answering import FEWEST, Answering

IMAGES = np.random.default_rng(2).standard_normal((FEWEST + 6, 1, 3, 8, 8), np.float32)
AS_IT_COMES = RunOptions()


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[RunOptions]:
    """What the engine was loaded with, on a machine of two cores."""
    seen: list[RunOptions] = []
    load = engine.load_model

    def note(model: Any, options: RunOptions) -> Any:
        seen.append(options)
        return load(model, options)

    monkeypatch.setattr(engine, "load_model", note)
    monkeypatch.setattr(answering, "usable_cores", lambda: 2)
    return seen


def feeds(count: int) -> Iterator[dict[str, Any]]:
    return ({"image": image} for image in IMAGES[:count])


def answers(folder: Path, count: int, options: RunOptions = AS_IT_COMES) -> list[np.ndarray]:
    found = Answering(small_compiled(folder), options)
    try:
        with closing(found.answers(feeds(count), count)) as outputs:
            return [np.array(one["scores"]) for one in outputs]
    finally:
        found.close()


def alone(folder: Path, count: int) -> list[np.ndarray]:
    runner = engine.load_model(small_compiled(folder), RunOptions())
    return [np.array(runner.infer(feed)["scores"]) for feed in feeds(count)]


@pytest.mark.parametrize("count", [FEWEST - 1, len(IMAGES)])
def test_every_answer_is_that_of_the_sample_alone(tmp_path: Path, loaded: list[RunOptions], count: int) -> None:
    np.testing.assert_array_equal(answers(tmp_path, count), alone(tmp_path, count))
    assert [o.threads for o in loaded[:-1]] == ([None] if count < FEWEST else [None, 1])
    assert not any(o.spinning for o in loaded[:-1])


def test_two_samples_are_under_way_at_once(
    tmp_path: Path, loaded: list[RunOptions], monkeypatch: pytest.MonkeyPatch
) -> None:
    infer, both = OnnxRuntimeRunner.infer, threading.Barrier(2, timeout=10)

    def met(self: OnnxRuntimeRunner, feed: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            both.wait()  # breaks, and fails, unless a second one comes
        return infer(self, feed)

    expected = alone(tmp_path, len(IMAGES))
    monkeypatch.setattr(OnnxRuntimeRunner, "infer", met)
    np.testing.assert_array_equal(answers(tmp_path, len(IMAGES)), expected)


def test_where_one_thread_answers_otherwise_samples_run_one_after_the_other(
    tmp_path: Path, loaded: list[RunOptions], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last bit of one value is enough."""
    load = engine.load_model

    class Other(OnnxRuntimeRunner):
        def infer(self, feed: Any, /) -> Any:
            found = dict(super().infer(feed))
            found["scores"][0, 0] = np.nextafter(found["scores"][0, 0], np.float32(np.inf))
            return found

    def load_other(model: Any, options: RunOptions) -> Any:
        runner: Any = load(model, options)
        return Other(runner._session, model.inputs, model.outputs) if options.threads == 1 else runner

    expected = alone(tmp_path, len(IMAGES))
    loaded.clear()
    monkeypatch.setattr(engine, "load_model", load_other)
    np.testing.assert_array_equal(answers(tmp_path, len(IMAGES)), expected)
    assert [o.threads for o in loaded] == [None, 1, None]


def test_an_engine_with_threads_of_its_own_has_a_stream_for_each_core(
    tmp_path: Path, loaded: list[RunOptions], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    from edgepack.engines.openvino import engine as openvino

    source = small_compiled(tmp_path / "onnx")
    compiled = openvino.compile_model(
        load_model(source.folder / source.entry), load_target("host-openvino"), "fp32", tmp_path / "ir"
    )
    runner = openvino.load_model(compiled, RunOptions())
    expected = [np.array(runner.infer(feed)["scores"]) for feed in feeds(len(IMAGES))]
    options: list[RunOptions] = []
    load = openvino.load_model

    def note(model: Any, how: RunOptions) -> Any:
        options.append(how)
        return load(model, how)

    monkeypatch.setattr(openvino, "load_model", note)
    found = Answering(compiled, AS_IT_COMES)
    with closing(found.answers(feeds(len(IMAGES)), len(IMAGES))) as outputs:
        np.testing.assert_array_equal([np.array(one["scores"]) for one in outputs], expected)
    found.close()
    assert [(o.threads, o.streams) for o in options] == [(None, None), (2, 2)]


def test_threads_that_were_asked_for_are_kept(tmp_path: Path, loaded: list[RunOptions]) -> None:
    answers(tmp_path, len(IMAGES), RunOptions(threads=2, spinning=True))
    assert [(o.threads, o.spinning) for o in loaded] == [(2, True)]


def test_the_error_of_a_sample_comes_after_the_answers_before_it(tmp_path: Path, loaded: list[RunOptions]) -> None:
    def broken() -> Iterator[dict[str, Any]]:
        for i, feed in enumerate(feeds(len(IMAGES))):
            yield feed if i != 50 else {"image": feed["image"][:, :, :5]}

    found = Answering(small_compiled(tmp_path), RunOptions())
    seen: list[int] = []
    with closing(found.answers(broken(), len(IMAGES))) as outputs, pytest.raises(DataError):
        seen.extend(len(one) for one in outputs)
    found.close()
    assert len(seen) == 50
