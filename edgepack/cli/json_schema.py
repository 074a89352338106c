"""JSON Schemas of edgepack's documents, exported by msgspec from the same frozen values that the code uses."""

from __future__ import annotations

from typing import Any

from edgepack.base.run_options import RUN_OPTIONS
from edgepack.pipeline.settings import BuildSettings
from edgepack.runtime.tuning import Tunings
from edgepack.specs.build import BuildResult
from edgepack.specs.bundle import Manifest
from edgepack.specs.calibration import CalibrationJob
from edgepack.specs.data import Lint, Ranges, Recipe, SampleStatistics
from edgepack.specs.result import Result
from edgepack.specs.target import Target
from edgepack.trust.policy import Policy

DOCUMENTS: dict[str, type] = {
    "build": BuildResult,
    "job": CalibrationJob,
    "lint": Lint,
    "manifest": Manifest,
    "policy": Policy,
    "ranges": Ranges,
    "recipe": Recipe,
    "result": Result,
    "settings": BuildSettings,
    "statistics": SampleStatistics,
    "target": Target,
    "tuning": Tunings,
}


def schema_of(document: str) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of one of ``DOCUMENTS``; unknown keys are refused, as when reading."""
    import msgspec

    schema = msgspec.json.schema(DOCUMENTS[document])
    for part in schema.get("$defs", {}).values():
        if part.get("type") == "object" and "properties" in part:
            part["additionalProperties"] = False
    for name, found in schema.get("$defs", {}).get("RunOptions", {}).get("properties", {}).items():
        found["description"] = RUN_OPTIONS[name].help
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
