"""Queries in JSON and raw bytes: what is taken, what is refused, and that answers are what clients read."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.errors import DataError
from edgepack.serve.queries import Answer, Query, Wanted
from edgepack.serve.rest import read_query, unpacked, write_answer

TENSOR = {"name": "x", "shape": [2], "datatype": "FP32"}


def asked(*inputs: Any, **more: Any) -> bytes:
    return json.dumps({"inputs": inputs, **more}).encode()


def test_a_query_in_json() -> None:
    query = read_query(asked({**TENSOR, "data": [1, 2.5]}, outputs=[{"name": "y"}], id="7"), None)
    assert query.feeds["x"].tolist() == [1.0, 2.5]
    assert query.feeds["x"].dtype == np.float32
    assert (query.id, query.outputs, query.binary) == ("7", (Wanted("y", binary=False),), False)


def test_a_query_with_raw_bytes() -> None:
    head = asked(
        {**TENSOR, "parameters": {"binary_data_size": 8}},
        {**TENSOR, "name": "z", "data": [5, 6]},
        {**TENSOR, "name": "w", "parameters": {"binary_data_size": 8}},
        outputs=[{"name": "y", "parameters": {"binary_data": True}}],
        parameters={"binary_data_output": False},
    )
    query = read_query(head + np.array([1, 2, 3, 4], "<f4").tobytes(), len(head))
    assert {name: array.tolist() for name, array in query.feeds.items()} == {"x": [1, 2], "z": [5, 6], "w": [3, 4]}
    assert query.outputs == (Wanted("y", binary=True),)


WRONG = (
    (b"", "not JSON"),
    (b"{", "not JSON"),
    (b"\xff", "not JSON"),
    (b"[]", "not an object"),
    (b"{}", "no list 'inputs'"),
    (b'{"inputs": {}}', "no list 'inputs'"),
    (b'{"inputs": [1]}', "one of inputs is not an object"),
    (b'{"inputs": [], "inputs": []}', "given twice"),
    (b'{"inputs": [], "outputs": 1}', "no list 'outputs'"),
    (b'{"inputs": [], "id": 7}', "'id' is not text"),
    (b'{"inputs": [], "parameters": []}', "parameters is not an object"),
    (b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [NaN]}]}', "NaN is not JSON"),
    (b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [' + b"9" * 5000 + b"]}]}", "not JSON"),
    (b"[" * 100_000, "not JSON"),
    (b'{"inputs": [' + b"[]," * 1_100_000 + b"1]}", "too many lists"),
    (asked({**TENSOR, "data": [1, 2]}, {**TENSOR, "data": [1, 2]}), "given twice"),
    (asked({"name": "x", "datatype": "FP32", "data": [1]}), "has no shape"),
    (asked({"name": "x", "shape": [1], "data": [1]}), "'datatype' is not text"),
    (asked({**TENSOR}), "data is not a list"),
    (asked({**TENSOR, "data": [1, 2], "parameters": {"binary_data_size": 8}}), "both data and binary_data_size"),
    (asked({**TENSOR, "parameters": {"binary_data_size": 8}}), "and 0 bytes follow"),
    (asked({**TENSOR, "parameters": {"binary_data_size": -8}}), "binary_data_size is -8"),
    (asked({**TENSOR, "parameters": {"binary_data_size": "8"}}), "binary_data_size is 8"),
    (asked({**TENSOR, "parameters": {"shared_memory_region": "r"}}), "shared memory is not offered"),
    (asked(outputs=[{"name": "y", "parameters": {"classification": 3}}]), "classification is not offered"),
)


@pytest.mark.parametrize(("body", "words"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_query_is_refused(body: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_query(body, None)


@pytest.mark.parametrize(("length", "words"), [(1_000, "and the body has"), (13, "not JSON"), (14, "belong to none")])
def test_a_header_length_that_lies_is_refused(length: int, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_query(b'{"inputs": []}' + b"abcd", length)


@given(st.binary(max_size=300), st.one_of(st.none(), st.integers(0, 300)))
def test_any_bytes_are_read_or_refused(body: bytes, length: int | None) -> None:
    try:
        read_query(body, length)
    except DataError:
        pass


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
KEYS = st.sampled_from(["name", "shape", "datatype", "data", "parameters"])


@given(st.lists(st.dictionaries(KEYS, JSON | st.sampled_from(["FP32", "BYTES", "INT8"])), max_size=3))
def test_any_tensors_are_read_or_refused(tensors: list[dict[str, Any]]) -> None:
    try:
        read_query(json.dumps({"inputs": tensors}).encode(), None)
    except DataError:
        pass


def test_an_answer_says_what_is_asked_for() -> None:
    outputs = {"y": np.array([[1.5, 2]], np.float32), "n": np.array([3], np.int64)}
    answer = Answer(outputs, "m", "2")
    body, length = write_answer(answer, Query({}, id="7"))
    assert length is None
    assert json.loads(body) == {
        "model_name": "m", "model_version": "2", "id": "7",
        "outputs": [
            {"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [1.5, 2.0]},
            {"name": "n", "datatype": "INT64", "shape": [1], "data": [3]},
        ],
    }  # fmt: skip
    body, length = write_answer(answer, Query({}, (Wanted("n", binary=True), Wanted("y", binary=False))))
    assert length is not None
    said = json.loads(body[:length])
    assert [each["name"] for each in said["outputs"]] == ["n", "y"]
    assert said["outputs"][0]["parameters"] == {"binary_data_size": 8}
    assert np.frombuffer(body[length:], "<i8").tolist() == [3]


def test_compressed_bodies_are_unpacked_up_to_a_limit() -> None:
    data = b"x" * 1000
    assert unpacked(data, "", 10) == data  # what came is measured where it is read
    assert unpacked(gzip.compress(data), "gzip", 1000) == data
    assert unpacked(zlib.compress(data), "deflate", 1000) == data


BOMB = gzip.compress(bytes(50_000_000), mtime=0)


@pytest.mark.parametrize(
    ("body", "encoding", "words"),
    [
        (BOMB, "gzip", "more than 1000 bytes"),
        (gzip.compress(b"abc", mtime=0)[:-4], "gzip", "cut off"),
        (b"abc", "gzip", "is not gzip"),
        (gzip.compress(b"abc", mtime=0) + b"more", "gzip", "cut off"),
        (b"abc", "br", "unknown Content-Encoding"),
    ],
    ids=["bomb", "cut", "other", "more", "unknown"],
)
def test_bodies_that_are_not_what_they_say_are_refused(body: bytes, encoding: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        unpacked(body, encoding, 1000)
