"""Corrections are judged by the engine that will run them, where that is quick."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from quantize_models import minmax_ranges, node, random_feeds, save

from edgepack.quantize import quantize
from edgepack.quantize.correct.judge import UNSTABLE_DB, Judge, judging_versions
from edgepack.quantize.correct.shown import FEWEST_BOXES
from edgepack.specs.model import OnnxModel
from edgepack.specs.target import QuantizationRules
from edgepack.specs.task import Frame, Task

if TYPE_CHECKING:
    from pathlib import Path

DETECTION = Task("object-detection", "yolo-final", settings={"score": 0.25})


@pytest.fixture
def models(tmp_path: Path) -> tuple[OnnxModel, OnnxModel]:
    weights = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    model = save([node("Conv", "x w", "y")], {"w": weights}, tmp_path / "m.onnx", inputs={"x": (1, 3, 8, 8)})
    ranges = minmax_ranges(model, random_feeds(model, 4))
    return model, quantize(model, ranges, QuantizationRules(engine="openvino"), tmp_path / "q")


@pytest.mark.parametrize(
    ("engine", "judging"),
    [("onnxruntime", "onnxruntime"), ("openvino", "openvino"), ("tvm", "onnxruntime"), ("tensorrt", "onnxruntime")],
)
def test_who_judges_for_whom(engine: str, judging: str, models: tuple[OnnxModel, OnnxModel], tmp_path: Path) -> None:
    model, quantized = models
    judge = Judge(model, random_feeds(model, 3), engine, tmp_path)
    assert judge.engine == judging
    assert judging_versions(engine)["engine"] == judging
    assert 25 < judge(quantized) < 60
    assert not (tmp_path / "judged").exists()


def test_few_samples_are_judged_by_what_varies_between_more(tmp_path: Path) -> None:
    constants = {"w": np.full((1, 1), 0.01, np.float32), "b": np.full((1, 1), 10.0, np.float32)}
    nodes = [node("MatMul", "x w", "t"), node("Add", "t b", "y")]
    model = save(nodes, constants, tmp_path / "m.onnx", inputs={"x": (1, 1)})
    other = {**constants, "w": np.full((1, 1), 0.02, np.float32)}  # all that varies is wrong
    wrong = save(nodes, other, tmp_path / "wrong.onnx", inputs={"x": (1, 1)})
    feeds = random_feeds(model, 12)
    assert Judge(model, feeds[:3], "onnxruntime", tmp_path)(wrong) > 50
    assert -6 < Judge(model, feeds[:3], "onnxruntime", tmp_path, feeds[3:])(wrong) < 6


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_what_a_detector_shows_is_that_of_all_samples(engine: str, tmp_path: Path) -> None:
    """Boxes are the model's own inputs, and its output where a score is lost."""
    nodes = [node("Mul", "x w", "y")]
    shape = {"x": (1, 12, 6)}
    same, lost = (np.ones((1, 12, 6), np.float32) for _ in range(2))
    lost[:, :3, 4] = 0.1
    model = save(nodes, {"w": same}, tmp_path / "m.onnx", inputs=shape)
    other = save(nodes, {"w": lost}, tmp_path / "other.onnx", inputs=shape)
    left = np.arange(12, dtype=np.float32) * 20
    rows = np.stack([left, left * 0, left + 10, left * 0 + 10, left * 0 + 0.9, left * 0], 1)
    feeds = [{"x": rows[None]}] * 3
    judge = Judge(model, feeds[:1], engine, tmp_path, feeds[1:], DETECTION, [Frame()] * 3)
    assert judge.shown(model) == 1
    assert judge.shown(other) == pytest.approx(0.75)
    assert not (tmp_path / "judged").exists()
    assert judge.boxes == 36
    tensors = Judge(model, feeds[:1], engine, tmp_path, feeds[1:])
    assert (tensors.shown(model), tensors.boxes) == (None, None)


def test_few_boxes_judge_nothing(tmp_path: Path) -> None:
    model = save([node("Relu", "x", "y")], {}, tmp_path / "m.onnx", inputs={"x": (1, FEWEST_BOXES - 1, 6)})
    left = np.arange(FEWEST_BOXES - 1, dtype=np.float32) * 20
    feeds = [{"x": np.stack([left, left * 0, left + 10, left * 0 + 10, left * 0 + 0.9, left * 0], 1)[None]}]
    judge = Judge(model, feeds, "onnxruntime", tmp_path, (), DETECTION, [Frame()])
    assert (judge.boxes, judge.shown(model)) == (FEWEST_BOXES - 1, None)


def test_what_is_written_is_what_the_engines_compute(models: tuple[OnnxModel, OnnxModel], tmp_path: Path) -> None:
    model, quantized = models
    judge = Judge(model, random_feeds(model, 3), "openvino", tmp_path)
    assert judge(quantized) == pytest.approx(judge.as_written(quantized), abs=1.0)


def test_answers_that_differ_from_run_to_run_are_none(
    models: tuple[OnnxModel, OnnxModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgepack.quantize.correct import judge as module

    model, quantized = models
    judge = Judge(model, random_feeds(model, 3), "openvino", tmp_path)
    noise = np.random.default_rng(0)
    plain = module._copied
    monkeypatch.setattr(module, "_copied", lambda o: {k: v + noise.standard_normal() for k, v in plain(o).items()})
    assert judge(quantized) == UNSTABLE_DB
