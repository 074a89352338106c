"""What models of sentences, sounds and tables answer; pictures have ``specs/answer.py``. See ``Answer`` there."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from edgepack.specs.types import Array

_SHOWN = 6  # numbers of a long row


@dataclass(frozen=True, eq=False)
class Vector:
    """What stands for a thing: ``values`` float32 [size]."""

    values: Array

    def lines(self) -> tuple[str, ...]:
        """Return its size and first numbers."""
        first = " ".join(f"{value:.4f}" for value in self.values[:_SHOWN].tolist())
        return (f"{len(self.values)} numbers: {first}{' ...' if len(self.values) > _SHOWN else ''}",)

    def summary(self) -> dict[str, Any]:
        """Return all numbers."""
        return {"vector": [as_json(value) for value in self.values.tolist()]}


@dataclass(frozen=True)
class Transcript:
    """A text that was read or heard; ``score`` is the mean of the best probabilities that it was read by."""

    text: str
    score: float = 1.0

    def lines(self) -> tuple[str, ...]:
        """Return score and text."""
        return (f"{self.score:.3f} {self.text}",)

    def summary(self) -> dict[str, Any]:
        """Return text and score."""
        return {"text": self.text, "score": as_json(self.score)}


@dataclass(frozen=True)
class Span:
    """A part of a text, from ``start`` to ``end``, and what it is."""

    start: int
    end: int
    name: str
    text: str = ""
    score: float = 1.0


@dataclass(frozen=True)
class Spans:
    """The parts of a text that were found, in its order."""

    spans: tuple[Span, ...]

    def __iter__(self) -> Iterator[Span]:
        return iter(self.spans)

    def lines(self) -> tuple[str, ...]:
        """Return a line for each: score, what it is, and its text."""
        return tuple(f"{span.score:.3f} {span.name} {span.start}-{span.end} {span.text}" for span in self.spans)

    def summary(self) -> dict[str, Any]:
        """Return the spans."""
        return {"spans": [{**vars(span), "score": as_json(span.score)} for span in self.spans]}

    def digest(self) -> str:
        """Return the hex sha256 of it as a label."""
        found = [[span.start, span.end, span.name] for span in self.spans]
        return hashlib.sha256(json.dumps(found).encode()).hexdigest()


@dataclass(frozen=True)
class Numbers:
    """Predicted numbers with their names ("" where they have none) and unit."""

    values: tuple[float, ...]
    names: tuple[str, ...] = ()
    unit: str = ""

    def lines(self) -> tuple[str, ...]:
        """Return a line for each number."""
        return tuple(
            " ".join(part for part in (self._name(i), f"{value:.6g}", self.unit) if part)
            for i, value in enumerate(self.values)
        )

    def summary(self) -> dict[str, Any]:
        """Return the numbers."""
        numbers = [{"name": self._name(i), "value": as_json(value)} for i, value in enumerate(self.values)]
        return {"numbers": numbers, "unit": self.unit}

    def _name(self, i: int) -> str:
        return self.names[i] if i < len(self.names) else ""


@dataclass(frozen=True)
class Anomaly:
    """How unusual a thing is, and whether that is more than ``threshold``; None where none was set."""

    score: float
    threshold: float | None = None

    @property
    def unusual(self) -> bool | None:
        """Say whether the score is above the threshold."""
        return None if self.threshold is None else self.score > self.threshold

    def lines(self) -> tuple[str, ...]:
        """Return the score and what it means."""
        if self.threshold is None:
            return (f"{self.score:.6g}",)
        return (f"{self.score:.6g} {'unusual' if self.unusual else 'usual'} (threshold {self.threshold:g})",)

    def summary(self) -> dict[str, Any]:
        """Return score, threshold and whether it is above."""
        return {"score": as_json(self.score), "threshold": self.threshold, "unusual": self.unusual}


@dataclass(frozen=True)
class Segment:
    """A part of a sound with speech in it, in seconds from its beginning."""

    start: float
    end: float


@dataclass(frozen=True)
class Segments:
    """Where somebody speaks in a sound of ``seconds``; ``speech`` is the largest probability of all chunks."""

    segments: tuple[Segment, ...]
    seconds: float
    speech: float

    def __iter__(self) -> Iterator[Segment]:
        return iter(self.segments)

    def lines(self) -> tuple[str, ...]:
        """Return a line for each segment."""
        return tuple(f"{s.start:.2f} s to {s.end:.2f} s speech" for s in self.segments)

    def summary(self) -> dict[str, Any]:
        """Return the segments and the sound's length."""
        found = [{"start": s.start, "end": s.end} for s in self.segments]
        return {"segments": found, "seconds": self.seconds, "speech": as_json(self.speech)}


def as_json(value: float) -> float | str:
    """Return a number; NaN and infinity, which JSON does not have, as text."""
    return value if math.isfinite(value) else str(value)
