"""Calibration jobs: the same bytes every time, and refused when anything in them is wrong."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from fuzz_damage import assemble, members_of

from edgepack.bundle.archive import open_bundle
from edgepack.bundle.job import MODEL, is_job, open_job, read_job, write_job
from edgepack.calibrate.tensors import make_plan, read_structure
from edgepack.errors import BundleError, EdgepackError, IntegrityError, ModelError
from edgepack.graph.load import load_model
from edgepack.specs.data import Preprocessing
from edgepack.specs.model import OnnxModel, TensorSpec
from edgepack.specs.task import Task

Members = dict[str, bytes]


@pytest.fixture
def job(conv_model: OnnxModel, tmp_path: Path) -> Path:
    return write_job(conv_model, None, None, None, tmp_path).path


def test_a_device_reads_what_was_written(conv_model: OnnxModel, tmp_path: Path) -> None:
    made = Preprocessing(resize=(8, 8))
    written = write_job(conv_model, made, Task("image-classification", classes=("a", "b")), None, tmp_path)
    with open_job(written.path, tmp_path) as (read, model):
        assert read == written.job
        assert (model.sha256, model.inputs, model.outputs) == (conv_model.sha256, conv_model.inputs, conv_model.outputs)
        assert model.path.read_bytes() == conv_model.path.read_bytes()
        assert model.size_bytes == conv_model.size_bytes
    assert not model.path.exists()
    assert (read.preprocessing, read.plan) == (made, make_plan(read_structure(conv_model)))
    assert len(read.plan.derived) == 3


def test_the_same_model_makes_the_same_bytes(job: Path, conv_model: OnnxModel, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    assert write_job(conv_model, None, None, None, tmp_path / "again").path.read_bytes() == job.read_bytes()


def external(model: OnnxModel, folder: Path, name: str) -> OnnxModel:
    folder.mkdir()
    onnx.save(onnx.load(model.path), folder / "m.onnx", save_as_external_data=True, location=name, size_threshold=16)
    return load_model(folder / "m.onnx")


def test_external_data_goes_along(conv_model: OnnxModel, tmp_path: Path) -> None:
    own = external(conv_model, tmp_path / "own", "w.data")
    with open_job(write_job(own, None, None, None, tmp_path).path, tmp_path) as (_, model):
        assert (model.sha256, model.external) == (own.sha256, ("w.data",))
        assert (model.path.parent / "w.data").read_bytes() == (own.path.parent / "w.data").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["calibration.job", "model.onnx", "own"]


def test_external_data_of_a_name_that_no_archive_takes(conv_model: OnnxModel, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"'w 1\.data' cannot be in a job") as caught:
        write_job(external(conv_model, tmp_path / "own", "w 1.data"), None, None, None, tmp_path)
    assert "save_as_external_data" in str(caught.value.hint)


def test_a_tokenizer_of_the_builder_goes_along_and_no_other_is_read(conv_model: OnnxModel, tmp_path: Path) -> None:
    task = Task("text-classification", input={"tokenizer": "/etc/passwd", "max_length": 8})
    (tmp_path / "own.json").write_text("{}")
    for tokenizer in (None, tmp_path / "own.json"):
        written = write_job(conv_model, None, task, tokenizer, tmp_path)
        assert written.job.task == Task("text-classification", input={"max_length": 8})
        with open_job(written.path, tmp_path) as (read, _):
            assert read.task is not None
            named = read.task.input.get("tokenizer")
            assert (named is None) == (tokenizer is None)
            assert tokenizer is None or Path(str(named)).read_text() == "{}"
    members = members_of(written.path.read_bytes())
    del members["task/tokenizer.json"]
    table = json.loads(members["job.json"])
    table["files"] = [entry for entry in table["files"] if entry["path"] == MODEL]
    table["task"]["input"]["tokenizer"] = "/etc/passwd"
    written.path.write_bytes(assemble({**members, "job.json": json.dumps(table).encode()}))
    with open_job(written.path, tmp_path) as (read, _):
        assert read.task == Task("text-classification", input={"max_length": 8})


def test_a_model_that_no_device_would_read_is_not_written(conv_model: OnnxModel, tmp_path: Path) -> None:
    strange = dataclasses.replace(conv_model, inputs=(TensorSpec("image", "str", ("N",)),))
    with pytest.raises(ModelError, match=r"no device would read its job: .*the dtype 'str'"):
        write_job(strange, None, None, None, tmp_path)
    assert not list(tmp_path.glob("*.job"))


# --- strangers' jobs --------------------------------------------------------------------------------------------------


def set_in(*path_and_value: Any) -> Callable[[Members], bytes]:
    """Return what puts a value at a path of job.json."""
    *path, key, value = path_and_value

    def make(members: Members) -> bytes:
        table = json.loads(members["job.json"])
        place = table
        for step in path:
            place = place[step]
        place[key] = value
        return assemble({**members, "job.json": json.dumps(table).encode()})

    return make


def listed(name: str) -> Callable[[Members], bytes]:
    """Return what adds a file, with everything right about it."""

    def make(members: Members) -> bytes:
        table = json.loads(members["job.json"])
        table["files"].append({"path": name, "sha256": hashlib.sha256(b"x").hexdigest(), "size_bytes": 1})
        table["files"].sort(key=lambda entry: entry["path"])
        return assemble({**members, "job.json": json.dumps(table).encode(), name: b"x"})

    return make


def other_model(members: Members) -> bytes:
    return assemble({**members, MODEL: members[MODEL] + b"\x12\x00"}, changed=MODEL)


HOSTILE = {
    "cut": (BundleError, "cut off", lambda m: assemble(m)[:-99]),
    "no zip": (BundleError, "is not a zip archive", lambda m: m[MODEL]),
    "changed": (IntegrityError, "do not match", lambda m: assemble({**m, MODEL: m[MODEL][:-1] + b"!"})),
    "another model": (BundleError, "model_sha256 is not that of the model", other_model),
    "unlisted": (IntegrityError, "does not list", lambda m: assemble({**m, "model/x": b""})),
    "signed": (IntegrityError, "does not list", lambda m: assemble({**m, "signature.dsse.json": b"{}"})),
    "no model": (IntegrityError, "lacks", lambda m: assemble({k: v for k, v in m.items() if k != MODEL})),
    "elsewhere": (BundleError, "'golden.npz' is not of a job", listed("golden.npz")),
    "no digest": (BundleError, "model_sha256 is not", set_in("model_sha256", "0" * 63)),
    "format": (BundleError, "has job format 2; this edgepack reads up to 1", set_in("format", 2)),
    "key": (BundleError, "unknown key 'more'", set_in("more", 1)),
    "text": (BundleError, "control characters", set_in("plan", "measured", 0, "\x1b[2J")),
    "way out": (BundleError, "leads out", set_in("files", 0, "path", "../model.onnx")),
    "input": (BundleError, "the dtype 'object'", set_in("inputs", 0, "dtype", "object")),
    "task": (BundleError, "unknown task", set_in("task", {"kind": "nothing"})),
    "pictures": (BundleError, "preprocessing", set_in("preprocessing", {"crop": [1 << 20, 8]})),
    "no input": (BundleError, "'x' is not a float32 input", set_in("plan", "inputs", ["x"])),
    "sizes": (BundleError, "sizes are not those", set_in("plan", "sizes", [1])),
    "size": (BundleError, "sizes are not those", set_in("plan", "sizes", 0, -1)),
    "twice": (BundleError, "'image' is named twice", set_in("plan", "measured", 0, "image")),
    "no name": (BundleError, "has no name", set_in("plan", "measured", 0, "")),
    "no source": (BundleError, "does not follow", set_in("plan", "derived", 0, "sources", [])),
    "a later source": (BundleError, "does not follow", set_in("plan", "derived", 0, "sources", ["flat"])),
    "bounds": (BundleError, "is clipped to 7.0 and 6.0", set_in("plan", "derived", 0, "low", 7)),
    "a large bound": (BundleError, "is clipped to 0.0 and 1e", set_in("plan", "derived", 0, "high", 1e300)),
    "nothing": (
        BundleError,
        "nothing is measured",
        set_in("plan", {"inputs": [], "measured": [], "derived": [], "sizes": []}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(HOSTILE))
def test_a_hostile_job_is_refused(job: Path, tmp_path: Path, name: str) -> None:
    kind, words, make = HOSTILE[name]
    before = sorted(tmp_path.rglob("*"))
    job.write_bytes(make(members_of(job.read_bytes())))
    with pytest.raises(EdgepackError, match=words) as caught, open_job(job, tmp_path):
        pass
    assert type(caught.value) is kind
    assert caught.value.hint
    assert sorted(tmp_path.rglob("*")) == before


def test_a_job_that_is_changed_back_is_taken(job: Path, tmp_path: Path) -> None:
    """What assembles the hostile ones does no harm of its own."""
    data = job.read_bytes()
    assert assemble(members_of(data)) == data
    read_job(members_of(set_in("opset", 17)(members_of(data)))["job.json"], "same")


def test_bundles_and_jobs_are_told_apart(job: Path, bundle_path: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"has no job\.json: it is a bundle"), open_job(bundle_path, tmp_path):
        pass
    with pytest.raises(BundleError, match=r"has no manifest\.json: it is a calibration job") as caught:
        open_bundle(job)
    assert "edgepack calibrate" in caught.value.hint


def test_a_job_is_known_by_its_name_or_its_first_bytes(job: Path, conv_model: OnnxModel, tmp_path: Path) -> None:
    assert is_job(job.rename(tmp_path / "kept.zip"))
    assert is_job(tmp_path / "missing.job")
    assert not is_job(conv_model.path)
    assert not is_job(tmp_path)
    assert not is_job(tmp_path / "missing.onnx")
    assert not is_job(Path("a\0b"))
