"""Shapes as messages show them."""

from __future__ import annotations

import re

# Exporters make up other names of free sizes: DynamicDimension.0, unk__6, s77, Reshape_470_o0__d2, floor(width/2).
_TELLING = re.compile(r"[A-Za-z][A-Za-z_-]{0,31}|\.\.\.")


def show_shape(shape: tuple[int | str, ...]) -> str:
    """Return a shape for a message, as ``[1, 3, height, 224]``; a free size whose name tells nothing is ``any``."""
    return "[" + ", ".join(str(size) if _tells(size) else "any" for size in shape) + "]"


def _tells(size: int | str) -> bool:
    return not isinstance(size, str) or (size != "None" and _TELLING.fullmatch(size) is not None)
