"""What a model answers, in the terms of its task; the labels of samples are of the same types."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from edgepack.specs.types import Array


class Answer(Protocol):
    """An answer as people and programs read it."""

    def lines(self) -> tuple[str, ...]:
        """Return it as text: one line for each thing that was found."""

    def summary(self) -> dict[str, Any]:
        """Return it as JSON types."""


@dataclass(frozen=True, eq=False)
class Tensors:
    """The outputs as they are, by name."""

    outputs: Mapping[str, Array]

    def lines(self) -> tuple[str, ...]:
        """Return name, dtype and shape of each."""
        return tuple(f"{name} {value.dtype.name} {list(value.shape)}" for name, value in self.outputs.items())

    def summary(self) -> dict[str, Any]:
        """Return dtypes and shapes."""
        return {name: {"dtype": v.dtype.name, "shape": list(v.shape)} for name, v in self.outputs.items()}


@dataclass(frozen=True)
class RemoteAnswer:
    """An answer that another machine gave: its text and its JSON."""

    text: tuple[str, ...]
    values: Mapping[str, Any]

    def lines(self) -> tuple[str, ...]:
        """Return its text."""
        return self.text

    def summary(self) -> dict[str, Any]:
        """Return its JSON."""
        return dict(self.values)


@dataclass(frozen=True)
class Classes:
    """The best classes, best first: their numbers, their names ("" where there are none) and scores."""

    numbers: tuple[int, ...]
    names: tuple[str, ...]
    scores: tuple[float, ...]

    def lines(self) -> tuple[str, ...]:
        """Return a line for each class."""
        return tuple(
            f"{score:.3f} {name or f'class {number}'}"
            for number, name, score in zip(self.numbers, self.names, self.scores, strict=True)
        )

    def summary(self) -> dict[str, Any]:
        """Return the classes, best first."""
        return {
            "classes": [
                {"number": number, "name": name, "score": score}
                for number, name, score in zip(self.numbers, self.names, self.scores, strict=True)
            ]
        }


@dataclass(frozen=True)
class Box:
    """One thing in a picture; its sides in pixels of the picture, and points ``(x, y, score)`` where it has some."""

    number: int
    name: str
    score: float
    left: float
    top: float
    right: float
    bottom: float
    points: tuple[tuple[float, float, float], ...] = ()


@dataclass(frozen=True, eq=False)
class Boxes:
    """The things in one picture, best first.

    ``corners`` [n, 4] are left, top, right and bottom in pixels of the picture itself, which is ``height`` by
    ``width``; ``scores`` [n]; ``numbers`` [n] the classes, whose names are ``names``. ``points`` [n, k, 3] are x, y and
    a score (of a label: 0 not labelled, 1 hidden, 2 visible). Of labels: ``crowd`` [n] marks those that hold several
    things, which no answer is asked to find one by one, and ``areas`` [n] are in pixels where they are not those of the
    boxes.
    """

    corners: Array
    scores: Array
    numbers: Array
    height: int
    width: int
    names: tuple[str, ...] = ()
    points: Array | None = None
    crowd: Array | None = None
    areas: Array | None = None

    def __len__(self) -> int:
        return len(self.corners)

    def __iter__(self) -> Iterator[Box]:
        for i, (left, top, right, bottom) in enumerate(self.corners.tolist()):
            number = int(self.numbers[i])
            name = self.names[number] if 0 <= number < len(self.names) else f"class {number}"
            points = () if self.points is None else tuple((x, y, s) for x, y, s in self.points[i].tolist())
            yield Box(number, name, float(self.scores[i]), left, top, right, bottom, points)

    def lines(self) -> tuple[str, ...]:
        """Return a line for each box: name, score, left, top, right, bottom."""
        return tuple(
            f"{box.score:.3f} {box.name} {box.left:.1f} {box.top:.1f} {box.right:.1f} {box.bottom:.1f}"
            + "".join(f" ({x:.1f}, {y:.1f})" for x, y, _ in box.points)
            for box in self
        )

    def summary(self) -> dict[str, Any]:
        """Return the boxes, best first, and the picture's size."""
        return {"height": self.height, "width": self.width, "boxes": [_of_box(box) for box in self]}

    def digest(self) -> str:
        """Return the hex sha256 of it as a label."""
        found = hashlib.sha256(f"{self.height}x{self.width};".encode())
        for part in (self.corners, self.numbers, self.points, self.crowd, self.areas):
            found.update(b"-" if part is None else f"{part.dtype.str}{part.shape};".encode() + part.tobytes())
        return found.hexdigest()


def _of_box(box: Box) -> dict[str, Any]:
    found = {key: value for key, value in vars(box).items() if key != "points"}
    return found if not box.points else {**found, "points": [list(point) for point in box.points]}


@dataclass(frozen=True, eq=False)
class Mask:
    """The class of every pixel of a picture: ``labels`` uint16 [height, width]; ``IGNORED`` is not a class."""

    labels: Array
    names: tuple[str, ...] = ()

    IGNORED = 65535

    def shares(self) -> tuple[tuple[int, str, float], ...]:
        """Return number, name and share of the pixels of each class that is there, largest first."""
        import numpy as np

        numbers, counts = np.unique(self.labels[self.labels != self.IGNORED], return_counts=True)
        found = [
            (int(n), self.names[n] if n < len(self.names) else f"class {n}", float(c) / max(self.labels.size, 1))
            for n, c in zip(numbers, counts, strict=True)
        ]
        return tuple(sorted(found, key=lambda item: -item[2]))

    def lines(self) -> tuple[str, ...]:
        """Return a line for each class: its share of the picture."""
        return tuple(f"{100 * share:.1f} % {name}" for _, name, share in self.shares())

    def summary(self) -> dict[str, Any]:
        """Return the size and the classes with their shares; the labels themselves are written by ``--out``."""
        height, width = self.labels.shape
        classes = [{"number": n, "name": name, "share": share} for n, name, share in self.shares()]
        return {"height": height, "width": width, "classes": classes}

    def digest(self) -> str:
        """Return the hex sha256 of it as a label."""
        return hashlib.sha256(f"{self.labels.shape};".encode() + self.labels.tobytes()).hexdigest()
