"""What is said of samples that do not fit a model's inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgepack.data.checks import check_shape
from edgepack.data.samples import find_samples, read_samples
from edgepack.errors import DataError
from edgepack.specs.model import TensorSpec

PAIR = TensorSpec("x", "float32", (2, 3, 8, 8))


def test_a_model_that_takes_two_samples_at_once_says_how_to_give_them() -> None:
    with pytest.raises(DataError, match="the model takes 2 samples at once") as caught:
        check_shape((1, 3, 8, 8), PAIR, "a sample")
    assert "an array of n x 2x3x8x8" in caught.value.hint
    assert "torch.export.Dim('N')" in caught.value.hint


@pytest.mark.parametrize("shape", [(1, 3, 8, 9), (3, 3, 8, 8), (1, 3, 8)])
def test_other_shapes_are_not_blamed_on_the_batch(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="the model's input is"):
        check_shape(shape, PAIR, "a sample")


def test_pairs_are_fed_as_they_are_given(tmp_path: Path) -> None:
    pairs = np.random.default_rng(0).standard_normal((4, 2, 3, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "pairs.npz", x=pairs)
    found = list(read_samples(find_samples(str(tmp_path / "pairs.npz"), (PAIR,), None), (PAIR,)))
    np.testing.assert_array_equal(np.stack([feed["x"] for feed in found]), pairs)
