"""What the stages around the export show, and what the user fixes of a model's inputs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepack.base.documents import to_json
from edgepack.data.split import SampleRequest
from edgepack.device.host import host_facts
from edgepack.errors import ConfigError, ModelError
from edgepack.execution.events import Silent
from edgepack.execution.runner import StageRunner
from edgepack.execution.store import Store
from edgepack.export.torch_onnx import read_compared
from edgepack.graph.compare import run_model
from edgepack.graph.load import load_model, save_proto
from edgepack.pipeline.build import build
from edgepack.pipeline.settings import BuildSettings
from edgepack.pipeline.stages import export as stage_export
from edgepack.pipeline.stages.export import (
    export_model,
    fix_inputs,
    freeze_shapes,
    request_of_source,
    short,
    told,
    use_outputs,
)
from edgepack.runtime.load import load
from edgepack.specs.data import Preprocessing, Recipe
from edgepack.specs.model import UNNAMED
from edgepack.specs.source import SourceFacts
from edgepack.specs.task import Task

if TYPE_CHECKING:
    from pathlib import Path

    from edgepack.specs.model import OnnxModel


@pytest.fixture
def said() -> list[str]:
    """What the runner was told to say."""
    return []


@pytest.fixture
def runner(tmp_path: Path, said: list[str]) -> StageRunner:
    class Recorded(Silent):
        def note(self, text: str) -> None:
            said.append(text)

    return StageRunner(Store(tmp_path / "store"), tmp_path / "logs", Recorded(), 60.0, host_facts())


@pytest.fixture
def sequence(tmp_path: Path) -> OnnxModel:
    """An LSTM whose first axis is the sequence and whose batch is 1."""
    random = np.random.default_rng(0)
    weights = {"W": random.standard_normal((1, 32, 6)), "R": random.standard_normal((1, 32, 8))}
    node = helper.make_node("LSTM", ["x", "W", "R", "", "", "h", "c"], ["", "hn", "cn"], "lstm", hidden_size=8)
    shapes = {"x": ["seq", 1, 6], "h": [1, 1, 8], "c": [1, 1, 8]}
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 8]) for name in ("hn", "cn")],
        [numpy_helper.from_array((array * 0.2).astype(np.float32), name) for name, array in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    return load_model(tmp_path / "m.onnx")


def test_long_places_are_shown_short() -> None:
    assert short("net.onnx") == "net.onnx"
    assert short("/a/very/long/path/that/nobody/wants/to/read/in/a/terminal/data.npz") == "…/data.npz"


def test_the_outputs_that_a_recipe_names_are_kept_alone(
    tmp_path: Path, runner: StageRunner, sequence: OnnxModel, said: list[str]
) -> None:
    assert use_outputs(runner, sequence, None) is sequence
    assert use_outputs(runner, sequence, Recipe("own", "own", outputs=("hn", "cn"))) is sequence
    kept = use_outputs(runner, sequence, Recipe("own", "own", outputs=("cn",)))
    assert [spec.name for spec in kept.outputs] == ["cn"]
    assert said == ["left out, as the recipe own does not name them: the outputs hn"]
    with pytest.raises(ConfigError, match="the recipe own: outputs: the model has no output 'cm'") as caught:
        use_outputs(runner, sequence, Recipe("own", "own", outputs=("cm",)))
    assert "cn" in caught.value.hint


def test_a_first_axis_above_one_is_fixed_for_every_engine_and_a_batch_of_one_is_not(
    runner: StageRunner, sequence: OnnxModel
) -> None:
    assert fix_inputs(runner, sequence, {"x": (5, 1, 6)}, {}).inputs[0].shape == (5, 1, 6)
    for shapes in ({}, {"x": (1, 1, 6)}, {"x": ("T", 1, 6)}):
        assert fix_inputs(runner, sequence, shapes, {}) == sequence


def test_a_first_axis_that_is_declared_a_length_stays_free_under_a_name_that_says_so(
    runner: StageRunner, sequence: OnnxModel
) -> None:
    declared = fix_inputs(runner, sequence, {"x": ("*", 1, 6)}, {})
    assert declared.inputs[0].shape == ("*seq", 1, 6)
    assert fix_inputs(runner, declared, {"x": ("*", 1, 6)}, {}) == declared
    assert freeze_shapes(runner, declared, {"x": ("*", 1, 6)}) == declared
    assert fix_inputs(runner, sequence, {"x": ("*frames", 1, 6)}, {}).inputs[0].shape == ("*frames", 1, 6)
    assert fix_inputs(runner, sequence, {"h": ("*", 1, 8)}, {}) == sequence, "the model fixes it"
    nameless = freeze_shapes(runner, sequence, {"x": (UNNAMED, 1, 6)})
    assert fix_inputs(runner, nameless, {"x": ("*", 1, 6)}, {}).inputs[0].shape == ("*x", 1, 6)


@pytest.mark.slow
@pytest.mark.long
def test_sequences_of_any_length_are_built_verified_and_run(
    sequence: OnnxModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not joined, nor run one step after another: a sequence is one sample."""
    (tmp_path / "lengths.py").write_text(
        "import numpy as np\n"
        "def data():\n"
        "    for i in range(9):\n"
        "        zeros = np.zeros((1, 1, 8), np.float32)\n"
        "        yield {'x': np.random.default_rng(i).standard_normal((3 + i, 1, 6)).astype(np.float32),\n"
        "               'h': zeros, 'c': zeros}\n"
    )
    monkeypatch.chdir(tmp_path)
    settings = BuildSettings(
        str(sequence.path), ("host-onnxruntime", "host-openvino", "host-tvm"), data="lengths.py:data",
        out=str(tmp_path / "out"), shapes={"x": "*x1x6"}, benchmark=False, precisions=("fp32",),
    )  # fmt: skip
    ort, openvino, tvm = build(settings, Store(tmp_path / "store")).rows
    assert (ort.status, openvino.status) == ("ok", "ok"), (ort, openvino)
    assert tvm.status == "failed", "it compiles for one length"
    assert "--shape x=128x1x6" in (tvm.reason or ""), tvm
    (compared,) = list((tmp_path / "out").glob("*openvino*.edgepack"))
    with load(compared) as model:
        assert model.manifest.inputs[0].shape == ("*seq", 1, 6)
        steps = np.random.default_rng(7).standard_normal((21, 1, 6)).astype(np.float32)
        zeros = np.zeros((1, 1, 8), np.float32)
        found = model.infer({"x": steps, "h": zeros, "c": zeros})
        expected = run_model(sequence, {"x": steps, "h": zeros, "c": zeros})
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-5)


def test_sizes_that_are_given_are_fixed_but_a_batch_of_one_stays_free(tmp_path: Path, runner: StageRunner) -> None:
    kinds = {"x": ["batch", "length"], "state": [2, "batch", 8]}
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in kinds]
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in kinds.items()]
    outputs = [helper.make_tensor_value_info(f"{n}_out", TensorProto.FLOAT, None) for n in kinds]
    proto = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs), opset_imports=[helper.make_opsetid("", 17)]
    )
    model = save_proto(proto, tmp_path)

    def shapes(given: dict[str, tuple[int | str, ...]]) -> list[tuple[int | str, ...]]:
        return [spec.shape for spec in fix_inputs(runner, model, given, {}).inputs]

    assert shapes({"x": (1, 576)}) == [("batch", 576), (2, "batch", 8)]
    assert shapes({"x": (1, 576), "state": (2, 1, 8)}) == [("batch", 576), (2, "batch", 8)]
    assert shapes({"x": (4, 576), "state": (2, 4, 8)}) == [(4, 576), (2, 4, 8)]
    assert shapes({"x": ("N", "T")}) == [("batch", "length"), (2, "batch", 8)]


@pytest.mark.slow
@pytest.mark.long
def test_a_sequence_on_the_first_axis_is_built_and_fed(sequence: OnnxModel, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    arrays = {
        "x": random.standard_normal((6, 5, 1, 6)).astype(np.float32),
        "h": np.zeros((6, 1, 1, 8), np.float32),
        "c": np.zeros((6, 1, 1, 8), np.float32),
    }
    np.savez(tmp_path / "data.npz", **arrays)  # type: ignore[arg-type]
    settings = BuildSettings(
        str(sequence.path), ("host-onnxruntime", "host-tvm"), data=str(tmp_path / "data.npz"),
        out=str(tmp_path / "out"), shapes={"x": "5x1x6"}, benchmark=False,
    )  # fmt: skip
    result = build(settings, Store(tmp_path / "store"))
    assert [row.status for row in result.rows] == ["ok", "ok"], result.rows
    assert all(row.sqnr_db is None or row.sqnr_db > 100 for row in result.rows)


class Notes(Silent):
    """Keeps what was noted."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


def test_what_the_source_states_is_used_and_said_where_there_is_no_recipe(tmp_path: Path, sequence: OnnxModel) -> None:
    prepared = Preprocessing(crop=(32, 32), resize_short=36, scale=1 / 255, mean=(0.5,) * 3, std=(0.25,) * 3)
    facts = SourceFacts("timm", "resnet", {"timm": "1.0"}, "3.11", classes=("cat", "dog"), preprocessing=prepared)
    (sequence.path.parent / "meta.json").write_text(to_json(facts))
    notes = Notes()
    runner = StageRunner(Store(tmp_path / "store"), tmp_path / "logs", notes, 60.0, host_facts())
    found = request_of_source(runner, SampleRequest("pictures", None), sequence)
    assert found.preprocessing == prepared
    assert found.task == Task("image-classification", classes=("cat", "dog"))
    assert any("32 x 32; shorter side 36" in text for text in notes.texts)
    assert any("cat, dog" in text for text in notes.texts)
    own = SampleRequest("pictures", None, preprocessing=Preprocessing(), task=Task("regression"))
    assert request_of_source(runner, own, sequence) == own, "a recipe goes before the source"


def test_what_is_told_of_a_source_names_versions_differences_and_what_was_not_confined() -> None:
    facts = SourceFacts(
        "Keras", "net", {"keras": "3.15"}, "3.11", notes=("by hand",), not_confined=("network: x",), pairs=3,
        largest_difference=2e-6,
    )  # fmt: skip
    first, second, third = told(facts)
    assert "keras 3.15" in first
    assert "2e-06" in first
    assert (second, third.rpartition(": ")[2]) == ("by hand", "x")
    same = next(told(replace(facts, largest_difference=0.0, pairs=1)))
    assert same.endswith("ONNX Runtime gives exactly its own answers on 1 input")


def of_texts(sequence: OnnxModel, architecture: str) -> None:
    """Say that a transformer's folder was the source of a model."""
    facts = SourceFacts(
        "transformers",
        "Bert",
        {},
        "3.11",
        classes=("bad", "good"),
        task=architecture,
        tokenizer="{}",
        sampling_rate=8000,
    )
    (sequence.path.parent / "meta.json").write_text(to_json(facts))
    (sequence.path.parent / "tokenizer.json").write_text("{}")


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [("BertForSequenceClassification", "text-classification"), ("BertForTokenClassification", "token-classification")],
)
def test_texts_have_the_task_the_classes_and_the_tokenizer_of_their_source(
    runner: StageRunner, tmp_path: Path, sequence: OnnxModel, architecture: str, kind: str
) -> None:
    of_texts(sequence, architecture)
    (tmp_path / "data.csv").write_text("text,label\nfine,good\n")
    found = request_of_source(runner, SampleRequest(str(tmp_path / "data.csv"), None), sequence).task
    assert found == Task(
        kind, classes=("bad", "good"), input={"tokenizer": str(sequence.path.parent / "tokenizer.json")}
    )


def test_arrays_for_a_text_model_get_no_task(runner: StageRunner, sequence: OnnxModel) -> None:
    of_texts(sequence, "BertForSequenceClassification")
    assert request_of_source(runner, SampleRequest("data.npz", None), sequence).task is None


def test_what_a_recipe_says_of_texts_stays(runner: StageRunner, sequence: OnnxModel) -> None:
    of_texts(sequence, "BertForSequenceClassification")
    own = Task("text-classification", classes=("a",), input={"tokenizer": "mine.json"})
    assert request_of_source(runner, SampleRequest("data.csv", None, task=own), sequence).task == own


def test_sounds_have_the_rate_of_their_source_where_the_task_has_none(runner: StageRunner, sequence: OnnxModel) -> None:
    of_texts(sequence, "Wav2Vec2ForSequenceClassification")
    for stated, rate in ({}, 8000), ({"rate": 44100}, 44100):
        asked = SampleRequest("sounds", None, task=Task("audio-classification", input=stated))
        found = request_of_source(runner, asked, sequence).task
        assert found is not None
        assert found.input["rate"] == rate


def test_no_environment_is_made_for_what_no_framework_reads(
    tmp_path: Path, runner: StageRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorFlow's is 1.6 GB, and was fetched for a file that is cut short."""
    monkeypatch.setattr(stage_export, "_interpreter", lambda *_: pytest.fail("an environment was asked for"))
    path = tmp_path / "net.tflite"
    path.write_bytes(b"\0\0\0\0TF")
    with pytest.raises(ModelError, match="is not a TensorFlow Lite file"):
        export_model(runner, str(path))


@pytest.mark.slow
def test_how_far_the_export_of_a_module_is_from_torch_is_said(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("import torch\ndef net():\n    return torch.nn.Linear(3, 2)\n")
    notes = Notes()
    runner = StageRunner(Store(tmp_path / "store"), tmp_path / "logs", notes, 60.0, host_facts())
    model = export_model(runner, f"{tmp_path / 'net.py'}:net", shapes={"input": ("N", 3)})
    compared = read_compared(model)
    assert compared is not None
    assert compared.inputs == 3  # two alone, and both as a batch
    assert compared.largest_difference is not None
    largest = compared.largest_difference
    how_far = f"differs from its own answers by at most {largest:.0e} of the largest value"
    expected = how_far if largest else "gives exactly its own answers"
    assert notes.texts[0].endswith(f"; ONNX Runtime {expected} on 3 inputs")
    assert notes.texts[0].startswith("exported by torch ")
