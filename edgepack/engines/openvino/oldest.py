"""Which OpenVINO is the oldest that reads an IR."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from edgepack.engines.common.oldest import oldest_for

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edgepack.specs.model import CompiledModel

# The highest operator set of each OpenVINO, oldest first, as its wheel on PyPI brings it; all read IR version 11. An
# int8 ResNet20 written by 2026.4 gave the same SQNR in each of seven versions back to 2023.3.
_KNOWN = (("2025.0", 16), ("2026.2", 17))
_IR = 11


def oldest_versions(compiled: CompiledModel) -> Mapping[str, str] | None:
    """Return the oldest OpenVINO that reads the compiled file, see ``oldest_for``."""
    return oldest_for(compiled, ".xml", _oldest)


def _oldest(path: Path) -> str | None:
    """Return the oldest OpenVINO that knows the file's operator sets and IR version; None if none is known to."""
    text = path.read_bytes()
    ir = re.search(rb'<net\b[^>]*\bversion="(\d+)"', text)
    sets = set(re.findall(rb'<layer\b[^>]*\bversion="([^"]*)"', text))
    numbers = [int(name[5:]) for name in sets if re.fullmatch(rb"opset\d+", name)]
    if ir is None or int(ir[1]) > _IR or len(numbers) < len(sets):
        return None
    return next((version for version, highest in _KNOWN if max(numbers, default=1) <= highest), None)
