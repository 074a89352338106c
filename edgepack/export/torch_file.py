"""Reads files of torch: TorchScript, whole modules, and state dicts with the class that they belong to."""

from __future__ import annotations

from pathlib import Path

from edgepack.export import Framework
from edgepack.export.executes import beyond_weights
from edgepack.export.kinds import kind_of
from edgepack.export.quantized_elsewhere import refuse_torch
from edgepack.export.worker import Worker
from edgepack.specs.source import SourceOptions


def takes(source: str) -> bool:
    """Say whether it is one of these by what is in it."""
    return kind_of(source) in ("torch", "torchscript", "safetensors")


def executes(source: str) -> tuple[str, ...]:
    """Return the names in a pickle that are not weights."""
    return beyond_weights(Path(source)) if kind_of(source) == "torch" else ()


def check(source: str, options: SourceOptions) -> None:
    """Raise ``ModelError`` for weights that only the tool which quantized them can read."""
    if kind_of(source) in ("torch", "safetensors"):
        refuse_torch(source, options)


FRAMEWORK = Framework(
    title=".pt",
    suffixes=(".pt", ".pth", ".ckpt", ".safetensors"),
    form=takes,
    uses_samples=False,
    worker=Worker("torch_file", "torch", needs=("torch", "onnxscript"), executes=executes, check=check),
)
