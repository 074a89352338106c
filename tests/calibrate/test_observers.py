import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgepack.calibrate.histogram import Counts, to_histogram
from edgepack.calibrate.observers import OBSERVERS, check_percentile_goes_with, choose_observer, choose_range
from edgepack.calibrate.range_error import squared_errors
from edgepack.calibrate.statistics import Statistics, extremes_of
from edgepack.errors import ConfigError
from edgepack.specs.data import Recipe

COUNT = 60_000


def samples_of(name):
    rng = np.random.default_rng(7)
    values = {
        "normal": rng.normal(size=COUNT),
        "shifted": rng.normal(size=COUNT) + 2.5,
        "laplace": rng.laplace(size=COUNT),
        "student": rng.standard_t(3, size=COUNT),
        "uniform": rng.uniform(-1, 1, COUNT),
        "rectified": np.maximum(rng.normal(size=COUNT) - 0.5, 0),
        "clipped at 6": np.clip(rng.normal(size=COUNT) * 5, 0, 6),
        "lognormal": rng.lognormal(0, 1, COUNT),
        "negative": -np.abs(rng.normal(size=COUNT)),
        "far outlier": np.append(rng.normal(size=COUNT), [1000.0]),
    }[name]
    return values.astype(np.float32)


NAMES = (
    *("normal", "shifted", "laplace", "student", "uniform", "rectified", "clipped at 6", "lognormal", "negative"),
    "far outlier",
)


def statistics_of(values):
    statistics = Statistics(counts=Counts())
    statistics.add(extremes_of(np.asarray(values, np.float32), True))
    return statistics


def choose(observer, values, percentile=99.99):
    return choose_range(OBSERVERS.get(observer), statistics_of(values), percentile)


def quantize_asymmetric(values, low, high, steps=255):
    """Round to the affine 8-bit grid as engines do, value by value."""
    scale = (high - low) / steps
    zero = round(-low / scale)
    return (np.clip(np.round(values / scale) + zero, 0, steps) - zero) * scale


def quantize_symmetric(values, magnitude):
    scale = magnitude / 127
    return np.clip(np.round(values / scale), -127, 127) * scale


def error(values, quantized):
    return float(((values.astype(np.float64) - quantized) ** 2).sum())


@pytest.mark.parametrize("observer", list(OBSERVERS.own))
@pytest.mark.parametrize("name", NAMES)
def test_every_range_holds_zero_and_stays_within_the_extremes(observer, name):
    values = samples_of(name)
    found = choose(observer, values)
    assert (found.minimum, found.maximum) == (values.min(), values.max())
    assert min(values.min(), 0) <= found.low <= 0 <= found.high <= max(values.max(), 0)
    assert 0 < found.magnitude <= np.abs(values).max()
    assert found.low < found.high


@pytest.mark.parametrize("name", NAMES)
def test_minmax_takes_the_extremes(name):
    values = samples_of(name)
    found = choose("minmax", values)
    assert (found.low, found.high) == (min(values.min(), 0), max(values.max(), 0))
    assert found.magnitude == np.abs(values).max()


@pytest.mark.parametrize("percentile", [90.0, 99.0, 99.9, 99.99])
@pytest.mark.parametrize("name", NAMES)
def test_percentile_agrees_with_numpy(name, percentile):
    values = samples_of(name)
    found = choose("percentile", values, percentile)
    cut = (100 - percentile) / 2
    assert_at_rank(np.minimum(values, 0), cut, found.low)
    assert_at_rank(np.maximum(values, 0), 100 - cut, found.high)
    assert_at_rank(np.abs(values), percentile, found.magnitude)


def assert_at_rank(values, percentile, found):
    """Between the neighbours of the value at that rank, give or take the width of a bin."""
    ordered = np.sort(values)
    rank = round(percentile / 100 * len(ordered))
    low, high = ordered[max(rank - 2, 0)], ordered[min(rank + 1, len(ordered) - 1)]
    assert low - abs(low) / 128 <= found <= high + abs(high) / 128


def test_percentile_100_is_minmax():
    values = samples_of("student")
    assert choose("percentile", values, 100.0) == choose("minmax", values)


def test_percentile_of_mostly_zeros_counts_them():
    values = np.append(np.zeros(9990, np.float32), np.arange(1, 11, dtype=np.float32))
    found = choose("percentile", values, 99.0)
    assert found.magnitude == 0.0
    assert found.high == pytest.approx(0.0)
    assert choose("percentile", values, 99.95).magnitude == pytest.approx(5.0, rel=0.03)


@pytest.mark.parametrize("name", NAMES)
def test_squared_errors_are_those_of_real_rounding(name):
    values = samples_of(name)
    histogram = to_histogram(statistics_of(values).counts.table(), float(values.min()), float(values.max()))
    low, high = float(min(values.min(), 0)), float(max(values.max(), 0))
    for share in (1.0, 0.6, 0.3):
        expected = error(values, quantize_asymmetric(values, low * share, high * share))
        found = squared_errors(histogram, np.array([low * share]), np.array([high * share]), 255)
        assert found[0] == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("name", NAMES)
def test_mse_finds_the_least_error_of_all_ranges(name):
    values = samples_of(name)
    found = choose("mse", values)
    best = min(
        error(values, quantize_symmetric(values, found.magnitude * share)) for share in np.linspace(0.5, 2.0, 61)
    )
    assert error(values, quantize_symmetric(values, found.magnitude)) <= 1.02 * best
    reached = error(values, quantize_asymmetric(values, found.low, found.high))
    lows = [found.low * share for share in np.linspace(0.6, 1.6, 21)]
    highs = [found.high * share for share in np.linspace(0.6, 1.6, 21)]
    pairs = [(low, high) for low in lows for high in highs if high > low]
    assert reached <= 1.03 * min(error(values, quantize_asymmetric(values, low, high)) for low, high in pairs)


def test_mse_is_never_worse_than_minmax():
    for name in NAMES:
        values = samples_of(name)
        plain, found = choose("minmax", values), choose("mse", values)
        assert error(values, quantize_asymmetric(values, found.low, found.high)) <= 1.005 * error(
            values, quantize_asymmetric(values, plain.low, plain.high)
        )


def migacz_divergences(values, bins=4096, levels=128):
    """The procedure of Migacz (GTC 2017), written out bin by bin: the divergence of every magnitude tried."""
    magnitudes = np.abs(values[values != 0])
    largest = magnitudes.max()
    counts = np.histogram(magnitudes, bins=bins, range=(0, largest))[0].astype(np.float64)
    tried = {}
    for end in range(levels, bins + 1, 16):
        inside = counts[:end]
        reference = inside.copy()
        reference[-1] += counts[end:].sum()
        level = np.minimum(np.arange(end) * levels // end, levels - 1)
        mass = np.bincount(level, weights=inside, minlength=levels)
        filled = np.bincount(level, weights=inside > 0, minlength=levels)
        quantized = np.where(inside > 0, mass[level] / np.maximum(filled[level], 1), 0)
        p, q = reference / reference.sum(), quantized / quantized.sum()
        used = p > 0
        tried[end * largest / bins] = float((p[used] * np.log(p[used] / np.maximum(q[used], 1e-6))).sum())
    return tried


@pytest.mark.parametrize("name", ["normal", "laplace", "student", "uniform", "rectified", "clipped at 6", "lognormal"])
def test_entropy_agrees_with_migacz_procedure(name):
    """By his own measure, within 20 %: his bins are linear, and the minimum is flat and noisy where values are few."""
    values = samples_of(name)
    tried = migacz_divergences(values)
    found = choose("entropy", values).magnitude
    nearest = min(tried, key=lambda magnitude: abs(magnitude - found))
    assert tried[nearest] <= 1.2 * min(tried.values())
    assert found == pytest.approx(min(tried, key=tried.get), rel=0.25)


def test_entropy_sees_the_bulk_behind_a_far_outlier():
    """2048 linear bins cannot: the bulk lies in the first ten, and the range stays at 16 times the bulk's."""
    assert choose("entropy", samples_of("far outlier")).magnitude < 8
    assert choose("mse", samples_of("far outlier")).magnitude > 500  # one value of 1000 weighs more than all others


@pytest.mark.parametrize("observer", ["entropy", "mse"])
def test_zeros_of_a_rectifier_do_not_matter(observer):
    values = samples_of("rectified")
    many = np.concatenate([values, np.zeros(20 * COUNT, np.float32)])
    assert choose(observer, many) == choose(observer, values)


@pytest.mark.parametrize("observer", ["entropy", "mse"])
def test_the_end_of_a_clipped_activation_is_kept(observer):
    assert choose(observer, samples_of("clipped at 6")).high == 6.0


@pytest.mark.parametrize("observer", ["minmax", "percentile", "entropy", "mse"])
@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, -3.5, 1e-30, 3e38, -3e38])
def test_constant_tensors(observer, value):
    found = choose(observer, np.full(100, value, np.float32))
    assert found.low == pytest.approx(min(value, 0), rel=1e-6)
    assert found.high == pytest.approx(max(value, 0), rel=1e-6)
    assert found.magnitude == pytest.approx(abs(value), rel=1e-6)
    assert str(found.minimum) != "-0.0"


@settings(max_examples=150, deadline=None)
@given(
    arrays(np.float32, st.integers(1, 40), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)),
    st.sampled_from(["percentile", "entropy", "mse"]),
    st.floats(50.1, 100),
)
def test_any_values_give_a_finite_range(values, observer, percentile):
    found = choose(observer, values, percentile)
    numbers = [found.low, found.high, found.magnitude]
    assert np.isfinite(numbers).all()
    assert min(values.min(), 0) <= found.low <= 0 <= found.high <= max(values.max(), 0)
    assert 0 <= found.magnitude <= np.abs(values).max()


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@example(1459, 0.5)  # costs that are equal but for rounding
@example(2184503, 2.0)  # a range around one value of 500 had an entropy of zero
@given(st.integers(0, 2**32), st.floats(2.0**-20, 2.0**20))
def test_ranges_scale_with_the_values(seed, factor):
    """By a power of two, which moves every value to the same place in its code."""
    factor = float(2.0 ** np.round(np.log2(factor)))
    values = np.random.default_rng(seed).normal(size=500).astype(np.float32)
    for observer in ("percentile", "entropy", "mse"):
        one, other = choose(observer, values, 99.0), choose(observer, values * np.float32(factor), 99.0)
        assert other.high == pytest.approx(one.high * factor, rel=1e-6)
        assert other.magnitude == pytest.approx(one.magnitude * factor, rel=1e-6)


# --- the table --------------------------------------------------------------------------------------------------------


def test_an_observer_says_which_statistics_it_needs():
    assert {name for name, observer in OBSERVERS.all() if not observer.needs_counts} == {"minmax"}
    assert {name for name, observer in OBSERVERS.all() if observer.parameters} == {"percentile"}
    only_extremes = Statistics()
    only_extremes.add(extremes_of(np.array([-1.0, 3.0], np.float32), False))
    assert choose_range(OBSERVERS.get("minmax"), only_extremes, 99.99).high == 3.0


def test_what_was_asked_for_goes_before_the_recipe():
    recipe = Recipe(name="mine", title="", observer="entropy", percentile=99.0)
    assert choose_observer(None, None, None) == ("auto", 99.99)
    assert choose_observer(recipe, None, None) == ("entropy", 99.0)
    assert choose_observer(recipe, "mse", 98.0) == ("mse", 98.0)


@pytest.mark.parametrize(
    ("name", "recipe", "message"),
    [
        ("mes", None, "unknown observer 'mes'"),
        (None, Recipe(name="mine", title="", observer="mes"), "the recipe 'mine': unknown observer 'mes'"),
    ],
)
def test_an_unknown_observer_is_answered_with_the_nearest(name, recipe, message):
    with pytest.raises(ConfigError) as caught:
        choose_observer(recipe, name, None)
    assert caught.value.message == message
    assert "did you mean 'mse'" in caught.value.hint


def test_a_percentile_goes_with_observers_that_take_it():
    check_percentile_goes_with("percentile")
    with pytest.raises(ConfigError, match="cannot be used with --observer mse") as caught:
        check_percentile_goes_with("mse")
    assert caught.value.hint == "use --observer percentile"
