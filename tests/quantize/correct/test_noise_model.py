"""The noise model of channel scales."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack.quantize.correct.noise_model import Reader, Site, choose_scales, noise_of


def noise_terms(seed: int) -> tuple[list[Site], list[Reader], int]:
    random = np.random.default_rng(seed)
    numbers = np.array([1, 2, 0, 3, 4, 4])
    ends = random.random(6) * 4, random.random(6)
    site = Site(numbers, *ends, random.random(6), random.random(6) * 4, np.array([0, 0, 1, 1, 2, 2]), samples=8)
    reader = Reader(numbers.reshape(2, 3), random.random((2, 5, 3)), random.random((2, 3)))
    return [site], [reader], 5


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_the_slope_of_the_modelled_noise_is_its_derivative(seed: int) -> None:
    from edgepack.quantize.correct import noise_model

    sites, readers, count = noise_terms(seed)
    logs = np.random.default_rng(seed).normal(0, 0.5, count)
    slope = np.zeros(count)
    for site in sites:
        noise_model._site_noise(site, logs, slope)
    for reader in readers:
        noise_model._reader_noise(reader, logs, slope)
    for place in range(count):
        step = np.zeros(count)
        step[place] = 1e-5
        up, down = (noise_of(sites, readers, np.exp(logs + sign * step)) for sign in (1, -1))
        assert slope[place] == pytest.approx((up - down) / 2e-5, rel=1e-3, abs=1e-9)


def test_scales_lower_the_noise_and_fixed_channels_stay() -> None:
    sites, readers, count = noise_terms(3)
    scales, before, after = choose_scales(sites, readers, count)
    assert scales[0] == 1.0
    assert after < before
    assert noise_of(sites, readers, scales) == pytest.approx(after)
    assert (scales == choose_scales(sites, readers, count)[0]).all()


def test_a_channel_that_may_go_further_gets_room() -> None:
    def ends(tail: float) -> np.ndarray:
        """Return how far two channels go that are as large in the samples seen; the second has the tail."""
        even = np.ones(2)
        site = Site(np.array([1, 2]), even, np.zeros(2), even, np.array([0, tail]), np.zeros(2), samples=32)
        reader = Reader(np.array([[1, 2]]), np.ones((1, 3, 2)), np.full((1, 2), 1e-3))
        return choose_scales([site], [reader], 3)[0][1:]

    assert ends(0.0)[1] == pytest.approx(ends(0.0)[0])
    assert ends(0.5)[1] < 0.9 * ends(0.5)[0]


def test_a_silent_model_is_left_alone() -> None:
    silent = Site(np.array([1, 2]), np.zeros(2), np.zeros(2), np.ones(2), np.zeros(2), np.zeros(2), samples=8)
    scales, _, _ = choose_scales([silent], [], 3)
    assert (scales == 1.0).all()
