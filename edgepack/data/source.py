"""What every kind of sample source gives: its samples one at a time, their digests and labels."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from edgepack.data.labels import Labels
    from edgepack.specs.data import Preprocessing
    from edgepack.specs.model import TensorSpec
    from edgepack.specs.task import Frame, Setting, Task
    from edgepack.specs.types import Array

LABELS = "labels"  # the key of labels in a .npz and in what a callable yields


@dataclass(frozen=True)
class Asked:
    """What is asked of a source: what the user named, how its things become inputs, and what for.

    ``labels`` is the key of labels among arrays, None where an input has that name. ``thorough`` asks for every sample
    to be looked at when it is found, so that a broken one is known before it is used. ``within`` is the folder that an
    archive was unpacked into: what it holds is a stranger's, and no file elsewhere may be read for it.
    """

    source: str
    preprocessing: Preprocessing | None = None
    task: Task | None = None
    labels: str | None = LABELS
    thorough: bool = False
    within: Path | None = None


@dataclass(frozen=True)
class Bad:
    """Something in a source that cannot be used: ``index`` of the sample, None for what belongs to no sample."""

    index: int | None
    reason: str
    hint: str | None = None


@dataclass(frozen=True)
class Contents:
    """All samples of a source, in its own sorted order, without the samples themselves.

    ``digest`` returns the hex sha256 of what sample i is made from. ``labels`` has one row, or one label, per sample.
    ``ignored`` names what stands in the source and is not a sample, ``bad`` what is wrong. ``names`` are those of the
    samples, empty where they only have numbers. ``notes`` are what the user should know, such as empty classes.
    ``frame`` says where sample i lies in the model's input. ``input`` is what the source adds to ``[task.input]``: how
    things are read so that they are read as its samples were, in other sources and on a device.
    """

    count: int
    digest: Callable[[int], str]
    labels: Labels | None
    classes: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    bad: tuple[Bad, ...] = ()
    notes: tuple[str, ...] = ()
    frame: Callable[[int], Frame] | None = None
    input: Mapping[str, Setting] = field(default_factory=dict)


@dataclass(frozen=True)
class Item:
    """One sample: its arrays by input name (batch axis of 1 included) and, where reading it shows that, its digest."""

    feed: Mapping[str, Array]
    digest: str | None = None
    label: object = None


@dataclass(frozen=True)
class Source:
    """One kind of source, a row of ``samples.SOURCES``.

    ``recognises`` says whether what the user named, for a task, is one: rows are asked in order. ``scan`` finds all
    samples, checked against the inputs where these are known. ``read`` yields those at some indices. ``pictures`` says
    that samples are pictures, which a recipe's preprocessing makes inputs of; ``picture`` then gives the bytes and the
    name of one. ``named`` says that samples which are none have names too, as files or lines. ``within`` says of an
    archive what the source in it is. ``tasks`` are the kinds that its labels are for, empty where they may be for any.
    ``unnumbered`` says that its classes have names alone, in no order.
    """

    recognises: Callable[[str, Task | None], bool]
    scan: Callable[[Asked, tuple[TensorSpec, ...] | None, Callable[[Path], str]], Contents]
    read: Callable[[Asked, tuple[TensorSpec, ...], Sequence[int]], Iterator[Item]]
    pictures: bool = False
    picture: Callable[[Asked, int], tuple[bytes, str]] | None = None
    within: Callable[[str, Task | None], Source] | None = None
    named: bool = False
    tasks: tuple[str, ...] = ()
    unnumbered: bool = False


def place(index: int, source: str) -> str:
    """Return how errors name a sample that has no file name of its own; counted from 0 like an array's rows."""
    return f"sample {index} of {source}"


def may_read(path: Path, within: Path | None) -> bool:
    """Return whether a file or folder may be read for a source; see ``Asked.within``."""
    if within is None:
        return True
    try:
        return path.resolve().is_relative_to(within.resolve())
    except (OSError, ValueError, RuntimeError):  # a name with a zero, links in a circle
        return False


def backwards(indices: Sequence[int]) -> bool:
    """Return whether a source that is read in order must be started again on the way."""
    return any(after <= before for before, after in itertools.pairwise(indices))
