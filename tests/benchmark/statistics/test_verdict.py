import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack.benchmark.statistics import verdict

LAUNCHES = st.lists(st.floats(-2, 2), min_size=2, max_size=20)


def test_a_clear_difference_is_said_with_its_direction():
    slower = verdict.decide([0.30, 0.31, 0.29, 0.30])
    assert slower.verdict == "slower"
    assert slower.ratio == pytest.approx(math.exp(0.3))
    assert verdict.decide([-0.30, -0.31, -0.29, -0.30]).verdict == "faster"


def test_two_launches_decide_nothing_however_close():
    assert verdict.decide([0.3, 0.3]).verdict == "undecided"
    assert verdict.decide([0.3]) is None
    assert verdict.decide([]) is None


def test_a_small_difference_within_the_margin_is_the_same():
    launches = [0.003, 0.0031, 0.0029, 0.003]
    assert verdict.decide(launches, margin=0.01).verdict == "same"
    assert verdict.decide(launches, margin=0.0).verdict == "slower"


@settings(deadline=None)  # a busy machine takes its time
@given(LAUNCHES)
def test_faster_and_slower_are_said_only_when_the_interval_excludes_one(launches):
    found = verdict.decide(launches)
    low, high = found.ci95
    assert low <= found.ratio * (1 + 1e-9)
    assert found.ratio <= high * (1 + 1e-9)
    if found.verdict == "faster":
        assert high < 1
    if found.verdict == "slower":
        assert low > 1
    if found.verdict == "same":
        assert 1 / 1.0101 <= low <= high <= 1.0101
    assert (found.launches_needed is None) == (found.verdict != "undecided")


@settings(deadline=None)  # a busy machine takes its time
@given(LAUNCHES)
def test_the_other_way_round_is_the_opposite(launches):
    there, back = verdict.decide(launches), verdict.decide([-x for x in launches])
    opposite = {"faster": "slower", "slower": "faster", "same": "same", "undecided": "undecided"}
    assert back.verdict == opposite[there.verdict]
    assert back.ratio * there.ratio == pytest.approx(1)


def test_the_estimate_of_what_is_needed_grows_with_the_spread():
    narrow, wide = ([0.02 + spread * side for side in (-1, 1) * 3] for spread in (0.03, 0.3))
    few, many = verdict.decide(narrow), verdict.decide(wide)
    assert few.verdict == many.verdict == "undecided"
    assert 6 < few.launches_needed < many.launches_needed


def test_a_stray_round_does_not_move_a_launch():
    rounds = [(100.0, 103.0)] * 7
    assert verdict.launch_ratio([*rounds, (100.0, 900.0)]) == pytest.approx(math.log(1.03))


def test_rounds_cancel_what_slows_both():
    rounds = [(100.0 * k, 103.0 * k) for k in (1, 2, 5, 1.5, 0.7)]
    assert verdict.launch_ratio(rounds) == pytest.approx(math.log(1.03))


def rounds_of(ratios):
    return [(1e6, 1e6 * math.exp(ratio)) for ratio in ratios]


def test_the_ratio_of_a_launch_is_the_median_of_the_means_of_all_pairs_of_rounds():
    """0, 1 and 5 have the means 0, 0.5, 1, 2.5, 3 and 5."""
    assert verdict.launch_ratio(rounds_of([5.0, 0.0, 1.0])) == pytest.approx(1.75)
    assert verdict.launch_ratio(rounds_of([0.2])) == pytest.approx(0.2)


def test_disturbed_rounds_hardly_move_the_ratio_of_a_launch():
    quiet = [0.02 + 0.001 * (i % 5 - 2) for i in range(80)]
    assert verdict.launch_ratio(rounds_of([*quiet, *[1.5] * 12, *[-1.0] * 8])) == pytest.approx(0.02, abs=0.001)


def test_the_ratio_of_a_launch_is_nearer_than_the_median_of_its_rounds():
    random = np.random.default_rng(0)
    launches = random.normal(0, 0.02, (300, 60))
    ours = [verdict.launch_ratio(rounds_of(launch)) for launch in launches]
    assert np.std(ours) < 0.9 * np.std(np.median(launches, axis=1))
