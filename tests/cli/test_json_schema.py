"""JSON Schemas of the documents."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

Run = Callable[..., "Ran"]  # noqa: F821 - cli/conftest.py


@pytest.mark.parametrize("document", ["build", "manifest", "ranges", "recipe", "result", "settings", "target"])
def test_schemas_are_json_schemas(edgepack: Run, document: str) -> None:
    ran = edgepack("schema", document)
    assert ran.code == 0
    schema = json.loads(ran.out)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert schema["$defs"]
