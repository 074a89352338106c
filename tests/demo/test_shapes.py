"""The demonstration's shapes: what is rendered is what is labelled, and what the network is trained to answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgepack.data.geometry import frame_of
from edgepack.data.recipes import load_recipe
from edgepack.data.samples import find_samples, read_any_labels
from edgepack.demo.shapes import NAMES, _training_set, make_model, render, write_shapes
from edgepack.specs.answer import Boxes
from edgepack.specs.model import TensorSpec
from edgepack.tasks import answer, check_task


def test_samples_are_labelled_and_the_recipe_fits(tmp_path: Path) -> None:
    write_shapes(tmp_path)
    recipe = load_recipe(str(tmp_path / "shapes.toml"))
    assert recipe.task is not None
    check_task(recipe.task)
    inputs = (TensorSpec("image", "float32", ("N", 3, 64, 64)),)
    parts = [
        find_samples(str(tmp_path / name), inputs, recipe.preprocessing, task=recipe.task)
        for name in ("calibration", "evaluation")
    ]
    assert [len(part.indices) for part in parts] == [64, 128]
    assert parts[1].classes == NAMES
    assert {int(n) for label in read_any_labels(parts[1]) for n in label.numbers} == {0, 1, 2}


@pytest.mark.slow
def test_what_the_network_is_trained_to_answer_is_the_labels(tmp_path: Path) -> None:
    """The maps that it learns, read by the recipe's decoder, are the boxes of the same scenes."""
    write_shapes(tmp_path)
    recipe = load_recipe(str(tmp_path / "shapes.toml"))
    assert recipe.task is not None
    assert recipe.preprocessing is not None
    _, heat, boxes, _ = (np.asarray(part) for part in _training_set())
    generator = np.random.default_rng(11)
    for i in range(20):
        pixels, things = render(generator)
        outputs = {"heat": heat[i : i + 1], "sides": 5 * boxes[i : i + 1, :2], "offsets": boxes[i : i + 1, 2:]}
        frame = frame_of(pixels.shape[0], pixels.shape[1], recipe.preprocessing)
        found = answer(recipe.task, outputs, frame)
        assert isinstance(found, Boxes)
        sure = found.corners[found.scores == 1]
        for _, *box in things:
            assert np.abs(sure - np.array(box)).max(axis=1).min() < 0.6


def test_the_network_has_the_decoders_outputs() -> None:
    assert callable(make_model)
    import torch

    from edgepack.demo.shapes import _network

    found = _network().eval()(torch.zeros(2, 3, 64, 64))
    assert [tuple(part.shape) for part in found] == [(2, 3, 16, 16), (2, 2, 16, 16), (2, 2, 16, 16)]


def test_training_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgepack.demo.shapes import _network, train

    monkeypatch.setattr("edgepack.demo.shapes._TRAINING", 24)
    told: list[tuple[str, int, int]] = []
    train(_network, 2, lambda *far: told.append(far))
    assert told == [("training epochs", 0, 2), ("training epochs", 1, 2), ("training epochs", 2, 2)]


def test_the_builds_function_passes_on_whom_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []
    monkeypatch.setattr("edgepack.demo.shapes.train", lambda _network, progress: given.append(progress))
    make_model(print)
    assert given == [print]
