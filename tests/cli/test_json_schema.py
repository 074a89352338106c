"""JSON Schemas of the documents."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import pytest

from edgepack.base.run_options import RUN_OPTIONS
from edgepack.cli.json_schema import DOCUMENTS, schema_of

Run = Callable[..., "Ran"]  # noqa: F821 - cli/conftest.py


@pytest.mark.parametrize("document", ["build", "manifest", "ranges", "recipe", "result", "settings", "target"])
def test_schemas_are_json_schemas(edgepack: Run, document: str) -> None:
    ran = edgepack("schema", document)
    assert ran.code == 0
    schema = json.loads(ran.out)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert schema["$defs"]


def test_unknown_keys_are_refused_as_when_reading() -> None:
    schema = schema_of("manifest")
    for part in schema["$defs"].values():
        if part.get("type") == "object" and "properties" in part:
            assert part["additionalProperties"] is False


def test_run_options_say_what_they_do() -> None:
    properties = schema_of("tuning")["$defs"]["RunOptions"]["properties"]
    assert properties["threads"]["description"] == RUN_OPTIONS["threads"].help
    assert all(found["description"] for found in properties.values())


@pytest.mark.parametrize("document", list(DOCUMENTS))
def test_a_schema_names_every_field_of_its_document(document: str) -> None:
    kind = DOCUMENTS[document]
    properties = schema_of(document)["$defs"][kind.__name__]["properties"]
    assert set(properties) == {field.name for field in dataclasses.fields(kind)}
