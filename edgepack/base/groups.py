"""Puts what needs memory at once into groups that stay within a budget."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def within(sized: Iterable[tuple[T, int]], most: int) -> Iterator[list[T]]:
    """Yield the items in their order, in groups whose sizes sum up to ``most`` at most; a larger item is alone."""
    group: list[T] = []
    used = 0
    for item, size in sized:
        if group and used + size > most:
            yield group
            group, used = [], 0
        group.append(item)
        used += size
    if group:
        yield group
