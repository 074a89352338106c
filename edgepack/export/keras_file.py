"""Reads Keras files (.keras, .h5) and the architectures of Keras Applications by name (keras:MobileNetV2)."""

from __future__ import annotations

from pathlib import Path

from edgepack.export import Framework
from edgepack.export.executes import lambda_layers
from edgepack.export.kinds import kind_of
from edgepack.export.worker import Worker


def takes(source: str) -> bool:
    """Say whether it is a Keras file by what is in it, or a name of Keras Applications."""
    return source.startswith("keras:") or kind_of(source) in ("keras", "h5")


def executes(source: str) -> tuple[str, ...]:
    """Return the Lambda layers: their code is in the file."""
    return lambda_layers(Path(source)) if Path(source).is_file() else ()


FRAMEWORK = Framework(
    title=".keras",
    suffixes=(".keras", ".h5", ".hdf5"),
    form=takes,
    uses_samples=False,
    prepares=lambda source: source.startswith("keras:"),
    worker=Worker("keras_file", "tensorflow", needs=("keras", "torch", "onnxscript"), executes=executes),
)
