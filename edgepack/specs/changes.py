"""What another precision changed of the answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgepack.specs.answer import Box


@dataclass(frozen=True)
class Confusion:
    """How often samples of the class ``truth`` were answered ``answered``, by fp32 and by this precision."""

    truth: str
    answered: str
    fp32: int
    value: int


@dataclass(frozen=True)
class ClassBoxes:
    """How many boxes of one class fp32 shows and this precision does not (``lost``), and the other way round."""

    name: str
    lost: int
    gained: int


@dataclass(frozen=True)
class Changed:
    """One sample whose answer changed: its position among the evaluation samples, and both answers as lines; of
    boxes those that the other answer does not have.

    ``text`` is what was asked of a model of texts. Boxes are in pixels of the picture. What is to be looked at is there
    where a gallery was asked for: ``name`` is the sample's file or line, where its source has such, ``pictures`` are
    JPEGs in base64, of fp32's answer and of this precision's (one where nothing is drawn in), ``levels`` of a sound
    over time, 0 to 1.
    """

    position: int
    fp32: tuple[str, ...]
    value: tuple[str, ...]
    text: str = ""
    fp32_boxes: tuple[Box, ...] = ()
    value_boxes: tuple[Box, ...] = ()
    pictures: tuple[str, ...] = ()
    levels: tuple[float, ...] = ()
    name: str = ""


@dataclass(frozen=True)
class Changes:
    """How many of the samples are answered otherwise than by fp32, and how.

    ``truth`` says what confusions are counted against; those that grew are listed, the most first. ``examples`` are
    empty unless a gallery was asked for: they show samples. ``worst_layers`` have the SQNR in dB of their output.
    """

    samples: int
    changed: int
    truth: Literal["labels", "fp32"] = "fp32"
    confusions: tuple[Confusion, ...] = ()
    boxes: tuple[ClassBoxes, ...] = ()
    examples: tuple[Changed, ...] = ()
    worst_layers: tuple[tuple[str, float], ...] = ()
