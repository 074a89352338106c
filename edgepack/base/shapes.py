"""Shapes as messages show them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from edgepack.errors import ConfigError

# Exporters make up other names of free sizes: DynamicDimension.0, unk__6, s77, Reshape_470_o0__d2, floor(width/2).
_TELLING = re.compile(r"[A-Za-z][A-Za-z_-]{0,31}|\.\.\.")
Shape = tuple[int | str, ...]


def show_shape(shape: Shape) -> str:
    """Return a shape for a message, as ``[1, 3, height, 224]``; a free size whose name tells nothing is ``any``."""
    return "[" + ", ".join(str(size) if _tells(size) else "any" for size in shape) + "]"


def by_input(shapes: Mapping[str, Shape], names: Sequence[str]) -> dict[str, Shape]:
    """Return shapes by the inputs that they are for: a shape without a name is the only input's.

    Raises ``ConfigError`` where a shape has no name and ``names``, the model's inputs, are several.
    """
    if "" in shapes and len(names) != 1:
        raise ConfigError(
            f"--shape {'x'.join(map(str, shapes['']))}: the model has {len(names)} inputs, "
            "and the shape does not name one",
            hint=f"known: {', '.join(names)}; write --shape {names[0] if names else 'NAME'}=...",
        )
    return {name or names[0]: shape for name, shape in shapes.items()}


def _tells(size: int | str) -> bool:
    return not isinstance(size, str) or (size != "None" and _TELLING.fullmatch(size) is not None)
