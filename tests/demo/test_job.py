"""The demonstration as a whole: what it builds, and what it says where something is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hidden import hide
from in_process import Recorded

from edgepack.demo import job
from edgepack.demo.job import demo
from edgepack.errors import ToolchainError
from edgepack.execution.store import Store
from edgepack.specs.build import BuildResult


@pytest.mark.slow
def test_every_bundle_and_the_report_are_in_one_folder(digits: tuple[BuildResult, Store]) -> None:
    result, _ = digits
    folder = Path(result.out)
    assert sorted(path.name for path in folder.glob("*.edgepack")) == [
        f"digits-{target}-{precision}.edgepack"
        for target in ("host-onnxruntime", "host-openvino")
        for precision in ("fp32", "int8")
    ]
    assert (folder / "report.html").is_file()
    assert (folder / "build.json").is_file()
    assert (folder / "logs").is_dir()
    assert result.name == "digits"


@pytest.mark.slow
def test_the_labels_are_of_samples_that_no_range_saw(digits: tuple[BuildResult, Store]) -> None:
    lint = digits[0].lint
    assert lint is not None
    assert (lint.samples, lint.eval_samples) == (256, 600)
    assert not [finding for finding in lint.findings if finding.check == "overlap"]


@pytest.mark.parametrize(
    ("missing", "named"), [(("torch",), "torch"), (("sklearn", "onnxscript"), "onnxscript, sklearn")]
)
def test_missing_packages_are_named_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: Any, named: str
) -> None:
    hide(monkeypatch, *missing)
    with pytest.raises(ToolchainError, match=f"the demonstration needs the Python packages {named}$") as caught:
        demo("digits", str(tmp_path / "out"), Store(tmp_path / "store"))
    assert caught.value.hint == "pip install 'edgepack[demo]'"
    assert list(tmp_path.iterdir()) == []


def test_an_engine_that_is_not_here_is_left_out_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "openvino")
    asked: list[Any] = []
    monkeypatch.setattr(job, "build", lambda settings, _store, _events: asked.append(settings))
    monkeypatch.setattr(job, "StageRunner", lambda *_: type("Runner", (), {"run": lambda *_, **__: tmp_path})())
    events = Recorded()
    demo("digits", str(tmp_path / "out"), Store(tmp_path / "store"), events)
    assert asked[0].targets == ("host-onnxruntime",)
    assert events.notes == [
        "OpenVINO is not installed, so the demonstration leaves it out: pip install 'edgepack[openvino]'"
    ]


@pytest.mark.parametrize(
    ("model", "facts"),
    [
        ("digits", {"metric": "top1", "recipe": None, "data": "calibration.npz", "eval": "evaluation.npz"}),
        ("efficientnet-lite0", {"recipe": "efficientnet-lite", "data": "calibration", "eval": "evaluation"}),
    ],
)
def test_each_model_has_its_own_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Any, facts: dict[str, Any]
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(job, "_NEEDS", {model: ()})
    monkeypatch.setattr(job, "build", lambda settings, _store, _events: asked.append(settings))
    monkeypatch.setattr(job, "StageRunner", lambda *_: type("Runner", (), {"run": lambda *_, **__: tmp_path})())
    demo(model, None, Store(tmp_path / "store"))
    (settings,) = asked
    assert settings.out == f"artifacts/demo-{model}"
    assert settings.precisions == ("fp32", "int8")
    found = {name: getattr(settings, name) for name in facts}
    assert {name: str(value).removeprefix(f"{tmp_path}/") if value else value for name, value in found.items()} == facts
