"""Versions of engines and packages: which are installed, and compared by their numbers; standard library only."""

from __future__ import annotations

import functools
import re
import sys

_MOST_DIGITS = 18


def installed_version(distribution: str) -> str | None:
    """Return the version of an installed distribution, None where there is none; its metadata is read once."""
    return _installed(distribution, tuple(sys.path))


@functools.lru_cache(maxsize=256)
def _installed(distribution: str, _path: tuple[str, ...]) -> str | None:
    import importlib.metadata  # who compares numbers alone does not wait for it

    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def release(version: str) -> str:
    """Return major and minor of a version: "2026.4.1-21435" gives "2026.4"."""
    return ".".join(str(number) for number in parse_version(version)[:2]) or version


def parse_version(version: str) -> tuple[int, ...]:
    """Return the numbers a version begins with, for comparing: "1.31.1+cpu" gives (1, 31, 1)."""
    match = re.match(r"[0-9]+(\.[0-9]+)*", version)
    return tuple(_number(digits) for digits in match[0].split(".")) if match else ()


def _number(digits: str) -> int:
    """Return a part of a version; beyond 18 digits all are as large, as Python reads no more than 4300."""
    return int(digits) if len(digits) <= _MOST_DIGITS else 10**_MOST_DIGITS


def is_older(version: str, oldest: str) -> bool:
    """Return whether ``version`` is older than ``oldest``; trailing zeros do not count."""
    found, least = parse_version(version), parse_version(oldest)
    width = max(len(found), len(least))
    return found + (0,) * (width - len(found)) < least + (0,) * (width - len(least))
