"""Tensors of the protocol: what goes out comes back, and what lies about itself is refused."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from number_types import NUMBERS

from edgepack.errors import BundleError, DataError
from edgepack.serve import tensors
from edgepack.specs.model import TensorSpec

ANY = st.sampled_from(NUMBERS).flatmap(
    lambda dtype: arrays.arrays(
        dtype,
        arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
        elements=None if dtype[0] != "f" else {"allow_nan": False, "allow_infinity": False},
    )
)


@given(ANY)
def test_raw_bytes_come_back_as_they_went(array: np.ndarray[Any, Any]) -> None:
    kind = tensors.datatype_of(array)
    found = tensors.from_raw("x", kind, list(array.shape), tensors.to_raw(array))
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@given(ANY, st.booleans())
def test_values_come_back_as_they_went(array: np.ndarray[Any, Any], nested: bool) -> None:
    values = array.tolist() if nested and array.ndim else tensors.to_values("x", array)
    found = tensors.from_values("x", tensors.datatype_of(array), list(array.shape), values) if array.size else array
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@given(st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"])), max_size=5))
def test_texts_come_back_as_they_went(texts: list[str]) -> None:
    array = np.empty(len(texts), object)
    array[:] = texts
    assert tensors.from_raw("x", "BYTES", [len(texts)], tensors.to_raw(array)).tolist() == texts
    assert tensors.from_values("x", "BYTES", [len(texts)], texts).tolist() == texts
    assert tensors.from_texts("x", [len(texts)], [text.encode() for text in texts]).tolist() == texts


RAW = (
    ("FP32", [2], b"1234567", "7 bytes"),
    ("FP32", [2], b"123456789", "9 bytes"),
    ("FP32", [1 << 20, 1 << 20], b"", "0 bytes"),
    ("FP32", [1 << 62, 1 << 62], b"", "larger than any query"),
    ("FP32", [0, 1 << 62], b"", "larger than any query"),
    ("FP32", [0, *[1 << 31] * 4], b"", "larger than any query"),
    ("FP32", [-1], b"1234", "whole numbers"),
    ("FP32", [1.0], b"1234", "whole numbers"),
    ("FP32", [True], b"1234", "whole numbers"),
    ("FP32", [1] * 33, b"1234", "at most 32"),
    ("FP33", [1], b"1234", "unknown datatype"),
    ("BF16", [1], b"12", "unknown datatype"),
    ("BOOL", [2], b"\0\2", "0 or 1"),
    ("BYTES", [1 << 40], b"\0\0\0\0", "do not hold"),
    ("BYTES", [1], struct.pack("<I", 9) + b"abc", "after its length"),
    ("BYTES", [1], struct.pack("<I", 1) + b"abc", "after its length"),
    ("BYTES", [2], struct.pack("<I", 4) + b"abcd", "after its length"),
    ("BYTES", [1], struct.pack("<I", 1) + b"\xff", "UTF-8"),
)


@pytest.mark.parametrize(("kind", "shape", "data", "words"), RAW)
def test_bytes_that_do_not_fit_are_refused(kind: str, shape: list[Any], data: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        tensors.from_raw("x", kind, shape, data)


VALUES = (
    ("FP32", [2], [1.0], "shape"),
    ("FP32", [2, 2], [[1.0, 2.0, 3.0, 4.0]], "shape"),
    ("FP32", [2], [[1.0], [2.0, 3.0]], "ragged"),
    ("FP32", [2], ["1", "2"], "FP32 values alone"),
    ("FP32", [2], [1.0, None], "FP32 values alone"),
    ("FP32", [1], [1e300], "out of the range"),
    ("FP16", [1], [70000.0], "out of the range"),
    ("INT8", [1], [128], "out of the range"),
    ("UINT8", [1], [-1], "out of the range"),
    ("INT32", [1], [1.5], "INT32 values alone"),
    ("UINT64", [2], [0.5, 1 << 63], "too large"),
    ("UINT64", [2], [0, 1 << 64], "UINT64 values alone"),
    ("INT64", [1], [1 << 70], "INT64 values alone"),
    ("BOOL", [1], [1], "BOOL values alone"),
    ("BYTES", [1], [1], "list of texts"),
    ("BYTES", [1], ["\ud800"], "list of texts"),
    ("FP32", [0, 1 << 62], [], "larger than any query"),
    ("FP32", [1], "1", "not a list"),
    ("FP32", [1], {"0": 1}, "not a list"),
    ("FP32", [1], None, "not a list"),
)


@pytest.mark.parametrize(("kind", "shape", "values", "words"), VALUES)
def test_values_that_do_not_fit_are_refused(kind: str, shape: list[int], values: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        tensors.from_values("x", kind, shape, values)


@pytest.mark.parametrize(("kind", "value"), [("FP32", 1.0), ("BYTES", "a")])
@pytest.mark.parametrize("depth", [40, 70, 500])
def test_deep_lists_are_refused(kind: str, value: Any, depth: int) -> None:
    deep = value
    for _ in range(depth):
        deep = [deep]
    with pytest.raises(DataError):
        tensors.from_values("x", kind, [1], deep)


def test_a_count_is_not_trusted_without_its_texts() -> None:
    with pytest.raises(DataError, match="are not"):
        tensors.from_texts("x", [3], [b"a"])


def test_json_has_no_nan() -> None:
    with pytest.raises(DataError, match="NaN"):
        tensors.to_values("x", np.array([np.nan], np.float32))


def test_a_type_that_cannot_be_sent_is_named() -> None:
    assert tensors.datatype(TensorSpec("x", "float32", (1,))) == "FP32"
    assert tensors.datatype(TensorSpec("x", "object", (1,))) == "BYTES"
    assert tensors.shape_of(TensorSpec("x", "float32", ("N", 3))) == [-1, 3]
    with pytest.raises(BundleError, match="bfloat16"):
        tensors.datatype(TensorSpec("x", "bfloat16", (1,)))
