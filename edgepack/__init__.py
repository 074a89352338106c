"""edgepack: from a trained model to verified, measured bundles for edge devices.

The names below are the only ones that are promised to stay where they are; each is imported when it is used, so that
``import edgepack`` stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgepack.api import build as build
    from edgepack.api import load as load
    from edgepack.errors import EdgepackError as EdgepackError
    from edgepack.pipeline.settings import BuildSettings as BuildSettings
    from edgepack.runtime.load import LoadedModel as LoadedModel
    from edgepack.specs import BuildResult as BuildResult
    from edgepack.specs import BuildRow as BuildRow
    from edgepack.specs import Result as Result
    from edgepack.specs import RunOptions as RunOptions
    from edgepack.specs import Scenario as Scenario

__version__ = "0.1.0"

_PUBLIC = {
    "BuildResult": "edgepack.specs",
    "BuildRow": "edgepack.specs",
    "BuildSettings": "edgepack.pipeline.settings",
    "EdgepackError": "edgepack.errors",
    "LoadedModel": "edgepack.runtime.load",
    "Result": "edgepack.specs",
    "RunOptions": "edgepack.specs",
    "Scenario": "edgepack.specs",
    "build": "edgepack.api",
    "load": "edgepack.api",
}


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'edgepack' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
