"""Tables of what edgepack can be given more of: its own modules, and those of other people's packages.

A table maps a name to ``module`` or ``module:attribute``; nothing is imported before it is used. Installed packages add
rows by entry points (packaging.python.org, "Entry points specification") in the table's group, ``edgepack.engines``
for example. One that cannot be imported is a warning with its name; a name of edgepack's own cannot be taken.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from edgepack.base.documents import suggestion
from edgepack.errors import ConfigError, ToolchainError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T")

_LOG = logging.getLogger("edgepack")
_GROUPS = "edgepack."


class Table(Generic[T]):
    """Named modules or objects of one kind: edgepack's own, in order, then those of installed packages by name."""

    def __init__(self, kind: str, group: str, own: Mapping[str, str], of: type[T] | None = None) -> None:
        """Make a table of ``kind`` ("observer"), which entry points in ``group`` add to.

        With ``of`` a row of another package must be an instance of that class.
        """
        self.kind = kind
        self.group = group
        self.own = own
        self.of = of

    def names(self) -> tuple[str, ...]:
        """Return every name, without importing what it stands for."""
        return (*self.own, *sorted(self._added()))

    def __contains__(self, name: object) -> bool:
        return name in self.own or name in self._added()

    def get(self, name: str) -> T:
        """Return what ``name`` stands for, imported.

        Raises ``ConfigError`` for an unknown name; ``ToolchainError`` when another package's cannot be imported, or is
        something else.
        """
        if name in self.own:
            return cast("T", load_reference(self.own[name]))
        added = self._added()
        if name not in added:
            raise ConfigError(f"unknown {self.kind} {name!r}", hint=suggestion(name, self.names()))
        entry = added[name]
        try:
            found = load_reference(entry.value)
        except Exception as error:  # untrusted code: whatever it raises
            raise _unusable(self, entry, f"cannot be imported: {type(error).__name__}: {error}") from error
        if self.of is not None and not isinstance(found, self.of):
            raise _unusable(self, entry, f"is a {type(found).__name__}, not a {self.of.__name__}")
        return cast("T", found)

    def find(self, name: str) -> T | None:
        """Return what ``name`` stands for; None for an unknown name, and, with a warning, for an unusable one.

        For names out of documents, which may have been written where other packages are installed.
        """
        if name not in self:
            return None
        try:
            return self.get(name)
        except ToolchainError as error:
            _LOG.warning("%s", error.message)
            return None

    def package(self, name: str) -> str:
        """Return which package adds the row ``name``; edgepack's own are of edgepack."""
        entry = self._added().get(name)
        return _package(entry) if entry is not None else "edgepack"

    def all(self) -> Iterator[tuple[str, T]]:
        """Yield every name with what it stands for; one of another package that cannot be imported is warned of."""
        for name in self.names():
            try:
                yield name, self.get(name)
            except ToolchainError as error:
                if name in self.own:
                    raise
                _LOG.warning("%s", error.message)

    def _added(self) -> dict[str, EntryPoint]:
        """Return the rows of installed packages; the first of one name counts, as with modules."""
        found: dict[str, EntryPoint] = {}
        for entry in _entry_points(self.group, tuple(sys.path)):
            if entry.name in self.own:
                _LOG.warning("%s: the entry point %r is ignored: edgepack has this name", self.group, entry.name)
            else:
                found.setdefault(entry.name, entry)
        return found


@functools.lru_cache(maxsize=64)
def _entry_points(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Return the entry points of a group."""
    return tuple(all_entry_points(path).select(group=group))


@functools.lru_cache(maxsize=8)
def all_entry_points(_path: tuple[str, ...]) -> Any:  # of another type from Python 3.12 on
    """Return the entry points of all packages in ``sys.path``; looked for once, as that reads all their metadata."""
    from importlib.metadata import entry_points  # a command line that needs no table does not wait for it

    return entry_points()


def extension_sources() -> tuple[Path, ...]:
    """Return the Python files of the packages that add rows to any table of edgepack's, sorted; none is imported."""
    from importlib.metadata import distributions

    names = {
        entry.value.partition(":")[0].partition(".")[0]
        for distribution in distributions()
        for entry in distribution.entry_points
        if entry.group.startswith(_GROUPS)
    }
    found: set[Path] = set()
    for name in names:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            spec = None
        folders = list(spec.submodule_search_locations or ()) if spec is not None else []
        if spec is not None and not folders and spec.origin is not None and Path(spec.origin).is_file():
            found.add(Path(spec.origin))
        found |= {path for folder in folders for path in Path(folder).rglob("*.py")}
    return tuple(sorted(found))


def _unusable(table: Table[T], entry: EntryPoint, why: str) -> ToolchainError:
    package = _package(entry)
    return ToolchainError(
        f"the {table.kind} {entry.name!r} of the package {package} {why}", hint=f"update or remove {package}"
    )


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else entry.value


def load_reference(reference: str) -> object:
    """Import what ``module`` or ``module:attribute`` names. Raises whatever importing it raises."""
    module, _, attribute = reference.partition(":")
    found: object = importlib.import_module(module)
    for part in filter(None, attribute.split(".")):
        found = getattr(found, part)
    return found
