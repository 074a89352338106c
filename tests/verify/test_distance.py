"""Distances, compared with the formulas written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgepack.base.documents import to_json
from edgepack.verify.distance import distance, distances
from edgepack.verify.tolerance import Tolerance

LOOSE = Tolerance(sqnr_db=0.0, max_abs=0.5, mismatch=0.25)
floats = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)
pairs = hnp.array_shapes(min_dims=1, max_dims=3, max_side=5).flatmap(
    lambda shape: st.tuples(*[hnp.arrays(np.float32, shape, elements=floats)] * 2)
)


def of(reference, output, tolerance=None):
    return distance("y", [np.asarray(reference)], [None if output is None else np.asarray(output)], tolerance)


@given(pairs)
def test_the_formulas(pair):
    reference, output = (array.astype(np.float64) for array in pair)
    noise = sum((r - o) ** 2 for r, o in zip(reference.flat, output.flat, strict=True))
    signal = sum(r * r for r in reference.flat)
    other = sum(o * o for o in output.flat)
    assume(noise > 1e-20 * signal > 1e-30)
    found = of(*pair)
    assert found.sqnr_db == pytest.approx(10 * math.log10(signal / noise), abs=1e-6)
    dot = sum(r * o for r, o in zip(reference.flat, output.flat, strict=True))
    assert found.cosine == pytest.approx(dot / math.sqrt(signal * other) if other else 0.0, abs=1e-9)
    assert found.max_abs == pytest.approx(max(abs(r - o) for r, o in zip(reference.flat, output.flat, strict=True)))
    assert found.passed
    assert found.nonfinite == 0


@given(pairs, st.integers(1, 4))
def test_samples_count_as_one_long_output(pair, parts):
    reference, output = (np.concatenate([array.ravel()] * 4) for array in pair)
    whole = of(reference, output)
    split = distance("y", np.array_split(reference, parts), np.array_split(output, parts), None)
    assert split == whole


@given(pairs.map(lambda pair: pair[0]), st.floats(1e-30, 1e30))
def test_sqnr_and_cosine_do_not_depend_on_the_unit(reference, factor):
    wide = reference.astype(np.float64)
    assume(np.abs(wide).max() > 1e-3)
    output = wide * 1.01
    one, other = of(wide, output), of(wide * factor, output * factor)
    assert one.sqnr_db == pytest.approx(40.0, abs=1e-6)
    assert other.sqnr_db == pytest.approx(40.0, abs=1e-6)
    assert other.cosine == pytest.approx(1.0)


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, min_side=0)))
def test_anything_is_identical_to_itself_and_can_be_written_as_json(values):
    found = of(values, values.copy(), LOOSE)
    assert (found.sqnr_db, found.max_abs, found.nonfinite, found.passed, found.note) == (None, 0.0, 0, True, None)
    to_json(found)


@given(hnp.arrays(np.float64, 4), hnp.arrays(np.float64, 4))
def test_no_values_at_all_give_numbers_that_json_cannot_hold(reference, output):
    with np.errstate(all="raise", under="ignore"):
        to_json(of(reference, output, LOOSE))


def test_the_smallest_noise():
    found = of([1.0, 0.0], [1.0, 1e-161])
    assert found.sqnr_db == pytest.approx(3220, abs=10)
    to_json(found)


def test_the_largest_numbers():
    found = of([1.7e308, 1.0], [-1.7e308, 1.0])
    assert found.sqnr_db == pytest.approx(-20 * math.log10(2))
    assert math.isfinite(found.max_abs)


def test_an_output_that_is_not_finite_where_the_reference_is():
    for bad in (math.nan, math.inf, -math.inf):
        found = of([1.0, 2.0, 3.0], [1.0, bad, 3.0], LOOSE)
        assert not found.passed
        assert found.nonfinite == 1
        assert "1 values are NaN or infinite" in (found.note or "")
    assert not of([1.0, 2.0], [math.nan, math.nan]).passed


def test_what_is_not_finite_in_both_alike_does_not_count():
    same = of([math.nan, math.inf, -math.inf, 1.0], [math.nan, math.inf, -math.inf, 1.1], LOOSE)
    assert same.passed
    assert same.sqnr_db == pytest.approx(20.0, abs=1e-3)
    assert not of([math.inf, 1.0], [-math.inf, 1.0], LOOSE).passed
    assert not of([math.inf, 1.0], [math.nan, 1.0], LOOSE).passed
    assert not of([math.nan, 1.0], [0.0, 1.0], LOOSE).passed


def test_an_output_that_is_all_zero_is_compared_by_its_largest_difference():
    near, far = of(np.zeros(4), [0.0, 0.1, 0, 0], LOOSE), of(np.zeros(4), [0.0, 0.6, 0, 0], LOOSE)
    assert near.passed
    assert not far.passed
    assert near.sqnr_db is None
    assert "all zero" in (far.note or "")
    assert of(np.zeros(4), np.zeros(4), LOOSE).note is None


def test_the_tolerance_decides():
    reference, output = np.ones(8, np.float32), np.full(8, 1.01, np.float32)
    assert of(reference, output, Tolerance(39.9, 0, 0)).passed
    assert not of(reference, output, Tolerance(40.1, 0, 0)).passed
    assert of(reference, output, Tolerance(40.1, 0, 0)).tolerance_sqnr_db == 40.1


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint64", "bool"])
def test_decisions_are_compared_by_equality(dtype):
    reference = np.array([1, 0, 1, 0], dtype)
    same, one, two = reference.copy(), np.array([0, 0, 1, 0], dtype), np.array([0, 1, 1, 0], dtype)
    assert of(reference, same, LOOSE).mismatch == 0.0
    assert of(reference, one, LOOSE).mismatch == 0.25
    assert of(reference, one, LOOSE).passed
    assert not of(reference, two, LOOSE).passed
    assert of(reference, one, LOOSE).sqnr_db is None
    assert "1 of 4 differ" in (of(reference, one).note or "")
    assert of(reference, two, LOOSE).note == "compared by equality: 2 of 4 differ, 25 % may"
    assert (of(reference, same, LOOSE).identical, of(reference, one, LOOSE).identical) == (True, False)


def test_large_whole_numbers_are_not_rounded_when_they_are_compared():
    assert of(np.array([2**62], np.int64), np.array([2**62 + 1], np.int64), LOOSE).mismatch == 1.0


@pytest.mark.parametrize(("promised", "returned"), [("float32", "float64"), ("int64", "int32"), ("bool", "uint8")])
def test_another_type_is_wrong_whatever_its_values(promised, returned):
    """A program that reads 4 bytes a value gets half of the answer."""
    found = of(np.array([1, 0, 1], promised), np.array([1, 0, 1], returned), LOOSE)
    assert not found.passed
    assert found.note == f"its dtype is {returned}, the fp32 model's is {promised}"


def test_small_whole_numbers_are_amounts():
    found = of(np.array([100, 200], np.uint8), np.array([101, 200], np.uint8))
    assert found.sqnr_db == pytest.approx(10 * math.log10(50_000))
    assert found.mismatch is None


def test_scalars_and_empty_outputs():
    assert of(np.float32(2.0), np.float32(1.0)).sqnr_db == pytest.approx(20 * math.log10(2))
    empty = of(np.zeros((0, 3)), np.zeros((0, 3)), LOOSE)
    assert (empty.sqnr_db, empty.cosine, empty.passed) == (None, 1.0, True)
    assert of(np.zeros(0, np.int64), np.zeros(0, np.int64), LOOSE).mismatch == 0.0


@pytest.mark.parametrize(
    ("output", "words"),
    [(None, "did not return"), (np.ones((2, 1)), "its shape is"), (np.array(["a", "b"]), "not a number")],
)
def test_outputs_that_cannot_be_compared(output, words):
    found = of(np.ones(2), output, LOOSE)
    assert not found.passed
    assert words in (found.note or "")


def test_all_outputs_of_all_samples():
    reference = [{"a": np.ones(2), "b": np.zeros(1, np.int64)}] * 2
    outputs = [{"a": np.ones(2), "b": np.zeros(1, np.int64), "more": np.ones(1)}, {"a": np.zeros(2)}]
    first, second = distances(reference, outputs, {"a": LOOSE})
    assert first.name == "a"
    assert first.sqnr_db == pytest.approx(10 * math.log10(2))
    assert not second.passed
    with pytest.raises(ValueError, match="cannot be compared"):
        distances(reference, outputs[:1], None)
