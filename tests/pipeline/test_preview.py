"""What a build would make, without making it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgepack.engines import fallback
from edgepack.errors import ConfigError, ToolchainError
from edgepack.pipeline import preview as module
from edgepack.pipeline.preview import preview
from edgepack.pipeline.settings import BuildSettings


def settings(**changes: Any) -> BuildSettings:
    return BuildSettings("net.onnx", **{"targets": ("host-onnxruntime", "rpi5"), "data": "pictures", **changes})


def test_every_row_is_named_and_nothing_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = preview(settings(precisions=("fp32", "int8"), out="out"))
    assert [(row.target, row.precision, row.status, row.measured) for row in found.rows] == [
        ("host-onnxruntime", "fp32", "build", True),
        ("host-onnxruntime", "int8", "build", True),
        ("raspberry-pi-5", "fp32", "build", False),
        ("raspberry-pi-5", "int8", "build", False),
    ]
    assert found.rows[3].bundle == "out/net-raspberry-pi-5-int8.edgepack"
    assert (found.exit_code, found.data) == (0, "pictures")
    assert found.command[:7] == (
        "edgepack", "build", "net.onnx", "--target", "host-onnxruntime", "--target", "raspberry-pi-5",
    )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("strict", "status", "code"), [(False, "skipped", 0), (True, "failed", 2)])
def test_a_precision_that_is_not_offered_is_said(strict: bool, status: str, code: int) -> None:
    row = preview(settings(targets=("rpi5",), precisions=("bf16",), strict=strict)).rows[0]
    assert (row.status, row.exit_code) == (status, code)
    assert row.reason is not None
    assert "does not offer bf16" in row.reason


def test_an_engine_that_is_missing_is_said_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: object) -> None:
        raise ToolchainError("OpenVINO is not installed", hint="pip install openvino")

    assert module.build_versions is fallback.build_versions
    monkeypatch.setattr(module, "build_versions", missing)
    found = preview(settings(benchmark=False))
    assert found.exit_code == 3
    assert found.rows[0].reason == "OpenVINO is not installed (pip install openvino)"


def test_what_a_build_refuses_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs samples"):
        preview(settings(data=None, precisions=("int8",)))
