"""The target's rules, checked against what its engine computes in int8 and how it wants Q/DQ placed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgepack.base.documents import suggestion
from edgepack.engines import ENGINES, engine_of
from edgepack.engines.int8 import COMPUTES, MOVES, WEIGHTED, EngineTable
from edgepack.errors import ConfigError

if TYPE_CHECKING:
    from edgepack.specs.target import QuantizationRules

# Outputs whose range cannot be wider than this: (low, high).
FIXED_RANGES: Mapping[str, tuple[float, float]] = {"Softmax": (0.0, 1.0), "Sigmoid": (0.0, 1.0)}


def table_of(engine: str) -> EngineTable:
    """Return what an engine computes in int8. Raises ``ConfigError`` for one of which it is not known."""
    found = engine_of(engine)
    if found is None or found.int8 is None:
        raise ConfigError(
            f"no quantization is known for the engine {engine!r}", hint=suggestion(engine, ENGINES.names())
        )
    return found.int8


def check_rules(rules: QuantizationRules) -> EngineTable:
    """Return the engine's table with the rules' own operators, or raise ``ConfigError`` where the rules conflict."""
    table = table_of(rules.engine)
    if not rules.weight_symmetric and rules.per_channel:
        raise ConfigError(
            "weight_symmetric = false cannot be joined with per_channel = true: engines take one zero point of weights",
            hint="write weight_symmetric = true, or per_channel = false",
        )
    _check_demands(rules, table)
    known = WEIGHTED | MOVES | COMPUTES | {"Concat"}
    for name in rules.operators:
        if name not in known:
            raise ConfigError(f"operators: {name!r} cannot be quantized", hint=suggestion(name, known))
    if not rules.operators:
        return table
    chosen = frozenset(rules.operators)
    return dataclasses.replace(table, operators=chosen, needs_output=table.needs_output | (chosen - table.operators))


def _check_demands(rules: QuantizationRules, table: EngineTable) -> None:
    """Refuse what the engine would refuse."""
    for key, value in table.demands.items():
        if getattr(rules, key) != value:
            text = str(value).lower() if isinstance(value, bool) else f'"{value}"'
            raise ConfigError(
                f"{key} = {str(getattr(rules, key)).lower()}: {table.demand}", hint=f"write {key} = {text}"
            )
