"""What a model is for: how its outputs become answers, and what is kept of a thing to give them in its own terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

Setting: TypeAlias = (
    bool | int | float | str | tuple[float | str | tuple[float, ...], ...] | Mapping[str, tuple[str, ...]]
)


@dataclass(frozen=True)
class Task:
    """``[task]`` of a recipe, and of a bundle's manifest.

    ``kind`` is a name of ``tasks.TASKS`` and ``settings`` are its own. ``decoder`` names how outputs are read where a
    task knows several ways, and ``parameters`` are that decoder's. ``input`` says how a thing that is not a picture
    becomes the model's inputs; pictures have ``Preprocessing``. ``classes`` are the model's classes in its own order.
    """

    kind: str
    decoder: str = ""
    settings: Mapping[str, Setting] = field(default_factory=dict)
    parameters: Mapping[str, Setting] = field(default_factory=dict)
    input: Mapping[str, Setting] = field(default_factory=dict)
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Frame:
    """Where one thing lies in the model's input: what is kept of it to give answers in its own terms.

    A picture of ``height`` and ``width`` pixels is in an input of ``input_height`` and ``input_width``: what is at
    ``x`` there is at ``(x - offset_x) / scale_x`` in the picture. ``text`` is the text of other things, and ``places``
    are where its tokens begin and end in it, (0, 0) of special ones; ``left`` says that tokens are filled before them.
    ``read_to`` is where the part of it ends that the model reads, 0 where that is all of it.
    """

    height: int = 0
    width: int = 0
    input_height: int = 0
    input_width: int = 0
    scale_x: float = 1.0
    scale_y: float = 1.0
    offset_x: float = 0.0
    offset_y: float = 0.0
    text: str = ""
    places: tuple[tuple[int, int], ...] = ()
    left: bool = False
    read_to: int = 0
