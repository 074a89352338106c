"""Durations on the command line."""

from __future__ import annotations

import re
from typing import Any

import click

_NS = {"ms": 1_000_000, "s": 1_000_000_000, "min": 60_000_000_000, "m": 60_000_000_000}


class Duration(click.ParamType[int]):
    """``500ms``, ``10s``, ``2min`` as nanoseconds; a bare number is seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return nanoseconds."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*(ms|s|min|m)?", str(value).strip())
        ns = int(float(match[1]) * _NS[match[2] or "s"]) if match else 0
        if ns < 1_000_000 or ns > 86_400 * _NS["s"]:
            self.fail(f"{value!r} is not a duration from 1ms to 1 day; examples: 500ms, 10s, 2min", param, ctx)
        return ns


DURATION = Duration()
