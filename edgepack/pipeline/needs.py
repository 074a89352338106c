"""What a stage needs of the machine that runs it, from its arguments: memory and a GPU.

What must be the same on every worker, engines and the processor, is not among it: a worker where they differ is given
nothing. That measuring needs a machine for itself is said by the stage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgepack.specs.model import CompiledModel, OnnxModel
from edgepack.specs.run import RunOptions

# Engines and libraries, once loaded; then copies of the weights. By rule, from what was seen: int8 with corrections of
# a model of 349 MB took 3.2 GB at its peak, TVM's code for one of 100 MB 1.1 GB.
_BASE_BYTES = 512 << 20
_COPIES = 10


@dataclass(frozen=True)
class Needs:
    """``memory_bytes`` is an estimate of the peak."""

    memory_bytes: int
    gpu: bool = False


def needs_of(arguments: tuple[Any, ...]) -> Needs:
    """Return what a stage needs that is called with ``arguments``."""
    largest = max((_model_bytes(argument) for argument in arguments), default=0)
    return Needs(_BASE_BYTES + _COPIES * largest, _uses_gpu(arguments))


def _model_bytes(argument: Any) -> int:
    if isinstance(argument, OnnxModel):
        return argument.size_bytes
    if isinstance(argument, CompiledModel):
        files = (argument.folder / name for name in argument.files)
        return sum(file.stat().st_size for file in files if file.is_file())
    return 0


def _uses_gpu(arguments: tuple[Any, ...]) -> bool:
    """Say whether a compiled model is run on a GPU; one that is only packed comes without options of running it."""
    options = next((argument for argument in arguments if isinstance(argument, RunOptions)), None)
    if options is None:
        return False
    return any((options.device or a.device).startswith("GPU") for a in arguments if isinstance(a, CompiledModel))
