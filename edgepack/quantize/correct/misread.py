"""Finds the layers of an int8 model that an engine computes otherwise than its Q/DQ say, and leaves them in float.

OpenVINO's product with a broadcast stack of matrices, for one, is not what the file says. ONNX Runtime without its
optimizations computes what is written; an engine that is far below it reads something else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

# An engine rounds and adds in its own order; what is this much below the file's own meaning is not rounding.
GAP_DB = 6.0
_MOST = 3

Gap = Callable[[tuple[str, ...]], float]


def find_misread(layers: Sequence[str], gap: Gap) -> tuple[str, ...] | None:
    """Return the layers, at most 3, to leave in float so that ``gap`` of them falls below 6 dB; None if none do.

    ``gap`` returns by how many dB the engine is below what is written when the given layers are in float. Each layer is
    found by halving.
    """
    left: tuple[str, ...] = ()
    for _ in range(_MOST):
        candidates = [name for name in layers if name not in left]
        if not candidates:
            return None
        while len(candidates) > 1:
            half = candidates[: len(candidates) // 2]
            rest = candidates[len(candidates) // 2 :]
            candidates = half if gap((*left, *half)) < gap((*left, *rest)) else rest
        left = (*left, *candidates)
        if gap(left) < GAP_DB:
            return left
    return None
