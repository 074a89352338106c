"""Models, and what is found about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgepack.specs.types import BESIDE_DIGEST, Precision, Severity

UNNAMED = "?"  # a free dimension without a name: two of them need not be the same size
LENGTH = "*"  # what the name of a free first dimension begins with that is a length, as of a sequence, and no batch


@dataclass(frozen=True)
class TensorSpec:
    """Name, numpy dtype name and shape of an input or output; a free dimension is a string, ``UNNAMED`` without one."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    @property
    def batched(self) -> bool:
        """Whether the first dimension is free and the samples' batch: no length that the user declared."""
        return bool(self.shape) and isinstance(self.shape[0], str) and not self.shape[0].startswith(LENGTH)


@dataclass(frozen=True)
class OnnxModel:
    """An ONNX file that was loaded and checked.

    ``sha256`` covers the file and its external data; ``size_bytes`` too. ``external`` names the external data files,
    relative to the model's folder and inside it. ``mixes_batch`` says that samples that are run at once were seen to
    depend on each other; False says nothing.
    """

    path: Path
    sha256: str
    size_bytes: int
    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    external: tuple[str, ...] = ()
    mixes_batch: bool = field(default=False, metadata=BESIDE_DIGEST)


@dataclass(frozen=True)
class Diagnostic:
    """Something found while checking: what, where (``node`` is a node's name), and a hint."""

    severity: Severity
    message: str
    node: str | None = None
    hint: str | None = None


@dataclass(frozen=True)
class CompiledModel:
    """The engine's own native files. ``files`` are relative to ``folder``; ``entry`` is the one the engine opens.

    ``built`` is the folder in which a device keeps what its engine builds of them; None is the user's cache.
    """

    backend: str
    precision: Precision
    folder: Path
    entry: str
    files: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    versions: Mapping[str, str]
    device: str = "CPU"
    built: Path | None = None
