"""Inputs and a framework's own outputs for them, as a worker wrote them: read as a stranger's file."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from edgepack.base.files import open_regular

if TYPE_CHECKING:
    from edgepack.specs.types import Array

# What ``read_pairs`` raises for a file that is not to be used.
UNREADABLE = (OSError, ValueError, KeyError, EOFError, MemoryError, OverflowError, zipfile.BadZipFile, RuntimeError)
_MOST_BYTES = 1 << 30

Pair: TypeAlias = "tuple[dict[str, Array], dict[str, Array]]"


def read_pairs(path: Path) -> list[Pair]:
    """Return the inputs and the outputs of each pair, by name, in their order. Raises one of ``UNREADABLE``."""
    import numpy as np

    found: dict[int, Pair] = {}
    with open_regular(path) as file:
        _refuse_large(zipfile.ZipFile(file))
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            for key in arrays.files:
                number, kind, name = key.split("/", 2)
                array = arrays[key]
                found.setdefault(int(number), ({}, {}))[("in", "out").index(kind)][name] = (
                    array.astype(object) if array.dtype.kind == "U" else array  # as ONNX Runtime has texts
                )
    return [found[number] for number in sorted(found)]


def _refuse_large(archive: zipfile.ZipFile) -> None:
    """Raise ``ValueError`` for what is large when it is unpacked; an entry is not read beyond what its size says."""
    if sum(entry.file_size for entry in archive.infolist()) > _MOST_BYTES:
        raise ValueError(f"it is larger than {_MOST_BYTES >> 30} GiB")


def have_equal_inputs(pairs: list[Pair]) -> bool:
    """Say whether all pairs have the same inputs."""
    import numpy as np

    first = pairs[0][0]
    return all(
        name in inputs and np.array_equal(inputs[name], array)
        for inputs, _ in pairs[1:]
        for name, array in first.items()
    )


def have_numbers(pairs: list[Pair]) -> bool:
    """Say whether there is a finite number, or something else than floats, among all outputs."""
    import numpy as np

    outputs = [array for _, answers in pairs for array in answers.values()]
    return not outputs or any(array.dtype.kind not in "fc" or np.isfinite(array).any() for array in outputs)
