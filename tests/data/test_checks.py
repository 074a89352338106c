"""What is said of samples that do not fit a model's inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from number_types import NUMBERS

from edgepack.base.shapes import show_shape
from edgepack.data.checks import check_dtype, check_names, check_shape, check_values, fits, to_input
from edgepack.data.samples import find_samples, read_samples
from edgepack.errors import DataError
from edgepack.specs.model import TensorSpec


def spec(dtype: str = "float32", *shape: int | str) -> TensorSpec:
    return TensorSpec("x", dtype, shape or ("N", 3))


# --- names ------------------------------------------------------------------------------------------------------------


def test_every_input_needs_an_array_and_others_may_be_there() -> None:
    check_names({"x": 1, "labels": 2}, (spec(),), "data.npz")


@pytest.mark.parametrize(
    ("found", "hint"),
    [
        ({}, "add an array named 'x'"),
        ({"images": 1}, "it has 'images': name that 'x'"),
        ({"xx": 1, "far": 2}, "did you mean 'xx'?; name the arrays like the model's inputs"),
    ],
)
def test_a_missing_array_is_named_with_what_is_there(found: dict[str, int], hint: str) -> None:
    with pytest.raises(DataError, match=r"data\.npz has no array named 'x'") as caught:
        check_names(found, (spec(),), "data.npz")
    assert caught.value.hint == hint


def test_an_array_of_another_input_is_not_offered() -> None:
    with pytest.raises(DataError) as caught:
        check_names({"mask": 1}, (spec(), TensorSpec("mask", "int64", ("N",))), "data.npz")
    assert caught.value.hint == "add an array named 'x'"


# --- dtypes -----------------------------------------------------------------------------------------------------------


@given(st.sampled_from(NUMBERS), st.sampled_from(NUMBERS))
def test_a_dtype_is_taken_where_its_kind_widens_without_loss(have: str, want: str) -> None:
    first, second = np.dtype(have), np.dtype(want)
    if first != second and not (first.kind == second.kind and first.itemsize < second.itemsize):
        with pytest.raises(DataError, match=f"'x' is {have}, the model's input is {want}"):
            check_dtype(first, spec(want), "sample 0")
        return
    check_dtype(first, spec(want), "sample 0")
    if first.kind in "iu":  # then no number changes
        limits = np.iinfo(first)
        ends = np.array([limits.min, limits.max], first)
        assert (to_input(ends, spec(want, 2)) == ends).all()


def test_another_byte_order_is_the_same_number() -> None:
    check_dtype(np.dtype(">f4"), spec(), "sample 0")
    found = to_input(np.array([[1.5, 2, 3]], ">f4"), spec())
    assert found.dtype == np.dtype("float32")
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, [[1.5, 2, 3]])


@pytest.mark.parametrize("dtype", [object, "U3", "datetime64[s]", "complex64"])
def test_what_is_no_number_is_refused(dtype: Any) -> None:
    with pytest.raises(DataError, match="which is not numeric"):
        check_dtype(np.dtype(dtype), spec(), "sample 0")


@pytest.mark.parametrize(
    ("have", "want", "hint"),
    [
        ("uint8", "float32", "(x / 255).astype(np.float32); raw integers are not scaled for you"),
        ("float64", "float32", "write x.astype(np.float32)"),
        ("float32", "int64", "save the samples as int64"),
    ],
)
def test_the_hint_is_what_to_write(have: str, want: str, hint: str) -> None:
    with pytest.raises(DataError) as caught:
        check_dtype(np.dtype(have), spec(want), "sample 0")
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize("dtype", ["string", "object", "bfloat16", "complex64"])
def test_an_input_that_samples_cannot_feed_is_named(dtype: str) -> None:
    with pytest.raises(DataError, match=f"the model's input 'x' is of type {dtype}"):
        check_dtype(np.dtype("float32"), spec(dtype), "sample 0")


# --- shapes and values ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("have", "want", "good"),
    [
        ((1, 3), ("N", 3), True),
        ((7, 3), ("N", 3), True),
        ((1, 4), ("N", 3), False),
        ((1,), ("N", 3), False),
        ((1, 3, 1), ("N", 3), False),
        ((), (), True),
        (("N", 3), ("N", 3), True),
    ],
)
def test_a_free_dimension_fits_any_size(have: Any, want: Any, good: bool) -> None:
    assert fits(have, TensorSpec("x", "float32", want)) == good


def test_a_shape_that_does_not_fit_is_shown_beside_the_models() -> None:
    with pytest.raises(DataError, match=r"sample 4: 'x' has shape \[1, 4\], the model's input is \[N, 3\]"):
        check_shape((1, 4), spec(), "sample 4")
    check_shape((1, 3), spec(), "sample 4")
    assert show_shape(()) == "[]"


@pytest.mark.parametrize(
    ("values", "words"), [([1, np.nan, np.inf], "NaN"), ([1, np.inf], "an infinite number"), ([-np.inf], "an infinite")]
)
def test_values_that_are_not_finite_are_refused(values: list[float], words: str) -> None:
    with pytest.raises(DataError, match=f"sample 2: 'x' holds {words}"):
        check_values(np.float32(values), "x", "sample 2")


@pytest.mark.parametrize("array", [np.arange(3), np.array([True]), np.zeros(0, np.float32), np.float16([65504])])
def test_other_values_are_not(array: np.ndarray) -> None:
    check_values(array, "x", "sample 2")


def test_an_array_is_made_contiguous() -> None:
    found = to_input(np.zeros((4, 3), np.float16, order="F")[::2], spec())
    assert found.flags.c_contiguous
    assert (found.dtype, found.shape) == (np.float32, (2, 3))
    assert to_input(np.float32(3), TensorSpec("x", "float32", ())).shape == ()


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
