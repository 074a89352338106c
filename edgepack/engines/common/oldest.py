"""The oldest version of an engine that a bundle says it needs, from what its compiled file asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepack.base.versions import release

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from edgepack.specs.model import CompiledModel


def oldest_for(compiled: CompiledModel, suffix: str, oldest: Callable[[Path], str | None]) -> Mapping[str, str] | None:
    """Return the version that ``oldest`` finds for the compiled file, that of the build where it finds none.

    None for other files than those that end in ``suffix``; empty where the build's version is not known.
    """
    if not compiled.entry.endswith(suffix):
        return None
    built = compiled.versions.get(compiled.backend)
    if built is None:
        return {}
    return {compiled.backend: oldest(compiled.folder / compiled.entry) or release(built)}
