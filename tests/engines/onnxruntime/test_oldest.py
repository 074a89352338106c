"""The oldest ONNX Runtime that reads a file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import onnx
import pytest
from small_bundles import small_compiled, small_onnx

from edgepack.engines.onnxruntime.oldest import NEWEST_KNOWN, oldest, oldest_versions


def changed(tmp_path: Path, opset: int, ir: int) -> Path:
    proto = onnx.load(small_onnx(tmp_path / "m.onnx"))
    proto.opset_import[0].version, proto.ir_version = opset, ir
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    return tmp_path / "m.onnx"


@pytest.mark.parametrize(
    ("opset", "ir", "version"),
    [(1, 3, "1.20.0"), (21, 10, "1.20.0"), (22, 10, "1.21.0"), (21, 11, "1.23.0"), (23, 10, "1.23.0"),
     (25, 13, "1.24.1"), (26, 13, NEWEST_KNOWN), (27, 13, None), (21, 14, None)],
)  # fmt: skip
def test_the_higher_of_both_needs_decides(tmp_path: Path, opset: int, ir: int, version: str | None) -> None:
    assert oldest(changed(tmp_path, opset, ir)) == version


def test_operators_of_other_domains_do_not_count(tmp_path: Path) -> None:
    proto = onnx.load(small_onnx(tmp_path / "m.onnx"))
    proto.opset_import.add(domain="com.microsoft", version=99)
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    assert oldest(tmp_path / "m.onnx") == "1.20.0"


def test_a_graph_that_no_known_version_reads_needs_that_of_the_build(tmp_path: Path) -> None:
    compiled = dataclasses.replace(small_compiled(tmp_path), versions={"onnxruntime": "1.99.3"})
    assert oldest_versions(compiled) == {"onnxruntime": "1.20.0"}
    changed(tmp_path, 27, 13).rename(tmp_path / "model.onnx")
    assert oldest_versions(compiled) == {"onnxruntime": "1.99"}


def test_other_files_and_unknown_builds(tmp_path: Path) -> None:
    compiled = small_compiled(tmp_path)
    assert oldest_versions(dataclasses.replace(compiled, entry="model.ort")) is None
    assert oldest_versions(dataclasses.replace(compiled, versions={})) == {}
