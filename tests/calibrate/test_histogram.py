import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgepack.calibrate import histogram
from edgepack.calibrate.histogram import CODES, Counts, clip_counts, count_codes, fold_counts, to_histogram

FLOATS = arrays(np.float32, st.integers(1, 60), elements=st.floats(-1e6, 1e6, width=32))


def normal(count=100_000, seed=0):
    return np.random.default_rng(seed).normal(size=count).astype(np.float32)


def histogram_of(values):
    return to_histogram(count_codes(values), float(values.min()), float(values.max()))


@settings(max_examples=100, deadline=None)
@given(FLOATS)
def test_every_value_is_counted_once_by_its_upper_half(values):
    expected = np.zeros(CODES, np.int64)
    for value in values:
        expected[int(np.float32(value).view(np.uint32)) >> 16] += 1
    np.testing.assert_array_equal(count_codes(values), expected)


def test_chunks_and_strides_do_not_matter(monkeypatch):
    values = normal(1000).reshape(10, 100)
    whole = count_codes(values)
    np.testing.assert_array_equal(count_codes(values.T), whole)
    monkeypatch.setattr(histogram, "_CHUNK", 64)
    np.testing.assert_array_equal(count_codes(values), whole)


def test_counts_add_up_and_keep_few_pages():
    counts = Counts()
    counts.add(count_codes(normal(seed=1)))
    counts.add(count_codes(normal(seed=2)))
    both = np.concatenate([normal(seed=1), normal(seed=2)])
    np.testing.assert_array_equal(counts.table(), count_codes(both))
    assert len(counts.pages) < 30


@settings(max_examples=200, deadline=None)
@given(FLOATS, st.floats(-100, 100, width=32), st.floats(0, 100, width=32))
def test_counts_of_clipped_values_are_exact(values, low, width):
    high = np.float32(low + width)
    clipped = np.clip(values, np.float32(low), high) + np.float32(0)
    found = clip_counts(count_codes(values), low, float(high))
    # -0.0 and 0.0 have codes of their own and mean the same.
    expected = count_codes(clipped)
    for table in (found, expected):
        table[0] += table[1 << 15]
        table[1 << 15] = 0
    np.testing.assert_array_equal(found, expected)


def test_clipping_to_infinite_bounds_changes_nothing():
    counted = count_codes(normal())
    np.testing.assert_array_equal(clip_counts(counted, -np.inf, np.inf), counted)


@settings(max_examples=100, deadline=None)
@given(FLOATS)
def test_bins_are_ascending_and_hold_their_values(values):
    found = histogram_of(values)
    tiny = np.abs(values) < 2.0**-133  # the first code of denormal numbers counts as zero
    assert found.zeros == tiny.sum()
    assert found.total == (~tiny).sum()
    assert np.all(found.starts < found.ends)
    assert np.all(found.ends[:-1] <= found.starts[1:] * (1 + 1e-6 * np.sign(found.starts[1:])))
    for value in values[~tiny]:
        inside = (found.starts <= value) & (value <= found.ends)
        assert inside.any()
        width = (found.ends - found.starts)[inside].min()
        assert width <= max(abs(float(value)) / 128, 2.0**-133) * 1.0001


def test_bins_of_the_largest_float_are_finite():
    found = to_histogram(count_codes(np.array([3.4e38], np.float32)), 0.0, 4e38)
    assert np.isfinite(found.ends).all()
    assert np.isfinite(np.concatenate(found.moments(found.ends))).all()


def test_moments_below_a_point():
    values = normal()
    found = histogram_of(values)
    for point in (-5.0, -1.3, -0.01, 0.0, 0.2, 2.5, 9.0):
        zeroth, first, second = (float(moment[0]) for moment in found.moments(np.array([point])))
        below = values[values < point].astype(np.float64)
        assert zeroth == pytest.approx(len(below), abs=0.002 * len(values))
        assert first == pytest.approx(below.sum(), abs=0.004 * len(values))
        assert second == pytest.approx((below**2).sum(), abs=0.01 * len(values))


def test_folding_keeps_the_magnitudes():
    values = np.concatenate([normal(), np.abs(normal(seed=5)) * 3, np.zeros(7, np.float32)])
    np.testing.assert_array_equal(fold_counts(count_codes(values)), count_codes(np.abs(values)))


def test_the_end_of_clipped_values_is_one_exact_value():
    found = histogram_of(np.clip(normal() * 5, -3, 6))
    assert found.exact.tolist() == [True, *[False] * (len(found.counts) - 2), True]
    assert (found.starts[0], found.ends[-1]) == (-3.0, 6.0)
    ends = found.below(np.array([-3.0, np.nextafter(-3.0, 0) + 1e-5, 6.0 - 1e-5, 6.0]))
    assert ends[0] == 0
    assert ends[1] == pytest.approx(found.counts[0], rel=0.01)
    assert ends[3] - ends[2] == pytest.approx(found.counts[-1], rel=0.01)
    masses, widths, _ = found.supports(np.array([-3.0, 6.0]))
    assert masses[1] - masses[0] == pytest.approx(found.total - found.counts[0] - found.counts[-1])
    assert widths[1] < 9
