"""Durations, ages and sizes on the command line."""

from __future__ import annotations

import re
from typing import Any

import click

_NS = {
    "ms": 1_000_000, "s": 1_000_000_000, "min": 60_000_000_000, "m": 60_000_000_000, "h": 3_600_000_000_000
}  # fmt: skip


class Duration(click.ParamType[int]):
    """``500ms``, ``10s``, ``2min`` as nanoseconds; a bare number is seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return nanoseconds."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*(ms|s|min|m|h)?", str(value).strip())
        ns = int(float(match[1]) * _NS[match[2] or "s"]) if match else 0
        if ns < 1_000_000 or ns > 86_400 * _NS["s"]:
            self.fail(f"{value!r} is not a duration from 1ms to 1 day; examples: 500ms, 10s, 2min", param, ctx)
        return ns


class Seconds(Duration):
    """A ``Duration`` as the number of seconds that a setting holds; whoever takes the setting knows its bounds."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return seconds."""
        try:
            return float(value)
        except ValueError:
            return super().convert(value, param, ctx) / 1e9


DURATION, SECONDS = Duration(), Seconds()


class Age(click.ParamType[int]):
    """``90s``, ``30min``, ``12h``, ``30d`` as nanoseconds: how long ago something was."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return nanoseconds."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"([0-9]{1,9})\s*(s|min|h|d)", str(value).strip())
        if match is None:
            self.fail(f"{value!r} is not an age; examples: 12h, 30d", param, ctx)
        return int(match[1]) * {**_NS, "d": 86_400 * _NS["s"]}[match[2]]


class Size(click.ParamType[int]):
    """``500MB``, ``5GB`` as bytes, in powers of 1000."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return bytes."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*(kB|MB|GB|TB|B)", str(value).strip())
        if match is None:
            self.fail(f"{value!r} is not a size; examples: 500MB, 5GB", param, ctx)
        return int(float(match[1]) * {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}[match[2]])


AGE, SIZE = Age(), Size()
