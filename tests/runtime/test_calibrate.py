"""A device counts what a builder counts, with the job alone."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from calibrate_inputs import random_images
from fuzz_damage import assemble, members_of
from tokenizers_made import tokenizer_bytes

from edgepack import calibrate
from edgepack.bundle.job import MODEL, write_job
from edgepack.calibrate.merge import measure_statistics
from edgepack.data.samples import find_samples, take_samples
from edgepack.errors import BundleError, DataError, ModelError, RecipeError
from edgepack.graph.load import load_model
from edgepack.runtime.calibrate import measure_job
from edgepack.specs.data import Preprocessing, SampleStatistics
from edgepack.specs.model import OnnxModel
from edgepack.specs.task import Task


@pytest.fixture(params=["inside", "external"])
def model(request: pytest.FixtureRequest, conv_model: OnnxModel, tmp_path: Path) -> OnnxModel:
    if request.param == "inside":
        return conv_model
    (tmp_path / "external").mkdir()
    path = tmp_path / "external" / "model.onnx"
    onnx.save(onnx.load(conv_model.path), path, save_as_external_data=True, location="w.data", size_threshold=16)
    return load_model(path)


def on_a_device(
    model: OnnxModel,
    data: str,
    tmp_path: Path,
    preprocessing: Preprocessing | None = None,
    *,
    samples: int | None = None,
) -> SampleStatistics:
    job = write_job(model, preprocessing, None, None, tmp_path).path
    out = tmp_path / "out"
    out.mkdir()
    found = measure_job(job, data, samples, 3, out)
    assert list(out.iterdir()) == []
    return found


@pytest.mark.parametrize("samples", [None, 4])
def test_a_device_counts_what_a_builder_counts(
    model: OnnxModel, save_npz: Any, tmp_path: Path, samples: int | None
) -> None:
    data = save_npz(image=random_images(7))
    chosen = find_samples(data, model.inputs, None)
    chosen = chosen if samples is None else take_samples(chosen, samples, 3)
    found = on_a_device(model, data, tmp_path, samples=samples)
    assert found == measure_statistics(model, chosen, tmp_path / "builder")
    assert found.samples == (samples or 7)
    assert len(found.tensors) == 7


def test_in_as_many_passes_as_on_the_builder(
    conv_model: OnnxModel, save_npz: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = save_npz(image=random_images(3))
    whole = on_a_device(conv_model, data, tmp_path)
    monkeypatch.setattr(calibrate, "_BYTES_A_PASS", 1)
    (tmp_path / "parts").mkdir()
    assert on_a_device(conv_model, data, tmp_path / "parts") == whole


def test_pictures_are_prepared_as_the_job_says(conv_model: OnnxModel, save_picture: Any, tmp_path: Path) -> None:
    for number in range(3):
        save_picture(tmp_path / "pictures" / f"{number}.png", seed=number)
    made = Preprocessing(resize=(8, 8), scale=1 / 255)
    samples = find_samples(str(tmp_path / "pictures"), conv_model.inputs, made)
    found = on_a_device(conv_model, samples.source, tmp_path, made)
    assert found == measure_statistics(conv_model, samples, tmp_path / "builder")
    (tmp_path / "bare").mkdir()
    with pytest.raises(RecipeError) as caught:
        on_a_device(conv_model, samples.source, tmp_path / "bare")
    assert caught.value.hint == "make the job again with --recipe, on the builder"


def test_texts_are_split_by_the_tokenizer_in_the_job(make_model: Any, tmp_path: Path) -> None:
    model = make_model(
        '<ir_version: 8, opset_import: ["" : 17]> net (int64[N,L] input_ids) => (float[N,L,3] y) '
        "{ row = Gather(table, input_ids) y = Tanh(row) }",
        table=np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32),
    )
    (tmp_path / "words.csv").write_text("text\nhello world\nwhere is my card\n")
    (tmp_path / "own.json").write_bytes(tokenizer_bytes())
    task = Task("text-classification", input={"tokenizer": str(tmp_path / "own.json")})
    samples = find_samples(str(tmp_path / "words.csv"), model.inputs, None, task=task)
    job = write_job(model, None, task, tmp_path / "own.json", tmp_path).path
    (tmp_path / "out").mkdir()
    found = measure_job(job, samples.source, None, 0, tmp_path / "out")
    assert found == measure_statistics(model, samples, tmp_path / "builder")


def test_what_is_wrong_with_samples_is_said(conv_model: OnnxModel, save_npz: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no array named 'image'"):
        on_a_device(conv_model, save_npz(picture=random_images(2)), tmp_path)
    (tmp_path / "few").mkdir()
    with pytest.raises(DataError, match="asked for 9 samples, found 2"):
        on_a_device(conv_model, save_npz(image=random_images(2)), tmp_path / "few", samples=9)


def strange(job: Path, model: bytes) -> None:
    """Put another model into a job, with everything right about it."""
    members = members_of(job.read_bytes())
    table = json.loads(members["job.json"])
    table["model_sha256"] = hashlib.sha256(model).hexdigest()
    members["job.json"] = json.dumps(table).encode()
    job.write_bytes(assemble({**members, MODEL: model}, changed=MODEL))


@pytest.mark.parametrize("way", ["../secret.bin", "/etc/hostname", "model.onnx", "", "*/_ORT_MEM_ADDR_/*"])
def test_a_job_reads_no_other_file_of_the_device(
    conv_model: OnnxModel, save_npz: Any, tmp_path: Path, way: str
) -> None:
    """Weights become activations, and these are counted: what a job may read as weights leaves the device."""
    job = write_job(conv_model, None, None, None, tmp_path).path
    proto = onnx.load(conv_model.path)
    (tmp_path / "secret.bin").write_bytes(bytes(1 << 12))
    weight = next(tensor for tensor in proto.graph.initializer if tensor.name == "w3")
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=way)
    strange(job, proto.SerializeToString())
    (tmp_path / "out").mkdir()
    with pytest.raises(BundleError, match=f"its model reads {re.escape(repr(way))}, which is not in the job"):
        measure_job(job, save_npz(image=random_images(1)), None, 0, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("data", "words"), [(b"no model", "not an ONNX file"), (b"", "is empty"), (b"\x08\x09", "ONNX Runtime cannot load")]
)
def test_a_model_that_is_none_is_refused(
    conv_model: OnnxModel, save_npz: Any, tmp_path: Path, data: bytes, words: str
) -> None:
    job = write_job(conv_model, None, None, None, tmp_path).path
    strange(job, data)
    (tmp_path / "out").mkdir()
    with pytest.raises(ModelError, match=words):
        measure_job(job, save_npz(image=random_images(1)), None, 0, tmp_path / "out")
