"""The digits of the labelled demonstration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgepack.demo.digits import load_digits, make_model, write_digits
from edgepack.execution.store import Store
from edgepack.specs.build import BuildResult

pytest.importorskip("sklearn", reason="the digits are scikit-learn's: pip install 'edgepack[demo]'")


def test_training_and_evaluation_share_no_picture() -> None:
    train, train_labels, test, labels = load_digits()
    assert (train.shape, test.shape) == ((1197, 1, 8, 8), (600, 1, 8, 8))
    assert (len(train_labels), len(labels)) == (1197, 600)
    seen = {picture.tobytes() for picture in train}
    # Two people may write the same 64 pixels; a set that was split wrongly would share hundreds.
    assert sum(picture.tobytes() in seen for picture in test) < 5


def test_pictures_are_shares_of_full_ink_and_every_digit_is_in_both() -> None:
    train, train_labels, test, labels = load_digits()
    for pictures, classes in ((train, train_labels), (test, labels)):
        assert pictures.dtype == np.float32
        assert (pictures.min(), pictures.max()) == (0.0, 1.0)
        assert set(classes) == set(range(10))


def test_the_split_is_the_same_each_time() -> None:
    for first, second in zip(load_digits(), load_digits(), strict=True):
        np.testing.assert_array_equal(first, second)


def test_files_are_what_a_build_reads(tmp_path: Path) -> None:
    assert write_digits(tmp_path) == tmp_path
    train, _, test, labels = load_digits()
    with np.load(tmp_path / "calibration.npz") as saved:
        assert saved.files == ["input"]
        np.testing.assert_array_equal(saved["input"], train[:256])
    with np.load(tmp_path / "evaluation.npz") as saved:
        np.testing.assert_array_equal(saved["input"], test)
        np.testing.assert_array_equal(saved["labels"], labels)


@pytest.mark.slow
def test_the_network_that_is_trained_reads_digits(digits: tuple[BuildResult, Store]) -> None:
    row = digits[0].rows[0]
    assert row.accuracy is not None
    assert row.accuracy.fp32 > 0.98
    assert row.accuracy.n == 600


def test_training_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="the network is trained by torch")
    monkeypatch.setattr("edgepack.demo.digits._EPOCHS", 1)
    told: list[tuple[str, int, int]] = []
    make_model(lambda *far: told.append(far))
    assert told == [("training epochs", 0, 1), ("training epochs", 1, 1)]
