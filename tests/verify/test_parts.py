"""Energies by part: every part counts alike."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgepack.verify.parts import PartEnergies, Parts, noise_db, read_bounded, read_parts, write_parts

if TYPE_CHECKING:
    from pathlib import Path

    from edgepack.specs.types import Array

BOXES_AND_SCORES = {"y": Parts(np.array([[0, 0, 1, 1]], np.int32), ("boxes", "scores"))}


def noise(expected: Array, found: Array, parts: dict[str, Parts] | None = None) -> float:
    energies = PartEnergies(["y"], BOXES_AND_SCORES if parts is None else parts)
    energies.add({"y": expected}, {"y": found})
    return energies.noise()


def test_lost_scores_are_seen_beside_large_boxes() -> None:
    expected, found = np.array([[300.0, 200.0, 0.9, 0.8]]), np.array([[300.0, 200.0, 0.0, 0.0]])
    assert noise(expected, found) == pytest.approx(0.5)  # the mean of 0 and 1
    assert noise(expected, found, {}) < 1e-4  # as one part: 49 dB


def test_a_lost_part_counts_at_most_ten() -> None:
    expected, found = np.array([[1.0, 1.0, 1e-6, 1e-6]]), np.array([[1.0, 1.0, 5.0, 5.0]])
    assert noise(expected, found) == pytest.approx(5.0)


def test_a_part_without_signal_does_not_count() -> None:
    expected, found = np.array([[2.0, 2.0, 0.0, 0.0]]), np.array([[1.0, 1.0, 9.0, 9.0]])
    assert noise(expected, found) == pytest.approx(0.25)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_in_both_is_no_noise_and_in_one_is_lost(value: float) -> None:
    both = np.array([[value, 2.0, 1.0, 1.0]])
    assert noise(both, both) == 0.0
    assert noise(np.array([[2.0, 2.0, 1.0, 1.0]]), both) == pytest.approx(0.25)


def test_another_shape_is_lost_whole() -> None:
    assert noise(np.ones((1, 4)), np.ones((1, 3)), {}) == 1.0


def test_silent_outputs_do_not_count_unless_there_is_nothing_else() -> None:
    energies = PartEnergies(["y", "z"], BOXES_AND_SCORES)
    energies.add({"y": np.ones((1, 4)), "z": np.ones(3)}, {"y": np.ones((1, 4)), "z": np.zeros(3)})
    assert list(energies.energies({"z"})) == ["y: boxes", "y: scores"]
    assert list(energies.energies({"y", "z"})) == ["y: boxes", "y: scores", "z"]


def test_labels_of_another_shape_leave_one_part() -> None:
    energies = PartEnergies(["y"], BOXES_AND_SCORES)
    energies.add({"y": np.ones((1, 8))}, {"y": np.zeros((1, 8))})
    assert list(energies.energies()) == ["y"]


@given(
    values=arrays.arrays(np.float32, (3, 1, 4), elements=st.floats(-1e3, 1e3, width=32)),
    errors=arrays.arrays(np.float32, (3, 1, 4), elements=st.floats(-1e3, 1e3, width=32)),
)
def test_the_energies_are_those_of_the_whole(values: Array, errors: Array) -> None:
    energies = PartEnergies(["y"], BOXES_AND_SCORES)
    for value, error in zip(values, errors, strict=True):
        energies.add({"y": value}, {"y": value + error})
    found = energies.energies()
    signal = sum(float(part.sum()) for part, _ in found.values())
    assert signal == pytest.approx(float(np.square(values, dtype=np.float64).sum()))
    assert 0 <= energies.noise() <= 10


def test_parts_survive_a_file(tmp_path: Path) -> None:
    write_parts(tmp_path / "parts.npz", BOXES_AND_SCORES)
    found = read_parts(tmp_path / "parts.npz")
    assert found["y"].names == ("boxes", "scores")
    assert (found["y"].labels == BOXES_AND_SCORES["y"].labels).all()
    write_parts(tmp_path / "none.npz", {}, ("y",))
    assert read_bounded(tmp_path / "none.npz") == {"y"}
    assert read_bounded(tmp_path / "parts.npz") == frozenset()
    assert read_parts(tmp_path / "none.npz") == {}


def test_decibels_have_ends() -> None:
    assert (noise_db(0.1), noise_db(0.0), noise_db(math.nan)) == (pytest.approx(10.0), 200.0, -200.0)
