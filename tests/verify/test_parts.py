"""Energies by part: every part counts alike."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgepack.verify.means import sample_means
from edgepack.verify.parts import FEWEST, PartEnergies, Parts, balance, noise_db, read_bounded, read_parts, write_parts

if TYPE_CHECKING:
    from pathlib import Path

    from edgepack.specs.types import Array

BOXES_AND_SCORES = {"y": Parts(np.array([[0, 0, 1, 1]], np.int32), ("boxes", "scores"))}


def added(*pairs: tuple[Array, Array], parts: dict[str, Parts] | None = None) -> PartEnergies:
    means = sample_means(["y"], [{"y": expected} for expected, _ in pairs])
    energies = PartEnergies(["y"], BOXES_AND_SCORES if parts is None else parts, means)
    for expected, found in pairs:
        energies.add({"y": expected}, {"y": found})
    return energies


def noise(expected: Array, found: Array, parts: dict[str, Parts] | None = None) -> float:
    return added((expected, found), parts=parts).noise()


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
    expected = {"y": np.ones((1, 4)), "z": np.ones(3)}
    energies = PartEnergies(["y", "z"], BOXES_AND_SCORES, sample_means(["y", "z"], [expected]))
    energies.add(expected, {"y": np.ones((1, 4)), "z": np.zeros(3)})
    assert list(energies.energies({"z"})) == ["y: boxes", "y: scores"]
    assert list(energies.energies({"y", "z"})) == ["y: boxes", "y: scores", "z"]


def test_labels_of_another_shape_leave_one_part() -> None:
    assert list(added((np.ones((1, 8)), np.zeros((1, 8)))).energies()) == ["y"]


def test_samples_of_several_shapes_leave_one_part_with_a_row_for_each() -> None:
    energies = added((np.ones((1, 4)), np.ones((1, 4))), (np.ones((1, 3)), np.zeros((1, 3)))).energies()
    assert list(energies) == ["y"]
    assert energies["y"].noise.tolist() == [0.0, 3.0]


@given(
    values=arrays.arrays(np.float32, (3, 1, 4), elements=st.floats(-1e3, 1e3, width=32)),
    errors=arrays.arrays(np.float32, (3, 1, 4), elements=st.floats(-1e3, 1e3, width=32)),
)
def test_the_energies_are_those_of_the_whole(values: Array, errors: Array) -> None:
    energies = added(*((value, value + error) for value, error in zip(values, errors, strict=True)))
    signal = sum(float(part.whole.sum()) for part in energies.energies().values())
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


# --- the signal is what varies ----------------------------------------------------------------------------------------


def offset(n: int, *, lost: bool) -> PartEnergies:
    """Values around 100 that vary by 1; ``lost`` is what varies."""
    values = 100 + np.random.default_rng(0).standard_normal((n, 1, 50))
    return added(*((value, np.full((1, 50), 100.0) if lost else value + 0.1) for value in values), parts={})


def test_what_all_samples_have_in_common_is_no_signal() -> None:
    found = balance(offset(40, lost=True).energies(), seed=0)
    assert found.sqnr_db == pytest.approx(0.0, abs=0.2)
    assert found.worst_whole_db == pytest.approx(40.0, abs=0.2)
    assert found.ci95_db is not None
    assert found.ci95_db[1] < 1.0
    kept = balance(offset(40, lost=False).energies(), seed=0)
    assert kept.sqnr_db == pytest.approx(20.0, abs=0.2)


@pytest.mark.parametrize(("n", "level"), [(FEWEST - 1, 40.0), (FEWEST, 0.0)])
def test_of_few_samples_all_is_signal(n: int, level: float) -> None:
    assert noise_db(offset(n, lost=True).noise()) == pytest.approx(level, abs=0.6)


def test_what_few_samples_vary_is_no_smaller_than_what_many_do() -> None:
    """The mean is taken of the samples themselves: without Bessel's factor 8 samples would seem 0.6 dB noisier."""
    levels = [
        added(
            *((value, value + 0.1) for value in np.random.default_rng(seed).standard_normal((FEWEST, 1, 400))), parts={}
        )
        for seed in range(20)
    ]
    assert np.mean([noise_db(energies.noise()) for energies in levels]) == pytest.approx(20.0, abs=0.1)


def test_all_of_a_constant_part_is_signal() -> None:
    """An anchor that differs by rounding only is constant as well."""
    random = np.random.default_rng(0)
    pairs = [(value := 100 + 1e-5 * random.standard_normal((1, 50)), value + 0.1) for _ in range(20)]
    assert noise_db(added(*pairs, parts={}).noise()) == pytest.approx(60.0, abs=0.1)


def test_the_place_of_an_anchor_is_no_signal_though_it_differs_from_place_to_place() -> None:
    anchors = np.linspace(0, 640, 50)[None]
    random = np.random.default_rng(0)
    pairs = [(anchors + random.standard_normal((1, 50)), anchors) for _ in range(40)]
    assert noise_db(added(*pairs, parts={}).noise()) == pytest.approx(0.0, abs=0.2)
