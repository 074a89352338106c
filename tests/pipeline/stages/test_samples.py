"""Samples of a build, and golden vectors of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_process import InProcess
from small_bundles import INPUTS, small_onnx

from edgepack.data.split import RANDOM_INPUTS, SampleRequest, Selection
from edgepack.errors import DataError, RecipeError
from edgepack.graph.load import load_model
from edgepack.pipeline.stages.samples import (
    check_labels,
    golden_vectors,
    how_to_prepare,
    note_of_classes,
    select_samples,
)
from edgepack.specs.model import OnnxModel, TensorSpec
from edgepack.verify.golden import read_golden


@pytest.fixture
def runner(tmp_path: Path) -> Any:
    return InProcess(tmp_path / "run")


def data(tmp_path: Path, count: int) -> str:
    np.savez(tmp_path / "data.npz", image=np.random.default_rng(0).standard_normal((count, 3, 8, 8), np.float32))
    return str(tmp_path / "data.npz")


def test_without_any_data_random_inputs_evaluate(runner: Any) -> None:
    found = select_samples(runner, SampleRequest(None, None, seed=3), INPUTS)
    assert found.calibration is None
    assert len(found.evaluation.indices) == RANDOM_INPUTS
    assert found.notes[0] == (
        f"no data was given: numerics are verified on {RANDOM_INPUTS} random inputs, accuracy is not measured"
    )
    assert [name for name, _ in runner.ran] == ["random_inputs", "choose_samples"]


def test_sizes_that_were_given_are_those_of_random_inputs(runner: Any) -> None:
    inputs = (TensorSpec("image", "float32", ("N", 3, "H", 8)),)
    found = select_samples(runner, SampleRequest(None, None, shapes={"image": (1, 3, 5, 8)}), inputs)
    assert not [note for note in found.notes if "--shape" in note]
    (path,) = (runner.folder / "1-random_inputs").iterdir()
    with np.load(path) as saved:
        assert saved["image"].shape[1:] in ((1, 3, 5, 8), (3, 5, 8))


def test_sizes_that_nobody_gave_are_told(runner: Any) -> None:
    inputs = (TensorSpec("image", "float32", ("N", 3, "H", "W")), TensorSpec("fixed", "float32", ("N", 4)))
    (note,) = select_samples(runner, SampleRequest(None, None), inputs).notes[1:]
    assert note.startswith("H, W of 'image' are 1 in random inputs, and every figure, latency too, is for that size")
    assert note.endswith("--shape image=Nx3x224x224")


def test_the_users_samples_are_chosen_as_they_are(runner: Any, tmp_path: Path) -> None:
    found = select_samples(runner, SampleRequest(data(tmp_path, 20), None, samples=5), INPUTS)
    assert found.calibration is not None
    assert len(found.calibration.indices) == 5
    assert not set(found.calibration.indices) & set(found.evaluation.indices)
    assert [name for name, _ in runner.ran] == ["choose_samples"]


@pytest.mark.parametrize(("count", "vectors"), [(3, 3), (20, 4)])
def test_golden_vectors_are_few_samples(runner: Any, tmp_path: Path, count: int, vectors: int) -> None:
    model = load_model(small_onnx(tmp_path / "m.onnx"))
    selection = select_samples(runner, SampleRequest(None, data(tmp_path, count)), INPUTS)
    assert len(read_golden(golden_vectors(runner, model, selection)).inputs) == vectors
    assert runner.ran[-1] == ("make_golden", f"{vectors} golden vectors")


@pytest.mark.parametrize("random", [True, False])
def test_inputs_that_nobody_gave_are_not_the_users_fault(tmp_path: Path, random: bool) -> None:
    def fail(*_: Any) -> Any:
        raise DataError("does not fit", hint="compare")

    runner: Any = InProcess(tmp_path / "run", make_golden=fail)
    model = load_model(small_onnx(tmp_path / "m.onnx"))
    selection: Selection = select_samples(runner, SampleRequest(None, data(tmp_path, 3)), INPUTS)
    with pytest.raises(DataError) as caught:
        golden_vectors(runner, model, selection, random=random)
    if random:
        assert caught.value.message == "random inputs do not suit this model: does not fit"
        assert "--data" in str(caught.value.hint)
    else:
        assert caught.value.message == "does not fit"


@pytest.mark.parametrize("labels", [[0, 1, 5], [-1, 0, 1], [999, 0, 1]])
def test_labels_of_other_classes_end_early(runner: Any, tmp_path: Path, labels: list[int]) -> None:
    model = load_model(small_onnx(tmp_path / "m.onnx"))  # 5 classes
    np.savez(tmp_path / "l.npz", image=np.ones((3, 3, 8, 8), np.float32), labels=np.array(labels))
    samples = select_samples(runner, SampleRequest(None, str(tmp_path / "l.npz")), INPUTS).evaluation
    assert samples.labelled
    with pytest.raises(DataError, match=f"from {min(labels)} to {max(labels)}, and the model has 5 classes") as caught:
        check_labels(samples, model, "top1")
    assert "--metric agreement" in (caught.value.hint or "")
    check_labels(samples, model, "agreement")


def test_labels_of_the_models_classes_pass(runner: Any, tmp_path: Path) -> None:
    model = load_model(small_onnx(tmp_path / "m.onnx"))
    np.savez(tmp_path / "l.npz", image=np.ones((3, 3, 8, 8), np.float32), labels=np.array([0, 4, 2]))
    check_labels(select_samples(runner, SampleRequest(None, str(tmp_path / "l.npz")), INPUTS).evaluation, model, "top1")


def test_samples_that_name_fewer_classes_than_the_model_has_are_noted(runner: Any, tmp_path: Path) -> None:
    model = load_model(small_onnx(tmp_path / "m.onnx"))  # 5 classes
    samples = select_samples(runner, SampleRequest(None, data(tmp_path, 3)), INPUTS).evaluation
    assert note_of_classes(samples, model) is None  # without names
    assert note_of_classes(replace(samples, classes=tuple("abcde")), model) is None
    assert "names 4 classes and the model has 5" in (
        note_of_classes(replace(samples, classes=tuple("abcd")), model) or ""
    )


@pytest.mark.parametrize(("taken", "classes", "said", "not_said"), [
    ((1, 3, 224, 224), 1000, "add --recipe imagenet (likely: ImageNet's 1000 classes), or write one", "MFCC"),
    ((1, 49, 10, 1), 12, "add --recipe speech-commands-mfcc (likely: 49 x 10 are the MFCC", "imagenet"),
    ((1, 5, 17), 3, "none is known for this model: begin one with 'edgepack recipes new own.toml'", "imagenet"),
])  # fmt: skip
def test_a_recipe_is_named_by_what_the_model_takes(
    taken: tuple[int, ...], classes: int, said: str, not_said: str
) -> None:
    inputs, outputs = TensorSpec("input", "float32", taken), TensorSpec("output", "float32", (1, classes))
    model = OnnxModel(Path("net.onnx"), "", 0, 17, (inputs,), (outputs,))
    found = how_to_prepare(RecipeError("no recipe"), "net.onnx", model)
    assert found.message == "no recipe"
    assert said in found.hint
    assert not_said not in found.hint
