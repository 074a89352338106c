"""Headers of .npy files: those that numpy writes are read, and whatever else stands there is a ValueError."""

from __future__ import annotations

import io

import numpy as np
import pytest

from edgepack.data.npy import read_header


def npy(header: bytes, version: int = 1) -> io.BytesIO:
    length = len(header).to_bytes(2 if version == 1 else 4, "little")
    return io.BytesIO(b"\x93NUMPY" + bytes([version, 0]) + length + header)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_what_numpy_writes_is_read(version: tuple[int, int]) -> None:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.ones((2, 3), np.float32, order="F"), version)
    file.seek(0)
    assert read_header(file) == (version, (2, 3), True, np.dtype(np.float32))
    assert len(file.read()) == 24


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2",  # ends within brackets: tokenize.TokenError
        b"{'descr': '<f4', 'fortran_order': False, 'shape': '''",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (True, 2)}",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 2)}",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': 2}",
        b"{'descr': [('a', '<f4', -1)], 'fortran_order': False, 'shape': (2,)}",
        b"{'descr': ('<f4', (2, 10**30)), 'fortran_order': False, 'shape': (2,)}",
        b"{{}: 1}",
        b"(" * 5000,
        b"-" * 9000 + b"1",
        b"\xff\x00",
        b"",
    ],
)
def test_what_is_no_header_is_a_value_error(header: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_header(npy(header))


def test_a_header_without_end_is_not_read() -> None:
    with pytest.raises(ValueError, match="large"):
        read_header(npy(b" " * 20_000))
    with pytest.raises(ValueError, match="EOF"):
        read_header(io.BytesIO(b"\x93NUMPY\x02\x00\xff\xff\xff\x7f{"))
    with pytest.raises(ValueError, match="magic"):
        read_header(io.BytesIO(b"PK\3\4 and more"))
