"""Runs for experiment trackers, and the trackers themselves where they are installed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import made_up
import pytest

from edgepack.base.documents import to_json
from edgepack.errors import ToolchainError
from edgepack.report.formats.tracked import log_to_mlflow, log_to_wandb, make_runs


def test_every_row_is_a_run_with_what_was_measured():
    runs = make_runs(*made_up.labelled_build())
    assert [run.label for run in runs][:2] == ["host-openvino fp32", "host-openvino int8"]
    int8 = runs[1]
    assert (int8.parameters["target"], int8.parameters["precision"]) == ("host-openvino", "int8")
    assert int8.figures["speedup_over_fp32"] == pytest.approx(4.1 / 2.2)
    assert int8.figures["metric_value"] == pytest.approx(0.9134)
    assert "p90_ns" in int8.figures
    unmeasured = runs[4]
    assert "p90_ns" not in unmeasured.figures
    assert unmeasured.parameters["state"] == "unmeasured"


@pytest.mark.parametrize(("name", "log"), [("mlflow", log_to_mlflow), ("wandb", log_to_wandb)])
def test_a_tracker_that_is_missing_is_named_with_its_extra(name, log, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ToolchainError) as caught:
        log((), "net", ())
    assert caught.value.hint == f"pip install 'edgepack[{name}]'"


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    for result in made_up.labelled_build()[0]:
        (folder / f"{result.target}-{result.precision}.json").write_text(to_json(result))
    return folder


def report(folder: Path, *words: object, **environment: str) -> None:
    command = [sys.executable, "-m", "edgepack", "report", *map(str, words)]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="MLflow is not installed: edgepack[mlflow]")
def test_mlflow_has_the_runs_and_the_page(results, tmp_path):
    """By MLflow itself, in a folder: its format is one file a metric, "time value step"."""
    report(tmp_path, results, "--mlflow", "nets", MLFLOW_TRACKING_URI=f"file:{tmp_path / 'runs'}",
           MLFLOW_ALLOW_FILE_STORE="true")  # fmt: skip
    assert len(list((tmp_path / "runs").rglob("artifacts/report.html"))) == 1
    found = {}
    for run in (path.parent.parent for path in (tmp_path / "runs").rglob("params/target")):
        name = (run / "params" / "target").read_text() + " " + (run / "params" / "precision").read_text()
        found[name] = float((run / "metrics" / "p90_ns").read_text().split()[1])
    wanted = {f"{r.target} {r.precision}": r.percentiles[1].value_ns for r in made_up.labelled_build()[0]}
    assert found == wanted


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="W&B is not installed: edgepack[wandb]")
def test_weights_and_biases_keep_the_runs_offline(results, tmp_path):
    report(tmp_path, results, "--wandb", "nets", WANDB_MODE="offline", WANDB_DIR=str(tmp_path), WANDB_SILENT="true")
    runs = list((tmp_path / "wandb").glob("offline-run-*"))
    assert len(runs) == 4
    assert len(list((tmp_path / "wandb").rglob("report.html"))) == 1
