"""Imports what a user names as ``module:callable`` or ``file.py:callable``, and says where it fails."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.documents import suggestion
from edgepack.errors import EdgepackError, ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType


def split_source(source: str) -> tuple[str, str]:
    """Return the module or file, and the callable, of ``source``. Raises ``ModelError``."""
    place, _, name = source.rpartition(":")
    if not place or not all(part.isidentifier() for part in name.split(".")):
        raise ModelError(f"{source!r} names no callable", hint="write module:callable or file.py:callable")
    return place, name


@contextmanager
def users_import(source: str) -> Iterator[ModuleType]:
    """Give the user's module; its folder (the current one for a module's name) can be imported from meanwhile.

    Whatever is raised inside, by the user's code or about it, leaves as a ``ModelError`` with file and line.
    """
    place, _ = split_source(source)
    is_file = place.endswith(".py")
    path = Path(place).absolute()
    if is_file and not path.is_file():
        raise ModelError(f"there is no file {place}", hint="check the path before the colon")
    folder = str(path.parent if is_file else Path.cwd())
    sys.path.insert(0, folder)
    try:
        with users_errors(source):
            yield _import_file(path) if is_file else importlib.import_module(place)
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


@contextmanager
def users_errors(source: str) -> Iterator[None]:
    """Turn an exception of the user's code into a ``ModelError`` that names its file and line, and no more."""
    try:
        yield
    except EdgepackError:
        raise
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"{source} failed: {type(error).__name__}: {str(error)[:500]}{find_place(error, source)}",
            hint="run it on its own and repair it",
        ) from error


def find_callable(module: ModuleType, source: str) -> Any:
    """Return the object that ``source`` names in its module. Raises ``ModelError`` when it is not there."""
    place, name = split_source(source)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            known = [key for key, value in vars(found).items() if callable(value) and not key.startswith("_")]
            raise ModelError(f"{place} has no {name!r}", hint=suggestion(name, known) if known else None)
        found = getattr(found, part)
    return found


def _import_file(path: Path) -> ModuleType:
    name = f"edgepack_user_{path.stem}"  # a user's torch.py must not replace torch
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None, "a .py file has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and torch look a class's module up by name
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def find_place(error: BaseException, source: str) -> str:
    """Return " (file.py line 3)": the deepest frame in the user's own file, else in any file outside Python's."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({Path(error.filename).name} line {error.lineno})"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen")]
    own = Path(split_source(source)[0]).name
    mine = [frame for frame in frames if Path(frame.filename).name == own]
    foreign = [frame for frame in frames if Path(frame.filename) != Path(__file__)]
    chosen = mine or foreign
    return f" ({Path(chosen[-1].filename).name} line {chosen[-1].lineno})" if chosen else ""
