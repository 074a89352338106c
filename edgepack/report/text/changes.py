"""What another precision changed of the answers, in words, and the samples that show it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from edgepack.base.text import shortened
from edgepack.report import units
from edgepack.report.entries import Entry, labels
from edgepack.specs.changes import Changed, Changes
from edgepack.specs.run import ClassFigure

_MOST_EXAMPLES = 12
_MOST_CLASSES = 10
_MOST_TEXT = 400
_MOST_TITLE = 60
# Of all pictures of a page: it is to stay below 2 MB, and a mail's preview opens it.
_MOST_PICTURE_BYTES = 1_200_000
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_WIDE, _HIGH = 220.0, 48.0


@dataclass(frozen=True)
class Example:
    """One sample: a name for it, both answers, what was asked, pictures as data URIs, and points of a curve in SVG."""

    title: str
    fp32: tuple[str, ...]
    value: tuple[str, ...]
    text: str
    pictures: tuple[str, ...]
    curve: str


@dataclass(frozen=True)
class ChangedEntry:
    """What one entry changed: a sentence, and tables of texts, each None where it has no rows."""

    label: str
    precision: str
    sentence: str
    classes: tuple[tuple[str, ...], ...]
    metric: str
    boxes: tuple[tuple[str, ...], ...]
    confusions: tuple[tuple[str, ...], ...]
    truth: str
    layers: tuple[tuple[str, str], ...]
    examples: tuple[Example, ...]
    left_out: int


def changed_entries(entries: Sequence[Entry]) -> tuple[ChangedEntry, ...]:
    """Return the entries of which it is known which answers changed; pictures until the page has enough of them."""
    found, room = [], _MOST_PICTURE_BYTES
    for entry, name in zip(entries, labels(entries), strict=True):
        changes = entry.row.changes if entry.row is not None else None
        if changes is None:
            continue
        examples, room = _examples(changes, room)
        found.append(_entry(entry, name, changes, examples))
    return tuple(found)


def changed_text(changes: Changes) -> str:
    """Return how many answers changed, as a sentence without its end."""
    samples = f"{units.count(changes.samples)} samples"
    return (
        f"The answers to {units.count(changes.changed)} of {samples} changed"
        if changes.changed
        else (f"No answer to the {samples} changed")
    )


def _entry(entry: Entry, name: str, changes: Changes, examples: tuple[Example, ...]) -> ChangedEntry:
    accuracy = entry.accuracy or entry.other_accuracy
    figures = [one for one in accuracy.classes if one.fp32 != one.value] if accuracy is not None else []
    return ChangedEntry(
        label=name,
        precision=entry.precision,
        sentence=changed_text(changes),
        classes=tuple(_of_class(one) for one in figures[:_MOST_CLASSES]),
        metric=units.accuracy_title(accuracy) if accuracy is not None else "",
        boxes=tuple((one.name, units.count(one.lost), units.count(one.gained)) for one in changes.boxes),
        confusions=tuple(
            (one.truth, one.answered, units.count(one.fp32), units.count(one.value)) for one in changes.confusions
        ),
        truth="labelled" if changes.truth == "labels" else "answered by fp32",
        layers=tuple((layer, units.digits(db)) for layer, db in changes.worst_layers),
        examples=examples,
        left_out=len(changes.examples) - len(examples),
    )


def _of_class(one: ClassFigure) -> tuple[str, ...]:
    change = 100 * (one.value - one.fp32)
    return one.name, units.count(one.things), units.percent(one.fp32), units.percent(one.value), units.signed(change)


def _examples(changes: Changes, room: int) -> tuple[tuple[Example, ...], int]:
    """Return the examples that there is room for, and the room that is left."""
    shown = []
    for one in changes.examples[:_MOST_EXAMPLES]:
        pictures = tuple(picture for picture in one.pictures[:2] if _BASE64.fullmatch(picture))
        size = sum(map(len, pictures))
        if size > room:
            break
        room -= size
        shown.append(_example(one, pictures))
    return tuple(shown), room


def _example(one: Changed, pictures: tuple[str, ...]) -> Example:
    text = shortened(one.text, _MOST_TEXT)
    data = tuple(f"data:image/jpeg;base64,{picture}" for picture in pictures)
    title = one.name or f"sample {one.position + 1}"
    return Example(
        title if len(title) <= _MOST_TITLE else f"…{title[1 - _MOST_TITLE :]}",
        one.fp32,
        one.value,
        text,
        data,
        _curve(one.levels),
    )


def _curve(levels: Sequence[float]) -> str:
    """Return the points of a polyline over ``_WIDE`` by ``_HIGH``; "" for no sound."""
    if len(levels) < 2:
        return ""
    known = [min(max(level, 0.0), 1.0) for level in levels]
    return " ".join(f"{_WIDE * i / (len(known) - 1):.1f},{_HIGH * (1 - v):.1f}" for i, v in enumerate(known))
