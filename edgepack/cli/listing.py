"""The names that options take, by kind."""

from __future__ import annotations

from edgepack.calibrate.observers import OBSERVERS
from edgepack.cli.options import PRECISIONS
from edgepack.data.recipes import list_recipes
from edgepack.engines.targets import known_names
from edgepack.tasks import TASKS
from edgepack.tasks.decoders import DECODERS
from edgepack.verify.metrics import METRICS


def names_by_kind() -> dict[str, tuple[str, ...]]:
    """Return every name that an option takes, under what it names."""
    return {
        "targets": known_names(),
        "recipes": list_recipes(),
        "precisions": PRECISIONS,
        "observers": OBSERVERS.names(),
        "tasks": TASKS.names(),
        "decoders": DECODERS.names(),
        "metrics": tuple(name for name in METRICS.names() if ":" not in name),  # a function has no name here
    }
