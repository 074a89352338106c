"""Which OpenVINO is the oldest that reads an IR."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from edgepack.base.versions import release

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edgepack.specs.model import CompiledModel

# The highest operator set of each OpenVINO, oldest first, as its wheel on PyPI brings it; all read IR version 11. An
# int8 ResNet20 written by 2026.4 gave the same SQNR in each of seven versions back to 2023.3.
_KNOWN = (("2025.0", 16), ("2026.2", 17))
_IR = 11


def oldest_versions(compiled: CompiledModel) -> Mapping[str, str] | None:
    """Return the oldest OpenVINO that reads the compiled file, that of the build where none is known to.

    None for other files than its graphs; empty where the build's version is not known.
    """
    if not compiled.entry.endswith(".xml"):
        return None
    built = compiled.versions.get(compiled.backend)
    if built is None:
        return {}
    return {compiled.backend: _oldest(compiled.folder / compiled.entry) or release(built)}


def _oldest(path: Path) -> str | None:
    """Return the oldest OpenVINO that knows the file's operator sets and IR version; None if none is known to."""
    text = path.read_bytes()
    ir = re.search(rb'<net\b[^>]*\bversion="(\d+)"', text)
    sets = set(re.findall(rb'<layer\b[^>]*\bversion="([^"]*)"', text))
    numbers = [int(name[5:]) for name in sets if re.fullmatch(rb"opset\d+", name)]
    if ir is None or int(ir[1]) > _IR or len(numbers) < len(sets):
        return None
    return next((version for version, highest in _KNOWN if max(numbers, default=1) <= highest), None)
