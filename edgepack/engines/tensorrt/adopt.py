"""Hands out the engine that this device built, to be packed for identical devices."""

from __future__ import annotations

import shutil
from pathlib import Path

from edgepack.base import documents
from edgepack.engines import KeptEngine
from edgepack.engines.tensorrt import plan_cache
from edgepack.engines.tensorrt.device import find_device, key_of
from edgepack.engines.tensorrt.load import PLAN, RECORD
from edgepack.engines.tensorrt.recipe import RECIPE, read_recipe

_FOLDER = "tensorrt-plan-"


def kept_engine(folder: Path, place: Path | None) -> KeptEngine | None:
    """Add the kept plan and its record to ``folder``, which has the recipe; None where this device built none."""
    recipe = read_recipe(folder)
    key = plan_cache.plan_key(recipe, find_device(recipe.dla_core))
    kept = plan_cache.find(place or plan_cache.default_folder(), key)
    if kept is None:
        return None
    shutil.copyfile(kept.path, folder / PLAN)
    (folder / RECORD).write_text(documents.to_json(kept.record))
    name = f"{_FOLDER}{kept.record.key.name[:8]}"
    return KeptEngine(name, PLAN, (PLAN, RECORD, RECIPE), key_of(kept.record.key.device))
