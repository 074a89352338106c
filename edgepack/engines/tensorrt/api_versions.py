"""What differs between the TensorRT versions that edgepack drives, in one table.

Everything else that the builder and the runner use is in the Python bindings of all of them. Read from the bindings'
source (NVIDIA/TensorRT, python/src/infer/pyCore.cpp and pyGraph.cpp of 8.5 and 10.x), from tensorrt-rtx 1.7.1, which
has the calls of 11, and from NVIDIA's lists of removed Python APIs (8.x to 10.x, 10.x to 11.x). Notably
``execute_async_v3`` with named tensors is in the bindings of 8.5 already, so the older ``execute_async_v2`` is not
needed anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgepack.base.versions import parse_version
from edgepack.errors import ToolchainError
from edgepack.specs.types import Precision

OLDEST = "8.5"
TOO_NEW = "12"


@dataclass(frozen=True)
class Surface:
    """What one range of versions, from ``since`` on, needs and has.

    ``network_flags`` are names in ``NetworkDefinitionCreationFlag``; ``builder_flags`` names in ``BuilderFlag`` to set
    for a precision. ``strongly_typed``: the graph's types alone decide; else flags allow what the graph asks for.
    ``progress``: ``IBuilderConfig.progress_monitor`` is there. ``int64``: the engine keeps 64-bit whole numbers; older
    parsers make them 32 bits, inputs and outputs too. ``error_nodes``: parser errors name the node.
    """

    since: str
    max_opset: int
    network_flags: tuple[str, ...]
    builder_flags: Mapping[Precision, tuple[str, ...]] = field(default_factory=dict)
    strongly_typed: bool = True
    progress: bool = True
    int64: bool = True
    error_nodes: bool = True


_FLAGS_OF_8: Mapping[Precision, tuple[str, ...]] = {"fp16": ("FP16",), "int8": ("INT8",)}

# Highest opset: onnx-tensorrt, docs/operators.md of each release (8.5: 17, 8.6: 17, 10.0: 20, 10.15: 24) and the
# release notes between (10.9: 22, 10.13: 24); 11.4: opset 25.
SURFACES = (
    Surface("8.5", 17, ("EXPLICIT_BATCH",), _FLAGS_OF_8, False, progress=False, int64=False, error_nodes=False),
    Surface("8.6", 17, ("EXPLICIT_BATCH",), _FLAGS_OF_8, False, progress=False, int64=False),
    Surface("10.0", 20, ("STRONGLY_TYPED",)),
    Surface("10.9", 22, ("STRONGLY_TYPED",)),
    Surface("10.13", 24, ("STRONGLY_TYPED",)),
    Surface("11.0", 25, ()),  # the flag is not needed any more: every network is strongly typed
)


def surface_of(version: str) -> Surface:
    """Return the row of the table for a TensorRT ``version``. Raises ``ToolchainError`` for one that is not driven."""
    numbers = parse_version(version)
    if numbers < parse_version(OLDEST) or numbers >= parse_version(TOO_NEW):
        raise ToolchainError(
            f"TensorRT {version} is not supported by edgepack ({OLDEST} up to but not {TOO_NEW})",
            hint="update JetPack, or build the bundle for ONNX Runtime on this device's CPU",
        )
    if parse_version("9") <= numbers < parse_version("10"):
        raise ToolchainError(f"TensorRT {version} was a preview", hint="install TensorRT 10 or 8.6")
    return [surface for surface in SURFACES if parse_version(surface.since) <= numbers][-1]
