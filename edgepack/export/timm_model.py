"""Reads timm models: an architecture by name with local weights (timm:resnet18), and folders as its hub has them."""

from __future__ import annotations

from edgepack.export import Framework
from edgepack.export.kinds import kind_of
from edgepack.export.worker import Worker


def takes(source: str) -> bool:
    """Say whether it is such a folder, or a name."""
    return source.startswith("timm:") or kind_of(source) == "timm"


FRAMEWORK = Framework(
    title="timm:NAME",
    form=takes,
    uses_samples=False,
    prepares=lambda _: True,
    worker=Worker("timm_model", "torch", needs=("torch", "onnxscript", "timm")),
)
