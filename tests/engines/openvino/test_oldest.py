"""The oldest OpenVINO that reads an IR."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgepack.engines.openvino.oldest import oldest_versions
from edgepack.specs.model import CompiledModel


def compiled(folder: Path, entry: str = "model.xml", **versions: str) -> CompiledModel:
    return CompiledModel("openvino", "fp32", folder, entry, (entry,), (), (), versions)


def ir(version: int, *sets: str) -> str:
    layers = "".join(f'<layer id="{n}" version="{name}" type="Add"/>' for n, name in enumerate(sets))
    return f'<?xml version="1.0"?><net name="m" version="{version}"><layers>{layers}</layers></net>'


@pytest.mark.parametrize(
    ("text", "oldest"),
    [
        (ir(11, "opset1", "opset16"), "2025.0"),
        (ir(11, "opset1", "opset17"), "2026.2"),
        (ir(10, "opset1"), "2025.0"),
        (ir(11), "2025.0"),
        (ir(11, "opset18"), "2026.4"),
        (ir(12, "opset1"), "2026.4"),
        (ir(11, "opset1", "extension"), "2026.4"),  # an operator of somebody's own
        ("nothing", "2026.4"),
    ],
)
def test_operator_sets_decide_and_else_the_release_of_the_build(tmp_path: Path, text: str, oldest: str) -> None:
    (tmp_path / "model.xml").write_text(text)
    assert oldest_versions(compiled(tmp_path, openvino="2026.4.1-21435")) == {"openvino": oldest}


def test_other_files_and_unknown_builds(tmp_path: Path) -> None:
    (tmp_path / "model.xml").write_text(ir(11))
    assert oldest_versions(compiled(tmp_path, entry="model.blob", openvino="2026.4")) is None
    assert oldest_versions(compiled(tmp_path)) == {}
