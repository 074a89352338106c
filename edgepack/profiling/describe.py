"""What ``inspect`` shows of an ONNX file or a bundle."""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgepack.base.missing import nothing_at
from edgepack.bundle.archive import Bundle, open_bundle, read_member
from edgepack.bundle.payloads import is_native
from edgepack.engines import engine_of, part_of
from edgepack.errors import ConfigError, ModelError
from edgepack.execution import child
from edgepack.export import is_onnx, refuse_other_kinds
from edgepack.graph.describe import ModelDescription, describe
from edgepack.graph.load import load_model
from edgepack.profiling.layers import LayersReport, inspect_layers
from edgepack.specs.bundle import Manifest
from edgepack.specs.run import RunOptions

_LIMIT_S = 300.0
_FUNCTIONS_LIMIT_BYTES = 4 << 20
_ZIP_MAGIC = b"PK"
_START_BYTES = 64
_TEXT = bytes(string.printable, "ascii")


@dataclass(frozen=True)
class PayloadDescription:
    """One engine's files: ``native`` says that they are code for a machine, not data that the engine compiles."""

    backend: str
    device: str
    entry: str
    native: bool
    key: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BundleDescription:
    """A bundle whose contents match its manifest.

    ``functions``: of machine code of ours (TVM), each function's name and the rule that made it, or "default" and why
    it has TVM's own loops; empty for other engines. ``payloads`` are in order of preference.
    """

    manifest: Manifest
    sha256: str
    size_bytes: int
    functions: Mapping[str, str] = field(default_factory=dict)
    payloads: tuple[PayloadDescription, ...] = ()


def is_bundle(path: Path) -> bool:
    """Say whether ``path`` is to be read as a bundle: by its name, else by its first bytes."""
    if path.suffix != ".edgepack":
        refuse_other_kinds(path)
    if path.is_dir():
        raise ModelError(f"{path} is a folder", hint="give a .onnx or a .edgepack file in it")
    if not path.is_file():
        message, hint = nothing_at(path, "give a .onnx or a .edgepack file", suffixes=(".edgepack", ".onnx"))
        raise ModelError(message, hint=hint)
    if path.suffix == ".edgepack" or is_onnx(path):
        return path.suffix == ".edgepack"
    with path.open("rb") as file:
        start = file.read(_START_BYTES)
    if start and not start.startswith(_ZIP_MAGIC) and all(byte in _TEXT for byte in start):
        raise ModelError(f"{path} is text, not an ONNX file or a bundle", hint="give a .onnx or a .edgepack file")
    return start.startswith(_ZIP_MAGIC)


def inspect_bundle(path: Path) -> BundleDescription:
    """Open a bundle, checking every member, and return its manifest."""
    bundle = open_bundle(path)
    payloads = tuple(
        PayloadDescription(payload.backend, payload.device, payload.entry, is_native(payload), payload.key)
        for payload in bundle.manifest.payloads
    )
    return BundleDescription(bundle.manifest, bundle.sha256, bundle.size_bytes, _functions(bundle), payloads)


def _functions(bundle: Bundle) -> dict[str, str]:
    """Return what the payloads tell of their machine code's functions."""
    found: dict[str, str] = {}
    sizes = {entry.path: entry.size_bytes for entry in bundle.manifest.files}
    for payload in bundle.manifest.payloads:
        engine = engine_of(payload.backend)
        if engine is None or not engine.functions:
            continue
        module = part_of(payload.backend, engine.functions)
        for name in payload.files:
            if name.endswith(f"/{module.FUNCTIONS}") and sizes[name] <= _FUNCTIONS_LIMIT_BYTES:
                found |= module.read_functions(read_member(bundle, name))
    return found


def inspect_bundle_layers(path: Path, options: RunOptions) -> LayersReport:
    """Run a bundle on this host and return its layers. Raises ``ConfigError`` for an ONNX file: it has no engine."""
    if not is_bundle(path):
        raise ConfigError(
            f"--layers needs a bundle, and {path} is not one",
            hint="build it first: edgepack build MODEL --target host-onnxruntime, then inspect the .edgepack",
        )
    return inspect_layers(path, options)


def inspect_model(path: Path) -> ModelDescription:
    """Load, check and describe an ONNX file, in a child process because the file may be hostile."""
    return child.call(_describe, path.absolute(), limit_s=_LIMIT_S)


def _describe(path: Path) -> ModelDescription:
    return describe(load_model(path))
