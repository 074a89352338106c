"""Reads parameters of Flax, linen's and nnx's, with the module that they belong to: .msgpack, Orbax checkpoints."""

from __future__ import annotations

from edgepack.export import Framework
from edgepack.export.kinds import kind_of
from edgepack.export.worker import Worker


def takes(source: str) -> bool:
    """Say whether it is one of these by what is in it."""
    return kind_of(source) in ("flax", "orbax")


FRAMEWORK = Framework(
    title=".msgpack",
    suffixes=(".msgpack",),
    form=takes,
    uses_samples=False,
    worker=Worker("flax_model", "jax"),
)
