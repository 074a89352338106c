"""Libraries cut short or of another processor are told from their headers, before the loader maps them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgepack.device.host import host_facts
from edgepack.engines.tvm.elf import machine_of
from edgepack.errors import CompileError


@pytest.fixture
def library(tmp_path: Path) -> Path:
    path = tmp_path / "some.so"
    path.write_bytes(Path(sys.executable).resolve().read_bytes())
    return path


def test_this_python_is_for_this_machine(library: Path) -> None:
    assert machine_of(library) == host_facts().arch


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.3, 0.7, 0.999999])
def test_a_library_cut_short_is_refused(share: float, library: Path) -> None:
    data = library.read_bytes()
    library.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CompileError, match=r"TVM refused some\.so"):
        machine_of(library)


@pytest.mark.parametrize(
    ("offset", "value"), [(0, b"\x7fXLF"), (4, b"\x01"), (5, b"\x02"), (18, b"\xfe\xff"), (56, b"\x00\x00")]
)
def test_another_header_is_refused(offset: int, value: bytes, library: Path) -> None:
    data = bytearray(library.read_bytes())
    data[offset : offset + len(value)] = value
    library.write_bytes(data)
    with pytest.raises(CompileError, match=r"TVM refused some\.so"):
        machine_of(library)


@pytest.mark.parametrize(("number", "arch"), [(183, "aarch64"), (243, "riscv64"), (62, "x86_64")])
def test_the_processor_is_named(number: int, arch: str, library: Path) -> None:
    data = bytearray(library.read_bytes())
    data[18:20] = number.to_bytes(2, "little")
    library.write_bytes(data)
    assert machine_of(library) == arch


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="No such file"):
        machine_of(tmp_path / "none.so")
