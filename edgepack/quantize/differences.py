"""Why the same network loses more by one engine's rules than by another's: the causes that are known, as data.

An engine computes what it computes, and asks for Q/DQ where it does. What follows from that for the accuracy is listed
here; a gap between the rules of two engines that none of these explains is a fault.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgepack.engines.int8 import EngineTable
    from edgepack.specs.target import QuantizationRules

# Rules of two engines are alike where the SQNR of a network lies within so much.
ALIKE_DB = 2.0


@dataclass(frozen=True)
class Cause:
    """A cause in words, and what it is in the rules: keys of ``QuantizationRules`` and fields of ``EngineTable``."""

    title: str
    rules: tuple[str, ...] = ()
    table: tuple[str, ...] = ()


CAUSES: tuple[Cause, ...] = (
    Cause(
        "Zero points are 0: values that are never negative have half the steps, which is up to 6 dB.",
        rules=("activation_type", "activation_symmetric"),
    ),
    Cause(
        "An operator is computed in int8 by one and in float by the other: each Q/DQ more adds its rounding.",
        table=("operators", "needs_output"),
    ),
    Cause(
        "An activation is computed inside the layer before by one; the other stores what is between, with a range that "
        "the activation would have cut.",
        table=("activations", "needs_output"),
    ),
    Cause("All inputs of a Concat have one scale: the smallest of them loses most.", table=("same_scale_concat",)),
    Cause("One input of a sum is added unrounded, inside the convolution that makes it.", table=("residual",)),
    Cause("Products of two activations need zero points of 0.", table=("symmetric_products",)),
    Cause(
        "Operators that move values need Q/DQ on both sides, and a pool is computed in int8 though nobody takes int8 "
        "from it.",
        table=("wraps_moves",),
    ),
)


@dataclass(frozen=True)
class Side:
    """The rules of one engine, and its table."""

    rules: QuantizationRules
    table: EngineTable


def level(first: Side, second: Side, causes: Sequence[Cause] = CAUSES) -> Side:
    """Return ``first`` with everything that ``causes`` name as it is in ``second``."""
    rules = {key: getattr(second.rules, key) for cause in causes for key in cause.rules}
    table = {key: getattr(second.table, key) for cause in causes for key in cause.table}
    return Side(dataclasses.replace(first.rules, **rules), dataclasses.replace(first.table, **table))


def alike(cause: Cause, sides: Mapping[str, Side]) -> tuple[tuple[str, ...], ...]:
    """Return the engines in groups: those of one group do not differ in what a cause is in their rules."""
    groups: list[list[str]] = []
    for name, side in sides.items():
        known = next((g for g in groups if level(side, sides[g[0]], (cause,)) == side), None)
        if known is None:
            groups.append([name])
        else:
            known.append(name)
    return tuple(map(tuple, groups))
