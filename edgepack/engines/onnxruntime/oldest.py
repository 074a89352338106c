"""Which ONNX Runtime is the oldest that reads a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepack.engines.common.oldest import oldest_for

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edgepack.specs.model import CompiledModel

# The highest operator set and IR version that each ONNX Runtime loads, oldest first. Measured with the wheels on PyPI,
# a model of one Relu each; 1.20 is the oldest that edgepack supports.
_KNOWN = (
    ("1.20.0", 21, 10),
    ("1.21.0", 22, 10),
    ("1.23.0", 23, 11),
    ("1.24.1", 25, 13),
    ("1.25.0", 26, 13),
)
NEWEST_KNOWN = _KNOWN[-1][0]


def oldest_versions(compiled: CompiledModel) -> Mapping[str, str] | None:
    """Return the oldest ONNX Runtime that reads the compiled file, see ``oldest_for``."""
    return oldest_for(compiled, ".onnx", oldest)


def oldest(path: Path) -> str | None:
    """Return the oldest ONNX Runtime that reads the file's operator set and IR version; None if none is known to."""
    import onnx

    from edgepack.graph.wire import read_skeleton

    proto = onnx.load_model_from_string(read_skeleton(path))
    opset = max((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=1)
    for version, highest_opset, highest_ir in _KNOWN:
        if opset <= highest_opset and proto.ir_version <= highest_ir:
            return version
    return None
