"""The messages of gRPC: the protocol's own bytes, and queries that lie."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.errors import DataError
from edgepack.serve.messages import METHODS, message, read_query, write_answer
from edgepack.serve.queries import Answer, Query

# What Triton's own client (tritonclient 2.73.0) sends for an input x: FP32 [1, 2] = 1.5, 2 and the output y.
RECORDED = "0a016d1a01372a0d0a01781204465033321a02010232030a01793a080000c03f00000040"


def request(**fields: Any) -> Any:
    return message("ModelInferRequest")(model_name="m", **fields)


def tensor(**fields: Any) -> dict[str, Any]:
    return {"name": "x", "datatype": "FP32", "shape": [2], **fields}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_its_messages(name: str) -> None:
    assert message(f"{name}Request")().SerializeToString() == b""
    assert message(f"{name}Response").FromString(b"") is not None


def test_what_a_client_sends_is_read() -> None:
    sent = message("ModelInferRequest").FromString(bytes.fromhex(RECORDED))
    query = read_query(sent)
    assert (sent.model_name, query.id, query.outputs[0].name) == ("m", "7", "y")
    assert query.feeds["x"].tolist() == [[1.5, 2.0]]
    assert sent.SerializeToString() == bytes.fromhex(RECORDED)


def test_raw_contents() -> None:
    query = read_query(request(inputs=[tensor()], raw_input_contents=[np.array([1.5, 2], "<f4").tobytes()], id="7"))
    assert query.feeds["x"].tolist() == [1.5, 2.0]
    assert (query.id, query.binary) == ("7", True)


CONTENTS = (
    ("BOOL", "bool_contents", [True, False]),
    ("INT8", "int_contents", [-128, 127]),
    ("INT64", "int64_contents", [-(2**63), 2**63 - 1]),
    ("UINT16", "uint_contents", [0, 65535]),
    ("UINT64", "uint64_contents", [0, 2**64 - 1]),
    ("FP32", "fp32_contents", [1.5, -2.0]),
    ("FP64", "fp64_contents", [1e300, -2.0]),
    ("BYTES", "bytes_contents", [b"a", "ü".encode()]),
)


@pytest.mark.parametrize(("kind", "field", "values"), CONTENTS)
def test_contents_of_every_type_come_back(kind: str, field: str, values: list[Any]) -> None:
    query = read_query(request(inputs=[tensor(datatype=kind, contents={field: values})]))
    response = write_answer(Answer({"y": query.feeds["x"]}, "m", "1"), query)
    (output,) = response.outputs
    assert (output.datatype, list(output.shape)) == (kind, [2])
    assert list(getattr(output.contents, field)) == values


def test_a_type_without_contents_is_answered_raw() -> None:
    response = write_answer(Answer({"y": np.array([1.5], np.float16)}, "m", "1"), Query({}))
    assert response.raw_output_contents[0] == np.array([1.5], "<f2").tobytes()
    assert not response.outputs[0].HasField("contents")


WRONG = (
    ({"inputs": [tensor()], "raw_input_contents": [b"1234"]}, "4 bytes are not"),
    ({"inputs": [tensor()], "raw_input_contents": [b"12345678", b""]}, "1 inputs, and 2 raw contents"),
    ({"inputs": [tensor(shape=[-2])], "raw_input_contents": [b""]}, "whole numbers"),
    ({"inputs": [tensor(shape=[2**62, 4])], "raw_input_contents": [b""]}, "larger than any query"),
    ({"inputs": [tensor(contents={"fp32_contents": [1]})]}, "shape"),
    ({"inputs": [tensor(contents={"int_contents": [1, 2]})]}, "shape"),
    ({"inputs": [tensor(datatype="INT8", contents={"int_contents": [1, 128]})]}, "out of the range"),
    ({"inputs": [tensor(datatype="FP16", contents={"fp32_contents": [1, 2]})]}, "no contents of its own"),
    ({"inputs": [tensor(datatype="BYTES", contents={"bytes_contents": [b"\xff", b""]})]}, "UTF-8"),
    ({"inputs": [tensor(), tensor()], "raw_input_contents": [b"12345678"] * 2}, "given twice"),
    (
        {"inputs": [tensor(contents={"fp32_contents": [1, 2]})], "raw_input_contents": [b"12345678"]},
        "both contents and raw contents",
    ),
    (
        {"inputs": [tensor(parameters={"shared_memory_region": {"string_param": "r"}})]},
        "shared memory",
    ),
)  # fmt: skip


@pytest.mark.parametrize(("fields", "words"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_query_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_query(request(**fields))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    from google.protobuf.message import DecodeError

    try:
        read_query(message("ModelInferRequest").FromString(data))
    except (DecodeError, DataError):
        pass
