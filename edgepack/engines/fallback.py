"""The fallback on this machine for an engine that runs on the device only, and what its figures are then called."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from edgepack.engines import REFERENCE, get_backend, is_built_on_device
from edgepack.specs.model import CompiledModel
from edgepack.specs.run import RunOptions, Verification
from edgepack.specs.target import Target

LABEL = "numerics of the shipped graph on ONNX Runtime CPU"


def build_versions(target: Target) -> Mapping[str, str]:
    """Return the versions of the engine that compiles for ``target`` here; none where the device builds by itself.

    Raises ``ToolchainError`` when the engine that is needed is not installed.
    """
    if target.engine.build_on == "device":
        get_backend(REFERENCE).versions()  # its numerics are computed by it
        return {}
    return get_backend(target.backend).versions()


def runs_here(compiled: CompiledModel, options: RunOptions) -> CompiledModel:
    """Return what this machine loads to check ``compiled``: itself, or for a device's ONNX file ONNX Runtime."""
    if not is_built_on_device(compiled.backend) or options.device != "CPU":
        return compiled
    engine = get_backend(REFERENCE)
    return dataclasses.replace(compiled, backend=REFERENCE, device="CPU", versions=engine.versions())


def measured_with(compiled: CompiledModel, verification: Verification) -> str:
    """Return the engine and its versions that accuracy was measured with, for the manifest."""
    versions = ", ".join(verification.versions.values())
    if is_built_on_device(compiled.backend) and verification.engine == REFERENCE:
        return f"{LABEL} {versions}"
    return f"{verification.engine} {versions}"
