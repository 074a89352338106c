"""Marks a function as a stage: a step of a build whose output is kept under all that it depends on.

A stage is a function from frozen values to a frozen value. Its last arguments are the empty folder ``out`` that it may
write into and, if it wants to say how far it is, ``progress``. Every other argument counts for the key of its output,
see ``execution/key.py``: nothing of it is written by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Stage:
    """What is known of a stage besides its arguments.

    ``version`` is raised when outputs change although no code of the stage does. ``host`` says what of this machine
    counts: nothing, what decides about numbers, or what decides about speed too. ``tracks``, given the stage's
    arguments: the function runs code of the user, and every file that it reads is checked again before its output is
    reused. ``depends``, given them: what else counts, such as the versions of an engine that is chosen by them.
    ``loads`` are packages that take long to import and that it always needs: a process that forks it keeps them.
    """

    name: str
    version: int = 1
    host: Literal["numbers", "speed"] | None = None
    tracks: Callable[..., bool] | None = None
    depends: Callable[..., Any] | None = None
    loads: tuple[str, ...] = ()


def stage(
    name: str,
    *,
    version: int = 1,
    host: Literal["numbers", "speed"] | None = None,
    tracks: Callable[..., bool] | None = None,
    depends: Callable[..., Any] | None = None,
    loads: tuple[str, ...] = (),
) -> Callable[[F], F]:
    """Mark a function as a stage, see ``Stage``; the function itself is not changed."""

    def mark(function: F) -> F:
        function.__stage__ = Stage(name, version, host, tracks, depends, loads)  # type: ignore[attr-defined]
        return function

    return mark


def needs_of(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return the modules that any function, stage or not, is known to need: its own, and what a stage says it loads."""
    known = getattr(function, "__stage__", None)
    return (function.__module__, *(known.loads if isinstance(known, Stage) else ()))


def always(*_arguments: object) -> bool:
    """Say yes: for a stage that runs the user's code whatever its arguments are."""
    return True


def stage_of(function: Callable[..., Any]) -> Stage:
    """Return what is known of a stage. A function that is not marked as one is a defect of the caller."""
    found = getattr(function, "__stage__", None)
    if not isinstance(found, Stage):
        raise TypeError(f"{function.__qualname__} is not a stage: mark it with @stage(...)")
    return found
