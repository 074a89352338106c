"""What labels say of a recipe's preprocessing where nothing is calibrated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mask_data import IMAGENET, TASK, UNIT, write_masks, write_segmenter

from edgepack.data.samples import find_samples
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


def test_nothing_is_run_without_labels_or_for_arrays(tmp_path: Path) -> None:
    model, runner = write_segmenter(tmp_path / "net.onnx"), Runner(tmp_path)
    folder = write_masks(tmp_path / "data", 8) / "images"
    np.savez(tmp_path / "a.npz", x=np.zeros((8, 3, 32, 32), np.float32), labels=np.zeros(8, np.int64))
    for source in (folder, tmp_path / "a.npz"):
        assert fit_before_use(runner, model, find_samples(str(source), model.inputs, UNIT)) == ()
    assert not runner.titles
