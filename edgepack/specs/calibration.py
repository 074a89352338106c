"""What a calibration measures, and the job by which a device measures it."""

from __future__ import annotations

from dataclasses import dataclass

from edgepack.specs.bundle import FileEntry
from edgepack.specs.data import Preprocessing
from edgepack.specs.model import TensorSpec
from edgepack.specs.task import Task


@dataclass(frozen=True)
class Derivation:
    """``tensor`` holds the values of all ``sources`` together, clipped to [low, high]; None means no bound."""

    tensor: str
    sources: tuple[str, ...]
    low: float | None = None
    high: float | None = None

    @property
    def is_copy(self) -> bool:
        """Whether the tensor holds just the values of its only source."""
        return len(self.sources) == 1 and self.low is None and self.high is None


@dataclass(frozen=True)
class Plan:
    """How the observed tensors get their statistics.

    ``inputs`` of the model are counted from the samples, ``measured`` inside the graph or from its outputs, the others
    follow by ``derived``, which stand in an order in which sources come first. ``sizes`` are the measured tensors'
    bytes for one sample, 0 where unknown.
    """

    inputs: tuple[str, ...]
    measured: tuple[str, ...]
    derived: tuple[Derivation, ...]
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class CalibrationJob:
    """``job.json`` of a calibration job: what is measured of which model, and how samples become its inputs.

    ``model_sha256`` is ``OnnxModel.sha256`` of the model, some of whose other fields are here too. ``files`` lists all
    other members.
    """

    format: int
    model_sha256: str
    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    plan: Plan
    preprocessing: Preprocessing | None
    task: Task | None
    files: tuple[FileEntry, ...]
