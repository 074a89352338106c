"""``edgepack recipes suggest``: which recipe an ONNX file probably wants."""

from __future__ import annotations

from pathlib import Path

from edgepack.data.recipes import write_recipe
from edgepack.data.suggest import ModelFacts, Suggestion, suggest
from edgepack.errors import ConfigError
from edgepack.export import require_onnx
from edgepack.profiling.describe import inspect_model


def suggest_recipes(path: Path) -> tuple[Suggestion, ...]:
    """Return the recipes that may fit a file, the surest first. Raises ``ModelError`` for one that is no model."""
    require_onnx(path)
    found = inspect_model(path)
    inputs = {spec.name: spec.shape for spec in found.inputs}
    outputs = {spec.name: spec.shape for spec in found.outputs}
    return suggest(ModelFacts(path.stem, inputs, outputs, found.metadata))


def write_suggested(out: Path, found: tuple[Suggestion, ...]) -> None:
    """Write the surest recipe to ``out``, with what must be changed for the model. Raises ``ConfigError``."""
    if not found:
        raise ConfigError("no recipe is suggested for the model", hint="begin one with 'edgepack recipes new'")
    first = found[0]
    write_recipe(out, first.recipe, changes=first.changes, classes=first.classes, unnamed=first.unnamed)
