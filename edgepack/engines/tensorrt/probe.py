"""Looks for TensorRT for the doctor."""

from __future__ import annotations

from edgepack.engines.common.probe import Probe


def probe() -> Probe:
    """Ask for the GPU, its driver and TensorRT; nothing is computed, since that would take a build of minutes."""
    from edgepack.engines.tensorrt.api_versions import surface_of
    from edgepack.engines.tensorrt.device import find_device

    found = find_device()
    surface_of(found.tensorrt)
    words = f"builds and runs on {found.device} (SM {found.sm}), TensorRT {found.tensorrt}, CUDA {found.cuda}"
    return Probe(words, ("GPU",), ("fp32", "fp16", "int8"))
