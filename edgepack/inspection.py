"""What ``inspect`` shows of an ONNX file or a bundle."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgepack import children
from edgepack.bundle.archive import open_bundle
from edgepack.errors import ConfigError, ModelError
from edgepack.graph.describe import ModelDescription, describe
from edgepack.graph.load import load_model
from edgepack.layers.report import LayersReport, inspect_layers
from edgepack.specs import Manifest, RunOptions

_LIMIT_S = 300.0
_ZIP_MAGIC = b"PK"


@dataclass(frozen=True)
class BundleDescription:
    """A bundle whose contents match its manifest."""

    manifest: Manifest
    sha256: str
    size_bytes: int


def is_bundle(path: Path) -> bool:
    """Say whether ``path`` is to be read as a bundle: by its name, else by its first bytes."""
    if not path.is_file():
        raise ModelError(f"there is no file {path}", hint="give a .onnx or a .edgepack file")
    if path.suffix in (".edgepack", ".onnx"):
        return path.suffix == ".edgepack"
    with path.open("rb") as file:
        return file.read(2) == _ZIP_MAGIC


def inspect_bundle(path: Path) -> BundleDescription:
    """Open a bundle, checking every member, and return its manifest."""
    bundle = open_bundle(path)
    return BundleDescription(bundle.manifest, bundle.sha256, path.stat().st_size)


def inspect_bundle_layers(path: Path, options: RunOptions) -> LayersReport:
    """Run a bundle on this host and return its layers. Raises ``ConfigError`` for an ONNX file: it has no engine."""
    if not is_bundle(path):
        raise ConfigError(
            f"--layers shows what an engine makes of a bundle, and {path} is none",
            hint="build it first: edgepack build MODEL --target host-onnxruntime, then inspect the .edgepack",
        )
    return inspect_layers(path, options)


def inspect_model(path: Path) -> ModelDescription:
    """Load, check and describe an ONNX file, in a child process because the file may be hostile."""
    with tempfile.TemporaryDirectory(prefix="edgepack-") as folder:
        return children.call(_describe, path.absolute(), limit_s=_LIMIT_S, log=Path(folder) / "inspect.log")


def _describe(path: Path) -> ModelDescription:
    return describe(load_model(path))
