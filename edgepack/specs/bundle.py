"""What a bundle holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgepack.specs.data import Preprocessing
from edgepack.specs.model import TensorSpec
from edgepack.specs.run import Accuracy
from edgepack.specs.task import Task
from edgepack.specs.types import Asked, Precision


@dataclass(frozen=True)
class FileEntry:
    """One member of a bundle."""

    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Payload:
    """One engine's files in a bundle, in order of preference.

    ``key`` holds facts that a device must have exactly, by name, for files that fit no other; empty: any device.
    """

    backend: str
    device: str
    precision: Precision
    entry: str
    files: tuple[str, ...]
    key: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Requirements:
    """What a device must have. ``engine`` maps an engine's package to the oldest version that may run the payload."""

    arch: str | None
    isa: tuple[str, ...]
    engine: Mapping[str, str]


@dataclass(frozen=True)
class MeasuredAccuracy:
    """The accuracy in a manifest, with its circumstances; a field is None with the reason in ``note``.

    ``sqnr_db`` is the balanced one, in which all parts of all outputs count alike and what varies is the signal.
    """

    accuracy: Accuracy | None
    sqnr_db: float | None
    cosine: float | None
    agreement: float | None
    n: int
    engine: str
    isa: tuple[str, ...]
    note: str | None = None


@dataclass(frozen=True)
class Manifest:
    """``manifest.json``, the first member of a bundle.

    ``task`` says what its answers are, without the classes, which are in ``classes``; None where nobody said.
    ``embedded`` says what of preprocessing and postprocessing the engine computes itself, and how; ``preprocessing``
    and ``task`` are then what is left outside.
    """

    format: int
    name: str
    version: str
    target: str
    precision: Precision
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    preprocessing: Preprocessing | None
    classes: tuple[str, ...]
    layers: Mapping[str, int]
    accuracy: MeasuredAccuracy | None
    requirements: Requirements
    payloads: tuple[Payload, ...]
    toolchain: Mapping[str, str]
    source_sha256: str
    calibration_sha256: str | None
    files: tuple[FileEntry, ...]
    options: Mapping[str, str] = field(default_factory=dict)
    task: Task | None = None
    embedded: Mapping[str, str] = field(default_factory=dict)

    @property
    def model_bytes(self) -> int:
        """Return the size of the engines' own files: the bundle without golden vectors, records and the like."""
        return sum(file.size_bytes for file in self.files if file.path.startswith("model/"))


@dataclass(frozen=True)
class LayerRecord:
    """One operator of the int8 model: its name and operator in the ONNX graph, and what its Q/DQ ask for.

    ``left`` says why a layer with weights was left in float. ``reads`` and ``makes`` are its first input and output
    tensor, by which an engine may name it. ``sqnr_db`` is of its output against the fp32 model's, in the whole int8
    model: it holds the noise of all layers before. It is None where ``identical`` is true, and where it was not
    measured. ``macs`` and ``weight_bytes`` are for a batch of 1.
    """

    name: str
    operator: str
    weighted: bool
    asked: Asked
    left: str | None = None
    reads: str = ""
    makes: str = ""
    sqnr_db: float | None = None
    identical: bool = False
    macs: int | None = None
    weight_bytes: int | None = None


@dataclass(frozen=True)
class LayerRecords:
    """The operators in graph order. ``samples`` were run by ``engine``, with Q/DQ computed as they are written."""

    samples: int
    engine: str
    layers: tuple[LayerRecord, ...]
    format: int = 1
