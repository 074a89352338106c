"""The key of a call of a stage: all that its output depends on, from the call itself.

Every argument counts, with the source of all modules that the stage's own module loads, and the versions of the
packages that these import and of those that extend edgepack.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from edgepack.base.files import sha256_json
from edgepack.base.stage import stage_of
from edgepack.base.user_functions import is_callable_reference
from edgepack.execution import modules
from edgepack.execution.store import Store
from edgepack.execution.store_folder import VALUE
from edgepack.specs.target import Host
from edgepack.specs.types import BESIDE_DIGEST, USER_SOURCE

_NOT_INPUTS = ("out", "progress")


def key_of(function: Callable[..., Any], arguments: tuple[Any, ...], store: Store, host: Host) -> dict[str, Any]:
    """Return all that the output of a stage depends on when ``host`` calls it with ``arguments``, as JSON types."""
    known = stage_of(function)
    hints = _hints(function)
    names = [name for name in inspect.signature(function).parameters if name not in _NOT_INPUTS]
    if len(names) != len(arguments):
        raise TypeError(f"{function.__qualname__} takes {names}, not {len(arguments)} arguments")
    more = known.depends(*arguments) if known.depends else None
    return {
        "arguments": {name: identify(value, store, hints[name]) for name, value in zip(names, arguments, strict=True)},
        "code": modules.code_digest(function.__module__),
        "packages": {**modules.packages(function.__module__), **modules.extensions()},
        "host": _host(known.host, host),
        "depends": identify(more, store),
    }


def identify(value: Any, store: Store, hint: Any = None) -> Any:
    """Return JSON types that differ whenever ``value`` does: of files the contents count, never where they are.

    A value with a ``sha256`` counts by it, and by the fields that are marked ``BESIDE_DIGEST``. What a user named
    (``UserSource`` in ``hint``) counts by its place and the file's contents; a folder by names, sizes and times, as it
    may be large; a function by its own file, since a stage that runs users' code tracks the rest.
    """
    if value is None or isinstance(value, bool | int | str):
        return _of_user(value, store) if isinstance(value, str) and _is_user_source(hint) else value
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Path):
        return _contents(value, store)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        hints, known = _hints(kind), dataclasses.fields(kind)
        digest = getattr(value, "sha256", None)
        if isinstance(digest, str):
            known = tuple(field for field in known if field.metadata == BESIDE_DIGEST)
        fields = {field.name: identify(getattr(value, field.name), store, hints[field.name]) for field in known}
        return [kind.__name__, fields] if not isinstance(digest, str) else [kind.__name__, digest, fields]
    if isinstance(value, Mapping):
        return {str(key): identify(value[key], store) for key in sorted(value, key=str)}
    if isinstance(value, list | tuple):
        return [identify(item, store) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((identify(item, store) for item in value), key=sha256_json)
    raise TypeError(f"a stage cannot depend on a {type(value).__name__}")


@functools.cache
def _hints(what: Any) -> Mapping[str, Any]:
    """Return the annotations of a stage or of a dataclass, found once: a build asks hundreds of times."""
    return typing.get_type_hints(what, include_extras=True)


def _is_user_source(hint: Any) -> bool:
    """Say whether a type is ``UserSource``, or that or None."""
    options = (hint, *typing.get_args(hint)) if typing.get_origin(hint) is not typing.Annotated else (hint,)
    return any(USER_SOURCE in getattr(option, "__metadata__", ()) for option in options)


def _of_user(reference: str, store: Store) -> Any:
    """Return what a user's file, folder or function is; where it is counts too, since outputs refer to it."""
    path = Path(reference.rpartition(":")[0] if is_callable_reference(reference) else reference)
    if path.is_file():
        return [reference, str(path.absolute()), store.sha256(path)]
    if not path.is_dir():
        return reference
    marks = [
        [file.relative_to(path).as_posix(), s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino]
        for file in sorted(p for p in path.rglob("*") if p.is_file())
        for s in [file.stat()]
    ]
    return [str(path.absolute()), sha256_json(marks)]


def _contents(path: Path, store: Store) -> Any:
    """Return the digest of a file, or of all files in a folder that is a stage's output or the like."""
    if path.is_file():
        return store.sha256(path)
    if not path.is_dir():
        return None
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.name != VALUE)
    return {file.relative_to(path).as_posix(): store.sha256(file) for file in files}


def _host(what: Literal["numbers", "speed"] | None, host: Host) -> Any:
    if what is None:
        return None
    numbers = [host.cpu, host.arch, list(host.isa)]
    return numbers if what == "numbers" else [*numbers, host.cores, host.kernel]
