"""Why nodes were left in float, from metadata that anybody may have written."""

from __future__ import annotations

import pytest

from edgepack.engines.common.requested import left_in_float


@pytest.mark.parametrize(
    ("text", "reasons"),
    [
        ("", {}),
        ('{"conv": "no range"}', {"conv": "no range"}),
        ('{"conv": 3, "4": null}', {"conv": "3", "4": "None"}),
        ("[1, 2]", {}),
        ('"text"', {}),
        ("{", {}),
        ("\x00", {}),
    ],
)
def test_reasons_are_texts_and_damage_is_none(text: str, reasons: dict[str, str]) -> None:
    assert left_in_float(text) == reasons
