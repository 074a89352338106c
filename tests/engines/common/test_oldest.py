"""The oldest version that a compiled file asks for, or that of the build."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgepack.engines.common.oldest import oldest_for
from edgepack.specs.model import CompiledModel


@pytest.mark.parametrize(
    ("entry", "versions", "found", "expected"),
    [
        ("m.x", {"engine": "1.9.3.post1"}, "1.2", {"engine": "1.2"}),
        ("m.x", {"engine": "1.9.3.post1"}, None, {"engine": "1.9"}),
        ("m.x", {"other": "1.9"}, "1.2", {}),
        ("m.y", {"engine": "1.9"}, "1.2", None),
    ],
)
def test_a_file_that_says_nothing_needs_the_version_of_the_build(
    entry: str, versions: dict[str, str], found: str | None, expected: dict[str, str] | None
) -> None:
    asked: list[Path] = []

    def oldest(path: Path) -> str | None:
        asked.append(path)
        return found

    compiled = CompiledModel("engine", "fp32", Path("folder"), entry, (entry,), (), (), versions)
    assert oldest_for(compiled, ".x", oldest) == expected
    assert asked == ([Path("folder", entry)] if expected else [])
