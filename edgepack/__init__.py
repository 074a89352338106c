"""edgepack: from a trained model to verified, measured bundles for edge devices.

The names below are the only ones that are promised to stay where they are; each is imported when it is used, so that
``import edgepack`` stays light.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgepack.api import build as build
    from edgepack.api import load as load
    from edgepack.errors import EdgepackError as EdgepackError
    from edgepack.pipeline.settings import BuildSettings as BuildSettings
    from edgepack.runtime.load import LoadedModel as LoadedModel
    from edgepack.specs.build import BuildResult as BuildResult
    from edgepack.specs.build import BuildRow as BuildRow
    from edgepack.specs.result import Result as Result
    from edgepack.specs.result import Scenario as Scenario
    from edgepack.specs.run import RunOptions as RunOptions

__version__ = "0.1.0"

# Engines report on their users: one looks up a host and keeps a device id and a queue, another sends its version by a
# package of its own, without which it is silent. Both must be stopped before they are imported.
if os.environ.get("EDGEPACK_ENGINE_TELEMETRY") != "1":
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

_PUBLIC = {
    "BuildResult": "edgepack.specs.build",
    "BuildRow": "edgepack.specs.build",
    "BuildSettings": "edgepack.pipeline.settings",
    "EdgepackError": "edgepack.errors",
    "LoadedModel": "edgepack.runtime.load",
    "Result": "edgepack.specs.result",
    "RunOptions": "edgepack.specs.run",
    "Scenario": "edgepack.specs.result",
    "build": "edgepack.api",
    "load": "edgepack.api",
}


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'edgepack' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
