"""Reads files that Keras 3 cannot: Keras 2's .keras, and those with pruned, clustered or quantized layers.

The layers are those of the TensorFlow Model Optimization Toolkit, which knows Keras 2 alone.
"""

from __future__ import annotations

from pathlib import Path

from edgepack.export import Framework
from edgepack.export.executes import lambda_layers
from edgepack.export.kinds import is_keras2, kind_of, optimized_layers
from edgepack.export.worker import Worker


def takes(source: str) -> bool:
    """Say whether it is a .keras file that Keras 2 wrote, or a Keras file with the toolkit's layers in it."""
    kind, path = kind_of(source), Path(source)
    return kind in ("keras", "h5") and (is_keras2(path) or bool(optimized_layers(path)))


def executes(source: str) -> tuple[str, ...]:
    """Return the Lambda layers: their code is in the file, and Keras 2 runs it unasked."""
    return lambda_layers(Path(source))


FRAMEWORK = Framework(
    title=".keras",
    form=takes,
    uses_samples=False,
    worker=Worker("keras2_file", "tensorflow", executes=executes),
)
