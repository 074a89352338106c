from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgepack.data.samples import read_labels, read_samples
from edgepack.data.split import SampleRequest, choose_samples, random_inputs, with_shapes
from edgepack.errors import ConfigError, DataError
from edgepack.specs.data import Preprocessing
from edgepack.specs.model import TensorSpec
from edgepack.specs.task import Task

INPUTS = (TensorSpec("x", "float32", ("N", 3)),)


def write(path: Path, n: int, *, labelled: bool, start: int = 0) -> str:
    arrays = {"x": (np.arange(n * 3, dtype=np.float32) + start).reshape(n, 3)}
    if labelled:
        arrays["labels"] = np.arange(n) % 2
    np.savez(path, **arrays)
    return str(path)


def choose(data: str | None, evaluation: str | None, out: Path, samples: int | None = None, default: int = 256):
    request = SampleRequest(data, evaluation, samples=samples, default=default)
    return choose_samples(request, INPUTS, out)


def test_labelled_data_is_split_and_no_sample_is_in_both(tmp_path: Path) -> None:
    data = write(tmp_path / "d.npz", 20, labelled=True)
    chosen = choose(data, None, tmp_path)
    assert chosen.calibration is not None
    assert len(chosen.calibration.indices) == 10
    assert not set(chosen.calibration.indices) & set(chosen.evaluation.indices)
    assert sorted({*chosen.calibration.indices, *chosen.evaluation.indices}) == list(range(20))
    assert chosen == choose(data, None, tmp_path)


def test_separate_evaluation_data_is_used_whole(tmp_path: Path) -> None:
    chosen = choose(
        write(tmp_path / "d.npz", 8, labelled=False), write(tmp_path / "e.npz", 5, labelled=True, start=99), tmp_path, 4
    )
    assert chosen.calibration is not None
    assert (len(chosen.calibration.indices), len(chosen.evaluation.indices)) == (4, 5)
    assert chosen.unseen


@pytest.mark.parametrize("samples", [20, 21])
def test_asking_for_all_labelled_samples_leaves_none_to_measure_on(tmp_path: Path, samples: int) -> None:
    with pytest.raises(DataError) as caught:
        choose(write(tmp_path / "d.npz", 20, labelled=True), None, tmp_path, samples)
    assert "--samples 10" in caught.value.hint


def test_more_samples_than_there_are_is_an_error_and_fewer_than_the_default_a_note(tmp_path: Path) -> None:
    data = write(tmp_path / "d.npz", 6, labelled=False)
    evaluation = write(tmp_path / "e.npz", 2, labelled=False, start=50)
    with pytest.raises(DataError, match="fewer than the 7 asked for"):
        choose(data, evaluation, tmp_path, 7)
    assert "calibration has 6 samples" in choose(data, evaluation, tmp_path).notes[0]


def test_the_numbers_are_those_that_were_given(tmp_path: Path) -> None:
    """Of 420 given samples the build keeps half to measure on: it is not told that there are 210."""
    data = write(tmp_path / "d.npz", 420, labelled=True)
    (note,) = choose(data, None, tmp_path).notes
    assert note.startswith("calibration has 210 samples of the 420 given, and the others measure accuracy; 256 or more")
    small = write(tmp_path / "s.npz", 20, labelled=False)
    request = SampleRequest(str(small), None, samples=16, eval_samples=8)
    with pytest.raises(DataError, match="has 20 samples: 16 calibrate, which leaves 4 of the 8 asked for") as caught:
        choose_samples(request, INPUTS, tmp_path)
    assert "--eval-samples 4" in caught.value.hint
    fitting = choose_samples(SampleRequest(str(small), None, samples=12, eval_samples=8), INPUTS, tmp_path)
    assert (len(fitting.calibration.indices), len(fitting.evaluation.indices)) == (12, 8)


def test_unlabelled_samples_that_are_all_asked_for_evaluate_themselves_and_it_is_said(tmp_path: Path) -> None:
    chosen = choose(write(tmp_path / "d.npz", 6, labelled=False), None, tmp_path, 6)
    assert not chosen.unseen
    assert "calibration samples themselves" in chosen.notes[0]


def test_random_inputs_are_reproducible_and_fit_the_model(tmp_path: Path) -> None:
    specs = (TensorSpec("x", "float32", ("N", 3)), TensorSpec("ids", "int64", (1, "T")))
    (tmp_path / "b").mkdir()
    first, second = (random_inputs(specs, None, 1, folder) for folder in (tmp_path, tmp_path / "b"))
    with np.load(first.path) as a, np.load(second.path) as b:
        assert a["x"].shape == (8, 1, 3)
        assert a["ids"].shape == (8, 1, 1)
        assert a["ids"].dtype == np.int64
        np.testing.assert_array_equal(a["x"], b["x"])


def test_the_users_sizes_are_taken_for_random_inputs() -> None:
    specs = (TensorSpec("x", "float32", ("N", "T", 3)),)
    assert with_shapes(specs, {"x": (1, 576, 3)})[0].shape == (1, 576, 3)
    assert with_shapes(specs, {"": (1, 576, 3)})[0].shape == (1, 576, 3)
    for shapes in ({"y": (1, 2, 3)}, {"x": (1, 2)}, {"x": (1, 2, 4)}):
        with pytest.raises(ConfigError):
            with_shapes(specs, shapes)


def folders(root: Path, *names: str) -> str:
    for name in names:
        (root / name).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(root / name / "a.png")
    return str(root)


def choose_pictures(data: str, evaluation: str, out: Path, task: Task | None = None):
    made = Preprocessing(resize=(4, 4), mean=(0.0,) * 3, std=(1.0,) * 3)
    request = SampleRequest(data, evaluation, made, task=task)
    return choose_samples(request, (TensorSpec("x", "float32", ("N", 3, 4, 4)),), out)


@pytest.mark.parametrize("task", [None, Task("image-classification")])
def test_a_class_that_only_one_source_has_does_not_move_the_others(tmp_path: Path, task: Task | None) -> None:
    whole = folders(tmp_path / "whole", "ant", "bee", "cat")
    part = folders(tmp_path / "part", "ant", "cat")
    for data, evaluation in ((whole, part), (part, whole)):
        chosen = choose_pictures(data, evaluation, tmp_path, task)
        for found in (chosen.calibration, chosen.evaluation):
            assert found is not None
            assert found.classes == ("ant", "bee", "cat")
            assert read_labels(found).tolist() == ([0, 1, 2] if found.source == whole else [0, 2])


def test_an_order_that_is_stated_holds_for_both_sources(tmp_path: Path) -> None:
    stated, other = folders(tmp_path / "a", "ant", "bee", "cat"), folders(tmp_path / "b", "ant", "cat")
    (tmp_path / "a" / "labels.txt").write_text("cat\nant\nbee\n")
    chosen = choose_pictures(other, stated, tmp_path)
    assert chosen.calibration is not None
    assert read_labels(chosen.calibration).tolist() == [1, 0]
    assert read_labels(chosen.evaluation).tolist() == [1, 2, 0]


def test_classes_that_no_source_has_all_of_are_refused(tmp_path: Path) -> None:
    one, other = folders(tmp_path / "a", "ant", "bee"), folders(tmp_path / "b", "ant", "cat")
    with pytest.raises(DataError, match="different classes") as caught:
        choose_pictures(one, other, tmp_path)
    assert "labels.txt" in caught.value.hint
    task = Task("image-classification", classes=("cat", "ant", "bee"))
    assert read_labels(choose_pictures(one, other, tmp_path, task).evaluation).tolist() == [1, 0]


def test_columns_are_read_by_their_names_in_every_table(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("a,b,c,label\n1,2,3,0\n4,5,6,1\n")
    (tmp_path / "e.csv").write_text("label,id,c,a,b\n1,7,30,10,20\n")
    task = Task("tabular-classification")
    request = SampleRequest(str(tmp_path / "d.csv"), str(tmp_path / "e.csv"), task=task)
    chosen = choose_samples(request, INPUTS, tmp_path)
    assert [feed["x"].tolist() for feed in read_samples(chosen.evaluation, INPUTS)] == [[[10, 20, 30]]]
    assert chosen.evaluation.task == Task("tabular-classification", input={"inputs": {"x": ("a", "b", "c")}})
    (tmp_path / "e.csv").write_text("label,c,a,d\n1,30,10,20\n")
    with pytest.raises(DataError, match="has no column 'b'"):
        choose_samples(request, INPUTS, tmp_path)
