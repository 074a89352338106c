"""What labels say of a recipe's preprocessing where nothing is calibrated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from mask_data import IMAGENET, SIDE, TASK, UNIT, write_masks, write_segmenter
from PIL import Image

from edgepack.data.samples import find_samples
from edgepack.graph.load import load_model
from edgepack.lint.fit import judge_fit
from edgepack.pipeline.stages.lint import fit_before_use
from edgepack.specs.data import Preprocessing


class Runner:
    """Runs a stage here and now, and keeps what is said."""

    def __init__(self, out: Path) -> None:
        self.out, self.notes, self.titles, self.events = out, [], [], self

    def run(self, stage: object, *values: object, title: str) -> object:
        self.titles.append(title)
        return stage(*values, self.out)

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.mark.parametrize(("made", "proven"), [(UNIT, []), (IMAGENET, [True])])
def test_a_build_without_calibration_says_that_the_preprocessing_does_not_fit(
    made: Preprocessing, proven: list[bool], tmp_path: Path
) -> None:
    model, runner = write_segmenter(tmp_path / "net.onnx"), Runner(tmp_path)
    samples = find_samples(str(write_masks(tmp_path / "data", 16)), model.inputs, made, task=TASK)
    found = fit_before_use(runner, model, samples)
    assert [finding.proven for finding in found] == proven
    assert [note.startswith("the preprocessing does not fit the model: mean IoU") for note in runner.notes] == proven
    assert judge_fit(model, samples, tmp_path).findings[0].severity == ("warning" if proven else "note")


@pytest.mark.parametrize(("made", "right"), [(UNIT, True), (Preprocessing(resize=(SIDE, SIDE)), False)])
def test_a_classifier_that_is_mostly_right_is_run_a_dozen_times(
    made: Preprocessing, right: bool, tmp_path: Path
) -> None:
    """Else it would run 176 times in every build."""
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        net (float[1,3,32,32] x) => (float[1,2] scores) {
            mean = ReduceMean<axes=[1, 2, 3], keepdims=0>(x)
            row = Reshape(mean, shape)
            off = Sub(row, levels)
            away = Abs(off)
            scores = Neg(away)
        }"""
    )
    for name, value in (("shape", np.array([1, 1])), ("levels", np.array([[0.2, 0.7]], np.float32))):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    onnx.save(proto, tmp_path / "net.onnx")
    random = np.random.default_rng(0)
    for name, level in (("a", 51), ("b", 178)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(8):
            pixels = random.integers(level - 30, level + 30, (SIDE, SIDE, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{i}.png")
    model = load_model(tmp_path / "net.onnx")
    samples = find_samples(str(tmp_path / "data"), model.inputs, made)
    found = judge_fit(model, samples, tmp_path)
    assert (found.model_runs == 0) == right
    assert [finding.proven for finding in found.findings if finding.severity == "warning"] == ([] if right else [True])


def test_nothing_is_run_without_labels_or_for_arrays(tmp_path: Path) -> None:
    model, runner = write_segmenter(tmp_path / "net.onnx"), Runner(tmp_path)
    folder = write_masks(tmp_path / "data", 8) / "images"
    np.savez(tmp_path / "a.npz", x=np.zeros((8, 3, 32, 32), np.float32), labels=np.zeros(8, np.int64))
    for source in (folder, tmp_path / "a.npz"):
        assert fit_before_use(runner, model, find_samples(str(source), model.inputs, UNIT)) == ()
    assert not runner.titles
