"""The header of a .npy file, for which numpy's own reader raises errors of many kinds where it is damaged."""

from __future__ import annotations

import tokenize
from typing import IO, Any

import numpy as np

_LIMIT_BYTES = 10_000
# It evaluates Python's literals, and what fails there is tokenized as Python 2 wrote it.
_ERRORS = (SyntaxError, TypeError, RecursionError, MemoryError, OverflowError, tokenize.TokenError)


def read_header(file: IO[bytes]) -> tuple[tuple[int, int], tuple[int, ...], bool, np.dtype[Any]]:
    """Return format version, shape, whether it is in Fortran order, and dtype; the values follow in ``file``.

    Raises ``ValueError`` for whatever is no such header.
    """
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        shape, fortran, dtype = read(file, max_header_size=_LIMIT_BYTES)
    except _ERRORS as error:
        raise ValueError(f"its header is damaged: {error}") from None
    if any(type(size) is not int or size < 0 for size in shape):  # numpy's reader takes True for a size
        raise ValueError(f"its header says the shape {shape}")
    return version, shape, fortran, dtype
