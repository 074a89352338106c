"""Outputs of a model over many samples, on disk: written one sample at a time, read without loading all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from edgepack.base.files import storage_errors
from edgepack.errors import DataError

if TYPE_CHECKING:
    from edgepack.specs.types import Array

MAX_BYTES = 8 << 30


@dataclass(frozen=True)
class StoredOutputs:
    """Outputs of one model: for output i ``<i>.bin`` holds all samples' values one after the other.

    ``index`` is a JSON file: for each output its dtype and the shape for each sample.
    """

    folder: Path
    index: Path
    names: tuple[str, ...]
    n: int


class OutputWriter:
    """Writes ``StoredOutputs`` into a folder; use as a context manager, then call ``finish``."""

    def __init__(self, folder: Path, names: tuple[str, ...]) -> None:
        self._folder, self._names = folder, names
        self._files: list[IO[bytes]] = []
        self._shapes: list[list[list[int]]] = [[] for _ in names]
        self._dtypes: list[str | None] = [None] * len(names)
        self._bytes = 0

    def __enter__(self) -> OutputWriter:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._files = [(self._folder / f"{i}.bin").open("wb") for i in range(len(self._names))]
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for file in self._files:
            file.close()

    def add(self, outputs: Mapping[str, Array]) -> None:
        """Append one sample's outputs. Raises ``DataError`` when all together grow over 8 GiB."""
        import numpy as np

        for i, name in enumerate(self._names):
            value = np.ascontiguousarray(outputs[name])
            self._dtypes[i] = self._dtypes[i] or value.dtype.name
            self._shapes[i].append(list(outputs[name].shape))
            self._bytes += value.nbytes
            if self._bytes > MAX_BYTES:
                raise DataError(
                    f"the outputs of {len(self._shapes[i])} samples take more than {MAX_BYTES >> 30} GiB",
                    hint="give fewer evaluation samples with --eval-samples",
                )
            with storage_errors(self._folder):
                self._files[i].write(value.data)

    def finish(self) -> StoredOutputs:
        """Close the files and write the index."""
        for file in self._files:
            file.close()
        index = self._folder / "outputs.json"
        index.write_text(json.dumps({"dtypes": self._dtypes, "shapes": self._shapes}))
        return StoredOutputs(self._folder, index, self._names, len(self._shapes[0]) if self._shapes else 0)


class OutputReader:
    """Reads the outputs of one sample after another from memory-mapped files."""

    def __init__(self, stored: StoredOutputs) -> None:
        import numpy as np

        index: dict[str, Any] = json.loads(stored.index.read_text())
        self._names = stored.names
        self._shapes = index["shapes"]
        self._flat: list[Array] = []
        for i, dtype in enumerate(index["dtypes"]):
            path = stored.folder / f"{i}.bin"
            empty = dtype is None or path.stat().st_size == 0
            # As a plain array: a slice of a memmap takes six times as long.
            mapped = np.zeros(0, dtype or "float32") if empty else np.memmap(path, dtype=dtype, mode="r")
            self._flat.append(mapped.view(np.ndarray))
        self._offsets = [np.cumsum([0, *(int(np.prod(s)) for s in shapes)]) for shapes in self._shapes]

    def sample(self, index: int) -> dict[str, Array]:
        """Return the outputs of one sample, by name."""
        result = {}
        for i, name in enumerate(self._names):
            begin, end = self._offsets[i][index], self._offsets[i][index + 1]
            result[name] = self._flat[i][begin:end].reshape(self._shapes[i][index])
        return result

    def whole(self, name: str) -> Array:
        """Return one output of all samples, joined along the batch axis. Raises ``DataError`` if shapes differ."""
        i = self._names.index(name)
        shapes = self._shapes[i]
        if any(shape[1:] != shapes[0][1:] or not shape for shape in shapes):
            raise DataError(
                f"output {name!r} has another shape for each sample",
                hint="use --metric sqnr or give the metric one output",
            )
        return self._flat[i].reshape([sum(shape[0] for shape in shapes), *shapes[0][1:]])
