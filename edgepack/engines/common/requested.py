"""The precision that a compiled model asks for in each of its layers, whoever will run it."""

from __future__ import annotations

import json
from dataclasses import dataclass

from edgepack.specs.types import Asked, Ran

LEFT_KEY = "edgepack_left_in_float"  # in the model's metadata: JSON, node name -> reason


@dataclass(frozen=True)
class ExecutedLayer:
    """One operator of a model: the precision asked for by its Q/DQ and the one that the engine runs.

    ``executed`` is "fused" when the engine has no such node any more: it is computed inside another, or was folded
    away. ``kernel`` is the engine's own name for what it runs. ``reason`` says why a layer was left in float.
    """

    name: str
    operator: str
    weighted: bool
    asked: Asked
    executed: Ran
    kernel: str
    reason: str | None = None


@dataclass(frozen=True)
class AskedLayer:
    """An operator of which only the file was asked: what executes is "unknown"; with the tensors it reads and makes."""

    layer: ExecutedLayer
    reads: tuple[str, ...]
    makes: tuple[str, ...]


def left_in_float(text: str) -> dict[str, str]:
    """Return why nodes were left in float, by name, from the text of the metadata ``LEFT_KEY``; empty without any."""
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}
