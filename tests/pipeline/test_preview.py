"""What a build would make, without making it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from edgepack.engines import fallback
from edgepack.errors import ConfigError, DataError, EdgepackError, ModelError, ToolchainError
from edgepack.pipeline import preview as module
from edgepack.pipeline.preview import preview
from edgepack.pipeline.settings import BuildSettings


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand where the model and the samples are, as a file and a folder; nothing looks into them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.onnx").touch()
    (tmp_path / "pictures").mkdir()


def settings(**changes: Any) -> BuildSettings:
    return BuildSettings("net.onnx", **{"targets": ("host-onnxruntime", "rpi5"), "data": "pictures", **changes})


def test_every_row_is_named_and_nothing_is_read(tmp_path: Path) -> None:
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
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.onnx", "pictures"]


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


def test_a_target_that_takes_no_model_at_all_is_said() -> None:
    rows = preview(settings(targets=("jetson-nano-jp4",), precisions=("fp32", "fp16"))).rows
    assert [(row.precision, row.status, row.exit_code) for row in rows] == [
        ("fp32", "failed", 4),
        ("fp16", "failed", 4),
    ]
    assert "has TensorRT 8.2; edgepack supports 8.5 and newer" in str(rows[1].reason)


@pytest.mark.parametrize(("changes", "kind", "words"), [
    ({"data": "picture"}, DataError, "there is no file or folder picture"),
    ({"data": "gone.py:samples"}, ConfigError, "there is no file gone.py"),
    ({"recipe": "imagnet"}, ConfigError, "unknown recipe 'imagnet'"),
    ({"metric": "gone.py:score"}, ConfigError, "there is no file gone.py"),
])  # fmt: skip
def test_what_is_not_there_is_said(changes: dict[str, Any], kind: type[EdgepackError], words: str) -> None:
    with pytest.raises(kind, match=words):
        preview(settings(**changes))


@pytest.mark.parametrize(("model", "kind", "words", "hint"), [
    ("nets.onnx", ModelError, "there is no model nets.onnx", "did you mean 'net.onnx'?"),
    ("gone.py:Net", ConfigError, "there is no file gone.py", "before the colon"),
    ("net.py:Nett", ConfigError, "net.py has no 'Nett'", "did you mean 'Net'?"),
    ("broken.py:Net", ConfigError, "broken.py is not valid Python", "correct it"),
])  # fmt: skip
def test_a_model_that_is_not_there(
    tmp_path: Path, model: str, kind: type[EdgepackError], words: str, hint: str
) -> None:
    (tmp_path / "net.py").write_text("raise SystemExit('it was run')\nclass Net: ...\n")
    (tmp_path / "broken.py").write_text("class Net\n")
    with pytest.raises(kind, match=words) as caught:
        preview(dataclasses.replace(settings(), model=model))
    assert hint in (caught.value.hint or "")
    preview(dataclasses.replace(settings(), model="net.py:Net"))
