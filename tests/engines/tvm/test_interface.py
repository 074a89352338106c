"""interface.txt: what is written is read back, and damaged text of every kind is refused."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.engines.tvm.interface import (
    FORMAT,
    Interface,
    read_functions,
    read_interface,
    write_functions,
    write_interface,
)
from edgepack.errors import CompileError
from edgepack.specs.model import TensorSpec

GOOD = Interface(
    inputs=(
        TensorSpec("a mask/0", "bool", (1, 6)),
        TensorSpec("x:0", "float32", ("?", 3)),
        TensorSpec("s", "int64", ()),
    ),
    outputs=(TensorSpec("out 1", "float16", (1, 10)),),
    batch="looped",
    threads=4,
    tvm="0.27.0.post1",
    ffi="0.1.14.post1",
)


def test_what_is_written_is_read_back() -> None:
    assert read_interface(write_interface(GOOD).encode()) == GOOD
    needing = dataclasses.replace(GOOD, needs="amx")
    assert read_interface(write_interface(needing).encode()) == needing


@pytest.mark.parametrize(
    ("line", "other"),
    [
        (FORMAT, "edgepack-tvm 2"),
        ("batch looped", "batch sometimes"),
        ("batch looped", ""),
        ("threads 4", "threads many"),
        ("threads 4", "threads 4\nthreads 5"),
        ("tvm 0.27.0.post1", "color blue"),
        ("input bool 1,6 a mask/0", "input bool 1,6"),
        ("input bool 1,6 a mask/0", "input string 1,6 a mask/0"),
        ("input bool 1,6 a mask/0", "input bool 1,,6 a mask/0"),
        ("input bool 1,6 a mask/0", "input bool -1,6 a mask/0"),
        ("output float16 1,10 out 1", ""),
        ("batch looped", "batch looped\nneeds magic"),
    ],
)
def test_a_damaged_interface_is_refused(line: str, other: str) -> None:
    text = write_interface(GOOD)
    assert line in text
    with pytest.raises(CompileError, match=r"TVM refused interface\.txt"):
        read_interface(text.replace(line, other, 1).encode())


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for candidate in (data, write_interface(GOOD).encode()[:50] + data):
        try:
            read_interface(candidate)
        except CompileError:
            continue


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (TensorSpec("a\nb", "float32", (1,)), "cannot be printed"),
        (TensorSpec("", "float32", (1,)), "cannot be printed"),
        (TensorSpec("a", "bfloat16", (1,)), "has type bfloat16"),
        (TensorSpec("a", "str", (1,)), "has type str"),
    ],
)
def test_what_the_file_cannot_hold_is_refused_when_compiling(spec: TensorSpec, words: str) -> None:
    with pytest.raises(CompileError, match=words):
        write_interface(dataclasses.replace(GOOD, inputs=(spec,)))


def test_functions_are_read_back_whatever_their_reasons_hold() -> None:
    rules = {"a_conv": "window", "b_add": "default: it has\ntwo  lines", "c": "reduction"}
    text = write_functions(rules)
    assert len(text.splitlines()) == 3
    assert read_functions(text.encode()) == {**rules, "b_add": "default: it has two lines"}
    assert read_functions(b"") == {}
    assert read_functions(b"\xff\n \nname\n") == {"\ufffd": "", "name": ""}
