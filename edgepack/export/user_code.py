"""Runs a user's code: with its folder importable, its errors named by file and line, and its progress shown."""

from __future__ import annotations

import inspect
import sys
import traceback
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.base.user_functions import load_callable
from edgepack.errors import EdgepackError, ModelError
from edgepack.specs.types import Progress, no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Whom the user's code tells how far it is. Frameworks' functions, those of other packages among them, do not take it.
_PROGRESS: ContextVar[Progress] = ContextVar("progress", default=no_progress)


@contextmanager
def told_to(progress: Progress) -> Iterator[None]:
    """Let what ``call_with_progress`` calls meanwhile tell ``progress`` how far it is."""
    token = _PROGRESS.set(progress)
    try:
        yield
    finally:
        _PROGRESS.reset(token)


def call_with_progress(function: Callable[..., Any]) -> Any:
    """Return ``function()``; one with a parameter ``progress`` that takes a function gets a ``Progress``."""
    return function(progress=_PROGRESS.get()) if _takes_progress(function) else function()


def _takes_progress(function: Callable[..., Any]) -> bool:
    try:
        parameter = inspect.signature(function).parameters.get("progress")
    except (TypeError, ValueError):  # of a few that are written in C, nothing is known
        return False
    if parameter is None or parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
        return False
    # torchvision's functions have progress=True, which is something else. No default is a class here: callable.
    return parameter.default is None or callable(parameter.default)


@contextmanager
def users_callable(source: str) -> Iterator[Any]:
    """Give the callable that ``source`` names; what it imports late is still found, as its folder stays importable.

    Whatever the user's code raises inside leaves as a ``ModelError`` that names its file and line, and no more.
    """
    place = _place(source)
    folder = str(Path(place).absolute().parent if place.endswith(".py") else Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield load_callable(source)
    except EdgepackError:
        raise
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"{source} failed: {type(error).__name__}: {str(error)[:500]}{find_place(error, source)}",
            hint="run it on its own and fix it",
        ) from error
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


def find_place(error: BaseException, source: str) -> str:
    """Return " (file.py line 3)": the deepest frame in the user's own file, else the deepest of all."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) != Path(__file__)]
    own = Path(_place(source)).name
    mine = [frame for frame in frames if Path(frame.filename).name == own]
    chosen = mine or frames
    return f" ({Path(chosen[-1].filename).name} line {chosen[-1].lineno})" if chosen else ""


def _place(source: str) -> str:
    """Return the module's name or the file before the colon."""
    return source.rpartition(":")[0]
