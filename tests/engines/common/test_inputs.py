"""Sizes of free dimensions: those of one name are one size, those without a name are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgepack.engines.common.inputs import check_feeds, engine_words, refuse
from edgepack.errors import DataError, EdgepackError
from edgepack.specs.model import UNNAMED, TensorSpec

IDS = TensorSpec("ids", "int64", ("N", "L"))
MASK = TensorSpec("mask", "float32", ("N", "L", 3))
INPUTS = (IDS, MASK)
SHOWN = "the model takes ids: int64 [N, L], mask: float32 [N, L, 3]"


def good(**changes: Any) -> dict[str, Any]:
    feeds = {"ids": np.zeros((2, 4), np.int64), "mask": np.zeros((2, 4, 3), np.float32)} | changes
    return {name: value for name, value in feeds.items() if value is not None}


def test_good_inputs_pass() -> None:
    check_feeds(good(), INPUTS)
    check_feeds({"t": np.array(["a"])}, (TensorSpec("t", "string", ("N",)),))
    check_feeds({"t": np.zeros((1, 2, 3), np.float32)}, (TensorSpec("t", "float32", ("...",)),))


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        (good(mask=None), "missing inputs: mask"),
        ({}, "missing inputs: ids, mask"),
        (good(extra=1), "unknown inputs: extra"),
        (good(ids=[[1, 2]]), "input 'ids' is a list, not a numpy array"),
        (good(ids=np.zeros((2, 4), np.int32)), "input 'ids' has type int32, not int64"),
        (good(ids=np.zeros((2, 4), ">i8")), "input 'ids' has type int64 in another byte order, not int64"),
        (good(ids=np.zeros((2, 4, 1), np.int64)), "input 'ids' has 3 dimensions, shape [2, 4, 1], not 2"),
        (good(mask=np.zeros((2, 4, 5), np.float32)), "input 'mask' has shape [2, 4, 5], not [N, L, 3]"),
        (good(mask=np.zeros((2, 7, 3), np.float32)), "input 'mask' has L = 7, but 'ids' has L = 4"),
    ],
)
def test_what_is_wrong_is_named(feeds: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        check_feeds(feeds, INPUTS)
    assert (caught.value.message, caught.value.hint) == (message, SHOWN)


def test_inputs_that_are_not_by_name() -> None:
    with pytest.raises(DataError, match="inputs must be given by name, not as a ndarray") as caught:
        check_feeds(np.zeros(3), INPUTS)
    assert caught.value.hint == "give {'ids': array}"


def test_a_size_without_a_name_may_differ() -> None:
    check_feeds(good(ids=np.zeros((1, 1), np.int64)), (TensorSpec("ids", "int64", ("", "")), MASK))


def test_what_is_wrong_with_inputs_comes_before_the_engines_words() -> None:
    with pytest.raises(DataError, match="missing inputs: mask"):
        refuse("Engine", good(mask=None), INPUTS, RuntimeError("boom"))


def test_good_inputs_are_refused_in_the_engines_words() -> None:
    error = RuntimeError("a\n  long   story")
    with pytest.raises(DataError) as caught:
        refuse("Engine", good(), INPUTS, error)
    assert caught.value.message == ("Engine could not run these inputs (ids [2, 4], mask [2, 4, 3]): a long story")
    assert caught.value.__cause__ is error


def test_ids_beyond_a_table_are_said_to_be_anothers() -> None:
    words = "Gather node. indices element out of data bounds, idx=142 must be within the inclusive range [-120,119]"
    with pytest.raises(DataError) as error:
        refuse("ONNX Runtime", good(), INPUTS, RuntimeError(words))
    assert "its own tokenizer" in str(error.value.hint)


def test_memory_is_no_fault_of_the_inputs() -> None:
    with pytest.raises(EdgepackError, match="Engine ran out of memory") as caught:
        refuse("Engine", good(), INPUTS, MemoryError())
    assert not isinstance(caught.value, DataError)


@pytest.mark.parametrize(
    ("error", "words"),
    [(KeyError(), "KeyError"), (ValueError("  a \n b "), "a b"), (ValueError("x" * 900), "x" * 797 + "...")],
)
def test_words_are_one_short_line(error: Exception, words: str) -> None:
    assert engine_words(error) == words


def test_dimensions_without_a_name_are_not_one_size() -> None:
    spec = TensorSpec("x", "float32", (UNNAMED, 3, UNNAMED, UNNAMED))
    check_feeds({"x": np.zeros((1, 3, 8, 12), np.float32)}, (spec,))
    with pytest.raises(DataError, match="not 4"):
        check_feeds({"x": np.zeros((1, 3, 8), np.float32)}, (spec,))


def test_dimensions_of_one_name_are_one_size() -> None:
    spec = TensorSpec("x", "float32", ("N", 3, "size", "size"))
    check_feeds({"x": np.zeros((1, 3, 8, 8), np.float32)}, (spec,))
    with pytest.raises(DataError, match="has size = 12, but 'x' has size = 8"):
        check_feeds({"x": np.zeros((1, 3, 8, 12), np.float32)}, (spec,))
