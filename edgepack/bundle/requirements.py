"""What a device must have to run a payload, from the compiled files themselves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.base.versions import parse_version, release
from edgepack.engines import engine_of, part_of
from edgepack.specs.bundle import Requirements

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgepack.specs.model import CompiledModel
    from edgepack.specs.target import Target


def requirements(compiled: CompiledModel, target: Target) -> Requirements:
    """Return the least that a device must have for ``compiled``; empty where the files run everywhere.

    Raises ``ModelError`` when an ``.onnx`` file among them cannot be read.
    """
    # Graphs that an engine compiles when it loads them run on every machine that the engine runs on. Whatever else an
    # engine writes is code for one machine.
    engine = engine_of(compiled.backend)
    portable = engine is not None and Path(compiled.entry).suffix in engine.portable
    return Requirements(
        arch=None if portable else target.arch,
        isa=() if portable else target.compute.isa,
        engine=_oldest(compiled, target),
    )


def _oldest(compiled: CompiledModel, target: Target) -> Mapping[str, str]:
    engine = engine_of(compiled.backend)
    known: Mapping[str, str] | None = None
    if engine is not None and engine.oldest:
        known = part_of(compiled.backend, engine.oldest)(compiled)
    if known is not None:
        return known
    built = compiled.versions.get(compiled.backend)
    if built is None:
        return {}
    # Engines read what older versions of them wrote; of newer ones they promise nothing. A profile that states the
    # device's version was built for that one.
    oldest = release(built)
    stated = target.engine.version
    if stated and parse_version(stated) < parse_version(oldest):
        oldest = stated
    return {compiled.backend: oldest}
