"""Every framework's seam: which sources it takes, and what is made of an answer that its real worker once gave.

``recorded/record.py`` made the recordings with the real frameworks; here a worker that replays them stands in.
"""

from __future__ import annotations

import json
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from edgepack.errors import ModelError
from edgepack.export import FRAMEWORKS
from edgepack.export.worker import Worker, convert, read_facts
from edgepack.specs.source import SourceFacts, SourceOptions

pytestmark = pytest.mark.slow
RECORDED = Path(__file__).with_name("recorded")
WITH_WORKER = [name for name in FRAMEWORKS.own if FRAMEWORKS.get(name).worker is not None]
REPLAY = """
def convert(job):
    import zipfile
    zipfile.ZipFile(RECORDED).extractall(job.folder)
    job.finish = lambda: None
"""


def replayed(name: str, folder: Path, archive: Path | None = None) -> SourceFacts:
    """Return the facts of a framework's recorded answer after all checks."""
    (folder / "replay.py").write_text(REPLAY.replace("RECORDED", repr(str(archive or RECORDED / f"{name}.zip"))))
    real = FRAMEWORKS.get(name).worker
    assert real is not None
    stand_in = Worker(str(folder / "replay.py"), real.lock)
    model = convert(stand_in, "source", {}, SourceOptions(python=sys.executable), folder / "out", lambda *_: None)
    assert model.inputs[0].shape[0] == "N"
    facts = read_facts(model)
    assert facts is not None
    return facts


@pytest.mark.parametrize("name", WITH_WORKER)
def test_a_recorded_answer_of_each_framework_passes_all_checks(name: str, tmp_path: Path) -> None:
    facts = replayed(name, tmp_path)
    assert facts.framework
    assert facts.versions
    assert facts.pairs >= 2
    assert facts.largest_difference < (0.1 if facts.quantized else 1e-5)


def test_what_the_sources_know_is_kept(tmp_path: Path) -> None:
    facts = {}
    for name in ("hugging_face", "timm", "fastai", "tflite", "keras2"):
        (tmp_path / name).mkdir()
        facts[name] = replayed(name, tmp_path / name)
    assert facts["hugging_face"].classes == ("bad", "good")
    prepared = facts["timm"].preprocessing
    assert prepared is not None
    assert prepared.scale == 1 / 255
    assert prepared.crop is not None
    learner = facts["fastai"].preprocessing
    assert learner is not None
    assert (learner.crop, facts["fastai"].classes) == ((16, 16), ("a", "b"))
    assert learner.mean == pytest.approx((0.485, 0.456, 0.406))
    assert facts["tflite"].quantized
    assert facts["keras2"].quantized
    assert "its ranges are those of its training" in " ".join(facts["keras2"].notes)


@pytest.mark.parametrize("name", WITH_WORKER)
def test_a_changed_weight_is_found_in_each(name: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(RECORDED / f"{name}.zip") as archive:
        files = {entry: archive.read(entry) for entry in archive.namelist()}
    proto = onnx.load_from_string(files["model.onnx"])
    for node in proto.graph.node:
        for attribute in node.attribute:
            if attribute.name in ("coefficients", "intercepts"):
                attribute.floats[:] = [2 * value + 1 for value in attribute.floats]
    for tensor in proto.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype.kind == "f" and values.size > 1:
            tensor.CopyFrom(onnx.numpy_helper.from_array(values[::-1].copy() * 2 + 1, tensor.name))
        elif values.dtype == "int8" and values.size > 8:
            tensor.CopyFrom(onnx.numpy_helper.from_array(-values, tensor.name))
    with zipfile.ZipFile(tmp_path / "wrong.zip", "w") as archive:
        for entry, data in {**files, "model.onnx": proto.SerializeToString()}.items():
            archive.writestr(entry, data)
    with pytest.raises(ModelError, match="does not compute what"):
        replayed(name, tmp_path, tmp_path / "wrong.zip")


def test_every_framework_with_a_worker_has_its_files() -> None:
    assert WITH_WORKER == [
        "keras2", "keras", "tflite", "saved_model", "hugging_face", "timm", "fastai", "flax", "torch_file", "sklearn",
    ]  # fmt: skip
    for name in WITH_WORKER:
        worker = FRAMEWORKS.get(name).worker
        assert worker is not None
        assert worker.path.is_file()
        assert json.loads(zipfile.ZipFile(RECORDED / f"{name}.zip").read("meta.json"))["framework"]
    assert replace(SourceOptions(), trust_code=True) != SourceOptions()
