"""One compiled model beside the fp32 model: golden vectors, closeness and accuracy in one pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_bundles import INPUTS, onnx_outputs, small_compiled, small_golden

from edgepack.data.samples import find_samples
from edgepack.engines.onnxruntime import engine
from edgepack.engines.onnxruntime.engine import OnnxRuntimeRunner
from edgepack.engines.onnxruntime.engine import load_model as load_compiled
from edgepack.errors import ConfigError, DataError
from edgepack.graph.load import load_model
from edgepack.specs.run import RunOptions
from edgepack.specs.types import Array
from edgepack.verify.evaluate import Evaluation, evaluate
from edgepack.verify.reference import reference

IMAGES = np.random.default_rng(2).standard_normal((6, 3, 8, 8), np.float32)


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """Evaluate the small model, compiled with so many channels, beside one with eight."""
    fp32 = small_compiled(tmp_path / "fp32")
    golden = small_golden(fp32.folder / fp32.entry, tmp_path / "golden.npz")

    def call(
        metric: str = "top1", channels: int = 8, labelled: bool = True, images: Array = IMAGES, **more: Any
    ) -> Evaluation:
        labels = onnx_outputs(fp32.folder / fp32.entry, {"image": images})["scores"].argmax(axis=1)
        arrays = {"image": images, "labels": labels} if labelled else {"image": images}
        np.savez(tmp_path / "data.npz", **arrays)
        samples = find_samples(str(tmp_path / "data.npz"), INPUTS, None)
        expected = reference(load_model(fp32.folder / fp32.entry), samples, tmp_path / "reference")
        compiled = small_compiled(tmp_path / "compiled", channels)
        options = RunOptions(threads=1)
        return evaluate(compiled, golden, expected, None, samples, metric, None, 0, options, tmp_path / "out", **more)

    return call


def test_the_same_model_is_as_good_as_itself(run: Any) -> None:
    found = run()
    assert found.verification.passed
    assert (found.verification.engine, found.verification.samples) == ("onnxruntime", 2)
    assert (found.closeness.sqnr_db, found.closeness.agreement, found.closeness.n) == (None, 1.0, 6)
    assert (found.accuracy.fp32, found.accuracy.value, found.accuracy.n) == (1.0, 1.0, 6)


def test_how_far_outputs_vary_over_the_samples_is_told(run: Any) -> None:
    (span,) = run().spans
    assert (span.name, span.n, span.constant, span.max_abs) == ("scores", 6, False, 0.0)
    assert span.largest > 0


def test_what_all_samples_have_in_common_is_no_signal(run: Any) -> None:
    """Of six samples it is not known what varies, and the whole outputs are the signal."""
    many, few = run(channels=7, images=np.random.default_rng(3).random((10, 3, 8, 8), np.float32)), run(channels=7)
    assert many.balance.n == 10
    assert many.balance.worst_db < many.balance.worst_whole_db - 3
    assert few.balance.worst_db == pytest.approx(few.balance.worst_whole_db)


def test_another_model_is_told_apart(run: Any) -> None:
    found = run(channels=7)
    assert not found.verification.passed
    assert found.closeness.sqnr_db < 20
    assert found.accuracy.fp32 == 1.0
    assert found.accuracy.drop == 1.0 - found.accuracy.value


def test_without_labels_there_is_a_reason_and_all_else(run: Any) -> None:
    found = run(labelled=False)
    assert (found.accuracy, found.accuracy_reason) == (None, "no labels were given: accuracy was not measured")
    assert found.closeness.n == 6


def test_a_metric_without_a_drop_says_so(run: Any) -> None:
    found = run("sqnr")
    assert found.accuracy is None
    assert "no drop" in found.accuracy_reason


def test_the_compared_outputs_are_not_kept(run: Any, tmp_path: Path) -> None:
    run()
    assert list((tmp_path / "out").iterdir()) == []


def test_it_tells_how_far_it_is(run: Any) -> None:
    told: list[tuple[str, int, int]] = []
    run(progress=lambda *what: told.append(what))
    assert told == [("verify onnxruntime fp32", n, 6) for n in range(1, 7)]


def test_an_unknown_metric_is_refused_before_the_model_is_loaded(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Path] = []
    monkeypatch.setattr(engine, "load_model", lambda *given: (loaded.append(given[0].folder), load_compiled(*given))[1])
    with pytest.raises(ConfigError, match="unknown metric 'topp1'"):
        run("topp1")
    assert [folder.name for folder in loaded] == ["fp32"]  # the reference alone


def test_the_runner_is_closed_when_a_sample_fails(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[bool] = []
    infer, close = OnnxRuntimeRunner.infer, OnnxRuntimeRunner.close
    monkeypatch.setattr(OnnxRuntimeRunner, "close", lambda self: (closed.append(True), close(self))[1])
    calls: list[int] = []

    def failing(self: OnnxRuntimeRunner, feeds: Any) -> Any:
        calls.append(1)
        # Six of the reference, two golden vectors, two samples.
        return infer(self, feeds) if len(calls) <= 10 else (_ for _ in ()).throw(DataError("the third sample"))

    monkeypatch.setattr(OnnxRuntimeRunner, "infer", failing)
    with pytest.raises(DataError, match="the third sample"):
        run()
    assert len(closed) == 2  # the reference's and this one
