"""Tables of what edgepack can be given more of: its own modules, and those of other people's packages.

A table maps a name to ``module`` or ``module:attribute``; nothing is imported before it is used. Installed packages add
rows by entry points (packaging.python.org, "Entry points specification") in the table's group, ``edgepack.engines``
for example. One that cannot be imported is a warning with its name; a name of edgepack's own cannot be taken.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar, cast

from edgepack.base.documents import suggestion
from edgepack.errors import ConfigError, ToolchainError

T = TypeVar("T")

_LOG = logging.getLogger("edgepack")


class Table(Generic[T]):
    """Named modules or objects of one kind: edgepack's own, in order, then those of installed packages by name."""

    def __init__(self, kind: str, group: str, own: Mapping[str, str]) -> None:
        """Make a table of ``kind`` ("observer"), which entry points in ``group`` add to."""
        self.kind = kind
        self.group = group
        self.own = own

    def names(self) -> tuple[str, ...]:
        """Return every name, without importing what it stands for."""
        return (*self.own, *sorted(self._added()))

    def __contains__(self, name: object) -> bool:
        return name in self.own or name in self._added()

    def get(self, name: str) -> T:
        """Return what ``name`` stands for, imported.

        Raises ``ConfigError`` for an unknown name; ``ToolchainError`` when another package's cannot be imported.
        """
        if name in self.own:
            return cast("T", _load(self.own[name]))
        added = self._added()
        if name not in added:
            raise ConfigError(f"unknown {self.kind} {name!r}", hint=suggestion(name, self.names()))
        entry = added[name]
        try:
            return cast("T", _load(entry.value))
        except Exception as error:  # untrusted code: whatever it raises
            package = entry.dist.name if entry.dist else entry.value
            why = f"{type(error).__name__}: {error}"
            raise ToolchainError(
                f"the {self.kind} {name!r} of the package {package} cannot be imported: {why}",
                hint=f"update or remove {package}",
            ) from error

    def all(self) -> Iterator[tuple[str, T]]:
        """Yield every name with what it stands for; one of another package that cannot be imported is warned of."""
        for name in self.names():
            try:
                yield name, self.get(name)
            except ToolchainError as error:
                if name in self.own:
                    raise
                _LOG.warning("%s", error.message)

    def _added(self) -> dict[str, importlib.metadata.EntryPoint]:
        """Return the rows of installed packages; the first of one name counts, as with modules."""
        found: dict[str, importlib.metadata.EntryPoint] = {}
        for entry in importlib.metadata.entry_points(group=self.group):
            if entry.name in self.own:
                _LOG.warning("%s: the entry point %r is ignored: edgepack has this name", self.group, entry.name)
            else:
                found.setdefault(entry.name, entry)
        return found


def _load(reference: str) -> object:
    module, _, attribute = reference.partition(":")
    found: object = importlib.import_module(module)
    for part in filter(None, attribute.split(".")):
        found = getattr(found, part)
    return found
