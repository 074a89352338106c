"""Labels of samples: an array with a row for each, or a sequence with one label for each, of whatever size that is."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias, cast

import numpy as np

from edgepack.specs.types import Array


class Label(Protocol):
    """A label that is not a row of numbers: the boxes in a picture, a mask."""

    def digest(self) -> str:
        """Return the hex sha256 of what it says."""


# A sequence may read its labels when they are asked for, as masks lie in files.
Labels: TypeAlias = Array | Sequence[Label | str]


def is_array(labels: Labels) -> bool:
    """Say whether labels are rows of numbers."""
    return isinstance(labels, np.ndarray)


def take(labels: Labels, indices: Sequence[int]) -> Labels:
    """Return the labels at ``indices``, in that order."""
    if isinstance(labels, np.ndarray):
        return cast("Labels", labels[np.asarray(indices)])
    return _Taken(labels, tuple(indices))


def stack(labels: Sequence[Any]) -> Labels:
    """Return single labels as the labels of samples."""
    if not isinstance(labels[0], np.ndarray | np.generic):
        return tuple(labels)
    return with_classes(np.stack(labels))


def with_classes(labels: Array) -> Array:
    """Return labels with the classes 0 and 1 in place of false and true."""
    return labels.astype(np.int64) if labels.dtype == np.bool_ else labels


def digest_of(labels: Labels) -> str | list[str]:
    """Return the hex sha256 of an array of labels, or one for each label."""
    if isinstance(labels, np.ndarray):
        data = np.ascontiguousarray(labels)
        return hashlib.sha256(f"{data.dtype.str}:{data.shape};".encode() + data.tobytes()).hexdigest()
    return [_one(label) for label in labels]


def _one(label: Label | str) -> str:
    return hashlib.sha256(label.encode()).hexdigest() if isinstance(label, str) else label.digest()


class _Taken(Sequence[Any]):
    """Some of the labels, each read when it is asked for."""

    def __init__(self, labels: Sequence[Any], indices: tuple[int, ...]) -> None:
        self._labels, self._indices = labels, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return _Taken(self._labels, self._indices[index])
        return self._labels[self._indices[index]]
