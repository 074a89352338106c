"""What every kind of sample source gives: its samples one at a time, their digests and labels."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from edgepack.specs.types import Array

LABELS = "labels"  # the key of labels in a .npz and in what a callable yields


@dataclass(frozen=True)
class Contents:
    """All samples of a source, in its own sorted order, without the samples themselves.

    ``digest`` returns the hex sha256 of what sample i is made from. ``labels`` has one row per sample. ``ignored``
    names what stands in the source and is not a sample.
    """

    count: int
    digest: Callable[[int], str]
    labels: Array | None
    classes: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True)
class Item:
    """One sample: its arrays by input name (batch axis of 1 included) and, where reading it shows that, its digest."""

    feed: Mapping[str, Array]
    digest: str | None = None
    label: Array | None = None


def place(index: int, source: str) -> str:
    """Return how errors name a sample that has no file name of its own; counted from 0 like an array's rows."""
    return f"sample {index} of {source}"


def backwards(indices: Sequence[int]) -> bool:
    """Return whether a source that is read in order must be started again on the way."""
    return any(after <= before for before, after in itertools.pairwise(indices))
