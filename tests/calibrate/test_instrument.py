"""The model with statistics in it: reductions inside the graph, or tensors as outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from calibrate_inputs import random_images

from edgepack.calibrate.instrument import first_line, open_session, reduced_names, run_session
from edgepack.calibrate.tensors import read_structure
from edgepack.errors import DataError, ModelError
from edgepack.graph.load import load_model
from edgepack.specs.model import OnnxModel

MEASURED = ("first", "second", "logits")


def session(model: OnnxModel, scratch: Path, *, reduce: bool) -> Any:
    return open_session(model, read_structure(model), MEASURED, reduce=reduce, threads=1, scratch=scratch)


@pytest.fixture(params=["inside", "external"])
def model(request: pytest.FixtureRequest, conv_model: OnnxModel, tmp_path: Path) -> OnnxModel:
    if request.param == "inside":
        return conv_model
    proto = onnx.load(conv_model.path)
    (tmp_path / "external").mkdir()
    path = tmp_path / "external" / "model.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="w.data", size_threshold=64)
    return load_model(path)


def test_reductions_are_those_of_the_tensors(model: OnnxModel, tmp_path: Path) -> None:
    feed = {"image": random_images(1)}
    names = reduced_names(MEASURED)
    tensors = run_session(session(model, tmp_path / "a", reduce=False), list(MEASURED), feed)
    numbers = run_session(session(model, tmp_path / "b", reduce=True), names, feed)
    expected = [f(array) for f in (np.min, np.max, np.sum) for array in tensors]
    np.testing.assert_allclose(numbers, expected, rtol=1e-4)
    assert len(names) == 9


def test_nothing_is_left_in_the_scratch_folder(model: OnnxModel, tmp_path: Path) -> None:
    session(model, tmp_path / "scratch", reduce=True)
    assert not (tmp_path / "scratch").is_dir() or list((tmp_path / "scratch").iterdir()) == []


def test_the_model_is_left_as_it_was(model: OnnxModel, tmp_path: Path) -> None:
    before = model.path.read_bytes()
    session(model, tmp_path, reduce=False)
    assert model.path.read_bytes() == before


def test_a_model_that_the_engine_refuses_is_named(conv_model: OnnxModel, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"ONNX Runtime cannot load model\.onnx: .*nowhere") as caught:
        open_session(conv_model, read_structure(conv_model), ("nowhere",), reduce=True, threads=1, scratch=tmp_path)
    assert "edgepack inspect" in str(caught.value.hint)
    assert not (tmp_path / ".statistics.onnx").exists()


def test_a_sample_that_does_not_fit_is_a_fault_of_the_data(conv_model: OnnxModel, tmp_path: Path) -> None:
    opened = session(conv_model, tmp_path, reduce=True)
    with pytest.raises(DataError, match="cannot run the model on a sample"):
        run_session(opened, reduced_names(MEASURED), {"image": np.zeros((1, 2, 8, 8), np.float32)})


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "one"),
        (KeyError(), "KeyError"),
        (ValueError("  \n "), "ValueError"),
        (OSError("x" * 400), "x" * 300),
    ],
)
def test_words_are_the_first_line(error: Exception, line: str) -> None:
    assert first_line(error) == line
