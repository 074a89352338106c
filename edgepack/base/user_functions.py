"""Finds the user's own functions: ``package.module:name`` or ``file.py:name``."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from edgepack.base.documents import suggestion
from edgepack.base.missing import nothing_at
from edgepack.errors import ConfigError


def is_callable_reference(text: str) -> bool:
    """Say whether ``text`` has the form of a reference to a callable rather than of a path."""
    module, _, name = text.rpartition(":")
    return bool(module) and name.isidentifier()


def load_callable(reference: str) -> Callable[..., Any]:
    """Import the module of ``reference`` and return the callable. Raises ``ConfigError`` that names what is wrong.

    A ``file.py`` is imported under a private name, with its own folder on ``sys.path`` while it runs, so that it may
    import its neighbours.
    """
    place, _, name = reference.rpartition(":")
    if not place or not name.isidentifier():
        raise ConfigError(f"{reference!r} does not name a callable", hint="write package.module:name or file.py:name")
    module = _import_file(Path(place)) if place.endswith(".py") else _import_module(place)
    if not hasattr(module, name):
        public = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise ConfigError(f"{place} has no {name!r}", hint=suggestion(name, public) if public else f"define {name}()")
    value = getattr(module, name)
    if not callable(value):
        raise ConfigError(f"{reference} is a {type(value).__name__}, not a callable", hint=f"make {name} a function")
    return value  # type: ignore[no-any-return]


def look_for(reference: str) -> None:
    """Raise ``ConfigError`` where ``file.py:name`` is surely not there; nothing of the file is run.

    A name that the file may get in other ways than by a definition, an assignment or an import is let pass, and so is
    what stands in a module.
    """
    place, _, name = reference.rpartition(":")
    if not place.endswith(".py"):
        return
    if not Path(place).is_file():
        message, hint = nothing_at(place, "check the path before the colon", suffixes=(".py",))
        raise ConfigError(message, hint=hint)
    try:
        found = set(_names(ast.parse(Path(place).read_bytes()).body))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"{place} is not valid Python: {error}", hint="correct it") from None
    if name not in found and not found & {"*", "__getattr__"}:
        public = sorted(n for n in found if not n.startswith("_"))
        raise ConfigError(f"{place} has no {name!r}", hint=suggestion(name, public) if public else f"define {name}()")


def functions_in(path: Path) -> tuple[str, ...]:
    """Return the public functions and classes that a Python file defines, in its order; nothing of it is run."""
    try:
        body = ast.parse(path.read_bytes()).body
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    kinds = (ast.FunctionDef, ast.ClassDef)
    return tuple(one.name for one in body if isinstance(one, kinds) and not one.name.startswith("_"))


def _names(body: Sequence[ast.stmt]) -> Iterator[str]:
    """Yield the names that statements bind in their module; "*" for all of another one's."""
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield statement.name
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name).partition(".")[0] for alias in statement.names)
        else:
            for node in ast.walk(statement):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    yield node.id
                elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                    yield node.name
                elif isinstance(node, ast.Import | ast.ImportFrom):
                    yield from _names([node])


def user_error(error: BaseException, what: str) -> ConfigError:
    """Return an error that names the last line of the user's own code in the traceback of ``error``."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen")]
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    if isinstance(error, SyntaxError) and error.filename:
        place = f" at {Path(error.filename).name}:{error.lineno}"
    return ConfigError(f"{what} raised {type(error).__name__}{place}: {error}", hint="correct it and run again")


def _import_module(name: str) -> ModuleType:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise ConfigError(
                f"there is no Python module {name!r}", hint="install it, or give the path: folder/file.py:name"
            ) from None
        raise user_error(error, f"importing {name}") from error
    except (Exception, SystemExit) as error:
        raise user_error(error, f"importing {name}") from error


class _FromSource(SourceFileLoader):
    """Compiles a file each time: Python takes kept bytecode for it when only its size and second are the same."""

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002
        """Return the code of the file as it is now."""
        return self.source_to_code(self.get_data(self.path), self.path)


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        message, hint = nothing_at(path, "check the path before the colon", suffixes=(".py",))
        raise ConfigError(message, hint=hint)
    name = "_edgepack_user_" + hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    if name in sys.modules:
        return sys.modules[name]
    loader = _FromSource(name, str(path.resolve()))
    spec = importlib.util.spec_from_file_location(name, path.resolve(), loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    folder = str(path.resolve().parent)
    sys.modules[name] = module
    sys.path.insert(0, folder)
    try:
        loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise user_error(error, f"importing {path.name}") from error
    finally:
        sys.path.remove(folder)
    return module
